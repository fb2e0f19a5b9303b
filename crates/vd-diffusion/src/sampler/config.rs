//! Samplers by name.

use serde::{Deserialize, Serialize};

use super::{Boundary, Heun, LastSteps, Line, LineRule, LineWeight, SamplerFacts, ThirdOrder};
use crate::named::{name_or_table, number_or_inf};

/// Choice of sampler in a config: its kind, or a table with its `kind` and settings.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(remote = "Self", tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum SamplerConfig {
    /// [`Ancestral`](super::Ancestral) sampling.
    Ancestral {
        /// From the small variance (0, the default) to the large one (1).
        #[serde(default)]
        gamma: f64,
    },
    /// [`Ancestral`](super::Ancestral) sampling with DDPM's "fixed small" variance; `ddpm` is the same.
    #[serde(alias = "ddpm")]
    DdpmSmall {
        /// As in `ancestral`; the default, 0, is the variance in the name.
        #[serde(default)]
        gamma: f64,
    },
    /// [`Ancestral`](super::Ancestral) sampling with DDPM's "fixed large" variance.
    DdpmLarge,
    /// [`Ddim`](super::Ddim).
    Ddim {
        /// Amount of fresh noise: from none (0, the default) to that of DDPM (1).
        #[serde(default)]
        eta: f64,
    },
    /// Euler's method, which is [`Ddim`](super::Ddim) without noise.
    Euler,
    /// Euler's method to a level below the target, followed by fresh noise: [`Ddim`](super::Ddim)
    /// with noise.
    EulerAncestral {
        /// Amount of fresh noise; all of it (1) by default.
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
        /// The line along which derivatives are taken; that of flow matching by default.
        #[serde(default)]
        line: Line,
    },
    /// [`Dpm2`](super::Dpm2).
    Dpm2,
    /// [`Lms`](super::Lms).
    Lms {
        /// Number of evaluations used; 4 by default.
        #[serde(default = "four")]
        order: usize,
    },
    /// [`DpmPp2s`](super::DpmPp2s).
    #[serde(rename = "dpmpp-2s-ancestral")]
    DpmPp2sAncestral {
        /// Amount of fresh noise; all of it (1) by default.
        #[serde(default = "one")]
        eta: f64,
    },
    /// [`DpmPp2m`](super::DpmPp2m) without noise.
    #[serde(rename = "dpmpp-2m")]
    DpmPp2m {
        /// How the line through two x0-hat is averaged; by its midpoint by default.
        #[serde(default)]
        line: LineRule,
        /// Order of the last steps; falls to first order by default.
        #[serde(default)]
        last: LastSteps,
    },
    /// [`DpmPp2m`](super::DpmPp2m) with noise.
    #[serde(rename = "dpmpp-2m-sde")]
    DpmPp2mSde {
        /// Amount of fresh noise; all of it (1) by default.
        #[serde(default = "one")]
        eta: f64,
        /// How the line through two x0-hat is averaged; by its midpoint by default.
        #[serde(default)]
        line: LineRule,
        /// Order of the last steps; falls to first order by default.
        #[serde(default)]
        last: LastSteps,
    },
    /// [`DpmPp3m`](super::DpmPp3m) with noise.
    #[serde(rename = "dpmpp-3m-sde")]
    DpmPp3mSde {
        /// Amount of fresh noise; all of it (1) by default.
        #[serde(default = "one")]
        eta: f64,
        /// Which published or exact form; `whole` by default.
        #[serde(default)]
        form: ThirdOrder,
        /// Order of the last steps; that of the form by default.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        last: Option<LastSteps>,
    },
    /// [`UniPc`](super::UniPc) with a predictor of order 2.
    #[serde(rename = "unipc-2")]
    UniPc2 {
        /// How a line is averaged; exactly by default.
        #[serde(default)]
        line: LineWeight,
    },
    /// [`UniPc`](super::UniPc) with a predictor of order 3.
    #[serde(rename = "unipc-3")]
    UniPc3 {
        /// How a line is averaged; exactly by default.
        #[serde(default)]
        line: LineWeight,
    },
    /// [`Pndm`](super::Pndm).
    Pndm,
    /// [`Ipndm`](super::Ipndm).
    Ipndm {
        /// Number of evaluations used; 4 by default.
        #[serde(default = "four")]
        order: usize,
    },
    /// [`Deis`](super::Deis).
    Deis {
        /// Number of evaluations used; 3 by default.
        #[serde(default = "three")]
        order: usize,
        /// Order of the last steps; falls to first order by default.
        #[serde(default)]
        last: LastSteps,
    },
    /// [`Lcm`](super::Lcm).
    Lcm {
        /// For networks that were distilled with a boundary condition; none by default, and `{}` is
        /// that of the published networks.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        boundary: Option<Boundary>,
    },
    /// [`Restart`](super::Restart).
    Restart {
        /// The sampler that makes the steps; `dpmpp-2m` by default.
        #[serde(default = "two_m")]
        inner: Box<SamplerConfig>,
        /// The least sigma / alpha of the repeated band; 0.05 by default.
        #[serde(default = "restart_low")]
        low: f64,
        /// The largest sigma / alpha of the band; 2 by default, "inf" for no limit.
        #[serde(default = "restart_high", with = "number_or_inf")]
        high: f64,
        /// Number of repetitions; 1 by default.
        #[serde(default = "once")]
        times: usize,
    },
    /// [`Langevin`](super::Langevin).
    Langevin {
        /// The predictor; `ancestral` by default.
        #[serde(default = "ancestral")]
        inner: Box<SamplerConfig>,
        /// Size of the corrector step; 0.1 by default.
        #[serde(default = "tenth")]
        delta: f64,
    },
}

name_or_table!(
    SamplerConfig,
    "sampler",
    [DdpmLarge => "ddpm-large", Euler => "euler", Dpm2 => "dpm2", Pndm => "pndm"],
    [
        Ancestral => "ancestral",
        DdpmSmall => "ddpm-small",
        Ddim => "ddim",
        EulerAncestral => "euler-ancestral",
        Heun => "heun",
        Lms => "lms",
        DpmPp2sAncestral => "dpmpp-2s-ancestral",
        DpmPp2m => "dpmpp-2m",
        DpmPp2mSde => "dpmpp-2m-sde",
        DpmPp3mSde => "dpmpp-3m-sde",
        UniPc2 => "unipc-2",
        UniPc3 => "unipc-3",
        Ipndm => "ipndm",
        Deis => "deis",
        Lcm => "lcm",
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
    Box::new(SamplerConfig::DpmPp2m { line: LineRule::Midpoint, last: LastSteps::Fall })
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
}
