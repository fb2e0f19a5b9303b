//! Keeps x0-hat in the range of the data.

use serde::{Deserialize, Serialize};
use tch::Tensor;
use vd_tensor_ops::Noise;

use crate::error::in_range;
use crate::named::name_or_table;
use crate::{Denoiser, Error, Levels, NoiseLevel, Progress, Ranges, Result};

/// How x0-hat is kept in the range of the data, [-1, 1] for pixels.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(remote = "Self", tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Threshold {
    /// Not at all: latents have no fixed range.
    None,
    /// Clamped to [-1, 1], or to the range of each channel ([`Thresholded::with_ranges`]).
    #[default]
    Static,
    /// Clamped to [-s, s] and divided by s, where s is the percentile of each sample's |x0-hat|, at
    /// least 1.
    ///
    /// # Reference
    /// Saharia et al. 2022, section 2.3, arXiv:2205.11487.
    Dynamic {
        /// Fraction of the sample that is not clamped, in [0, 1].
        #[serde(default = "default_percentile")]
        percentile: f64,
    },
}

name_or_table!(
    Threshold,
    "threshold",
    [None => "none", Static => "static"],
    [Dynamic => "dynamic"],
);

fn default_percentile() -> f64 {
    0.9
}

impl Threshold {
    /// The dynamic threshold at `video-diffusion-pytorch`'s percentile, 0.9.
    pub fn dynamic() -> Self {
        Threshold::Dynamic { percentile: default_percentile() }
    }

    /// Refuses settings out of range.
    ///
    /// # Errors
    /// A percentile outside [0, 1].
    pub fn validate(&self) -> Result<()> {
        match *self {
            Threshold::Dynamic { percentile } => {
                in_range("threshold dynamic: percentile", percentile, 0.0, 1.0)
            }
            Threshold::None | Threshold::Static => Ok(()),
        }
    }

    /// Applies the rule to an x0-hat.
    ///
    /// # Shapes
    /// `x0`: b ...; result: the same
    ///
    /// # Errors
    /// A percentile outside [0, 1]; under the dynamic rule, an `x0` that is empty.
    pub fn apply(self, x0: Tensor) -> Result<Tensor> {
        match self {
            Threshold::None => Ok(x0),
            Threshold::Static => Ok(x0.f_clamp(-1.0, 1.0)?),
            Threshold::Dynamic { percentile } => {
                let size = x0.size();
                if x0.numel() == 0 {
                    let what = "x0-hat under a dynamic threshold";
                    let expected = "at least one sample, of at least one number";
                    return Err(Error::tensor(what, expected, format!("{size:?}")));
                }
                let b = size.first().copied().unwrap_or(1);
                let q = quantile(&x0.f_reshape([b, -1])?.f_abs()?, percentile)?;
                let mut shape = vec![1; size.len()];
                if let Some(first) = shape.first_mut() {
                    *first = b;
                }
                let s = q.f_clamp_min(1.0)?.f_view(shape.as_slice())?; // b 1 ...
                Ok(x0.f_clamp_tensor(Some(&-&s), Some(&s))?.f_div(&s)?)
            }
        }
    }
}

/// The quantile of each row, linear between the two nearest values like `torch.quantile`, but for
/// rows of any length.
fn quantile(rows: &Tensor, q: f64) -> Result<Tensor> {
    in_range("threshold dynamic: percentile", q, 0.0, 1.0)?;
    let n = rows.size()[1];
    let rank = q * (n - 1) as f64;
    let below = rank.floor();
    let (low, _) = rows.f_kthvalue(below as i64 + 1, 1, false)?;
    if rank == below {
        return Ok(low);
    }
    let (high, _) = rows.f_kthvalue(below as i64 + 2, 1, false)?;
    Ok(low.f_lerp(&high, rank - below)?)
}

/// A denoiser whose x0-hat is kept in range.
#[derive(Debug, Clone)]
pub struct Thresholded<D> {
    inner: D,
    rule: Threshold,
    ranges: Option<Ranges>,
}

impl<D: Denoiser> Thresholded<D> {
    /// Wraps a denoiser in a rule.
    ///
    /// # Errors
    /// A percentile outside [0, 1].
    pub fn new(inner: D, rule: Threshold) -> Result<Self> {
        rule.validate()?;
        Ok(Thresholded { inner, rule, ranges: None })
    }

    /// The same, where the static threshold clamps each channel to its range instead of [-1, 1].
    /// The dynamic threshold is not changed.
    pub fn with_ranges(mut self, ranges: Option<Ranges>) -> Self {
        self.ranges = ranges;
        self
    }

    fn apply(&self, x0: Tensor) -> Result<Tensor> {
        match (&self.ranges, self.rule) {
            (Some(ranges), Threshold::Static) => ranges.clamp(&x0),
            _ => self.rule.apply(x0),
        }
    }
}

impl<D: Denoiser> Denoiser for Thresholded<D> {
    fn denoise(&self, x: &Tensor, at: NoiseLevel) -> Result<Tensor> {
        self.apply(self.inner.denoise(x, at)?)
    }

    fn denoise_levels(&self, x: &Tensor, at: &Levels) -> Result<Tensor> {
        self.apply(self.inner.denoise_levels(x, at)?)
    }

    fn constrain(&self, x: Tensor, at: NoiseLevel, noise: &mut dyn Noise) -> Result<Tensor> {
        self.inner.constrain(x, at, noise)
    }

    fn follow(&self, progress: Progress) {
        self.inner.follow(progress);
    }
}
