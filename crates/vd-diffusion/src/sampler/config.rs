//! Samplers by name.

use serde::{Deserialize, Serialize};

use super::{Ancestral, Ddim, Sampler};
use crate::Result;
use crate::named::name_or_table;

/// Which sampler, as a config says it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(remote = "Self", tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum SamplerConfig {
    /// [`Ancestral`] sampling.
    Ddpm {
        /// From the small variance (0) to the large one (1).
        #[serde(default)]
        gamma: f64,
    },
    /// [`Ddim`].
    Ddim {
        /// How much fresh noise.
        #[serde(default)]
        eta: f64,
    },
}

name_or_table!(SamplerConfig, "the name of a sampler, or a table with its `kind`");

impl Default for SamplerConfig {
    fn default() -> Self {
        SamplerConfig::Ddim { eta: 0.0 }
    }
}

impl SamplerConfig {
    /// The sampler itself.
    ///
    /// # Errors
    /// Settings out of their range.
    pub fn build(&self) -> Result<Box<dyn Sampler>> {
        match *self {
            SamplerConfig::Ddpm { gamma } => {
                let sampler = Ancestral { gamma };
                sampler.validate()?;
                Ok(Box::new(sampler))
            }
            SamplerConfig::Ddim { eta } => {
                let sampler = Ddim { eta };
                sampler.validate()?;
                Ok(Box::new(sampler))
            }
        }
    }
}
