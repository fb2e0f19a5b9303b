//! Functions of tensors that a device replays as a whole instead of launching each operation again:
//! CUDA graphs.
//!
//! [`Recordings`] keeps recordings by the shapes of their inputs, and falls back to the function
//! itself if something cannot be recorded; [`Fixed`] is one recording that always reads and writes
//! the same memory. Tests use a placeholder for CUDA ([`imitated`]), which runs the recorded
//! function again; docs/gpu.md lists what has not yet run on a GPU.

mod alone;
mod back;
mod cuda;
mod fixed;
mod kept;
mod once;
mod recorded;
mod recordings;
mod stand_in;

use std::cell::RefCell;
use std::fmt;
use std::sync::Arc;

use tch::Device;

use crate::Result;

pub(crate) use alone::{Alone, drop_alone};
pub use fixed::Fixed;
pub use kept::{Form, Kept};
pub use once::recording;
pub use recordings::{GraphState, Recordings};
pub use stand_in::{Flaw, StandIn};

/// A memory pool, by the identifier that its recorder gave it.
pub type Pool = [u64; 2];

/// Makes recordings on some device.
pub trait Recorder: fmt::Debug + Send + Sync {
    /// Runs `f` on a separate stream, after all work queued so far and before all work queued
    /// later.
    ///
    /// # Errors
    /// Any error of `f`.
    fn aside(&self, f: &mut dyn FnMut() -> Result<()>) -> Result<()>;

    /// Waits for the device, and returns unused memory to it. Called within [`Recorder::aside`]:
    /// waiting for a device breaks a recording made by another thread.
    ///
    /// # Errors
    /// An error of earlier work.
    fn clear(&self) -> Result<()>;

    /// A memory pool for recordings that are never replayed concurrently.
    ///
    /// # Errors
    /// No pool is available.
    fn pool(&self) -> Result<Pool>;

    /// Records the device work of `f`; whether the device also executes it is unspecified. Called
    /// within [`Recorder::aside`].
    ///
    /// # Errors
    /// Any error of `f`; work that cannot be recorded.
    fn record(&self, pool: Pool, f: &mut dyn FnMut() -> Result<()>) -> Result<Box<dyn Recording>>;
}

/// Recorded device work.
pub trait Recording: fmt::Debug + Send {
    /// Repeats it with the same tensors. `again` runs the recorded function itself: placeholders
    /// for a device call it.
    ///
    /// # Errors
    /// Any error of the device.
    fn replay(&mut self, again: &mut dyn FnMut() -> Result<()>) -> Result<()>;
}

thread_local! {
    static IMITATION: RefCell<Option<Arc<dyn Recorder>>> = const { RefCell::new(None) };
}

/// Runs `f`, with CPU computations of this thread recorded by `recorder`.
pub fn imitated<R>(recorder: Arc<dyn Recorder>, f: impl FnOnce() -> R) -> R {
    struct Restore(Option<Arc<dyn Recorder>>);
    impl Drop for Restore {
        fn drop(&mut self) {
            let before = self.0.take();
            IMITATION.with(|now| now.replace(before));
        }
    }
    let _restore = Restore(IMITATION.with(|now| now.replace(Some(recorder))));
    f()
}

/// The recorder of a device, if recording is enabled there; an error if it is not available.
fn recorder(device: Device) -> Option<Result<Arc<dyn Recorder>>> {
    match device {
        Device::Cpu => IMITATION.with(|recorder| recorder.borrow().clone()).map(Ok),
        Device::Cuda(number) => {
            Some(crate::cuda::graphs().map(|()| Arc::new(cuda::Cuda(number)) as Arc<dyn Recorder>))
        }
        _ => None,
    }
}
