//! Recording on CUDA.

use std::os::raw::c_int;

use tch::{Device, Kind, Tensor};

use super::{Alone, Pool, Recorder, Recording};
use crate::cuda::{self, Graph};
use crate::{Result, shim, synchronize};

/// A CUDA device, by its number.
#[derive(Debug)]
pub(super) struct Cuda(pub(super) usize);

impl Recorder for Cuda {
    fn aside(&self, f: &mut dyn FnMut() -> Result<()>) -> Result<()> {
        let _alone = Alone::enter();
        let aside = Aside::enter(self.0)?;
        let done = f();
        let left = aside.leave();
        done.and(left)
    }

    fn clear(&self) -> Result<()> {
        synchronize(Device::Cuda(self.0))?;
        // SAFETY: writes the error.
        shim::call(|error| unsafe { shim::vd_empty_cache(error) })
    }

    fn pool(&self) -> Result<Pool> {
        cuda::pool()
    }

    fn record(&self, pool: Pool, f: &mut dyn FnMut() -> Result<()>) -> Result<Box<dyn Recording>> {
        let mut scratch = Tensor::f_zeros([1], (Kind::Float, Device::Cuda(self.0)))?;
        Ok(Box::new(Graph::record(self.0, pool, &mut scratch, f)?))
    }
}

impl Recording for Graph {
    fn replay(&mut self, _again: &mut dyn FnMut() -> Result<()>) -> Result<()> {
        Graph::replay(self)
    }
}

/// Makes the recording stream current until dropped.
struct Aside(Option<shim::StreamBefore>);

impl Aside {
    fn enter(device: usize) -> Result<Self> {
        let mut before = shim::StreamBefore::default();
        let device = c_int::try_from(device).unwrap_or(c_int::MAX);
        shim::call(|error| {
            // SAFETY: writes one struct of the declared layout, and the error.
            unsafe { shim::vd_stream_enter(device, &raw mut before, error) }
        })?;
        Ok(Aside(Some(before)))
    }

    fn leave(mut self) -> Result<()> {
        self.back()
    }

    fn back(&mut self) -> Result<()> {
        let Some(before) = self.0.take() else { return Ok(()) };
        shim::call(|error| {
            // SAFETY: reads what vd_stream_enter has written on this thread.
            unsafe { shim::vd_stream_leave(&raw const before, error) }
        })
    }
}

impl Drop for Aside {
    fn drop(&mut self) {
        // After a panic, which is more informative than this error.
        let _ = self.back();
    }
}
