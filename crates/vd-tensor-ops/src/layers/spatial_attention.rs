//! Full attention over the positions of a frame.

use std::sync::Arc;

use tch::Tensor;

use super::masked::attention;
use super::{HeadShape, LayerNorm, Linear, Memory};
use crate::kernels::cpu::{self, Isa, SpatialCache, SpatialWeights};
use crate::kernels::{self, check};
use crate::{Result, Scope};

/// Attention over space: each position attends over all positions of its frame.
///
/// Memory and time grow with the square of height times width, so it is meant for the coarse
/// levels.
///
/// # Reference
/// Vaswani et al. 2017, equation 1, arXiv:1706.03762.
#[derive(Debug)]
pub struct SpatialAttention {
    shape: HeadShape,
    to_qkv: Linear,
    to_out: Linear,
    packed: Arc<SpatialCache>,
}

impl SpatialAttention {
    /// `to_qkv.weight` and `to_out.weight`.
    ///
    /// # Errors
    /// Names that are taken; sizes below 1.
    pub fn new(scope: &mut Scope, channels: i64, shape: HeadShape) -> Result<Self> {
        Ok(SpatialAttention {
            shape,
            to_qkv: Linear::without_bias(&mut scope.sub("to_qkv"), channels, 3 * shape.inner())?,
            to_out: Linear::without_bias(&mut scope.sub("to_out"), shape.inner(), channels)?,
            packed: Arc::default(),
        })
    }

    /// x + attention(norm(x)), in one pass if a kernel applies. Kernels are used without gradients
    /// only; with gradients, libtorch's operations are as fast or faster.
    ///
    /// # Shapes
    /// As [`SpatialAttention::forward_with`]
    ///
    /// # Panics
    /// As [`SpatialAttention::forward_with`].
    pub fn residual(&self, norm: &LayerNorm, x: &Tensor, bias: Option<&Tensor>) -> Tensor {
        self.check(x, bias);
        let (gamma, to_qkv, to_out) = (norm.gamma(), self.to_qkv.weight(), self.to_out.weight());
        let isa = Isa::current();
        let inputs: Vec<_> = [x, gamma, to_qkv, to_out].into_iter().chain(bias).collect();
        let fits = inputs.iter().all(|t| kernels::on_cpu(t))
            && !kernels::needs_grad(&inputs)
            && cpu::spatial_fits(isa, x.size()[4])
            && x.numel() > 0;
        if !fits {
            let (inner, around) = norm.branch(x);
            return around.plus(&self.forward_with(&inner, bias, None));
        }
        let (shape, cache) = (self.shape, &self.packed);
        let weights = SpatialWeights { gamma, to_qkv, to_out, shape, cache };
        cpu::spatial_attention(isa, x, &weights, bias)
    }

    /// # Panics
    /// Shapes that do not go with the layer.
    fn check(&self, x: &Tensor, bias: Option<&Tensor>) {
        let c = self.to_qkv.weight().size()[1];
        let [_, _, h, w, _] = check::channels("the input of an attention over space", x, c);
        if let Some(bias) = bias {
            let expected = [self.shape.heads, h * w, h * w];
            check::shape("the bias of an attention over space", bias, &expected);
        }
    }

    /// # Shapes
    /// b f h w c -> b f h w c
    ///
    /// # Panics
    /// As [`SpatialAttention::forward_with`].
    pub fn forward(&self, x: &Tensor) -> Tensor {
        self.forward_with(x, None, None)
    }

    /// The same with a `bias` on the scores and with extra keys and values beside those of the
    /// positions.
    ///
    /// # Shapes
    /// b f h w c -> b f h w c; `bias`: n (h w) (h w), as of
    /// [`RelativeBias2d`](super::RelativeBias2d)
    ///
    /// # Panics
    /// Other shapes; dtypes or devices that do not go together.
    pub fn forward_with(
        &self,
        x: &Tensor,
        bias: Option<&Tensor>,
        memory: Option<&Memory>,
    ) -> Tensor {
        self.check(x, bias);
        let size = x.size();
        let qkv = self.to_qkv.forward(&x.flatten(2, 3).flatten(0, 1)); // (b f) s (3 n d)
        let [q, mut k, mut v] = self.shape.split(&qkv).map(|t| t.transpose(1, 2)); // (b f) n s d
        let mut bias = bias.map(|bias| bias.unsqueeze(0));
        if let Some(memory) = memory {
            let inside = |t: Tensor| t.flatten(0, 1).transpose(1, 2); // (b f) n m d
            let [keys, values] = memory.of_frames(size[1]).map(inside);
            let m = keys.size()[2];
            k = Tensor::cat(&[keys, k], 2);
            v = Tensor::cat(&[values, v], 2);
            bias = bias.map(|bias| bias.constant_pad_nd([m, 0]));
        }
        let out = attention(&q, [&k, &v], bias.as_ref(), self.shape.scale());
        let out = out.transpose(1, 2).flatten(2, 3); // (b f) s (n d)
        self.to_out.forward(&out).view(size.as_slice())
    }
}
