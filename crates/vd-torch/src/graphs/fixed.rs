//! A recorded function that reads and writes the same memory each time.

use std::panic::{AssertUnwindSafe, catch_unwind};

use tch::Device;

use super::{Recording, recorder};
use crate::device_memory::said_by;
use crate::{Error, Result};

/// The recorded device work of a function without arguments or results.
///
/// A replay reads and writes the same addresses as the recorded run: the owner keeps those tensors
/// alive, and copies new values into them.
#[derive(Debug)]
pub struct Fixed(Box<dyn Recording>);

impl Fixed {
    /// Whether anything is recorded on a device; [`Fixed::record`] returns the reason if it cannot
    /// be.
    pub fn can_record(device: Device) -> bool {
        recorder(device).is_some()
    }

    /// Records the device work of `f`. Whether the device also executes it meanwhile is
    /// unspecified, so `f` must be safe to repeat.
    ///
    /// # Errors
    /// Any error of `f`, a panic included; work that cannot be recorded; a device that records
    /// nothing.
    pub fn record(device: Device, f: &mut dyn FnMut() -> Result<()>) -> Result<Self> {
        let nothing = || Error::Torch(format!("no graphs can be recorded on {device:?}"));
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
                // A pending device error is reported by the next call.
                let _ = recorder.aside(&mut || recorder.clear());
                Err(error)
            }
        }
    }

    /// Replays it; `f` is the recorded function.
    ///
    /// # Errors
    /// Any error of the device.
    pub fn replay(&mut self, f: &mut dyn FnMut() -> Result<()>) -> Result<()> {
        self.0.replay(f)
    }
}
