//! Where in time a frame is, and where in the diffusion process a sample is.

use tch::{Device, Kind, Tensor};

use crate::{Error, Init, Result, Scope};

/// Rotates pairs of neighbouring features by an angle that grows with the position.
///
/// # Reference
/// Su et al. 2021, RoFormer, equation 34, arXiv:2104.09864; pairs are (2i, 2i + 1).
#[derive(Debug)]
pub struct Rotary {
    freqs: Tensor,
}

impl Rotary {
    /// `freqs` (width / 2), not trained: 1 / 10000^(2i / width).
    ///
    /// # Errors
    /// An odd width; a name that is taken.
    pub fn new(scope: &mut Scope, width: i64) -> Result<Self> {
        if width < 2 || width % 2 != 0 {
            return Err(Error::Value {
                what: "features that rotary positions turn".to_owned(),
                expected: "an even number, at least 2".to_owned(),
                got: width.to_string(),
            });
        }
        let options = (Kind::Float, Device::Cpu);
        let exponent = Tensor::arange_start_step(0, width, 2, options) / width as f64;
        let freqs = Tensor::from(10_000f32).pow(&exponent).reciprocal();
        Ok(Rotary { freqs: scope.fixed("freqs", &freqs)? })
    }

    /// Cosine and sine of the angles of `f` positions, each for both features of a pair.
    ///
    /// # Shapes
    /// two of f 1 1 width
    pub fn angles(&self, f: i64) -> (Tensor, Tensor) {
        let options = (self.freqs.kind(), self.freqs.device());
        let angle = Tensor::arange(f, options).unsqueeze(1) * &self.freqs; // f width/2
        let angle = angle.repeat_interleave_self_int(2, 1, None).unsqueeze(1).unsqueeze(1);
        (angle.cos(), angle.sin())
    }

    /// Rotates the first features of every head; the others stay.
    ///
    /// # Shapes
    /// `x`: b f s n d, with positions along f; `angles` from [`Rotary::angles`]
    pub fn rotate(&self, x: &Tensor, angles: &(Tensor, Tensor)) -> Tensor {
        let (width, d) = (2 * self.freqs.numel() as i64, x.size()[4]);
        let turned = x.narrow(4, 0, width);
        let pairs = turned.unflatten(4, [-1, 2]); // b f s n width/2 2
        let quarter = Tensor::stack(&[-pairs.select(5, 1), pairs.select(5, 0)], 5).flatten(4, 5);
        let turned = turned * &angles.0 + quarter * &angles.1;
        if width == d {
            return turned;
        }
        Tensor::cat(&[turned, x.narrow(4, width, d - width)], 4)
    }
}

/// A learned bias of attention scores that depends on the distance of key and query, in buckets
/// that widen with the distance.
///
/// # Reference
/// Raffel et al. 2020 (T5), section 2.1, arXiv:1910.10683.
#[derive(Debug)]
pub struct RelativeBias {
    table: Tensor,
    max_distance: i64,
}

impl RelativeBias {
    /// Number of buckets: half for each direction.
    pub const BUCKETS: i64 = 32;

    /// `relative_attention_bias.weight` (buckets n), standard normal.
    ///
    /// # Errors
    /// A name that is taken; a size below 1.
    pub fn new(scope: &mut Scope, heads: i64, max_distance: i64) -> Result<Self> {
        let mut scope = scope.sub("relative_attention_bias");
        let table = scope.param("weight", &[Self::BUCKETS, heads], Init::Normal)?;
        Ok(RelativeBias { table, max_distance })
    }

    /// The bucket of a key that stands `distance` behind the query (negative: ahead of it).
    pub fn bucket(&self, distance: i64) -> i64 {
        let half = Self::BUCKETS / 2;
        let exact = half / 2;
        let ahead = if distance < 0 { half } else { 0 };
        let n = distance.abs();
        if n < exact {
            return ahead + n;
        }
        // f32 as in T5's own code: on the border of a bucket the last digit decides.
        let far = (n as f32 / exact as f32).ln();
        let range = (self.max_distance as f64 / exact as f64).ln() as f32;
        let wide = exact + (far / range * (half - exact) as f32) as i64;
        ahead + wide.min(half - 1)
    }

    /// # Shapes
    /// n f f: queries along the second axis, keys along the third
    pub fn forward(&self, f: i64) -> Tensor {
        let pairs = (0..f).flat_map(|i| (0..f).map(move |j| i - j));
        let buckets: Vec<i64> = pairs.map(|distance| self.bucket(distance)).collect();
        let buckets = Tensor::from_slice(&buckets).to_device(self.table.device());
        self.table.index_select(0, &buckets).view([f, f, -1]).permute([2, 0, 1])
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
        let freqs = (Tensor::arange(half, (kind, t.device())) * step).exp();
        let angle = t.to_kind(kind).unsqueeze(-1) * freqs;
        Tensor::cat(&[angle.sin(), angle.cos()], -1)
    }
}
