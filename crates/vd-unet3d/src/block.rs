//! The residual block: two convolutions, conditioned by a scale and a shift per channel.

use tch::Tensor;
use vd_tensor_ops::Scope;
use vd_tensor_ops::layers::{Linear, Norm, NormKind, SpaceConv};

use crate::Result;

/// Convolution, norm, scale and shift, SiLU.
#[derive(Debug)]
struct ConvBlock {
    proj: SpaceConv,
    norm: Norm,
}

impl ConvBlock {
    fn new(scope: &mut Scope, inputs: i64, outputs: i64, norm: NormKind) -> Result<Self> {
        Ok(ConvBlock {
            proj: SpaceConv::new(&mut scope.sub("proj"), inputs, outputs, 3)?,
            norm: Norm::new(&mut scope.sub("norm"), outputs, norm)?,
        })
    }

    fn forward(&self, x: &Tensor, scale_shift: Option<(Tensor, Tensor)>) -> Tensor {
        let x = self.norm.forward(&self.proj.forward(x));
        match scale_shift {
            Some((scale, shift)) => shift.addcmul(&x, &(scale + 1.0)).silu(),
            None => x.silu(),
        }
    }
}

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

    /// `emb`: b 1 d, or b f d.
    pub(crate) fn forward(&self, x: &Tensor, emb: Option<&Tensor>) -> Tensor {
        let scale_shift = self.film.as_ref().zip(emb).map(|(film, emb)| {
            let both = film.forward(&emb.silu()).unsqueeze(2).unsqueeze(3); // b (1 or f) 1 1 2c
            let c = both.size()[4] / 2;
            (both.narrow(4, 0, c), both.narrow(4, c, c))
        });
        let out = self.block2.forward(&self.block1.forward(x, scale_shift), None);
        match &self.skip {
            Some(skip) => out + skip.forward(x),
            None => out + x,
        }
    }
}
