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
use crate::kernels::{self, Precision, check};
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
    let [b, f, _, _, c] = check::video("the input of an attention along time", x);
    let (HeadShape { heads, dim }, inner) =
        (weights.shape, check::heads("an attention along time", weights.shape));
    assert!(
        temporal_fits(isa, c, weights.shape),
        "an attention along time: expected channels that are a multiple of {} and heads of an even \
         width, got shape {:?} and {heads} heads of {dim}",
        isa.lanes(),
        x.size()
    );
    let TemporalWeights { gamma, to_qkv, to_out, .. } = *weights;
    check::plain("the input of an attention along time", x);
    check::plain("the norm of an attention along time", gamma);
    assert!(
        gamma.numel() as i64 == c,
        "the norm of an attention along time: expected {c} values, got shape {:?}",
        gamma.size()
    );
    check::plain_of("to_qkv of an attention along time", to_qkv, &[3 * inner, c]);
    check::plain_of("to_out of an attention along time", to_out, &[c, inner]);
    if let Some(bias) = frames.bias {
        check::plain_of("the bias of an attention along time", bias, &[heads, f, f]);
    }
    for table in frames.distances.into_iter().flatten() {
        check::plain_of("the distances of an attention along time", table, &[2 * f - 1, dim]);
    }
    let turns = frames.turns.size();
    let pairs = turns.get(1).copied().unwrap_or(0).min(dim / 2);
    check::plain_of("the angles of an attention along time", frames.turns, &[f, pairs, 2]);
    if let Some(forbidden) = frames.forbidden {
        check::marks("the forbidden pairs of an attention along time", forbidden, (b, f));
    }
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
    if x.numel() == 0 {
        return x.detach().contiguous().empty_like();
    }
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

impl TemporalGrads {
    /// Those of a video without values.
    fn zeros(x: &Tensor, weights: &TemporalWeights<'_>, frames: &Frames<'_>) -> Self {
        let zeros = |t: &Tensor| t.detach().zeros_like();
        TemporalGrads {
            x: zeros(x),
            gamma: zeros(weights.gamma),
            to_qkv: zeros(weights.to_qkv),
            to_out: zeros(weights.to_out),
            bias: frames.bias.map(zeros),
            distances: frames.distances.map(|of| of.map(zeros)),
        }
    }
}

/// The gradients of the sum of `grad` times [`temporal_attention`], which is computed again on the
/// way, in f32 whatever the precision.
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
    check::plain_of("the gradient of an attention along time", grad, &x.size());
    if x.numel() == 0 {
        return TemporalGrads::zeros(x, weights, frames);
    }
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
