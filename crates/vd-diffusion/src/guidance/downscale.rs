//! Downscaled copies of clips.

use serde::{Deserialize, Serialize};
use tch::Tensor;

use crate::named::name_or_table;
use crate::{Error, Result};

/// How a clip is downscaled; differentiable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(remote = "Self", tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Downscale {
    /// Not at all.
    #[default]
    None,
    /// Each value is the mean of a square of pixels.
    Area {
        /// The side of the square; it must divide height and width.
        #[serde(default = "default_factor")]
        factor: i64,
    },
    /// Linear interpolation between the pixels next to the centre of each square, without
    /// anti-aliasing; at factor 2 the same as `Area`.
    ///
    /// # Reference
    /// Ho et al. 2022, section 3.1, arXiv:2204.03458, names bilinear down-sampling.
    Bilinear {
        /// The side of the square; it must divide height and width.
        #[serde(default = "default_factor")]
        factor: i64,
    },
}

name_or_table!(
    Downscale,
    "downscaling of clips",
    [None => "none"],
    [Area => "area", Bilinear => "bilinear"],
);

fn default_factor() -> i64 {
    2
}

impl Downscale {
    pub(super) fn factor(self) -> i64 {
        match self {
            Downscale::None => 1,
            Downscale::Area { factor } | Downscale::Bilinear { factor } => factor,
        }
    }

    /// Divides the last two dimensions of a shape.
    pub(super) fn shrink(self, shape: &mut [i64]) -> Result<()> {
        let factor = self.factor();
        if factor < 1 {
            return Err(Error::value("downscaling factor", "at least 1", factor));
        }
        if factor == 1 {
            return Ok(());
        }
        let whole = format!("{shape:?}");
        match shape {
            [_, _, .., h, w] if *h % factor == 0 && *w % factor == 0 => {
                (*h, *w) = (*h / factor, *w / factor);
                Ok(())
            }
            _ => {
                let expected = format!("b c .. h w, with h and w divisible by {factor}");
                Err(Error::tensor("clip to downscale", expected, whole))
            }
        }
    }

    /// Downscales a clip.
    ///
    /// # Shapes
    /// `x`: b c ... h w; result: the same, with h and w divided by the factor
    ///
    /// # Errors
    /// A factor below 1, or one that does not divide height and width.
    pub fn apply(self, x: &Tensor) -> Result<Tensor> {
        let (mut size, factor) = (x.size(), self.factor());
        self.shrink(&mut size)?;
        let (&[.., h, w], true) = (size.as_slice(), factor > 1) else {
            return Ok(x.shallow_clone());
        };
        let flat = x.f_reshape([-1, 1, h * factor, w * factor])?; // (b c ..) 1 h w
        let small = match self {
            Downscale::Bilinear { .. } => flat.f_upsample_bilinear2d([h, w], false, None, None)?,
            Downscale::None | Downscale::Area { .. } => {
                let square = [factor, factor];
                flat.f_avg_pool2d(square, square, [0, 0], false, true, None)?
            }
        };
        Ok(small.f_reshape(size.as_slice())?)
    }
}
