//! Dropout whose masks can be made again.

use std::sync::Arc;

use tch::{Device, Kind, Tensor};

use crate::kernels::cpu::{self, DropMask, Isa};
use crate::kernels::{self, cuda};
use crate::noise::there;
use crate::{Error, Noise, Result};

/// What the masks of one evaluation depend on: a number for each sample.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DropoutSeeds(Arc<[u64]>);

impl DropoutSeeds {
    /// Of as many samples as there are seeds.
    pub fn new(seeds: &[u64]) -> Self {
        DropoutSeeds(seeds.into())
    }

    /// Of `b` samples, each from its own stream.
    ///
    /// # Errors
    /// What libtorch refuses.
    pub fn draw(noise: &mut dyn Noise, b: i64) -> Result<Self> {
        let drawn = noise.uniform(&Tensor::empty([b, 4], (Kind::Float, Device::Cpu)));
        let drawn = Vec::<f32>::try_from(drawn.flatten(0, -1))?;
        // Sixteen bits of each, which an f32 below 1 has in any case.
        let seed =
            |parts: &[f32]| parts.iter().fold(0, |seed, u| (seed << 16) | (u * 65_536.0) as u64);
        Ok(DropoutSeeds(drawn.chunks(4).map(seed).collect()))
    }

    /// One for each sample.
    pub fn as_slice(&self) -> &[u64] {
        &self.0
    }
}

/// Sets values to 0 by chance, and divides the others by the chance that they have to stay.
///
/// What is dropped depends on the sample's seed, the site, the frame's number and the place in the
/// frame, and on nothing else: not on the batch, on other frames, or on how often or in which order
/// masks are made. So a layer that is computed again drops the same values again.
///
/// # Reference
/// Srivastava et al. 2014, JMLR 15:1929; scaled in training, so that nothing is to be done after it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Dropout {
    rate: f64,
    site: u64,
}

impl Dropout {
    /// `site` sets the masks of the layers of a network apart ([`crate::Scope::site`]).
    ///
    /// # Range
    /// `rate`: 0 or more, below 1
    /// # Errors
    /// A rate out of its range.
    pub fn new(rate: f64, site: u64) -> Result<Self> {
        if !(0.0..1.0).contains(&rate) {
            return Err(Error::Value {
                what: "rate of a dropout".to_owned(),
                expected: "at least 0 and below 1".to_owned(),
                got: rate.to_string(),
            });
        }
        Ok(Dropout { rate, site })
    }

    /// `x` itself without seeds, as in evaluation, and with a rate of 0.
    ///
    /// # Shapes
    /// b f ... -> the same
    ///
    /// # Panics
    /// Another number of seeds than of samples; a device that fails.
    pub fn forward(&self, x: &Tensor, seeds: Option<&DropoutSeeds>) -> Tensor {
        let Some(DropoutSeeds(seeds)) = seeds.filter(|_| self.rate > 0.0) else {
            return x.shallow_clone();
        };
        let Dropout { rate, site } = *self;
        let (seeds, gain) = (Arc::clone(seeds), 1.0 / (1.0 - rate));
        let mask = DropMask { seeds, site, rate, gain };
        if kernels::on_cpu(x) {
            return cpu::dropped_out(Isa::current(), x, &mask);
        }
        if let Some(on) = cuda::drop_fits(x) {
            return cuda::dropped_out(&on, x, &mask);
        }
        let ones = Tensor::ones(x.size(), (Kind::Float, Device::Cpu));
        let kept = cpu::drop_out(Isa::current(), &ones, &DropMask { gain: 1.0, ..mask });
        x * (there(&kept, x.device()).to_kind(x.kind()) * gain)
    }
}
