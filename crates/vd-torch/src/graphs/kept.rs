//! What is made of weights and kept, read by recordings too.

use std::cell::RefCell;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tch::Tensor;

use super::recording;
use crate::device_memory::said_by;
use crate::{Error, Result};

/// In which form a tensor is wanted: another dtype or layout, or what follows from it.
pub trait Form: fmt::Debug + PartialEq + Send + 'static {
    /// Memory for it, whatever lies there.
    fn room(&self, of: &Tensor) -> Tensor;

    /// Writes all of it there, of nothing but that tensor.
    fn write(&self, of: &Tensor, room: &mut Tensor);

    /// A new one.
    fn made(&self, of: &Tensor) -> Tensor {
        tch::no_grad(|| {
            let mut room = self.room(of);
            self.write(&of.detach(), &mut room);
            room
        })
    }
}

/// What a layer keeps of one of its tensors, until that changes.
///
/// A recording without a way back reads what is kept as it reads the tensor: where it lies. It holds
/// it as long as it lives, and before each replay what has changed is written there again, once for
/// all that read it. So one copy serves all recordings and the layer, and where weights change between
/// replays it costs no more than if it were part of each. That a tensor has changed is told by its
/// version: what writes one past libtorch's operators, a replay too, has to count it up.
///
/// What is kept was made outside of recordings. Its memory is then not of their pool, which they write
/// over, and of the stream that replays go to, not of the one beside: where it is given back, what is
/// given it next comes behind all that still reads it.
#[derive(Debug)]
pub struct Kept<F>(Mutex<Vec<Arc<One<F>>>>);

/// One form, in memory that stays its own.
#[derive(Debug)]
struct One<F>(Mutex<Written<F>>);

#[derive(Debug)]
struct Written<F> {
    form: F,
    /// Outside of any graph, with the version counter of the tensor itself.
    of: Tensor,
    /// What `of` was when it was written.
    version: i64,
    room: Tensor,
}

/// What recordings hold.
pub(super) trait Held: fmt::Debug + Send + Sync {
    /// Writes it again if it has changed.
    fn freshen(&self);
}

/// All that one recording holds.
pub(super) type Holds = Vec<Arc<dyn Held>>;

/// What is read on this thread of what is kept.
#[derive(Debug)]
enum Reads {
    /// All but while something is recorded.
    All,
    /// All, and it is noted.
    Noted(Holds),
    /// These as they are, as a device does that replays them.
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
    /// `of` in this form: kept, or made anew, and kept then with `store`. While a recording is made
    /// nothing new is kept; one with a way back reads nothing that is, for its weights change with
    /// each step.
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

    /// Lets go what no recording reads.
    pub fn forget(&self) {
        lock(&self.0).retain(is_held);
    }
}

/// What is kept, if the recording that is made reads it, or the one that is replayed by its function.
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

/// Whether a recording does.
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

    /// As the tensor is now.
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

/// Runs `f`, and tells what it has read of what is kept, where there is no way `back`.
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

/// Runs `f` with these read of what is kept and no others, as they are.
pub(super) fn reading<R>(holds: &Holds, f: impl FnOnce() -> R) -> R {
    with(Reads::Only(holds.clone()), f).0
}

/// Writes again what has changed.
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
