//! Builds the sampler of a config.

use super::{
    Ancestral, Ddim, Deis, Dpm2, DpmPp2m, DpmPp2s, DpmPp3m, Heun, Ipndm, Langevin, Lcm, Lms, Pndm,
    Restart, Sampler, SamplerConfig, UniPc,
};
use crate::Result;

impl SamplerConfig {
    /// Builds the sampler.
    ///
    /// # Errors
    /// Settings out of range.
    pub fn build(&self) -> Result<Box<dyn Sampler>> {
        match *self {
            SamplerConfig::Ancestral { gamma } | SamplerConfig::DdpmSmall { gamma } => {
                checked(Ancestral { gamma }, Ancestral::validate)
            }
            SamplerConfig::DdpmLarge => Ok(Box::new(Ancestral { gamma: 1.0 })),
            SamplerConfig::Ddim { eta } | SamplerConfig::EulerAncestral { eta } => {
                checked(Ddim { eta }, Ddim::validate)
            }
            SamplerConfig::Euler => Ok(Box::new(Ddim { eta: 0.0 })),
            SamplerConfig::Heun { churn, churn_min, churn_max, churn_noise, line } => {
                let heun = Heun { churn, churn_min, churn_max, churn_noise, line };
                checked(heun, Heun::validate)
            }
            SamplerConfig::Dpm2 => Ok(Box::new(Dpm2)),
            SamplerConfig::Lms { order } => checked(Lms { order }, Lms::validate),
            SamplerConfig::DpmPp2sAncestral { eta } => checked(DpmPp2s { eta }, DpmPp2s::validate),
            SamplerConfig::DpmPp2m { line, last } => {
                Ok(Box::new(DpmPp2m { line, last, ..DpmPp2m::new(0.0) }))
            }
            SamplerConfig::DpmPp2mSde { eta, line, last } => {
                checked(DpmPp2m { eta, line, last }, DpmPp2m::validate)
            }
            SamplerConfig::DpmPp3mSde { eta, form, last } => {
                let published = form.sampler(eta);
                let last = last.unwrap_or(published.last);
                checked(DpmPp3m { last, ..published }, DpmPp3m::validate)
            }
            SamplerConfig::UniPc2 { line } => Ok(Box::new(UniPc { order: 2, line })),
            SamplerConfig::UniPc3 { line } => Ok(Box::new(UniPc { order: 3, line })),
            SamplerConfig::Pndm => Ok(Box::new(Pndm)),
            SamplerConfig::Ipndm { order } => checked(Ipndm { order }, Ipndm::validate),
            SamplerConfig::Deis { order, last } => checked(Deis { order, last }, Deis::validate),
            SamplerConfig::Lcm { boundary } => checked(Lcm { boundary }, Lcm::validate),
            SamplerConfig::Restart { ref inner, low, high, times } => {
                let restart = Restart { inner: inner.build()?, low, high, times };
                restart.validate()?;
                Ok(Box::new(restart))
            }
            SamplerConfig::Langevin { ref inner, delta } => {
                let langevin = Langevin { inner: inner.build()?, delta };
                langevin.validate()?;
                Ok(Box::new(langevin))
            }
        }
    }
}

/// A sampler whose settings have been checked.
fn checked<S: Sampler + Copy + 'static>(
    sampler: S,
    validate: fn(S) -> Result<()>,
) -> Result<Box<dyn Sampler>> {
    validate(sampler)?;
    Ok(Box::new(sampler))
}
