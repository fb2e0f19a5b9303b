//! Position encodings of frames in time, and embeddings of diffusion times.

use tch::{Device, Kind, Tensor};
use vd_torch::graphs::{Form, Kept};

use super::HeadShape;
use super::indices::{Indices, look_up};
use crate::{Error, Init, Result, Scope};

/// Rotates pairs of neighbouring features by an angle that grows with the position.
///
/// # Reference
/// Su et al. 2021, RoFormer, equation 34, arXiv:2104.09864; pairs are (2i, 2i + 1).
#[derive(Debug)]
pub struct Rotary {
    freqs: Tensor,
    turns: Kept<Turns>,
}

impl Rotary {
    /// `freqs` (width / 2), not trained: 1 / 10000^(2i / width).
    ///
    /// # Errors
    /// An odd width; a name that is taken.
    pub fn new(scope: &mut Scope, width: i64) -> Result<Self> {
        if width < 2 || width % 2 != 0 {
            return Err(Error::Value {
                what: "features that rotary positions rotate".to_owned(),
                expected: "an even number, at least 2".to_owned(),
                got: width.to_string(),
            });
        }
        let options = (Kind::Float, Device::Cpu);
        let exponent = Tensor::arange_start_step(0, width, 2, options) / width as f64;
        let freqs = Tensor::from(10_000f32).pow(&exponent).reciprocal();
        Ok(Rotary { freqs: scope.fixed("freqs", &freqs)?, turns: Kept::default() })
    }

    /// The rotation of every position and feature pair, times `gain`, for heads side by side.
    ///
    /// # Shapes
    /// complex, f 1 (n d/2), d rounded up to an even number
    pub fn rotations(&self, f: i64, shape: HeadShape, gain: f64) -> Tensor {
        let angle = angles(&self.freqs, f); // f width/2
        let still = (shape.dim + 1) / 2 - angle.size()[1];
        let angle = angle.constant_pad_nd([0, still]).repeat([1, shape.heads]);
        Tensor::complex(&(angle.cos() * gain), &(angle.sin() * gain)).unsqueeze(1)
    }

    /// Cosine and sine of the rotary angle of every position and rotated pair.
    ///
    /// # Shapes
    /// f (width/2) 2
    pub(crate) fn turns(&self, f: i64) -> Tensor {
        self.turns.get(Turns { frames: f }, &self.freqs, true)
    }

    /// Rotates the feature pairs of all heads.
    ///
    /// # Shapes
    /// `x`: b f s (n d) -> the same; `rotations` from [`Rotary::rotations`]
    pub fn rotate(&self, x: &Tensor, shape: HeadShape, rotations: &Tensor) -> Tensor {
        if shape.dim % 2 != 0 {
            // With an odd width, the last feature of a head gets a temporary partner.
            let heads = x.unflatten(-1, [-1, shape.dim]);
            let even = HeadShape { dim: shape.dim + 1, ..shape };
            let padded = heads.constant_pad_nd([0, 1]).flatten(-2, -1);
            let turned = self.rotate(&padded, even, rotations).unflatten(-1, [-1, even.dim]);
            return turned.narrow(-1, 0, shape.dim).flatten(-2, -1);
        }
        let real = if rotations.kind() == Kind::ComplexDouble { Kind::Double } else { Kind::Float };
        let pairs = x.to_kind(real).unflatten(-1, [-1, 2]).view_as_complex();
        (pairs * rotations).view_as_real().flatten(-2, -1).to_kind(x.kind())
    }
}

/// The dtype of angles: f32 or wider, since half precision has no complex kind and too few digits
/// for the angles of distant frames.
fn wide(freqs: &Tensor) -> Kind {
    if freqs.kind() == Kind::Double { Kind::Double } else { Kind::Float }
}

/// # Shapes
/// f width/2
fn angles(freqs: &Tensor, f: i64) -> Tensor {
    let kind = wide(freqs);
    Tensor::arange(f, (kind, freqs.device())).unsqueeze(1) * freqs.to_kind(kind)
}

/// Cosines and sines of the rotary angles, for a number of frames.
#[derive(Debug, PartialEq, Eq)]
struct Turns {
    frames: i64,
}

impl Form for Turns {
    fn room(&self, of: &Tensor) -> Tensor {
        Tensor::empty([self.frames, of.size()[0], 2], (wide(of), of.device()))
    }

    fn write(&self, of: &Tensor, room: &mut Tensor) {
        let angle = angles(of, self.frames);
        room.copy_(&Tensor::stack(&[angle.cos(), angle.sin()], -1));
    }
}

/// A learned bias of attention scores that depends on the distance between key and query, in
/// buckets that widen with the distance.
///
/// # Reference
/// Raffel et al. 2020 (T5), section 2.1, arXiv:1910.10683.
#[derive(Debug)]
pub struct RelativeBias {
    table: Tensor,
    max_distance: i64,
    buckets: Indices,
}

impl RelativeBias {
    /// Number of buckets: half of them for each direction.
    pub const BUCKETS: i64 = 32;

    /// `relative_attention_bias.weight` (buckets n), standard normal.
    ///
    /// # Range
    /// `max_distance`: more than 8, where the buckets of a single distance end
    /// # Errors
    /// A `max_distance` out of range; a name that is taken; a size below 1.
    pub fn new(scope: &mut Scope, heads: i64, max_distance: i64) -> Result<Self> {
        if max_distance <= Self::BUCKETS / 4 {
            return Err(Error::Value {
                what: "distance from which all frames count as equally far".to_owned(),
                expected: format!("more than {}", Self::BUCKETS / 4),
                got: max_distance.to_string(),
            });
        }
        let mut scope = scope.sub("relative_attention_bias");
        let table = scope.param("weight", &[Self::BUCKETS, heads], Init::Normal)?;
        Ok(RelativeBias { table, max_distance, buckets: Indices::default() })
    }

    /// The bucket of a key `distance` frames before the query (negative: after it).
    pub fn bucket(&self, distance: i64) -> i64 {
        let half = Self::BUCKETS / 2;
        let exact = half / 2;
        let ahead = if distance < 0 { half } else { 0 };
        let n = distance.saturating_abs();
        if n < exact {
            return ahead + n;
        }
        // f32 as in T5's own code: at the border of a bucket the last digit decides.
        let far = (n as f32 / exact as f32).ln();
        let range = (self.max_distance as f64 / exact as f64).ln() as f32;
        let wide = exact + (far / range * (half - exact) as f32) as i64;
        ahead + wide.min(half - 1)
    }

    /// # Shapes
    /// n f f: queries along the second axis, keys along the third
    pub fn forward(&self, f: i64) -> Tensor {
        let buckets = self.buckets.of(f, self.table.device(), || {
            let pairs = (0..f).flat_map(|i| (0..f).map(move |j| i - j));
            pairs.map(|distance| self.bucket(distance)).collect()
        });
        let pairs = look_up(&self.table, &buckets).view([f, f, -1]);
        // In order, once for all attentions that read it.
        pairs.permute([2, 0, 1]).contiguous()
    }
}

/// A learned bias of attention scores over space: the sum of one for the vertical and one for the
/// horizontal distance, each in buckets as in [`RelativeBias`].
///
/// # Reference
/// Raffel et al. 2020 (T5), section 2.1, arXiv:1910.10683, once for each axis.
#[derive(Debug)]
pub struct RelativeBias2d {
    down: RelativeBias,
    across: RelativeBias,
}

impl RelativeBias2d {
    /// `height.relative_attention_bias.weight` and `width.relative_attention_bias.weight`
    /// (buckets n), standard normal.
    ///
    /// # Range
    /// `max_distance`: more than 8, as of [`RelativeBias::new`]
    /// # Errors
    /// As [`RelativeBias::new`].
    pub fn new(scope: &mut Scope, heads: i64, max_distance: i64) -> Result<Self> {
        Ok(RelativeBias2d {
            down: RelativeBias::new(&mut scope.sub("height"), heads, max_distance)?,
            across: RelativeBias::new(&mut scope.sub("width"), heads, max_distance)?,
        })
    }

    /// # Shapes
    /// n (h w) (h w): queries along the second axis, keys along the third
    pub fn forward(&self, h: i64, w: i64) -> Tensor {
        let down = self.down.forward(h).unsqueeze(2).unsqueeze(4); // n h 1 h 1
        let across = self.across.forward(w).unsqueeze(1).unsqueeze(3); // n 1 w 1 w
        (down + across).flatten(3, 4).flatten(1, 2)
    }
}

/// Sines and cosines of a number at frequencies that fall geometrically from 1 to 1/10000.
///
/// # Reference
/// Vaswani et al. 2017, section 3.5, arXiv:1706.03762; sines first, then cosines.
#[derive(Debug, Clone, Copy)]
pub struct SinusoidalEmbedding {
    width: i64,
}

impl SinusoidalEmbedding {
    /// # Errors
    /// A width that is odd or below 4.
    pub fn new(width: i64) -> Result<Self> {
        if width < 4 || width % 2 != 0 {
            return Err(Error::Value {
                what: "width of the time embedding".to_owned(),
                expected: "an even number, at least 4".to_owned(),
                got: width.to_string(),
            });
        }
        Ok(SinusoidalEmbedding { width })
    }

    /// # Shapes
    /// `t`: any shape -> the same and a last axis of `width`, of kind `kind`
    pub fn forward(&self, t: &Tensor, kind: Kind) -> Tensor {
        let half = self.width / 2;
        let step = -(10_000f64.ln()) / (half - 1) as f64;
        // f32 or wider: half precision cannot distinguish neighbouring step numbers.
        let wide = if kind == Kind::Double { kind } else { Kind::Float };
        let freqs = (Tensor::arange(half, (wide, t.device())) * step).exp();
        let angle = t.to_kind(wide).unsqueeze(-1) * freqs;
        Tensor::cat(&[angle.sin(), angle.cos()], -1).to_kind(kind)
    }
}
