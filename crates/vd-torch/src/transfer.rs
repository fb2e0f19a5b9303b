//! Asynchronous copies between the host and a device.

use std::ffi::c_void;

use tch::{Device, TchError, Tensor};

use crate::{Error, Result, shim};

/// Copies `x` to a device. On CUDA the copy goes through pinned memory and is queued after earlier
/// work: a copy from pageable memory would make the host wait for that work.
///
/// # Shapes
/// Any -> the same, in the same layout if it has no gaps
/// # Errors
/// Any error of libtorch: a device that it does not have.
pub fn upload(x: &Tensor, device: Device) -> std::result::Result<Tensor, TchError> {
    let (Device::Cpu, Device::Cuda(index)) = (x.device(), device) else {
        return x.f_to_device(device);
    };
    let mut there = std::ptr::null_mut();
    shim::call(|error| {
        // SAFETY: a tensor that is borrowed until the return, and room for a new one.
        unsafe { shim::vd_upload(x.as_ptr().cast(), index as i32, &mut there, error) }
    })
    .map_err(|error| match error {
        Error::Torch(message) => TchError::Torch(message),
        other => TchError::Torch(other.to_string()),
    })?;
    // SAFETY: a new tensor, handed over.
    Ok(unsafe { Tensor::from_ptr(there.cast()) })
}

/// Values on their way from a device to the host.
#[derive(Debug)]
pub struct Download {
    values: Tensor,
    /// The event that the device passes when they have arrived; None if they are there already.
    fence: Option<Fence>,
}

impl Download {
    /// Starts to copy the values of `x` to the host, after all work queued on its device.
    ///
    /// # Errors
    /// Any error of libtorch.
    pub fn begin(x: &Tensor) -> Result<Self> {
        if !x.device().is_cuda() {
            let values = x.f_detach()?.f_to_device_(Device::Cpu, x.kind(), false, true)?;
            return Ok(Download { values, fence: None });
        }
        let (mut values, mut fence) = (std::ptr::null_mut(), std::ptr::null_mut());
        shim::call(|error| {
            // SAFETY: a tensor that is borrowed until the return, and room for a new one and for an
            // event.
            unsafe { shim::vd_download(x.as_ptr().cast(), &mut values, &mut fence, error) }
        })?;
        // SAFETY: a new tensor, handed over.
        let values = unsafe { Tensor::from_ptr(values.cast()) };
        Ok(Download { values, fence: Some(Fence(fence)) })
    }

    /// The values, on the CPU; waits for them.
    ///
    /// # Errors
    /// Errors of earlier work on the device.
    pub fn wait(self) -> Result<Tensor> {
        if let Some(fence) = &self.fence {
            // SAFETY: a live event.
            shim::call(|error| unsafe { shim::vd_fence_wait(fence.0, error) })?;
        }
        Ok(self.values)
    }
}

/// An event in the sequence of a device's work.
#[derive(Debug)]
pub(crate) struct Fence(pub(crate) *mut c_void);

// SAFETY: any thread may wait for an event.
unsafe impl Send for Fence {}

impl Drop for Fence {
    fn drop(&mut self) {
        // SAFETY: made by the shim, dropped once.
        unsafe { shim::vd_fence_drop(self.0) };
    }
}
