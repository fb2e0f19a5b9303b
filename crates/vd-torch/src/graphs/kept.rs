//! Cached conversions of weights, which recordings read too.

use std::cell::RefCell;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tch::Tensor;

use super::recording;
use crate::device_memory::said_by;
use crate::{Error, Result};

/// The form in which a tensor is wanted: another dtype or layout, or a value derived from it.
pub trait Form: fmt::Debug + PartialEq + Send + 'static {
    /// Allocates uninitialised memory for it.
    fn room(&self, of: &Tensor) -> Tensor;

    /// Fills all of that memory, from that tensor alone.
    fn write(&self, of: &Tensor, room: &mut Tensor);

    /// A new tensor in this form.
    fn made(&self, of: &Tensor) -> Tensor {
        tch::no_grad(|| {
            let mut room = self.room(of);
            self.write(&of.detach(), &mut room);
            room
        })
    }
}

/// A layer's cache of one of its tensors in other forms, valid until that tensor changes.
///
/// A recording without a backward reads the cached copy in place, as it reads the tensor itself. It
/// holds the copy as long as it lives, and before each replay stale copies are rewritten in place,
/// once for all readers. So one copy serves all recordings and the layer, and if weights change
/// between replays it costs no more than a conversion inside each recording. Changes are detected
/// by the tensor's version: whatever writes to a tensor without libtorch's operations, a replay
/// included, has to increase it.
///
/// Cached copies are made outside of recordings. Their memory therefore does not belong to the
/// recordings' pool, which recordings overwrite, and belongs to the stream of the replays, not to
/// that of the recordings: when it is freed, its next use on that stream comes after everything
/// that still reads it.
#[derive(Debug)]
pub struct Kept<F>(Mutex<Vec<Arc<One<F>>>>);

/// One form, in memory of its own.
#[derive(Debug)]
struct One<F>(Mutex<Written<F>>);

#[derive(Debug)]
struct Written<F> {
    form: F,
    /// Outside of any graph, sharing the version counter of the original tensor.
    of: Tensor,
    /// The version of `of` when it was written.
    version: i64,
    room: Tensor,
}

/// A cached copy that recordings hold.
pub(super) trait Held: fmt::Debug + Send + Sync {
    /// Rewrites it if the tensor has changed.
    fn freshen(&self);
}

/// All copies that one recording holds.
pub(super) type Holds = Vec<Arc<dyn Held>>;

/// Which cached copies this thread reads.
#[derive(Debug)]
enum Reads {
    /// All, except while something is recorded.
    All,
    /// All, and each one is noted.
    Noted(Holds),
    /// These ones unchanged, as a device does when it replays.
    Only(Holds),
}

thread_local! {
    static READS: RefCell<Reads> = const { RefCell::new(Reads::All) };
}

impl<F> Default for Kept<F> {
    fn default() -> Self {
        Kept(Mutex::default())
    }
}

impl<F: Form> Kept<F> {
    /// `of` in this form: from the cache, or converted, and then cached if `store`. While a
    /// recording is made nothing new is cached; a recording with a backward reads nothing from the
    /// cache, since its weights change with each step.
    pub fn get(&self, form: F, of: &Tensor, store: bool) -> Tensor {
        let mut all = lock(&self.0);
        if READS.with_borrow(|reads| matches!(reads, Reads::All)) && !recording() {
            all.retain(|one| is_held(one) || one.is(&form, of) && (store || one.is_fresh()));
            if let Some(one) = all.iter().find(|one| one.is(&form, of)) {
                return one.read();
            }
            let (version, room) = (of.internal_version(), form.made(of));
            let given = room.shallow_clone();
            if store {
                let written = Written { form, of: of.detach(), version, room };
                all.push(Arc::new(One(Mutex::new(written))));
            }
            return given;
        }
        let found = all.iter().find(|one| one.is(&form, of));
        found.and_then(read_by_a_recording).unwrap_or_else(|| form.made(of))
    }

    /// Drops copies that no recording reads.
    pub fn forget(&self) {
        lock(&self.0).retain(is_held);
    }
}

/// The cached copy, if the recording being made reads it, or the one that is replayed by its
/// function.
fn read_by_a_recording<F: Form>(one: &Arc<One<F>>) -> Option<Tensor> {
    let held = Arc::clone(one) as Arc<dyn Held>;
    let is_one = |other: &Arc<dyn Held>| std::ptr::addr_eq(Arc::as_ptr(other), Arc::as_ptr(&held));
    READS.with_borrow_mut(|reads| match reads {
        Reads::All => None,
        Reads::Noted(all) => {
            if !all.iter().any(is_one) {
                all.push(Arc::clone(&held));
            }
            Some(one.read())
        }
        Reads::Only(all) => all.iter().any(is_one).then(|| lock(&one.0).room.shallow_clone()),
    })
}

/// Whether a recording holds it.
fn is_held<F>(one: &Arc<One<F>>) -> bool {
    Arc::strong_count(one) > 1
}

impl<F: Form> One<F> {
    fn is(&self, form: &F, of: &Tensor) -> bool {
        let written = lock(&self.0);
        let own = &written.of;
        written.form == *form
            && own.data_ptr() == of.data_ptr()
            && own.size() == of.size()
            && own.stride() == of.stride()
    }

    fn is_fresh(&self) -> bool {
        let written = lock(&self.0);
        written.version == written.of.internal_version()
    }

    /// The current value.
    fn read(&self) -> Tensor {
        self.freshen();
        lock(&self.0).room.shallow_clone()
    }
}

impl<F: Form> Held for One<F> {
    fn freshen(&self) {
        let Written { form, of, version, room } = &mut *lock(&self.0);
        let now = of.internal_version();
        if *version != now {
            tch::no_grad(|| form.write(of, room));
            *version = now;
        }
    }
}

/// Runs `f`, and returns the cached copies that it has read, if there is no backward (`back`).
pub(super) fn noted<R>(back: bool, f: impl FnOnce() -> R) -> (R, Holds) {
    if back {
        return (f(), Vec::new());
    }
    let (result, reads) = with(Reads::Noted(Vec::new()), f);
    match reads {
        Reads::Noted(all) => (result, all),
        _ => (result, Vec::new()),
    }
}

/// Runs `f` with these cached copies and no others, unchanged.
pub(super) fn reading<R>(holds: &Holds, f: impl FnOnce() -> R) -> R {
    with(Reads::Only(holds.clone()), f).0
}

/// Rewrites copies whose tensors have changed.
pub(super) fn freshen(holds: &Holds) -> Result<()> {
    let all = || holds.iter().for_each(|held| held.freshen());
    let done = catch_unwind(AssertUnwindSafe(all));
    done.map_err(|panic| Error::Torch(said_by(&*panic)))
}

fn with<R>(reads: Reads, f: impl FnOnce() -> R) -> (R, Reads) {
    struct Restore(Option<Reads>);
    impl Drop for Restore {
        fn drop(&mut self) {
            if let Some(before) = self.0.take() {
                READS.set(before);
            }
        }
    }
    let mut restore = Restore(Some(READS.replace(reads)));
    let result = f();
    let before = restore.0.take().unwrap_or(Reads::All);
    (result, READS.replace(before))
}

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}
