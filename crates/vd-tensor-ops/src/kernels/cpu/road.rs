//! The algorithms of a convolution over space.

use std::sync::Arc;

use tch::Tensor;

use super::direct::{DirectCache, Window};
use super::{
    ConvCache, Finish, Isa, conv3x3, conv3x3_input_grad, conv3x3_weight_grad, direct,
    direct_transposed, direct_weight_grad,
};

/// The algorithm of a convolution, with the packed forms of its weight.
#[derive(Debug, Clone)]
pub enum Road {
    /// Winograd's minimal filtering, for a 3 x 3 kernel.
    Winograd(Arc<ConvCache>),
    /// Direct products over taps and channels.
    Direct(Arc<DirectCache>, Window),
    /// The transposed convolution; without further operations after it.
    Transposed(Arc<DirectCache>, Window),
}

/// Rows and columns of a video b f h w c.
fn plane(x: &Tensor) -> [usize; 2] {
    let size = x.size();
    [size[2], size[3]].map(|n| n as usize)
}

impl Road {
    /// The convolution, and the operations after it.
    pub(super) fn forward(
        &self,
        isa: Isa,
        inputs: &[&Tensor],
        (weight, bias): (&Tensor, &Tensor),
        finish: Option<&Finish<'_>>,
    ) -> Tensor {
        match self {
            Road::Winograd(cache) => conv3x3(isa, inputs, (weight, cache), Some(bias), finish),
            Road::Direct(cache, window) => {
                direct(isa, inputs, (weight, cache, *window), Some(bias), finish)
            }
            Road::Transposed(cache, window) => {
                let one = matches!(inputs, [x] if x.dim() == 5) && finish.is_none();
                assert!(
                    one,
                    "a transposed convolution: expected one input of shape b f h w c and nothing that \
                     follows, got {:?}{}",
                    inputs.iter().map(|x| x.size()).collect::<Vec<_>>(),
                    if finish.is_some() { " and what follows" } else { "" }
                );
                let size = plane(inputs[0]).map(|n| window.transposed(n));
                direct_transposed(isa, inputs[0], (weight, cache, *window), Some(bias), size)
            }
        }
    }

    /// The gradient for all channels of `inputs`.
    pub(super) fn input_grad(
        &self,
        isa: Isa,
        inputs: &[Tensor],
        weight: &Tensor,
        grad: &Tensor,
    ) -> Tensor {
        match self {
            Road::Winograd(cache) => conv3x3_input_grad(isa, grad, (weight, cache)),
            Road::Direct(cache, window) => {
                let size = plane(&inputs[0]);
                direct_transposed(isa, grad, (weight, cache, *window), None, size)
            }
            Road::Transposed(cache, window) => {
                direct(isa, &[grad], (weight, cache, *window), None, None)
            }
        }
    }

    pub(super) fn weight_grad(&self, isa: Isa, inputs: &[Tensor], grad: &Tensor) -> Tensor {
        let all: Vec<&Tensor> = inputs.iter().collect();
        match self {
            Road::Winograd(_) => conv3x3_weight_grad(isa, &all, grad),
            Road::Direct(_, window) => direct_weight_grad(isa, &all, grad, *window),
            Road::Transposed(_, window) => direct_weight_grad(isa, &[grad], all[0], *window),
        }
    }
}
