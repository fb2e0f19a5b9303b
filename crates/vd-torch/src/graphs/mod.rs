//! Functions of tensors that a device does again as a whole, instead of being told every operation
//! anew: CUDA's graphs.
//!
//! [`Recordings`] keeps what was recorded, by the shapes that it was recorded with, and gives way
//! wherever something cannot be recorded; [`Fixed`] is one recording of what always reads and writes the
//! same memory. No GPU has run this yet: tests put a stand-in in the place
//! of CUDA ([`imitated`]), which runs the recorded function again.

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

pub use fixed::Fixed;
pub use kept::{Form, Kept};
pub use once::recording;
pub use recordings::{GraphState, Recordings};
pub use stand_in::{Flaw, StandIn};

/// A pool of memory, by the name that its recorder gave it.
pub type Pool = [u64; 2];

/// What records, on some device.
pub trait Recorder: fmt::Debug + Send + Sync {
    /// Runs `f` beside what the device does else, behind all that it was given, and before all that
    /// it is given afterwards.
    ///
    /// # Errors
    /// Whatever `f` gives.
    fn aside(&self, f: &mut dyn FnMut() -> Result<()>) -> Result<()>;

    /// Waits for the device, and gives it back the memory that no tensor has. Called within
    /// [`Recorder::aside`]: what waits for a device ruins a recording that another thread makes.
    ///
    /// # Errors
    /// An error of what ran before.
    fn clear(&self) -> Result<()>;

    /// Memory for recordings of which one is replayed after the other.
    ///
    /// # Errors
    /// There is none.
    fn pool(&self) -> Result<Pool>;

    /// Records what `f` has the device do; whether it does it too is open. Called within
    /// [`Recorder::aside`].
    ///
    /// # Errors
    /// Whatever `f` gives; what cannot be recorded.
    fn record(&self, pool: Pool, f: &mut dyn FnMut() -> Result<()>) -> Result<Box<dyn Recording>>;
}

/// What a device was given to do.
pub trait Recording: fmt::Debug + Send {
    /// Does it again, with the same tensors. `again` has it done by the recorded function itself:
    /// stand-ins call it.
    ///
    /// # Errors
    /// Whatever the device says.
    fn replay(&mut self, again: &mut dyn FnMut() -> Result<()>) -> Result<()>;
}

thread_local! {
    static IMITATION: RefCell<Option<Arc<dyn Recorder>>> = const { RefCell::new(None) };
}

/// Runs `f` with what is computed on the CPU, on this thread, recorded by `recorder`.
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

/// What records on a device, if anything should; an error where it cannot be had.
fn recorder(device: Device) -> Option<Result<Arc<dyn Recorder>>> {
    match device {
        Device::Cpu => IMITATION.with(|recorder| recorder.borrow().clone()).map(Ok),
        Device::Cuda(number) => {
            Some(crate::cuda::graphs().map(|()| Arc::new(cuda::Cuda(number)) as Arc<dyn Recorder>))
        }
        _ => None,
    }
}
