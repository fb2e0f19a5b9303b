//! The gradients of linear attention, on tensors.

use std::sync::Arc;

use tch::{Kind, Tensor};
use vd_torch::{team_of, threads};

use super::backward::{self, Gradients};
use super::buffers::Buffers;
use super::pack::{Direct, DirectBack, Folded, Shape, Unfolded};
use super::{
    Form, LinearAttentionCache, LinearAttentionWeights, Packed, direct_backward, shape_of, values,
};
use crate::kernels::check;
use crate::kernels::cpu::{Isa, Scratch};
use crate::layers::HeadShape;

/// Gradients of [`linear_attention`](super::linear_attention()), with the shapes of the tensors
/// that they belong to.
#[derive(Debug)]
pub struct LinearAttentionGrad {
    /// With respect to the input.
    pub x: Tensor,
    /// With respect to the gain of the norm.
    pub gamma: Tensor,
    /// With respect to the projection to queries, keys and values.
    pub to_qkv: Tensor,
    /// With respect to the output projection.
    pub to_out: Tensor,
    /// With respect to its bias.
    pub bias: Tensor,
}

/// The gradients of [`linear_attention`](super::linear_attention()) from that of its output;
/// intermediate values of the forward are recomputed from x, in f32 whatever the precision.
///
/// # Shapes
/// `x`, `grad`: b f h w c
///
/// # Panics
/// As [`linear_attention`](super::linear_attention()).
pub fn linear_attention_backward(
    isa: Isa,
    (x, grad): (&Tensor, &Tensor),
    weights: &LinearAttentionWeights<'_>,
    cache: &LinearAttentionCache,
    heads: HeadShape,
) -> LinearAttentionGrad {
    let shape = shape_of(isa, x, weights, heads);
    check::plain_of("the gradient of a linear attention", grad, &x.size());
    let (x, grad) = (x.detach().contiguous(), grad.detach().contiguous());
    let held = weights.held();
    let x_grad = x.empty_like();
    let form = Form::of(&shape);
    // The form for few positions sums gradients of weights once, the one for many positions per
    // thread.
    let threads = threads();
    let copies = if form == Form::Direct { 1 } else { threads as i64 };
    let rows = Gradients::rows(&shape) as i64;
    let sums = Tensor::zeros([copies, rows, shape.c as i64], (Kind::Float, x.device()));
    let way = if form == Form::Direct { Form::DirectBack } else { Form::Unfolded };
    let packed = [form, way].map(|form| cache.packed((isa, form, false), &shape, weights, &held));
    let at = At {
        x: values(&x).as_ptr(),
        grad: values(&grad).as_ptr(),
        x_grad: x_grad.data_ptr() as *mut f32,
        gradients: sums.data_ptr() as *mut f32,
    };
    if shape.images * shape.sites > 0 {
        match packed.each_ref().map(Arc::as_ref) {
            [Packed::Folded(packed), Packed::Unfolded(back)] => {
                many_sites(isa, threads, shape, (packed, back), at);
            }
            [Packed::Direct(packed), Packed::DirectBack(back)] => {
                few_sites(isa, threads, shape, (packed, back), at);
            }
            _ => {}
        }
    }
    weight_grads(weights, &held, &sums, (x_grad, f64::from(shape.scale())))
}

/// Pointers to operands and results.
#[derive(Debug, Clone, Copy)]
struct At {
    x: *const f32,
    grad: *const f32,
    x_grad: *mut f32,
    gradients: *mut f32,
}

fn many_sites(
    isa: Isa,
    threads: usize,
    shape: Shape,
    (packed, back): (&Folded, &Unfolded),
    At { x, grad, x_grad, gradients }: At,
) {
    let shared = if threads > 1 { Buffers::len(&shape, threads) } else { 0 };
    let mut shared = Scratch::take(shared);
    let shared = shared.as_mut_ptr();
    let all = &backward::Backward { shape, packed, back, x, grad, x_grad, gradients, shared };
    team_of(threads, |member| isa.run(backward::Share { all, member }));
}

fn few_sites(
    isa: Isa,
    threads: usize,
    shape: Shape,
    (packed, back): (&Direct, &DirectBack),
    At { x, grad, x_grad, gradients }: At,
) {
    let mut shared = Scratch::take(direct_backward::Backward::shared_len(&shape));
    let shared = shared.as_mut_ptr();
    // SAFETY: made for these rows.
    let gradients = unsafe { Gradients::new(&shape, gradients) };
    let all =
        &direct_backward::Backward { shape, packed, back, x, grad, x_grad, gradients, shared };
    team_of(threads, |member| isa.run(direct_backward::Share { all, member }));
}

/// Removes the gain of the norm and the factor of the queries from the threads' sums.
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
