//! Dropout with reproducible masks.

use std::sync::Arc;

use tch::{Device, Kind, Tensor};

use crate::kernels::cpu::{self, DropMask, Isa};
use crate::kernels::{self, cuda};
use crate::noise::there;
use crate::{Error, Noise, Result};

/// The seeds of the masks of one evaluation: a number for each sample.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DropoutSeeds(Arc<[u64]>);

impl DropoutSeeds {
    /// One seed per sample.
    pub fn new(seeds: &[u64]) -> Self {
        DropoutSeeds(seeds.into())
    }

    /// Draws seeds for `b` samples, each from its own stream.
    ///
    /// # Errors
    /// Any error of libtorch.
    pub fn draw(noise: &mut dyn Noise, b: i64) -> Result<Self> {
        let drawn = noise.uniform(&Tensor::empty([b, 4], (Kind::Float, Device::Cpu)));
        let drawn = Vec::<f32>::try_from(drawn.flatten(0, -1))?;
        // Sixteen bits of each value, which any f32 below 1 provides.
        let seed =
            |parts: &[f32]| parts.iter().fold(0, |seed, u| (seed << 16) | (u * 65_536.0) as u64);
        Ok(DropoutSeeds(drawn.chunks(4).map(seed).collect()))
    }

    /// One seed per sample.
    pub fn as_slice(&self) -> &[u64] {
        &self.0
    }
}

/// Zeroes values at random, and divides the others by their probability of being kept.
///
/// The mask depends only on the sample's seed, the site, the frame's number and the position in the
/// frame: not on the batch, on other frames, or on how often or in which order masks are made. So a
/// layer that is recomputed drops the same values again.
///
/// # Reference
/// Srivastava et al. 2014, JMLR 15:1929; scaled during training, so that evaluation needs no
/// correction.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Dropout {
    rate: f64,
    site: u64,
}

impl Dropout {
    /// `site` gives each layer of a network its own masks ([`crate::Scope::site`]).
    ///
    /// # Range
    /// `rate`: 0 or more, below 1
    /// # Errors
    /// A rate out of range.
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
    /// The number of seeds differs from that of the samples; a device error.
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
