//! The ranges of a config.

use std::collections::BTreeSet;

use vd_tensor_ops::layers::NormKind;

use super::{Axes, SignalConfig, TokensConfig, UNet3dConfig};
use crate::{Error, Result};

/// More parameters than any machine holds: beyond it a size is a slip of the pen.
const MOST_PARAMETERS: f64 = 1e11;
/// Widths of embeddings, tokens and series.
const MOST_WIDTH: i64 = 1_048_576;
/// Channels of anything, and classes.
const MOST_CHANNELS: i64 = 65_536;
/// Keys and values that a text becomes.
const MOST_MEMORY: i64 = 64;
/// What parameters and files call the text, so that no signal may.
const TEXT: &str = "text";

impl UNet3dConfig {
    /// The number of parameters but for norms and biases.
    fn parameters_about(&self) -> f64 {
        let float = |n: i64| n as f64;
        let emb = 4.0 * float(self.dim) + float(self.pooled_width().unwrap_or(0));
        let per_channel = 4.0 * float(self.attn_heads) * float(self.attn_dim_head + 32);
        // Two convolutions of 3 x 3, the scales and shifts, and the projection beside them.
        let block = |a: f64, b: f64| 9.0 * (a + b) * b + 2.0 * emb * b + a * b;
        let level = |(a, b): (i64, i64)| {
            let (a, b) = (float(a), float(b));
            let down = block(a, b) + block(b, b) + 16.0 * b * b;
            let up = block(2.0 * b, a) + block(a, a) + 16.0 * a * a;
            down + up + per_channel * (a + b)
        };
        let levels = self.level_channels();
        let last = levels.last().map_or(0.0, |(_, b)| float(*b));
        let area = float(self.init_kernel_size).powi(2);
        let ends =
            area * float(self.channels + self.extra_channels()) * float(self.first_channels())
                + float(self.dim) * float(self.out_channels())
                + 5.0 * emb * float(self.dim);
        let middle = 2.0 * block(last, last) + per_channel * last;
        let told = self.tokens_about(per_channel) + self.signals_about();
        ends + middle + told + levels.into_iter().map(level).sum::<f64>()
    }

    /// The part of it that looks at tokens, if every attention had both ways.
    fn tokens_about(&self, per_channel: f64) -> f64 {
        let Some(tokens) = &self.tokens else { return 0.0 };
        let channels: i64 = self.level_channels().iter().map(|(a, b)| a + b).sum();
        let (dim, sites) = (tokens.dim as f64, 2.0 * self.dim_mults.len() as f64 + 2.0);
        let ways = tokens.cross.len() as f64 + f64::from(u8::from(tokens.memory > 0));
        let pool = if tokens.pool { 2.0 * dim * dim } else { 0.0 };
        ways * per_channel * (channels as f64 + sites * dim) + tokens.memory as f64 * dim + pool
    }

    /// The part of it that the signals add to the embedding of time.
    fn signals_about(&self) -> f64 {
        let width = 4.0 * self.dim as f64;
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
    /// The first field that is out of its range, with what it may be.
    pub fn validate(&self) -> Result<()> {
        self.validate_sizes()?;
        if let Some(tokens) = &self.tokens {
            tokens.validate()?;
        }
        for (name, signal) in &self.signals {
            signal.validate(name)?;
        }
        once("token_shift", &self.token_shift)?;
        let parameters = self.parameters_about();
        if parameters > MOST_PARAMETERS {
            let expected = format!("sizes that make at most {MOST_PARAMETERS:e} parameters");
            let mults = &self.dim_mults;
            let got = format!("about {parameters:.0e} (dim {}, dim_mults {mults:?})", self.dim);
            return refuse("dim", &expected, got);
        }
        if self.attn_dim_head < 32 && self.attn_dim_head % 2 != 0 {
            let expected = "an even number where below 32 (rotary positions turn pairs)";
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

    /// The bounds from above keep every product of sizes far from overflow.
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
            let expected = "a way to look at the tokens: `cross` of \"space\" or \"time\", \
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn every_field_out_of_range_is_named() {
        let base = UNet3dConfig::default;
        let cases = [
            ("dim", UNet3dConfig { dim: 7, ..base() }),
            ("dim_mults", UNet3dConfig { dim_mults: vec![], ..base() }),
            ("dim_mults", UNet3dConfig { dim_mults: vec![1, 0], ..base() }),
            ("channels", UNet3dConfig { channels: 0, ..base() }),
            ("init_kernel_size", UNet3dConfig { init_kernel_size: 4, ..base() }),
            ("attn_dim_head", UNet3dConfig { attn_dim_head: 5, ..base() }),
            ("cond_dim", UNet3dConfig { cond_dim: Some(0), ..base() }),
            ("norm", UNet3dConfig { norm: NormKind::Group { groups: 7 }, ..base() }),
            ("dim", UNet3dConfig { dim: i64::MAX - 1, ..base() }),
            ("dim", UNet3dConfig { dim: 65_536, dim_mults: vec![1024; 16], ..base() }),
            ("dim_mults", UNet3dConfig { dim_mults: vec![i64::MAX], ..base() }),
            ("init_dim", UNet3dConfig { init_dim: Some(i64::MAX), ..base() }),
            ("init_kernel_size", UNet3dConfig { init_kernel_size: 257, ..base() }),
            ("channels", UNet3dConfig { channels: 1 << 40, ..base() }),
            ("out_dim", UNet3dConfig { out_dim: Some(65_537), ..base() }),
            ("cond_dim", UNet3dConfig { cond_dim: Some(1 << 21), ..base() }),
            ("attn_heads", UNet3dConfig { attn_heads: 1025, ..base() }),
            ("attn_dim_head", UNet3dConfig { attn_dim_head: 4098, ..base() }),
        ];
        for (field, config) in cases {
            let message = config.validate().unwrap_err().to_string();
            assert!(message.contains(&format!("`model.{field}`")), "{message}");
        }
        base().validate().unwrap();
        UNet3dConfig { dim: 1024, ..base() }.validate().unwrap();
    }
    fn with_tokens(change: fn(&mut TokensConfig)) -> UNet3dConfig {
        let mut tokens = TokensConfig { dim: 6, cross: vec![], memory: 4, pool: false };
        change(&mut tokens);
        UNet3dConfig { tokens: Some(tokens), ..UNet3dConfig::default() }
    }

    fn with_signal(name: &str, signal: SignalConfig) -> UNet3dConfig {
        UNet3dConfig { signals: [(name.to_owned(), signal)].into(), ..UNet3dConfig::default() }
    }

    #[test]
    fn every_way_of_telling_out_of_range_is_named() {
        let class = |names: &[&str]| SignalConfig::Class {
            classes: names.iter().map(|name| (*name).to_owned()).collect(),
        };
        let scalar = |mean, std| SignalConfig::Scalar { mean, std };
        let cases = [
            ("tokens.dim", with_tokens(|t| t.dim = 0)),
            ("tokens.dim", with_tokens(|t| t.dim = i64::MAX)),
            ("tokens.memory", with_tokens(|t| t.memory = 65)),
            ("tokens.memory", with_tokens(|t| t.memory = -1)),
            ("tokens.cross", with_tokens(|t| t.cross = vec![Axes::Time, Axes::Time])),
            ("tokens", with_tokens(|t| t.memory = 0)),
            (
                "token_shift",
                UNet3dConfig { token_shift: vec![Axes::Space; 2], ..UNet3dConfig::default() },
            ),
            ("signals", with_signal("", scalar(0.0, 1.0))),
            ("signals", with_signal("text", scalar(0.0, 1.0))),
            ("signals", with_signal("Rain", scalar(0.0, 1.0))),
            ("signals", with_signal("a.b", scalar(0.0, 1.0))),
            ("signals.rain.std", with_signal("rain", scalar(0.0, 0.0))),
            ("signals.rain.std", with_signal("rain", scalar(0.0, f64::NAN))),
            ("signals.rain.mean", with_signal("rain", scalar(f64::INFINITY, 1.0))),
            ("signals.kind.classes", with_signal("kind", class(&[]))),
            ("signals.kind.classes", with_signal("kind", class(&["a", ""]))),
            ("signals.kind.classes", with_signal("kind", class(&["a", "b", "a"]))),
            ("signals.s.width", with_signal("s", SignalConfig::Series { width: 0 })),
            ("signals.v.channels", with_signal("v", SignalConfig::Video { channels: i64::MAX })),
        ];
        for (field, config) in cases {
            let message = config.validate().unwrap_err().to_string();
            assert!(message.contains(&format!("`model.{field}`")), "{field}: {message}");
        }
        with_tokens(|_| ()).validate().unwrap();
        with_signal("wind_2", class(&["a", "b"])).validate().unwrap();
        let heavy = with_signal("s", SignalConfig::Series { width: MOST_WIDTH });
        let message = UNet3dConfig { dim: 65_536, ..heavy }.validate().unwrap_err().to_string();
        assert!(message.contains("parameters"), "{message}");
    }
}
