//! Timing of a device's work.

use std::time::{Duration, Instant};

use tch::Device;

use crate::transfer::Fence;
use crate::{Error, Result, shim};

/// A point in the sequence of a device's work.
#[derive(Debug)]
pub struct Moment(At);

#[derive(Debug)]
enum At {
    /// Of a device that has finished its work when a call returns.
    Host(Instant),
    Cuda(Fence),
}

impl Moment {
    /// The time at which a device finishes all work queued so far.
    ///
    /// # Errors
    /// A device that libtorch does not have.
    pub fn mark(device: Device) -> Result<Self> {
        let Device::Cuda(index) = device else { return Ok(Moment(At::Host(Instant::now()))) };
        let mut event = std::ptr::null_mut();
        // SAFETY: room for an event.
        shim::call(|error| unsafe { shim::vd_moment(index as i32, &mut event, error) })?;
        Ok(Moment(At::Cuda(Fence(event))))
    }

    /// The time from an earlier moment of the same device to this one; waits for it. A GPU measures
    /// with a resolution of half a microsecond.
    ///
    /// # Errors
    /// An error of the device's work; a moment of another device.
    pub fn since(&self, earlier: &Moment) -> Result<Duration> {
        match (&self.0, &earlier.0) {
            (At::Host(now), At::Host(then)) => Ok(now.duration_since(*then)),
            (At::Cuda(now), At::Cuda(then)) => {
                let mut milliseconds = 0.0;
                shim::call(|error| {
                    // SAFETY: live events, and room for a number.
                    unsafe { shim::vd_elapsed(then.0, now.0, &mut milliseconds, error) }
                })?;
                Ok(Duration::from_secs_f64(milliseconds.max(0.0) / 1e3))
            }
            _ => {
                Err(Error::Torch("the time between moments of two devices is undefined".to_owned()))
            }
        }
    }
}
