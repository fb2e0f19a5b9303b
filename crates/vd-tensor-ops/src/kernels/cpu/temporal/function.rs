//! The fused attention along time as a differentiable function.

use std::sync::Arc;

use tch::Tensor;
use vd_torch::{BoxError, Function, Saved};

use super::{
    Frames, TemporalCache, TemporalWeights, temporal_attention, temporal_attention_backward,
};
use crate::kernels::cpu::{Isa, none, one};
use crate::layers::HeadShape;

/// [`temporal_attention`] with a gradient with respect to the input, the weights and the bias.
///
/// # Shapes
/// b f h w c -> b f h w c
///
/// # Panics
/// As [`temporal_attention`].
pub fn temporal(
    isa: Isa,
    x: &Tensor,
    weights: &TemporalWeights<'_>,
    frames: &Frames<'_>,
) -> Tensor {
    let TemporalWeights { gamma, to_qkv, to_out, shape, cache } = *weights;
    let inputs = [x, gamma, to_qkv, to_out, frames.bias];
    let function = Temporal { isa, shape, cache: Arc::clone(cache) };
    let forward = |saved: &mut Saved| {
        let fixed = [Some(frames.turns), frames.forbidden];
        inputs.into_iter().chain(fixed.into_iter().flatten()).for_each(|t| saved.keep(t));
        (temporal_attention(isa, x, weights, frames), function)
    };
    one(&inputs, forward)
}

#[derive(Debug)]
struct Temporal {
    isa: Isa,
    shape: HeadShape,
    cache: Arc<TemporalCache>,
}

impl Function for Temporal {
    fn backward(
        &self,
        saved: &[Tensor],
        grads: &[Option<Tensor>],
        needs: &[bool],
    ) -> Result<Vec<Option<Tensor>>, BoxError> {
        let (Some(Some(grad)), [x, gamma, to_qkv, to_out, bias, turns, rest @ ..]) =
            (grads.first(), saved)
        else {
            return Ok(none(needs.len()));
        };
        let (shape, cache) = (self.shape, &self.cache);
        let weights = TemporalWeights { gamma, to_qkv, to_out, shape, cache };
        let frames = Frames { turns, bias, forbidden: rest.first() };
        let of = temporal_attention_backward(self.isa, (x, grad), &weights, &frames);
        Ok([of.x, of.gamma, of.to_qkv, of.to_out, of.bias].map(Some).into())
    }

    fn name(&self) -> &'static str {
        "fused attention along time"
    }
}
