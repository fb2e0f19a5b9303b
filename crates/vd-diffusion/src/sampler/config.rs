//! Samplers by name.

use serde::{Deserialize, Serialize};

use super::{
    Ancestral, Ddim, Deis, Dpm2, DpmPp2m, DpmPp2s, DpmPp3m, Heun, Ipndm, Langevin, Lcm, Line, Lms,
    Pndm, Restart, Sampler, SamplerFacts, UniPc,
};
use crate::Result;
use crate::named::name_or_table;

/// Which sampler, as a config says it: its kind, or a table with its `kind` and settings.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(remote = "Self", tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum SamplerConfig {
    /// [`Ancestral`] sampling.
    Ancestral {
        /// From the small variance (0, the default) to the large one (1).
        #[serde(default)]
        gamma: f64,
    },
    /// [`Ancestral`] sampling with DDPM's "fixed small" variance; `ddpm` is the same.
    #[serde(alias = "ddpm")]
    DdpmSmall {
        /// As in `ancestral`; 0, the default, is what the name says.
        #[serde(default)]
        gamma: f64,
    },
    /// [`Ancestral`] sampling with DDPM's "fixed large" variance.
    DdpmLarge,
    /// [`Ddim`].
    Ddim {
        /// How much fresh noise: none (0, the default) to that of DDPM (1).
        #[serde(default)]
        eta: f64,
    },
    /// Euler's method, which is [`Ddim`] without noise.
    Euler,
    /// Euler's method down to less noise than is due, the rest drawn: [`Ddim`] with noise.
    EulerAncestral {
        /// How much fresh noise; all of it (1) by default.
        #[serde(default = "one")]
        eta: f64,
    },
    /// [`Heun`].
    Heun {
        /// EDM's S_churn; 0 by default.
        #[serde(default)]
        churn: f64,
        /// EDM's S_tmin; 0 by default.
        #[serde(default)]
        churn_min: f64,
        /// EDM's S_tmax; infinite by default.
        #[serde(default = "infinity", skip_serializing_if = "is_infinite")]
        churn_max: f64,
        /// EDM's S_noise; 1 by default.
        #[serde(default = "one")]
        churn_noise: f64,
        /// Along which line the slopes are taken; that of flow matching by default.
        #[serde(default)]
        line: Line,
    },
    /// [`Dpm2`].
    Dpm2,
    /// [`Lms`].
    Lms {
        /// How many evaluations count; 4 by default.
        #[serde(default = "four")]
        order: usize,
    },
    /// [`DpmPp2s`].
    #[serde(rename = "dpmpp-2s-ancestral")]
    DpmPp2sAncestral {
        /// How much fresh noise; all of it (1) by default.
        #[serde(default = "one")]
        eta: f64,
    },
    /// [`DpmPp2m`] without noise.
    #[serde(rename = "dpmpp-2m")]
    DpmPp2m,
    /// [`DpmPp2m`] with noise.
    #[serde(rename = "dpmpp-2m-sde")]
    DpmPp2mSde {
        /// How much fresh noise; all of it (1) by default.
        #[serde(default = "one")]
        eta: f64,
    },
    /// [`DpmPp3m`] with noise.
    #[serde(rename = "dpmpp-3m-sde")]
    DpmPp3mSde {
        /// How much fresh noise; all of it (1) by default.
        #[serde(default = "one")]
        eta: f64,
    },
    /// [`UniPc`] with a predictor of order 2.
    #[serde(rename = "unipc-2")]
    UniPc2,
    /// [`UniPc`] with a predictor of order 3.
    #[serde(rename = "unipc-3")]
    UniPc3,
    /// [`Pndm`].
    Pndm,
    /// [`Ipndm`].
    Ipndm {
        /// How many evaluations count; 4 by default.
        #[serde(default = "four")]
        order: usize,
    },
    /// [`Deis`].
    Deis {
        /// How many evaluations count; 3 by default.
        #[serde(default = "three")]
        order: usize,
    },
    /// [`Lcm`].
    Lcm,
    /// [`Restart`].
    Restart {
        /// Who makes the steps; `dpmpp-2m` by default.
        #[serde(default = "two_m")]
        inner: Box<SamplerConfig>,
        /// The least sigma / alpha that is gone through again; 0.05 by default.
        #[serde(default = "restart_low")]
        low: f64,
        /// The largest; 2 by default.
        #[serde(default = "restart_high")]
        high: f64,
        /// How often; once by default.
        #[serde(default = "once")]
        times: usize,
    },
    /// [`Langevin`].
    Langevin {
        /// The predictor; `ancestral` by default.
        #[serde(default = "ancestral")]
        inner: Box<SamplerConfig>,
        /// Size of the correcting step; 0.1 by default.
        #[serde(default = "tenth")]
        delta: f64,
    },
}

name_or_table!(
    SamplerConfig,
    "sampler",
    [
        DdpmLarge => "ddpm-large",
        Euler => "euler",
        Dpm2 => "dpm2",
        DpmPp2m => "dpmpp-2m",
        UniPc2 => "unipc-2",
        UniPc3 => "unipc-3",
        Pndm => "pndm",
        Lcm => "lcm",
    ],
    [
        Ancestral => "ancestral",
        DdpmSmall => "ddpm-small",
        Ddim => "ddim",
        EulerAncestral => "euler-ancestral",
        Heun => "heun",
        Lms => "lms",
        DpmPp2sAncestral => "dpmpp-2s-ancestral",
        DpmPp2mSde => "dpmpp-2m-sde",
        DpmPp3mSde => "dpmpp-3m-sde",
        Ipndm => "ipndm",
        Deis => "deis",
        Restart => "restart",
        Langevin => "langevin",
    ],
);

fn one() -> f64 {
    1.0
}

fn infinity() -> f64 {
    f64::INFINITY
}

fn is_infinite(value: &f64) -> bool {
    value.is_infinite()
}

fn three() -> usize {
    3
}

fn four() -> usize {
    4
}

fn two_m() -> Box<SamplerConfig> {
    Box::new(SamplerConfig::DpmPp2m)
}

fn ancestral() -> Box<SamplerConfig> {
    Box::new(SamplerConfig::Ancestral { gamma: 0.0 })
}

fn restart_low() -> f64 {
    0.05
}

fn restart_high() -> f64 {
    2.0
}

fn once() -> usize {
    1
}

fn tenth() -> f64 {
    0.1
}

impl Default for SamplerConfig {
    fn default() -> Self {
        SamplerConfig::Ddim { eta: 0.0 }
    }
}

impl SamplerConfig {
    /// Every kind, with its default settings, in the order of [`SamplerFacts::ALL`].
    pub fn all() -> Vec<SamplerConfig> {
        SamplerFacts::ALL.iter().filter_map(|facts| facts.name.parse().ok()).collect()
    }

    /// The config of Heun's method with these settings.
    pub fn heun(heun: Heun) -> Self {
        let Heun { churn, churn_min, churn_max, churn_noise, line } = heun;
        SamplerConfig::Heun { churn, churn_min, churn_max, churn_noise, line }
    }

    /// The sampler itself.
    ///
    /// # Errors
    /// Settings out of their range.
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
            SamplerConfig::DpmPp2m => Ok(Box::new(DpmPp2m::new(0.0))),
            SamplerConfig::DpmPp2mSde { eta } => checked(DpmPp2m::new(eta), DpmPp2m::validate),
            SamplerConfig::DpmPp3mSde { eta } => checked(DpmPp3m::new(eta), DpmPp3m::validate),
            SamplerConfig::UniPc2 => Ok(Box::new(UniPc::new(2))),
            SamplerConfig::UniPc3 => Ok(Box::new(UniPc::new(3))),
            SamplerConfig::Pndm => Ok(Box::new(Pndm)),
            SamplerConfig::Ipndm { order } => checked(Ipndm { order }, Ipndm::validate),
            SamplerConfig::Deis { order } => checked(Deis::new(order), Deis::validate),
            SamplerConfig::Lcm => Ok(Box::new(Lcm::default())),
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

/// A sampler whose settings are in their range.
fn checked<S: Sampler + Copy + 'static>(
    sampler: S,
    validate: fn(S) -> Result<()>,
) -> Result<Box<dyn Sampler>> {
    validate(sampler)?;
    Ok(Box::new(sampler))
}
