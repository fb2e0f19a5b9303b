//! Linear attention over the sites of an image, with the norm before it and the residual around it.

mod backward;
mod buffers;
mod direct;
mod fold;
mod forward;
mod pack;
mod product;
mod sites;
mod sums;

use std::sync::Arc;

use tch::{Kind, Tensor};
use vd_torch::{team_of, threads};

use super::epilogue::fits;
use super::{Cache, Isa, Scratch, Version, version};
use crate::layers::HeadShape;
use buffers::Buffers;
use pack::{Direct, Folded, Shape, Unfolded, Weights};

/// The parameters of linear attention and of the norm before it.
#[derive(Debug, Clone, Copy)]
pub struct LinearAttentionWeights<'a> {
    /// # Shapes
    /// c, axes of 1 aside
    pub gamma: &'a Tensor,
    /// Queries, keys and values.
    ///
    /// # Shapes
    /// 3 (n d) c, axes of 1 aside
    pub to_qkv: &'a Tensor,
    /// # Shapes
    /// c (n d), axes of 1 aside
    pub to_out: &'a Tensor,
    /// # Shapes
    /// c
    pub bias: &'a Tensor,
}

impl LinearAttentionWeights<'_> {
    fn held(&self) -> [Tensor; 4] {
        [self.gamma, self.to_qkv, self.to_out, self.bias].map(|t| t.detach().contiguous())
    }

    /// Of what is packed.
    fn versions(&self) -> [Version; 3] {
        [self.gamma, self.to_qkv, self.to_out].map(version)
    }
}

/// Packed weights of linear attention, kept until the weights change.
#[derive(Debug, Default)]
pub struct LinearAttentionCache(Cache<Key, Packed>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Key {
    weights: [Version; 3],
    isa: Isa,
    form: Form,
}

/// Ways of computing the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Folded,
    Direct,
    /// The way back of the folded one.
    Unfolded,
}

#[derive(Debug)]
enum Packed {
    Folded(Folded),
    Direct(Direct),
    Unfolded(Unfolded),
}

impl Form {
    /// Folding the projections into the sums costs as many products as c sites save.
    fn of(shape: &Shape) -> Self {
        if shape.sites < shape.c { Form::Direct } else { Form::Folded }
    }
}

impl LinearAttentionCache {
    /// `held`: the weights, contiguous.
    fn packed(
        &self,
        (isa, form): (Isa, Form),
        shape: &Shape,
        weights: &LinearAttentionWeights<'_>,
        [gamma, qkv, out, _]: &[Tensor; 4],
    ) -> Arc<Packed> {
        let key = Key { weights: weights.versions(), isa, form };
        let weights = Weights { gamma: values(gamma), qkv: values(qkv), out: values(out) };
        let pack = || match form {
            Form::Folded => Packed::Folded(Folded::new(isa, shape, &weights)),
            Form::Direct => Packed::Direct(Direct::new(isa, shape, &weights)),
            Form::Unfolded => Packed::Unfolded(Unfolded::new(isa, shape, &weights)),
        };
        self.0.get(key, |of| of.weights == key.weights, pack)
    }
}

/// The values of a contiguous f32 tensor on the CPU.
fn values(x: &Tensor) -> &[f32] {
    // SAFETY: that is what it is; nobody writes to it while it is borrowed here.
    unsafe { std::slice::from_raw_parts(x.data_ptr() as *const f32, x.numel()) }
}

/// Whether [`linear_attention`] takes inputs of these channels.
pub fn linear_attention_fits(isa: Isa, channels: i64) -> bool {
    fits(isa, channels as usize)
}

/// x + linear attention over the sites of each frame of norm(x), as
/// [`SpatialLinearAttention`](crate::layers::SpatialLinearAttention) of
/// [`LayerNorm`](crate::layers::LayerNorm).
///
/// # Shapes
/// b f h w c -> b f h w c
///
/// # Panics
/// Channels that [`linear_attention_fits`] refuses; tensors that are not f32 on the CPU.
pub fn linear_attention(
    isa: Isa,
    x: &Tensor,
    weights: &LinearAttentionWeights<'_>,
    cache: &LinearAttentionCache,
    heads: HeadShape,
) -> Tensor {
    let (x, params) = (x.detach().contiguous(), weights.held());
    let shape = shape_of(isa, &x, &params, heads);
    let y = x.empty_like();
    if shape.images * shape.sites == 0 {
        return y;
    }
    let packed = cache.packed((isa, Form::of(&shape)), &shape, weights, &params);
    let bias = values(&params[3]).as_ptr();
    let (x, out) = (values(&x).as_ptr(), y.data_ptr() as *mut f32);
    // Asked once: what threads share is as large as the team.
    let threads = threads();
    match packed.as_ref() {
        Packed::Folded(packed) => {
            let mut shared = Scratch::take(forward::Forward::shared_len(&shape, threads));
            let shared = shared.as_mut_ptr();
            let all = &forward::Forward { shape, packed, bias, x, y: out, shared };
            team_of(threads, |member| isa.run(forward::Share { all, member }));
        }
        Packed::Direct(packed) => {
            let mut shared = Scratch::take(direct::Forward::shared_len(&shape));
            let shared = shared.as_mut_ptr();
            let all = &direct::Forward { shape, packed, bias, x, y: out, shared };
            team_of(threads, |member| isa.run(direct::Share { all, member }));
        }
        Packed::Unfolded(_) => {}
    }
    y
}

/// Gradients of [`linear_attention`], each of the shape of what it belongs to.
#[derive(Debug)]
pub struct LinearAttentionGrad {
    /// Of the input.
    pub x: Tensor,
    /// Of the gain of the norm.
    pub gamma: Tensor,
    /// Of the projection to queries, keys and values.
    pub to_qkv: Tensor,
    /// Of the projection back.
    pub to_out: Tensor,
    /// Of its bias.
    pub bias: Tensor,
}

/// Whether [`linear_attention_backward`] is worth it for inputs b f h w c: it folds the projections
/// into the sums of each frame, which fewer sites than channels do not pay for.
pub fn linear_attention_backward_fits(shape: &[i64]) -> bool {
    matches!(shape, [_, _, h, w, c] if h * w >= *c)
}

/// The gradients of [`linear_attention`] from that of its output; what the forward knew is made
/// again from x.
///
/// # Shapes
/// `x`, `grad`: b f h w c
///
/// # Panics
/// As [`linear_attention`].
pub fn linear_attention_backward(
    isa: Isa,
    (x, grad): (&Tensor, &Tensor),
    weights: &LinearAttentionWeights<'_>,
    cache: &LinearAttentionCache,
    heads: HeadShape,
) -> LinearAttentionGrad {
    let (x, grad) = (x.detach().contiguous(), grad.detach().contiguous());
    let held = weights.held();
    let shape = shape_of(isa, &x, &held, heads);
    assert!(grad.size() == x.size() && grad.kind() == Kind::Float, "a gradient of {grad:?}");
    let x_grad = x.empty_like();
    let threads = threads();
    let rows = backward::Gradients::rows(&shape) as i64;
    let sums = Tensor::zeros([threads as i64, rows, shape.c as i64], (Kind::Float, x.device()));
    let forms = [Form::Folded, Form::Unfolded]
        .map(|form| cache.packed((isa, form), &shape, weights, &held));
    if let [Packed::Folded(packed), Packed::Unfolded(back)] = forms.each_ref().map(Arc::as_ref) {
        let shared = if threads > 1 { Buffers::len(&shape, threads) } else { 0 };
        let mut shared = Scratch::take(shared);
        let all = &backward::Backward {
            shape,
            packed,
            back,
            x: values(&x).as_ptr(),
            grad: values(&grad).as_ptr(),
            x_grad: x_grad.data_ptr() as *mut f32,
            gradients: sums.data_ptr() as *mut f32,
            shared: shared.as_mut_ptr(),
        };
        if shape.images * shape.sites > 0 {
            team_of(threads, |member| isa.run(backward::Share { all, member }));
        }
    }
    weight_grads(weights, &held, &sums, (x_grad, f64::from(shape.scale())))
}

/// Takes the gain of the norm and the factor of the queries out of what threads have summed up.
fn weight_grads(
    weights: &LinearAttentionWeights<'_>,
    [gamma, qkv, ..]: &[Tensor; 4],
    sums: &Tensor,
    (x, scale): (Tensor, f64),
) -> LinearAttentionGrad {
    let sums = sums.sum_dim_intlist([0i64].as_slice(), false, None::<Kind>);
    let c = sums.size()[1];
    let inner = sums.size()[0] / 4;
    let projections = sums.narrow(0, 0, 3 * inner);
    let gain = (&projections * qkv.view([3 * inner, c])).sum_dim_intlist(
        [0i64].as_slice(),
        false,
        None::<Kind>,
    );
    let to_out = sums.narrow(0, 3 * inner, inner).tr() * scale;
    LinearAttentionGrad {
        x,
        gamma: gain.view_as(weights.gamma),
        to_qkv: (projections * gamma.view([c])).view_as(weights.to_qkv),
        to_out: to_out.contiguous().view_as(weights.to_out),
        bias: sums.select(0, 4 * inner).view_as(weights.bias),
    }
}

/// The sizes, once they are found to be those of the weights.
fn shape_of(isa: Isa, x: &Tensor, weights: &[Tensor; 4], heads: HeadShape) -> Shape {
    let size = x.size();
    let [images, sites, c] = [size[0] * size[1], size[2] * size[3], size[4]].map(|n| n as usize);
    let shape = Shape { images, sites, c, heads: heads.heads as usize, dim: heads.dim as usize };
    let inner = shape.inner();
    let numbers = [c, 3 * inner * c, inner * c, c];
    let whole = weights.iter().zip(numbers).all(|(t, n)| t.numel() == n);
    let plain = weights.iter().chain([x]).all(|t| t.kind() == Kind::Float);
    assert!(
        fits(isa, c) && whole && plain,
        "linear attention of {heads:?} over {size:?} that no kernel takes"
    );
    shape
}
