//! The allowed ranges of a config.

use std::collections::BTreeSet;

use vd_tensor_ops::layers::NormKind;

use super::{Axes, SignalConfig, Skips, TimePositions, TokensConfig, UNet3dConfig};
use crate::plan::{Plan, Unit};
use crate::{Error, Result};

#[cfg(test)]
mod tests;

/// More parameters than fit on any machine: a larger size is a typing error.
const MOST_PARAMETERS: f64 = 1e11;
/// For widths of embeddings, tokens and series.
const MOST_WIDTH: i64 = 1_048_576;
/// For channels of any kind, and classes.
const MOST_CHANNELS: i64 = 65_536;
/// For blocks per level, and layers of the embedding.
const MOST_BLOCKS: i64 = 64;
/// For memory tokens of a text.
const MOST_MEMORY: i64 = 64;
/// The name of the text in parameters and files, so no signal may have it.
const TEXT: &str = "text";

impl UNet3dConfig {
    /// Approximate number of parameters: without norms and biases, and as if every attention had
    /// all options.
    fn parameters_about(&self) -> f64 {
        let float = |n: i64| n as f64;
        let plan = Plan::new(self);
        let emb = float(self.embedding_width());
        let taps = float(self.temporal_kernel.unwrap_or(0));
        let unit = |unit: &Unit| {
            let (a, b) = (float(unit.inputs), float(unit.outputs));
            // Two 3 x 3 convolutions, the scales and shifts, and the projection of the skip.
            let block = 9.0 * (a + b) * b + 2.0 * emb * b + a * b + 2.0 * taps * b * b;
            let inner = |axes| float(product(self.heads(axes, unit.outputs)));
            let spatial = unit.spatial.map_or(0.0, |_| 4.0 * inner(Axes::Space) * b);
            let temporal = if unit.temporal { 4.0 * inner(Axes::Time) * b } else { 0.0 };
            // Halving and doubling, at most once per two blocks.
            block + spatial + temporal + (16.0 + taps) * b * b
        };
        let width = float(self.time_width());
        let mlp = width * (float(self.dim) + width * float(self.embedding.layers) + emb);
        let area = float(self.init_kernel_size).powi(2);
        let inputs = float(self.channels + self.extra_channels());
        let first = area * inputs * float(self.first_channels());
        let last = 9.0 * float(self.dim) * float(self.out_channels());
        let told = self.tokens_about(&plan) + self.signals_about();
        mlp + first + last + told + plan.units().map(unit).sum::<f64>()
    }

    /// The part that uses tokens, as if every attention had both ways.
    fn tokens_about(&self, plan: &Plan) -> f64 {
        let Some(tokens) = &self.tokens else { return 0.0 };
        let dim = tokens.dim as f64;
        let ways = tokens.cross.len() as f64 + f64::from(u8::from(tokens.memory > 0));
        let one = |unit: &Unit| {
            let inner = [Axes::Space, Axes::Time].map(|axes| self.heads(axes, unit.outputs));
            let inner: f64 = inner.map(|heads| product(heads) as f64).iter().sum();
            2.0 * inner * (unit.outputs as f64 + dim)
        };
        let pool = if tokens.pool { 2.0 * dim * dim } else { 0.0 };
        ways * plan.units().map(one).sum::<f64>() + tokens.memory as f64 * dim + pool
    }

    /// The part by which the signals enter the embedding of time.
    fn signals_about(&self) -> f64 {
        let width = self.time_width() as f64;
        let one = |signal: &SignalConfig| match signal {
            SignalConfig::Class { classes } => width * classes.len() as f64,
            SignalConfig::Scalar { .. } => width * (1.0 + width),
            SignalConfig::Series { width: d } => width * (*d as f64 + width),
            SignalConfig::Video { .. } => 0.0,
        };
        self.signals.values().map(one).sum()
    }

    /// Checks every field.
    ///
    /// # Errors
    /// The first field out of range, with its allowed values.
    pub fn validate(&self) -> Result<()> {
        self.validate_sizes()?;
        if let Some(tokens) = &self.tokens {
            tokens.validate()?;
        }
        for (name, signal) in &self.signals {
            signal.validate(name)?;
        }
        once("token_shift", &self.token_shift)?;
        self.validate_graph()?;
        let parameters = self.parameters_about();
        if parameters > MOST_PARAMETERS {
            let expected = format!("sizes that make at most {MOST_PARAMETERS:e} parameters");
            let mults = &self.dim_mults;
            let got = format!("about {parameters:.0e} (dim {}, dim_mults {mults:?})", self.dim);
            return refuse("dim", &expected, got);
        }
        let rotary = self.time_positions == TimePositions::Bias;
        if rotary && self.attn_dim_head < 32 && self.attn_dim_head % 2 != 0 {
            let expected = "an even number if below 32 (rotary positions rotate pairs)";
            return refuse("attn_dim_head", expected, self.attn_dim_head.to_string());
        }
        if let NormKind::Group { groups } = self.norm {
            let all = self.level_channels().into_iter().flat_map(|(a, b)| [a, b]);
            let odd = all.chain([self.dim]).find(|c| groups < 1 || c % groups != 0);
            if let Some(c) = odd {
                let got = format!("{groups} groups for {c} channels");
                return refuse("norm", "groups that divide the channels of every level", got);
            }
        }
        Ok(())
    }

    /// The architecture: blocks, attentions, embeddings.
    fn validate_graph(&self) -> Result<()> {
        within("blocks", self.blocks, 1, MOST_BLOCKS)?;
        if let Some(levels) = &self.attention_levels {
            let (count, distinct) = (self.dim_mults.len(), levels.iter().collect::<BTreeSet<_>>());
            if distinct.len() < levels.len() || levels.iter().any(|level| *level >= count) {
                let expected = format!(
                    "levels from 0 to {}, each at most once, because dim_mults has {count}",
                    count - 1
                );
                return refuse("attention_levels", &expected, format!("{levels:?}"));
            }
        }
        if self.skips == Skips::Block && self.skip_before_temporal {
            let expected = "false if every block has a skip, because no long skip is left";
            return refuse("skip_before_temporal", expected, "true".to_owned());
        }
        within("spatial_dim_head", self.spatial_dim_head.unwrap_or(1), 1, 4096)?;
        within("embedding.width", self.time_width(), 1, MOST_WIDTH)?;
        within("embedding.layers", self.embedding.layers, 1, MOST_BLOCKS)?;
        if let TimePositions::Shaw { distance } = self.time_positions {
            within("time_positions.distance", distance, 1, MOST_WIDTH)?;
        }
        if !(0.0..1.0).contains(&self.dropout) {
            return refuse("dropout", "a number from 0 to below 1", self.dropout.to_string());
        }
        match self.temporal_kernel {
            Some(kernel) if !(1..=255).contains(&kernel) || kernel % 2 == 0 => {
                refuse("temporal_kernel", "an odd number from 1 to 255", kernel.to_string())
            }
            _ => Ok(()),
        }
    }

    /// These upper bounds keep every product of sizes far from overflow.
    fn validate_sizes(&self) -> Result<()> {
        if !(4..=65_536).contains(&self.dim) || self.dim % 2 != 0 {
            return refuse("dim", "an even number from 4 to 65536", self.dim.to_string());
        }
        within("init_dim", self.first_channels(), 1, MOST_CHANNELS)?;
        within("channels", self.channels, 1, MOST_CHANNELS)?;
        within("out_dim", self.out_channels(), 1, MOST_CHANNELS)?;
        within("cond_dim", self.cond_dim.unwrap_or(1), 1, MOST_WIDTH)?;
        within("attn_heads", self.attn_heads, 1, 1024)?;
        within("attn_dim_head", self.attn_dim_head, 1, 4096)?;
        if !(1..=255).contains(&self.init_kernel_size) || self.init_kernel_size % 2 == 0 {
            let got = self.init_kernel_size.to_string();
            return refuse("init_kernel_size", "an odd number from 1 to 255", got);
        }
        let mults = &self.dim_mults;
        if mults.is_empty() || mults.len() > 16 || mults.iter().any(|m| !(1..=1024).contains(m)) {
            let expected = "1 to 16 numbers, each from 1 to 1024";
            return refuse("dim_mults", expected, format!("{mults:?}"));
        }
        Ok(())
    }
}

impl TokensConfig {
    fn validate(&self) -> Result<()> {
        within("tokens.dim", self.dim, 1, MOST_WIDTH)?;
        within("tokens.memory", self.memory, 0, MOST_MEMORY)?;
        once("tokens.cross", &self.cross)?;
        if self.cross.is_empty() && self.memory == 0 && !self.pool {
            let expected = "a way to attend to the tokens: `cross` of \"space\" or \"time\", \
                            `memory` above 0, or `pool = true`";
            return refuse("tokens", expected, "none of them".to_owned());
        }
        Ok(())
    }
}

impl SignalConfig {
    fn validate(&self, name: &str) -> Result<()> {
        let known = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        if name.is_empty() || name == TEXT || !name.chars().all(known) {
            let expected = "names of lower case letters, digits and `_`, other than `text`";
            return refuse("signals", expected, format!("`{name}`"));
        }
        let field = |of: &str| format!("signals.{name}.{of}");
        match self {
            SignalConfig::Class { classes } => {
                let (field, mut seen) = (field("classes"), BTreeSet::new());
                if classes.is_empty() || classes.len() as i64 > MOST_CHANNELS {
                    let expected = format!("1 to {MOST_CHANNELS} names");
                    return refuse(field, &expected, classes.len().to_string());
                }
                match classes.iter().find(|class| class.is_empty() || !seen.insert(*class)) {
                    Some(class) if class.is_empty() => {
                        refuse(field, "names that are not empty", "an empty one".to_owned())
                    }
                    Some(class) => refuse(field, "every name once", format!("{class:?} twice")),
                    None => Ok(()),
                }
            }
            SignalConfig::Scalar { mean, std } => {
                if !mean.is_finite() {
                    return refuse(field("mean"), "a finite number", mean.to_string());
                }
                if !std.is_finite() || *std <= 0.0 {
                    return refuse(field("std"), "a finite number above 0", std.to_string());
                }
                Ok(())
            }
            SignalConfig::Series { width } => within(&field("width"), *width, 1, MOST_WIDTH),
            SignalConfig::Video { channels } => {
                within(&field("channels"), *channels, 1, MOST_CHANNELS)
            }
        }
    }
}

/// Total features of all heads.
fn product((heads, dim): (i64, i64)) -> i64 {
    heads * dim
}

fn refuse<T>(field: impl Into<String>, expected: &str, got: String) -> Result<T> {
    Err(Error::Config { field: field.into(), expected: expected.to_owned(), got })
}

fn within(field: &str, n: i64, least: i64, most: i64) -> Result<()> {
    if (least..=most).contains(&n) {
        return Ok(());
    }
    refuse(field, &format!("a number from {least} to {most}"), n.to_string())
}

/// Each axis at most once.
fn once(field: &str, axes: &[Axes]) -> Result<()> {
    let distinct: BTreeSet<&Axes> = axes.iter().collect();
    if distinct.len() == axes.len() {
        return Ok(());
    }
    refuse(field, "each of \"space\" and \"time\" at most once", format!("{axes:?}"))
}
