//! The fused attention along time, on tensors.

mod backward;
mod distances;
mod forward;
mod function;
mod lanes;
mod pack;
mod products;
mod unit;

use std::sync::Arc;

use tch::{Device, Kind, Tensor};

use super::{Cache, Isa, Version, pointer, version};
use crate::kernels::{self, Precision};
use crate::layers::HeadShape;
use backward::Gradient;
pub use function::temporal;
use pack::{Form, Packed, Sizes, Weights};
use unit::Problem;

/// The parameters of an attention along time, with the norm before it.
#[derive(Debug, Clone, Copy)]
pub struct TemporalWeights<'a> {
    /// Gain of the norm, c values.
    pub gamma: &'a Tensor,
    /// # Shapes
    /// (3 n d) c
    pub to_qkv: &'a Tensor,
    /// # Shapes
    /// c (n d)
    pub to_out: &'a Tensor,
    /// Number and width of the heads.
    pub shape: HeadShape,
    /// Cache of the packed weights.
    pub cache: &'a Arc<TemporalCache>,
}

/// Position information and the mask of the frames.
#[derive(Debug, Clone, Copy)]
pub struct Frames<'a> {
    /// Cosine and sine of the rotary angles of the first p pairs of features.
    ///
    /// # Shapes
    /// f p 2
    pub turns: &'a Tensor,
    /// Added to the scores.
    ///
    /// # Shapes
    /// n f f
    pub bias: Option<&'a Tensor>,
    /// Vectors that are added to the keys, and to the values, for the distances 1 - f to f - 1 of a
    /// key from its query.
    ///
    /// # Shapes
    /// (2f - 1) d each
    pub distances: Option<[&'a Tensor; 2]>,
    /// Masked pairs of frames.
    ///
    /// # Shapes
    /// bool, (b or 1) 1 1 f f
    pub forbidden: Option<&'a Tensor>,
}

/// Packed weights of an attention along time, cached until the weights change.
#[derive(Debug, Default)]
pub struct TemporalCache(Cache<Key, Packed>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Key {
    weights: [Version; 3],
    sizes: Sizes,
    isa: Isa,
    form: Form,
}

/// Contiguous handles of the weights, into which pointers refer.
struct Held([Tensor; 3]);

impl Held {
    fn new(weights: &TemporalWeights<'_>) -> Self {
        let TemporalWeights { gamma, to_qkv, to_out, .. } = weights;
        Held([gamma, to_qkv, to_out].map(|t| t.detach().contiguous()))
    }

    fn pointers(&self) -> Weights {
        let [gamma, to_qkv, to_out] = self.0.each_ref().map(pointer);
        Weights { gamma, to_qkv, to_out }
    }
}

impl TemporalCache {
    fn packed(&self, weights: &TemporalWeights<'_>, isa: Isa, form: Form) -> Arc<Packed> {
        let HeadShape { heads, dim } = weights.shape;
        let channels = weights.gamma.numel();
        let sizes = Sizes { channels, heads: heads as usize, dim: dim as usize };
        let of = [weights.gamma, weights.to_qkv, weights.to_out].map(version);
        let key = Key { weights: of, sizes, isa, form };
        let keep = |of: &Key| of.weights == key.weights && of.sizes == sizes;
        let pack = || {
            let weights = Held::new(weights);
            // SAFETY: the weights are contiguous and of these sizes.
            unsafe { Packed::new(isa, sizes, weights.pointers(), form) }
        };
        self.0.get(key, keep, pack)
    }
}

/// Whether [`temporal_attention`] supports this number of channels and these heads.
pub fn temporal_fits(isa: Isa, channels: i64, shape: HeadShape) -> bool {
    channels > 0 && channels % isa.lanes() as i64 == 0 && shape.dim % 2 == 0
}

/// Biases of each sample, masked pairs at negative infinity, and the stride between samples.
fn biases(heads: i64, frames: &Frames<'_>) -> (Tensor, usize) {
    let f = frames.turns.size()[0];
    let none = || Tensor::zeros([heads, f, f], (Kind::Float, Device::Cpu));
    let bias = frames.bias.map_or_else(none, Tensor::detach).unsqueeze(0); // 1 n f f
    let Some(forbidden) = frames.forbidden else { return (bias.contiguous(), 0) };
    let forbidden = forbidden.squeeze_dim(1); // (b or 1) 1 f f
    let bias = bias.masked_fill(&forbidden, f64::NEG_INFINITY).contiguous();
    let step = if bias.size()[0] > 1 { bias.numel() / bias.size()[0] as usize } else { 0 };
    (bias, step)
}

/// Panics if pointers would be invalid for the sizes.
fn check(isa: Isa, x: &Tensor, weights: &TemporalWeights<'_>, frames: &Frames<'_>) {
    let (size, HeadShape { heads, dim }) = (x.size(), weights.shape);
    let (b, f, c) = (size[0], size[1], size[4]);
    assert!(
        temporal_fits(isa, c, weights.shape),
        "an attention along time of {c} channels and heads of {dim} that no kernel takes"
    );
    let turns = frames.turns.size();
    let pairs = turns.get(1).copied().unwrap_or(0);
    let fits = weights.gamma.numel() as i64 == c
        && weights.to_qkv.size() == [3 * heads * dim, c]
        && weights.to_out.size() == [c, heads * dim]
        && frames.bias.is_none_or(|bias| bias.size() == [heads, f, f])
        && frames.distances.is_none_or(|of| of.iter().all(|t| t.size() == [2 * f - 1, dim]))
        && turns == [f, pairs, 2]
        && 2 * pairs <= dim
        && frames.forbidden.is_none_or(|mask| {
            let size = mask.size();
            (size[0] == 1 || size[0] == b) && size[1..] == [1, 1, f, f]
        });
    assert!(fits, "weights of an attention along time that do not go with {size:?}");
    let all = [x, weights.gamma, weights.to_qkv, weights.to_out, frames.turns];
    let more = frames.bias.into_iter().chain(frames.distances.into_iter().flatten());
    let is_float = |t: &Tensor| t.kind() == Kind::Float;
    assert!(all.into_iter().chain(more).all(is_float), "a kernel of f32 with another kind");
}

/// x plus the attention along time of the normalised x: layer norm, queries, keys and values,
/// rotary positions, biases, softmax, projection.
///
/// A frame for which all frames are masked, itself included, becomes NaN, as with softmax. With
/// [`Precision::Bf16`] both projections have bf16 operands.
///
/// # Shapes
/// b f h w c -> b f h w c
///
/// # Panics
/// Sizes that [`temporal_fits`] refuses or that do not match; tensors that are not f32 on the CPU.
pub fn temporal_attention(
    isa: Isa,
    x: &Tensor,
    weights: &TemporalWeights<'_>,
    frames: &Frames<'_>,
) -> Tensor {
    check(isa, x, weights, frames);
    let given = Given::new(x, weights.shape.heads, frames);
    let y = given.x.empty_like();
    let paired = kernels::precision() == Precision::Bf16;
    let form = if paired { Form::Paired } else { Form::Whole };
    let packed = weights.cache.packed(weights, isa, form);
    // SAFETY: all tensors are contiguous, of these shapes and alive; the output is new.
    unsafe { forward::run(&given.problem(&packed, &y), isa) };
    y
}

/// The operands that [`temporal_attention`] shares with its gradient, contiguous.
struct Given {
    x: Tensor,
    turns: Tensor,
    bias: Tensor,
    /// Stride between the biases of samples.
    step: usize,
    distances: Option<distances::Held>,
}

impl Given {
    fn new(x: &Tensor, heads: i64, frames: &Frames<'_>) -> Self {
        let (bias, step) = biases(heads, frames);
        let [x, turns] = [x, frames.turns].map(|t| t.detach().contiguous());
        Given { x, turns, bias, step, distances: frames.distances.map(distances::Held::new) }
    }

    fn problem<'a>(&self, packed: &'a Packed, y: &Tensor) -> Problem<'a> {
        let size = self.x.size();
        Problem {
            packed,
            x: pointer(&self.x),
            y: y.data_ptr() as *mut f32,
            turns: (pointer(&self.turns), self.turns.size()[1] as usize),
            bias: (pointer(&self.bias), self.step),
            distances: self.distances.as_ref().map(distances::Held::pointers),
            samples: size[0] as usize,
            frames: size[1] as usize,
            sites: (size[2] * size[3]) as usize,
        }
    }
}

/// Gradients of [`temporal_attention`], with the shapes of the tensors that they belong to.
#[derive(Debug)]
pub struct TemporalGrads {
    /// With respect to the input.
    pub x: Tensor,
    /// With respect to the norm's gain, c values.
    pub gamma: Tensor,
    /// With respect to the joint projection.
    pub to_qkv: Tensor,
    /// With respect to the output projection.
    pub to_out: Tensor,
    /// With respect to the biases.
    pub bias: Option<Tensor>,
    /// With respect to the vectors for distances, of keys and of values.
    pub distances: Option<[Tensor; 2]>,
}

/// The gradients of the sum of `grad` times [`temporal_attention`], which is recomputed, in f32
/// whatever the precision.
///
/// The same on every call with the same number of threads.
///
/// # Shapes
/// `grad`: that of `x`
///
/// # Panics
/// As [`temporal_attention`].
pub fn temporal_attention_backward(
    isa: Isa,
    (x, grad): (&Tensor, &Tensor),
    weights: &TemporalWeights<'_>,
    frames: &Frames<'_>,
) -> TemporalGrads {
    check(isa, x, weights, frames);
    assert!(grad.size() == x.size() && grad.kind() == Kind::Float, "a gradient of another shape");
    let given = Given::new(x, weights.shape.heads, frames);
    let grad = grad.detach().contiguous();
    let forms = [Form::Whole, Form::Back];
    let [packed, back] = forms.map(|form| weights.cache.packed(weights, isa, form));
    let held = Held::new(weights);
    let Held([gamma, to_qkv, to_out]) = &held;
    let of = TemporalGrads {
        x: given.x.empty_like(),
        gamma: gamma.empty_like(),
        to_qkv: to_qkv.empty_like(),
        to_out: to_out.empty_like(),
        bias: frames.bias.map(|t| Tensor::empty(t.size(), (Kind::Float, x.device()))),
        distances: frames
            .distances
            .map(|of| of.map(|t| Tensor::empty(t.size(), (Kind::Float, x.device())))),
    };
    let at = |t: &Tensor| t.data_ptr() as *mut f32;
    let gradient = Gradient {
        back: &back,
        grad: pointer(&grad),
        weights: held.pointers(),
        gamma: at(&of.gamma),
        to_qkv: at(&of.to_qkv),
        to_out: at(&of.to_out),
        bias: of.bias.as_ref().map(at),
        distances: of.distances.as_ref().map(|of| of.each_ref().map(at)),
    };
    // SAFETY: all tensors are contiguous, of these shapes and alive; those written to are new.
    unsafe { backward::run(&given.problem(&packed, &of.x), &gradient, isa) };
    of
}
