//! The fused attention over space as a differentiable function.

use std::sync::Arc;

use tch::Tensor;
use vd_torch::{BoxError, Function, Saved};

use super::{SpatialCache, SpatialWeights, spatial_attention, spatial_attention_backward};
use crate::kernels::cpu::{Isa, none, one};
use crate::layers::HeadShape;

/// Differentiable [`spatial_attention`], with respect to the input, the weights and the bias.
///
/// # Shapes
/// b f h w c -> b f h w c
///
/// # Panics
/// As [`spatial_attention`].
pub fn spatial(
    isa: Isa,
    x: &Tensor,
    weights: &SpatialWeights<'_>,
    bias: Option<&Tensor>,
) -> Tensor {
    let SpatialWeights { gamma, to_qkv, to_out, shape, cache } = *weights;
    let inputs: Vec<_> = [x, gamma, to_qkv, to_out].into_iter().chain(bias).collect();
    let function = Spatial { isa, shape, cache: Arc::clone(cache) };
    let forward = |saved: &mut Saved| {
        inputs.iter().for_each(|t| saved.keep(t));
        (spatial_attention(isa, x, weights, bias), function)
    };
    one(&inputs, forward)
}

#[derive(Debug)]
struct Spatial {
    isa: Isa,
    shape: HeadShape,
    cache: Arc<SpatialCache>,
}

impl Function for Spatial {
    fn backward(
        &self,
        saved: &[Tensor],
        grads: &[Option<Tensor>],
        needs: &[bool],
    ) -> Result<Vec<Option<Tensor>>, BoxError> {
        let (Some(Some(grad)), [x, gamma, to_qkv, to_out, rest @ ..]) = (grads.first(), saved)
        else {
            return Ok(none(needs.len()));
        };
        let (shape, cache) = (self.shape, &self.cache);
        let weights = SpatialWeights { gamma, to_qkv, to_out, shape, cache };
        let of = spatial_attention_backward(self.isa, (x, grad), &weights, rest.first());
        let bias = rest.iter().map(|_| of.bias.as_ref().map(Tensor::shallow_clone));
        Ok([of.x, of.gamma, of.to_qkv, of.to_out].into_iter().map(Some).chain(bias).collect())
    }

    fn name(&self) -> &'static str {
        "fused attention over space"
    }
}
