//! Linear attention over the positions of an image, with the norm before it and the residual
//! connection around it.

mod backward;
mod buffers;
mod direct;
mod direct_backward;
mod direct_heads;
mod fold;
mod forward;
mod gradient;
mod pack;
pub(super) mod product;
pub(super) mod sites;
mod sums;

use std::sync::Arc;

use tch::Tensor;
use vd_torch::{team_of, threads};

use super::epilogue::fits;
use super::{Cache, Isa, Scratch, Version, version};
use crate::kernels::{self, Precision, check};
use crate::layers::HeadShape;
pub use gradient::{LinearAttentionGrad, linear_attention_backward};
use pack::{Direct, DirectBack, Folded, Shape, Unfolded, Weights};

/// The parameters of linear attention and of the norm before it.
#[derive(Debug, Clone, Copy)]
pub struct LinearAttentionWeights<'a> {
    /// # Shapes
    /// c, axes of 1 aside
    pub gamma: &'a Tensor,
    /// Weight of queries, keys and values.
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

    /// The versions of the weights that are packed.
    fn versions(&self) -> [Version; 3] {
        [self.gamma, self.to_qkv, self.to_out].map(version)
    }
}

/// Packed weights of linear attention, cached until the weights change.
#[derive(Debug, Default)]
pub struct LinearAttentionCache(Cache<Key, Packed>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Key {
    weights: [Version; 3],
    /// Number and width of the heads.
    heads: (usize, usize),
    isa: Isa,
    form: Form,
    /// Whether products are those of bf16 pairs.
    pairs: bool,
}

/// Equivalent ways of computing the attention.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Folded,
    Direct,
    /// The backward of the folded one.
    Unfolded,
    /// The backward of the direct one.
    DirectBack,
}

#[derive(Debug)]
enum Packed {
    Folded(Folded),
    Direct(Direct),
    Unfolded(Unfolded),
    DirectBack(DirectBack),
}

impl Form {
    /// Folding the projections into the sums costs as much as c positions save.
    fn of(shape: &Shape) -> Self {
        if shape.sites < shape.c { Form::Direct } else { Form::Folded }
    }
}

impl LinearAttentionCache {
    /// `held`: the weights, contiguous.
    fn packed(
        &self,
        (isa, form, pairs): (Isa, Form, bool),
        shape: &Shape,
        weights: &LinearAttentionWeights<'_>,
        [gamma, qkv, out, _]: &[Tensor; 4],
    ) -> Arc<Packed> {
        let heads = (shape.heads, shape.dim);
        let key = Key { weights: weights.versions(), heads, isa, form, pairs };
        let weights = Weights { gamma: values(gamma), qkv: values(qkv), out: values(out) };
        let pack = || match form {
            Form::Folded => Packed::Folded(Folded::new(isa, shape, &weights, pairs)),
            Form::Direct => Packed::Direct(Direct::new(isa, shape, &weights, pairs)),
            Form::Unfolded => Packed::Unfolded(Unfolded::new(isa, shape, &weights)),
            Form::DirectBack => Packed::DirectBack(DirectBack::new(isa, shape, &weights)),
        };
        self.0.get(key, |of| of.weights == key.weights && of.heads == heads, pack)
    }
}

/// The values of a contiguous f32 tensor on the CPU.
fn values(x: &Tensor) -> &[f32] {
    // SAFETY: it is such a tensor, and nobody writes to it while it is borrowed here.
    unsafe { std::slice::from_raw_parts(x.data_ptr() as *const f32, x.numel()) }
}

/// Whether [`linear_attention`] supports this number of channels.
pub fn linear_attention_fits(isa: Isa, channels: i64) -> bool {
    fits(isa, channels as usize)
}

/// x + linear attention(norm(x)) over the positions of each frame, as
/// [`SpatialLinearAttention`](crate::layers::SpatialLinearAttention) of
/// [`LayerNorm`](crate::layers::LayerNorm).
///
/// With [`Precision::Bf16`] the products over positions have bf16 operands.
///
/// # Shapes
/// b f h w c -> b f h w c
///
/// # Panics
/// Channels that [`linear_attention_fits`] refuses; sizes that do not go together; tensors that are not
/// f32 on the CPU.
pub fn linear_attention(
    isa: Isa,
    x: &Tensor,
    weights: &LinearAttentionWeights<'_>,
    cache: &LinearAttentionCache,
    heads: HeadShape,
) -> Tensor {
    let shape = shape_of(isa, x, weights, heads);
    let (x, params) = (x.detach().contiguous(), weights.held());
    let y = x.empty_like();
    if shape.images * shape.sites == 0 {
        return y;
    }
    let pairs = kernels::precision() == Precision::Bf16;
    let packed = cache.packed((isa, Form::of(&shape), pairs), &shape, weights, &params);
    let bias = values(&params[3]).as_ptr();
    let (x, out) = (values(&x).as_ptr(), y.data_ptr() as *mut f32);
    // Queried once: the size of the shared memory depends on the team.
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
        Packed::Unfolded(_) | Packed::DirectBack(_) => {}
    }
    y
}

/// The sizes, once they are found to be those of the weights.
///
/// # Panics
/// As [`linear_attention`].
fn shape_of(isa: Isa, x: &Tensor, weights: &LinearAttentionWeights<'_>, of: HeadShape) -> Shape {
    let size = check::video("the input of a linear attention", x);
    check::plain("the input of a linear attention", x);
    let (c, inner) = (size[4], check::heads("a linear attention", of));
    assert!(
        linear_attention_fits(isa, c),
        "a linear attention: expected channels that are a multiple of {}, got shape {size:?}",
        isa.lanes()
    );
    let LinearAttentionWeights { gamma, to_qkv, to_out, bias } = *weights;
    for (what, t, expected) in [
        ("the norm of a linear attention", gamma, &[c] as &[i64]),
        ("to_qkv of a linear attention", to_qkv, &[3 * inner, c]),
        ("to_out of a linear attention", to_out, &[c, inner]),
        ("the bias of a linear attention", bias, &[c]),
    ] {
        check::plain(what, t);
        let got = t.size();
        let long = |n: &&i64| **n != 1;
        assert!(
            got.iter().filter(long).eq(expected.iter().filter(long)),
            "{what}: expected shape {expected:?}, axes of 1 aside, got {got:?}"
        );
    }
    let [images, sites, c, heads, dim] =
        [size[0] * size[1], size[2] * size[3], c, of.heads, of.dim].map(|n| n as usize);
    Shape { images, sites, c, heads, dim }
}
