//! Linear attention over the positions of a frame.

use std::sync::Arc;

use tch::Tensor;
use vd_torch::{BoxError, Function, Saved};

use super::norm::softmax;
use super::{HeadShape, LayerNorm, Linear, Memory};
use crate::kernels::cpu::{
    self, Isa, LinearAttentionCache, LinearAttentionGrad, LinearAttentionWeights,
};
use crate::kernels::cuda;
use crate::kernels::{self, check};
use crate::{Result, Scope};

/// Attention over space whose cost is linear in the number of positions: keys are normalised over
/// positions and queries over features.
///
/// # Reference
/// Shen et al. 2021, Efficient Attention, equation 3, arXiv:1812.01243.
#[derive(Debug)]
pub struct SpatialLinearAttention {
    shape: HeadShape,
    to_qkv: Linear,
    to_out: Linear,
    cache: Arc<LinearAttentionCache>,
}

impl SpatialLinearAttention {
    /// `to_qkv.weight`, `to_out.weight` and `to_out.bias`, stored as convolutions of kernel 1 x 1.
    ///
    /// # Errors
    /// Names that are taken; sizes below 1.
    pub fn new(scope: &mut Scope, channels: i64, shape: HeadShape) -> Result<Self> {
        let inner = shape.inner();
        Ok(SpatialLinearAttention {
            shape,
            to_qkv: Linear::pointwise(&mut scope.sub("to_qkv"), channels, 3 * inner, 2, false)?,
            to_out: Linear::pointwise(&mut scope.sub("to_out"), inner, channels, 2, true)?,
            cache: Arc::default(),
        })
    }

    /// # Panics
    /// Another shape than the layer takes.
    fn check(&self, x: &Tensor) {
        check::channels("the input of a linear attention", x, self.to_qkv.weight.size()[1]);
    }

    /// # Shapes
    /// b f h w c -> b f h w c
    ///
    /// # Panics
    /// Another shape; dtypes or devices that do not go together.
    pub fn forward(&self, x: &Tensor) -> Tensor {
        self.forward_with(x, None)
    }

    /// x + attention(norm(x)).
    ///
    /// # Shapes
    /// b f h w c -> b f h w c
    ///
    /// # Panics
    /// As [`SpatialLinearAttention::forward`].
    pub fn residual(&self, x: &Tensor, norm: &LayerNorm) -> Tensor {
        self.check(x);
        match self.fused(x, norm) {
            Some(y) => y,
            None => {
                let (inner, around) = norm.branch(x);
                around.plus(&self.forward(&inner))
            }
        }
    }

    /// The same by the kernel, where it applies.
    fn fused(&self, x: &Tensor, norm: &LayerNorm) -> Option<Tensor> {
        let isa = Isa::current();
        let (gamma, bias) = (&norm.gamma, self.to_out.bias.as_ref()?);
        let (to_qkv, to_out) = (&self.to_qkv.weight, &self.to_out.weight);
        let weights = LinearAttentionWeights { gamma, to_qkv, to_out, bias };
        let inputs = [x, gamma, to_qkv, to_out, bias];
        if !inputs.iter().all(|t| kernels::on_cpu(t))
            || !cpu::linear_attention_fits(isa, x.size()[4])
        {
            return None;
        }
        let forward = || cpu::linear_attention(isa, x, &weights, &self.cache, self.shape);
        if !kernels::needs_grad(&inputs) {
            return Some(forward());
        }
        Some(cpu::one(&inputs, |saved: &mut Saved| {
            inputs.iter().for_each(|t| saved.keep(t));
            let backward = Backward { isa, shape: self.shape, cache: Arc::clone(&self.cache) };
            (forward(), backward)
        }))
    }

    /// As [`Self::forward`], with additional keys and values beside those of the positions: the
    /// softmax of the keys runs over both.
    ///
    /// # Shapes
    /// b f h w c -> b f h w c
    ///
    /// # Panics
    /// As [`SpatialLinearAttention::forward`].
    pub fn forward_with(&self, x: &Tensor, memory: Option<&Memory>) -> Tensor {
        self.check(x);
        let size = x.size();
        let qkv = self.to_qkv.forward(&x.flatten(2, 3).flatten(0, 1)); // (b f) s (3 n d)
        if memory.is_none()
            && cuda::may_run(&qkv)
            && let Some(on) = cuda::linear_fits(&qkv, self.shape)
        {
            let out = cuda::linear(&on, &qkv, self.shape); // (b f) s (n d)
            return self.to_out.forward(&out).view(size.as_slice());
        }
        let [q, mut k, mut v] = self.shape.split(&qkv); // (b f) s n d
        if let Some(memory) = memory {
            let [keys, values] = memory.of_frames(size[1]).map(|t| t.flatten(0, 1)); // (b f) m n d
            k = Tensor::cat(&[keys, k], 1);
            v = Tensor::cat(&[values, v], 1);
        }
        let q = softmax(&q, -1) * self.shape.scale();
        let k = softmax(&k, 1);
        // (b f) n d s times (b f) n s e
        let context = k.permute([0, 2, 3, 1]).matmul(&v.transpose(1, 2)); // (b f) n d e
        let out = q.transpose(1, 2).matmul(&context); // (b f) n s e
        let out = out.transpose(1, 2).flatten(2, 3); // (b f) s (n e)
        self.to_out.forward(&out).view(size.as_slice())
    }
}

/// The backward pass through the kernel.
struct Backward {
    isa: Isa,
    shape: HeadShape,
    cache: Arc<LinearAttentionCache>,
}

impl Function for Backward {
    fn backward(
        &self,
        saved: &[Tensor],
        grads: &[Option<Tensor>],
        _needs: &[bool],
    ) -> std::result::Result<Vec<Option<Tensor>>, BoxError> {
        let ([x, gamma, to_qkv, to_out, bias], [Some(grad)]) = (saved, grads) else {
            return Err(
                "linear attention: the tensors of the forward or the gradient of its output \
                        are gone"
                    .into(),
            );
        };
        let weights = LinearAttentionWeights { gamma, to_qkv, to_out, bias };
        let LinearAttentionGrad { x, gamma, to_qkv, to_out, bias } =
            cpu::linear_attention_backward(self.isa, (x, grad), &weights, &self.cache, self.shape);
        Ok([x, gamma, to_qkv, to_out, bias].map(Some).into())
    }

    fn name(&self) -> &'static str {
        "linear attention over space"
    }
}
