//! The residual block: two convolutions, conditioned by a scale and a shift per channel.

use tch::Tensor;
use vd_tensor_ops::Scope;
use vd_tensor_ops::layers::{ConvBlock, Linear, NormKind, ScaleShift};

use crate::Result;
use crate::attend::Context;
use crate::recompute::Part;

/// Two convolution blocks around a skip; the embedding enters the first as scale and shift.
///
/// # Reference
/// Perez et al. 2018 (FiLM), arXiv:1709.07871.
#[derive(Debug)]
pub(crate) struct ResidualBlock {
    film: Option<Linear>,
    block1: ConvBlock,
    block2: ConvBlock,
    skip: Option<Linear>,
}

impl ResidualBlock {
    /// `emb_dim`: width of the embedding, `None` for a block without one.
    pub(crate) fn new(
        scope: &mut Scope,
        (inputs, outputs): (i64, i64),
        emb_dim: Option<i64>,
        norm: NormKind,
    ) -> Result<Self> {
        let film = match emb_dim {
            // Entry 0 of the sequence is the activation, which has no parameters.
            Some(d) => Some(Linear::new(&mut scope.sub("mlp.1"), d, 2 * outputs)?),
            None => None,
        };
        let skip = if inputs == outputs {
            None
        } else {
            Some(Linear::pointwise(&mut scope.sub("res_conv"), inputs, outputs, 3, true)?)
        };
        Ok(ResidualBlock {
            film,
            block1: ConvBlock::new(&mut scope.sub("block1"), inputs, outputs, norm)?,
            block2: ConvBlock::new(&mut scope.sub("block2"), outputs, outputs, norm)?,
            skip,
        })
    }

    /// Of inputs whose channels follow each other; `emb`: b 1 d, or b f d.
    pub(crate) fn forward(&self, inputs: &[&Tensor], emb: Option<&Tensor>) -> Tensor {
        let film = self.film.as_ref().zip(emb).map(|(film, emb)| {
            let both = film.forward(&emb.silu()).unsqueeze(2).unsqueeze(3); // b (1 or f) 1 1 2c
            let c = both.size()[4] / 2;
            ScaleShift { scale: both.narrow(4, 0, c), shift: both.narrow(4, c, c) }
        });
        let inner = self.block1.forward(inputs, film.as_ref(), None);
        let skip = match (&self.skip, inputs) {
            (Some(skip), inputs) => skip.forward_parts(inputs),
            (None, [x]) => x.shallow_clone(),
            (None, inputs) => Tensor::cat(inputs, -1),
        };
        self.block2.forward(&[&inner], None, Some(&skip))
    }
}

impl Part for ResidualBlock {
    /// A block made without an embedding passes over it.
    fn forward(&self, inputs: &[&Tensor], emb: &Tensor, _context: &Context) -> Tensor {
        self.forward(inputs, Some(emb))
    }
}
