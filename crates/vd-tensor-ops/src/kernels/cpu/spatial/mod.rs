//! The fused attention over the positions of a frame, on tensors.

mod backward;
mod forward;
mod function;
mod heads;
mod heads_grad;
mod pack;
mod sites;
mod sums;

use std::sync::Arc;

use tch::Tensor;
use vd_torch::team;

use super::epilogue::fits;
use super::{Cache, Isa, Scratch, Version, pointer, pointer_or_null, version};
use crate::kernels::check;
use crate::layers::HeadShape;
use backward::Backward;
use forward::Forward;
pub use function::spatial;
use heads::Bias;
use pack::{Packed, Shape, Weights};
use sums::Gradients;

/// The parameters of an attention over space, with the norm before it.
#[derive(Debug, Clone, Copy)]
pub struct SpatialWeights<'a> {
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
    pub cache: &'a Arc<SpatialCache>,
}

/// Packed weights of an attention over space, cached until the weights change.
#[derive(Debug, Default)]
pub struct SpatialCache(Cache<Key, Packed>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Key {
    weights: [Version; 3],
    /// Number and width of the heads.
    heads: (usize, usize),
    isa: Isa,
    back: bool,
}

/// The operands of an attention, contiguous.
struct Given {
    isa: Isa,
    shape: Shape,
    x: Tensor,
    weights: [Tensor; 3],
    /// Keys along the second axis, queries along the third, rounded up to whole panels.
    bias: Option<Tensor>,
}

impl Given {
    /// Panics if pointers would be invalid for the sizes.
    fn new(isa: Isa, x: &Tensor, weights: &SpatialWeights<'_>, bias: Option<&Tensor>) -> Self {
        let HeadShape { heads, dim } = weights.shape;
        let size = check::video("the input of an attention over space", x);
        let (c, sites) = (size[4], size[2] * size[3]);
        let SpatialWeights { gamma, to_qkv, to_out, .. } = *weights;
        assert!(
            spatial_fits(isa, c),
            "an attention over space: expected channels that are a multiple of {}, got shape \
             {size:?}",
            isa.lanes()
        );
        let inner = check::heads("an attention over space", weights.shape);
        check::plain("the input of an attention over space", x);
        check::plain("the norm of an attention over space", gamma);
        assert!(
            gamma.numel() as i64 == c,
            "the norm of an attention over space: expected {c} values, got shape {:?}",
            gamma.size()
        );
        check::plain_of("to_qkv of an attention over space", to_qkv, &[3 * inner, c]);
        check::plain_of("to_out of an attention over space", to_out, &[c, inner]);
        if let Some(bias) = bias {
            check::plain_of("the bias of an attention over space", bias, &[heads, sites, sites]);
        }
        let [b, f, sites, c, heads, dim] =
            [size[0], size[1], sites, c, heads, dim].map(|n| n as usize);
        let wide = dim.next_multiple_of(isa.lanes());
        let shape = Shape { images: b * f, sites, c, heads, dim, wide };
        let weights = [gamma, to_qkv, to_out].map(|t| t.detach().contiguous());
        let more = (sites.next_multiple_of(2 * isa.lanes()) - sites) as i64;
        let bias = bias.map(|t| t.detach().transpose(1, 2).constant_pad_nd([0, more]).contiguous());
        Given { isa, shape, x: x.detach().contiguous(), weights, bias }
    }

    fn is_empty(&self) -> bool {
        self.shape.images * self.shape.sites == 0
    }

    fn weights(&self) -> Weights<'_> {
        let [gamma, qkv, out] = self.weights.each_ref().map(values);
        Weights { gamma, qkv, out }
    }

    fn bias(&self) -> Bias {
        let row = self.shape.sites.next_multiple_of(2 * self.isa.lanes());
        Bias { at: pointer_or_null(self.bias.as_ref()), row }
    }

    fn packed(&self, of: &SpatialWeights<'_>, back: bool) -> Arc<Packed> {
        let weights = [of.gamma, of.to_qkv, of.to_out].map(version);
        let heads = (self.shape.heads, self.shape.dim);
        let key = Key { weights, heads, isa: self.isa, back };
        let keep = |of: &Key| of.weights == key.weights && of.heads == heads;
        let pack = || Packed::new(self.isa, &self.shape, &self.weights(), back);
        of.cache.0.get(key, keep, pack)
    }
}

/// The values of a contiguous f32 tensor on the CPU.
fn values(x: &Tensor) -> &[f32] {
    // SAFETY: it is such a tensor, and nobody writes to it while it is borrowed here.
    unsafe { std::slice::from_raw_parts(pointer(x), x.numel()) }
}

/// Whether [`spatial_attention`] supports this number of channels.
pub fn spatial_fits(isa: Isa, channels: i64) -> bool {
    fits(isa, channels as usize)
}

/// x plus the attention over the positions of each frame of the normalised x: layer norm, queries,
/// keys and values, `bias`, softmax, projection.
///
/// # Shapes
/// `x`: b f h w c -> b f h w c; `bias`: n (h w) (h w), queries along the second axis
///
/// # Panics
/// Channels that [`spatial_fits`] refuses; sizes that do not match; tensors that are not f32 on the
/// CPU.
pub fn spatial_attention(
    isa: Isa,
    x: &Tensor,
    weights: &SpatialWeights<'_>,
    bias: Option<&Tensor>,
) -> Tensor {
    let given = Given::new(isa, x, weights, bias);
    let (shape, y) = (given.shape, given.x.empty_like());
    if given.is_empty() {
        return y;
    }
    let packed = &*given.packed(weights, false);
    let mut shared = Scratch::take(Forward::shared_len(&shape));
    let all = &Forward {
        shape,
        packed,
        bias: given.bias(),
        x: pointer(&given.x),
        y: y.data_ptr() as *mut f32,
        shared: shared.as_mut_ptr(),
    };
    team(|member| isa.run(forward::Share { all, member }));
    y
}

/// Gradients of [`spatial_attention`], with the shapes of the tensors that they belong to.
#[derive(Debug)]
pub struct SpatialGrads {
    /// With respect to the input.
    pub x: Tensor,
    /// With respect to the norm's gain.
    pub gamma: Tensor,
    /// With respect to the joint projection.
    pub to_qkv: Tensor,
    /// With respect to the output projection.
    pub to_out: Tensor,
    /// With respect to the bias, if there is one.
    pub bias: Option<Tensor>,
}

/// The gradients of the sum of `grad` times [`spatial_attention`], which is recomputed.
///
/// The same on every call, with any number of threads.
///
/// # Shapes
/// `grad`: that of `x`
///
/// # Panics
/// As [`spatial_attention`].
pub fn spatial_attention_backward(
    isa: Isa,
    (x, grad): (&Tensor, &Tensor),
    weights: &SpatialWeights<'_>,
    bias: Option<&Tensor>,
) -> SpatialGrads {
    let given = Given::new(isa, x, weights, bias);
    check::plain_of("the gradient of an attention over space", grad, &x.size());
    let grad = grad.detach().contiguous();
    let (shape, [gamma, to_qkv, to_out]) = (given.shape, &given.weights);
    let bias_grad = given.bias.as_ref().map(Tensor::zeros_like);
    let of = SpatialGrads {
        x: given.x.empty_like(),
        gamma: gamma.zeros_like(),
        to_qkv: to_qkv.zeros_like(),
        to_out: to_out.zeros_like(),
        // A view that restores the order of the axes.
        bias: bias_grad.as_ref().map(|t| t.narrow(2, 0, shape.sites as i64).transpose(1, 2)),
    };
    if given.is_empty() {
        return of;
    }
    let [packed, back] = [false, true].map(|back| given.packed(weights, back));
    let mut shared = Scratch::take(Backward::shared_len(&shape));
    let at = |t: &Tensor| t.data_ptr() as *mut f32;
    let all = &Backward {
        shape,
        packed: &packed,
        back: &back,
        bias: given.bias(),
        x: pointer(&given.x),
        grad: pointer(&grad),
        x_grad: at(&of.x),
        bias_grad: bias_grad.as_ref().map_or(std::ptr::null_mut(), at),
        gradients: Gradients {
            weights: given.weights(),
            gamma: at(&of.gamma),
            to_qkv: at(&of.to_qkv),
            to_out: at(&of.to_out),
        },
        shared: shared.as_mut_ptr(),
    };
    team(|member| isa.run(backward::Share { all, member }));
    of
}
