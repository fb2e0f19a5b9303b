//! The fused attention along time as a differentiable function.

use std::sync::Arc;

use tch::Tensor;
use vd_torch::{BoxError, Function, Saved};

use super::{
    Frames, TemporalCache, TemporalWeights, temporal_attention, temporal_attention_backward,
};
use crate::kernels::cpu::{Isa, none, one};
use crate::layers::HeadShape;

/// Differentiable [`temporal_attention`], with respect to the input, the weights, the bias and the
/// vectors for distances.
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
    let mut inputs = vec![x, gamma, to_qkv, to_out];
    inputs.extend(frames.bias);
    inputs.extend(frames.distances.into_iter().flatten());
    let (bias, distances) = (frames.bias.is_some(), frames.distances.is_some());
    let function = Temporal { isa, shape, cache: Arc::clone(cache), bias, distances };
    let forward = |saved: &mut Saved| {
        let fixed = [Some(frames.turns), frames.forbidden];
        inputs.iter().copied().chain(fixed.into_iter().flatten()).for_each(|t| saved.keep(t));
        (temporal_attention(isa, x, weights, frames), function)
    };
    one(&inputs, forward)
}

#[derive(Debug)]
struct Temporal {
    isa: Isa,
    shape: HeadShape,
    cache: Arc<TemporalCache>,
    bias: bool,
    distances: bool,
}

impl Function for Temporal {
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
        let (bias, rest) = rest.split_at(usize::from(self.bias));
        let (distances, rest) = rest.split_at(2 * usize::from(self.distances));
        let [turns, forbidden @ ..] = rest else { return Ok(none(needs.len())) };
        let (shape, cache) = (self.shape, &self.cache);
        let weights = TemporalWeights { gamma, to_qkv, to_out, shape, cache };
        let distances = distances.first().zip(distances.last()).map(|(k, v)| [k, v]);
        let (bias, forbidden) = (bias.first(), forbidden.first());
        let frames = Frames { turns, bias, distances, forbidden };
        let of = temporal_attention_backward(self.isa, (x, grad), &weights, &frames);
        let more = of.bias.into_iter().chain(of.distances.into_iter().flatten());
        Ok([of.x, of.gamma, of.to_qkv, of.to_out].into_iter().chain(more).map(Some).collect())
    }

    fn name(&self) -> &'static str {
        "fused attention along time"
    }
}
