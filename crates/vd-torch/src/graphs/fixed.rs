//! A function that reads and writes the same memory each time, recorded.

use std::panic::{AssertUnwindSafe, catch_unwind};

use tch::Device;

use super::{Recording, recorder};
use crate::device_memory::said_by;
use crate::{Error, Result};

/// What a device was given to do by a function without arguments or answers.
///
/// Whatever the function reads and writes, it does so at the addresses at which it did then: its owner
/// keeps those tensors alive, and puts into them what is new.
#[derive(Debug)]
pub struct Fixed(Box<dyn Recording>);

impl Fixed {
    /// Whether anything is recorded on a device; what stands in the way is heard from
    /// [`Fixed::record`].
    pub fn can_record(device: Device) -> bool {
        recorder(device).is_some()
    }

    /// Records what `f` has a device do. Whether the device does it on the way, too, is open: `f` is one
    /// that may be done again.
    ///
    /// # Errors
    /// Whatever `f` gives, a panic included; what cannot be recorded; a device that records nothing.
    pub fn record(device: Device, f: &mut dyn FnMut() -> Result<()>) -> Result<Self> {
        let nothing = || Error::Torch(format!("nothing is recorded on {device:?}"));
        let recorder = recorder(device).ok_or_else(nothing)??;
        let mut recording = None;
        let record = || {
            let pool = recorder.pool()?;
            recorder.aside(&mut || {
                recording = Some(recorder.record(pool, f)?);
                Ok(())
            })
        };
        let recorded = catch_unwind(AssertUnwindSafe(record));
        match recorded.unwrap_or_else(|panic| Err(Error::Torch(said_by(&*panic)))) {
            Ok(()) => recording.map(Fixed).ok_or_else(nothing),
            Err(error) => {
                // Where the device has an error to tell, the next call hears it.
                let _ = recorder.aside(&mut || recorder.clear());
                Err(error)
            }
        }
    }

    /// Does it again; `f` as it was given.
    ///
    /// # Errors
    /// Whatever the device says.
    pub fn replay(&mut self, f: &mut dyn FnMut() -> Result<()>) -> Result<()> {
        self.0.replay(f)
    }
}
