//! Running a function while it is recorded.

use std::cell::Cell;
use std::fmt::Display;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};

use tch::Tensor;

use crate::autograd::grad;
use crate::device_memory::said_by;
use crate::{Error, Result, shim};

/// Alignment, in values, of each gradient in the joint tensor, so that it can be read in wide
/// loads.
const STEP: i64 = 64;

thread_local! {
    static RECORDING: Cell<bool> = const { Cell::new(false) };
}

/// The number of backward passes that are being recorded or about to be. libtorch runs them, and
/// any recomputation of activations in them, on its own threads.
static BACK: AtomicUsize = AtomicUsize::new(0);

/// Whether the work of this thread is being recorded, or is about to be. Everything that a
/// recording reads must be part of it, or live as long as it. A value that is cached until
/// something changes is neither, unless a [`Kept`](super::Kept) holds it. While a backward is
/// recorded this is true on every thread.
pub fn recording() -> bool {
    RECORDING.get() || BACK.load(Ordering::Relaxed) > 0
}

/// Marks a backward that is recorded, or about to be, until dropped.
struct OnTheWayBack;

impl OnTheWayBack {
    fn new() -> Self {
        BACK.fetch_add(1, Ordering::Relaxed);
        OnTheWayBack
    }
}

impl Drop for OnTheWayBack {
    fn drop(&mut self) {
        BACK.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Runs `f` marked as being recorded, and without the weight casts that autocast caches while it is
/// on: a recording would still read them after the weights have changed.
pub(super) fn without_what_is_kept<R>(f: impl FnOnce() -> R) -> R {
    struct Restore(i32, bool);
    impl Drop for Restore {
        fn drop(&mut self) {
            RECORDING.set(self.1);
            // SAFETY: a setting of this thread.
            unsafe { shim::vd_autocast_keeps(self.0) };
        }
    }
    // SAFETY: a setting of this thread.
    let _restore = Restore(unsafe { shim::vd_autocast_keeps(0) }, RECORDING.replace(true));
    f()
}

/// The result of a function, with or without a graph; a panic becomes an error.
pub(super) fn run<E: Display>(
    graph: bool,
    f: impl FnOnce() -> std::result::Result<Vec<Tensor>, E>,
) -> Result<Vec<Tensor>> {
    let body = || without_what_is_kept(|| if graph { tch::with_grad(f) } else { tch::no_grad(f) });
    let done = catch_unwind(AssertUnwindSafe(body));
    done.map_err(|panic| Error::Torch(said_by(&*panic)))?
        .map_err(|error| Error::Torch(error.to_string()))
}

/// The position of a gradient in the joint tensor, and its shape.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Place {
    first: i64,
    size: Vec<i64>,
}

impl Place {
    /// The gradient at this position.
    pub(super) fn of(&self, all: &Tensor) -> Result<Tensor> {
        let count = self.size.iter().product();
        Ok(all.f_narrow(0, self.first, count)?.f_view(self.size.as_slice())?)
    }
}

/// All gradients in one tensor, and the position of each, None for a parameter that does not
/// contribute to the outputs.
pub(super) fn gradients(
    outputs: &[Tensor],
    seeds: &[Tensor],
    params: &[Tensor],
) -> Result<(Tensor, Vec<Option<Place>>)> {
    fn all(list: &[Tensor]) -> Vec<&Tensor> {
        list.iter().collect()
    }
    let found = {
        let _on_the_way = OnTheWayBack::new();
        grad(&all(outputs), &all(seeds), &all(params))?
    };
    let kind = found.iter().flatten().map(Tensor::kind).next();
    let Some(like) = found.iter().flatten().next() else {
        return Err(Error::Torch("no output depends on a parameter".to_owned()));
    };
    let room = like.f_new_zeros([STEP], (like.kind(), like.device()))?;
    let (mut parts, mut places, mut first) = (Vec::new(), Vec::new(), 0);
    for gradient in &found {
        let Some(gradient) = gradient else {
            places.push(None);
            continue;
        };
        if Some(gradient.kind()) != kind {
            return Err(Error::Torch("parameters have gradients of different dtypes".to_owned()));
        }
        let count = gradient.numel() as i64;
        places.push(Some(Place { first, size: gradient.size() }));
        parts.push(gradient.f_reshape([-1])?);
        let rest = (STEP - count % STEP) % STEP;
        if rest > 0 {
            parts.push(room.f_narrow(0, 0, rest)?);
        }
        first += count + rest;
    }
    Ok((Tensor::f_cat(&parts, 0)?, places))
}
