//! The part of a clip that is known before sampling.

use tch::{Kind, Tensor};

use super::downscale::Downscale;
use crate::diffusion::check_kind;
use crate::{Error, Result};

/// The known part of a clip: some frames, some pixels, a smaller copy, or a combination.
///
/// A term states that selecting `frames` of the clip, then applying `down`, then `mask`, gives
/// `x0`. Every fourth frame at half the size is
/// `Known { down: Downscale::Area { factor: 2 }, ..Known::every(x0, 4) }`.
#[derive(Debug)]
pub struct Known {
    /// The values, of the kind and on the device of the sampled state.
    ///
    /// # Shapes
    /// The clip's, with the number of frames in `frames` and h and w divided by `down`'s factor; b
    /// may be 1 for the same values in every sample
    pub x0: Tensor,
    /// The frames that are known.
    pub frames: KnownFrames,
    /// How they were downscaled.
    pub down: Downscale,
    /// 1 (or true) where a value of `x0` is known, 0 where it is not; `None` means everywhere.
    ///
    /// # Shapes
    /// Any shape that broadcasts to `x0`
    pub mask: Option<Tensor>,
    /// Factor of w_r for this term, at least 0: terms of one clip may need different weights,
    /// frames 2 and a copy smaller by k about k^2. It does not affect replacement.
    pub weight: f64,
}

impl Known {
    /// The same term with another weight.
    pub fn weighted(self, weight: f64) -> Known {
        Known { weight, ..self }
    }

    /// The frames at these positions: extension, prediction, interpolation between keyframes.
    ///
    /// # Shapes
    /// `x0`: b c n ..., one frame per position
    pub fn frames(x0: Tensor, at: Vec<i64>) -> Known {
        Known { x0, frames: KnownFrames::At(at), down: Downscale::None, mask: None, weight: 1.0 }
    }

    /// Every `stride`-th frame, starting with the first: temporal super-resolution.
    ///
    /// # Shapes
    /// `x0`: b c n ..., n = f / stride rounded up
    pub fn every(x0: Tensor, stride: i64) -> Known {
        Known {
            x0,
            frames: KnownFrames::Every { stride },
            down: Downscale::None,
            mask: None,
            weight: 1.0,
        }
    }

    /// The values under a mask: in-painting.
    ///
    /// # Shapes
    /// `x0`: b ..., of any rank; `mask`: any shape that broadcasts to it
    pub fn pixels(x0: Tensor, mask: Tensor) -> Known {
        Known { x0, frames: KnownFrames::All, down: Downscale::None, mask: Some(mask), weight: 1.0 }
    }

    /// A smaller copy: spatial super-resolution.
    ///
    /// # Shapes
    /// `x0`: b c f h/k w/k, for the factor k of `down`
    pub fn smaller(x0: Tensor, down: Downscale) -> Known {
        Known { x0, frames: KnownFrames::All, down, mask: None, weight: 1.0 }
    }

    /// Checks the term against the shape of the state.
    pub(super) fn resolve(self, shape: &[i64]) -> Result<Term> {
        check_kind("known x0", &self.x0)?;
        if shape.contains(&0) {
            return Err(Error::tensor("state", "at least one number", format!("{shape:?}")));
        }
        if !(self.weight >= 0.0 && self.weight.is_finite()) {
            let expected = "a finite number from 0 (no gradient)";
            return Err(Error::value("known: weight", expected, self.weight));
        }
        let mut view = shape.to_vec();
        let index = self.frames.index(shape)?;
        if let (Some(index), Some(f)) = (&index, view.get_mut(2)) {
            *f = index.len() as i64;
        }
        self.down.shrink(&mut view)?;
        let x0 = expand_batch(&self.x0, &view)?;
        let mask = self.mask.map(|mask| spread_mask(&mask, &view, &x0)).transpose()?;
        let seen = match &mask {
            Some(mask) => x0.f_where_self(mask, &x0.f_zeros_like()?)?,
            None => x0.shallow_clone(),
        };
        if !bool::try_from(&seen.f_isfinite()?.f_all()?)? {
            return Err(Error::tensor("known x0", "finite numbers at known positions", "others"));
        }
        let index = index.map(|index| Tensor::from_slice(&index).to_device(x0.device()));
        Ok(Term { x0, index, down: self.down, mask, weight: self.weight })
    }
}

/// The known frames of a clip.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum KnownFrames {
    /// All of them; also for tensors without frames.
    #[default]
    All,
    /// Every `stride`-th, starting with the first.
    Every {
        /// Distance between consecutive known frames, at least 1.
        stride: i64,
    },
    /// The frames at these positions, from 0.
    At(Vec<i64>),
}

impl KnownFrames {
    /// The positions; `None` if frames do not matter.
    fn index(&self, shape: &[i64]) -> Result<Option<Vec<i64>>> {
        if *self == KnownFrames::All {
            return Ok(None);
        }
        let Some(f) = shape.get(2).copied() else {
            let expected = "b c f ..., because single frames of it are known";
            return Err(Error::tensor("state", expected, format!("{shape:?}")));
        };
        match self {
            KnownFrames::All => Ok(None),
            KnownFrames::Every { stride } => {
                let step = usize::try_from(*stride).ok().filter(|stride| *stride > 0);
                let Some(step) = step else {
                    return Err(Error::value("known frames: stride", "at least 1", stride));
                };
                Ok(Some((0..f).step_by(step).collect()))
            }
            KnownFrames::At(at) => {
                let expected = format!("positions from 0 to {}, each once, at least one", f - 1);
                let mut sorted = at.clone();
                sorted.sort_unstable();
                sorted.dedup();
                if at.is_empty()
                    || sorted.len() < at.len()
                    || at.iter().any(|i| !(0..f).contains(i))
                {
                    return Err(Error::value("known frames", expected, format!("{at:?}")));
                }
                Ok(Some(at.clone()))
            }
        }
    }
}

/// A [`Known`] checked to fit the state.
#[derive(Debug)]
pub(super) struct Term {
    /// In the shape of the observation.
    x0: Tensor,
    index: Option<Tensor>,
    down: Downscale,
    /// Of the shape of `x0`.
    mask: Option<Tensor>,
    weight: f64,
}

impl Term {
    /// The values, in the shape of the observation.
    pub(super) fn x0(&self) -> &Tensor {
        &self.x0
    }

    /// Positions of the observed frames.
    pub(super) fn index(&self) -> Option<&Tensor> {
        self.index.as_ref()
    }

    /// Whether it gives values of the clip itself, which can replace those of a state.
    pub(super) fn is_exact(&self) -> bool {
        self.down.factor() == 1
    }

    /// Factor of w_r.
    pub(super) fn weight(&self) -> f64 {
        self.weight
    }

    /// The sum of squared differences between an x0-hat's observation and the known values.
    pub(super) fn miss(&self, x0: &Tensor) -> Result<Tensor> {
        let seen = match &self.index {
            Some(index) => x0.f_index_select(2, index)?,
            None => x0.shallow_clone(),
        };
        let mut off = self.down.apply(&seen)?.f_sub(&self.x0)?;
        if let Some(mask) = &self.mask {
            off = off.f_where_scalarother(mask, 0.0)?;
        }
        Ok(off.f_square()?.f_sum(off.kind())?)
    }

    /// Writes the known values into a clip, and returns it with a mask of where they are.
    pub(super) fn write(&self, clip: Tensor, known: Tensor) -> Result<(Tensor, Tensor)> {
        let mask = match &self.mask {
            Some(mask) => mask.shallow_clone(),
            None => self.x0.f_ones_like()?.f_to_kind(Kind::Bool)?,
        };
        let Some(index) = &self.index else {
            return Ok((self.x0.f_where_self(&mask, &clip)?, known.f_logical_or(&mask)?));
        };
        let (of_clip, of_known) = (clip.f_index_select(2, index)?, known.f_index_select(2, index)?);
        let values = self.x0.f_where_self(&mask, &of_clip)?;
        let mask = mask.f_logical_or(&of_known)?;
        Ok((clip.f_index_copy(2, index, &values)?, known.f_index_copy(2, index, &mask)?))
    }
}

/// Expands one row to the whole batch, unless each sample has its own.
fn expand_batch(x0: &Tensor, view: &[i64]) -> Result<Tensor> {
    let size = x0.size();
    let fits = match (size.split_first(), view.split_first()) {
        (Some((own, rest)), Some((b, of_view))) => rest == of_view && (*own == 1 || own == b),
        _ => false,
    };
    if !fits {
        let expected = format!("shape {view:?}, or 1 as its first size");
        return Err(Error::tensor("known x0", expected, format!("{size:?}")));
    }
    Ok(x0.f_detach()?.f_expand(view, false)?)
}

/// A mask as bool, in the shape of the values it masks.
fn spread_mask(mask: &Tensor, view: &[i64], like: &Tensor) -> Result<Tensor> {
    let mask = mask.f_to_device(like.device())?;
    if mask.kind() != Kind::Bool {
        let either = mask.f_eq(0)?.f_logical_or(&mask.f_eq(1)?)?;
        if !bool::try_from(&either.f_all()?)? {
            return Err(Error::tensor("mask of known values", "only 0 and 1", "other numbers"));
        }
    }
    let Ok(spread) = mask.f_broadcast_to(view) else {
        let expected = format!("a shape that broadcasts to {view:?}");
        return Err(Error::tensor("mask of known values", expected, format!("{:?}", mask.size())));
    };
    Ok(spread.f_to_kind(Kind::Bool)?)
}
