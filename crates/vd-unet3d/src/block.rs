//! The residual block: two convolutions, conditioned on the embedding.

use tch::Tensor;
use vd_tensor_ops::Scope;
use vd_tensor_ops::kernels::cuda;
use vd_tensor_ops::layers::{ConvBlock, Dropout, Linear, NormKind, ScaleShift, TemporalConv};

use crate::attend::Context;
use crate::recompute::Part;
use crate::{EmbeddingKind, Result, UNet3dConfig};

/// Two convolution blocks with a skip connection; the embedding enters the first as scale and
/// shift, or is added.
///
/// # Reference
/// Perez et al. 2018 (FiLM), arXiv:1709.07871.
#[derive(Debug)]
pub(crate) struct ResidualBlock {
    embedded: Option<(EmbeddingKind, Linear)>,
    block1: ConvBlock,
    dropout: Dropout,
    block2: ConvBlock,
    skip: Option<Linear>,
}

impl ResidualBlock {
    /// `embedded`: whether the block is conditioned on the embedding.
    pub(crate) fn new(
        scope: &mut Scope,
        (inputs, outputs): (i64, i64),
        embedded: bool,
        config: &UNet3dConfig,
    ) -> Result<Self> {
        let (kind, norm) = (config.embedding.kind, config.norm);
        let width = match kind {
            EmbeddingKind::Film => 2 * outputs,
            EmbeddingKind::Add => outputs,
        };
        let embedded = if embedded {
            // Entry 0 of the sequence is the activation, which has no parameters.
            let linear = Linear::new(&mut scope.sub("mlp.1"), config.embedding_width(), width)?;
            Some((kind, linear))
        } else {
            None
        };
        let skip = if inputs == outputs {
            None
        } else {
            Some(Linear::pointwise(&mut scope.sub("res_conv"), inputs, outputs, 3, true)?)
        };
        let dropout = Dropout::new(config.dropout, scope.site())?;
        let block1 = convolution(&mut scope.sub("block1"), (inputs, outputs), config)?;
        let mut second = scope.sub("block2");
        let block2 = convolution(&mut second, (outputs, outputs), config)?;
        if config.zero_init {
            second.zero(match norm {
                NormKind::Rms => "norm.gamma",
                NormKind::Group { .. } => "norm.weight",
            })?;
        }
        Ok(ResidualBlock { embedded, block1, dropout, block2, skip })
    }

    /// Scale and shift per channel, from the embedding.
    fn film(&self, emb: &Tensor) -> Option<ScaleShift> {
        let (kind, linear) = self.embedded.as_ref()?;
        let both = linear.forward(&emb.silu()).unsqueeze(2).unsqueeze(3); // b (1 or f) 1 1 (2)c
        Some(match kind {
            EmbeddingKind::Film => {
                // A single split: the gradients are concatenated, rather than added to zeros.
                let mut halves = both.chunk(2, 4).into_iter();
                let mut half = || halves.next().unwrap_or_default();
                ScaleShift { scale: half(), shift: half() }
            }
            EmbeddingKind::Add => ScaleShift { scale: both.zeros_like(), shift: both },
        })
    }

    /// `inputs` are concatenated along channels; `emb`: b 1 d, or b f d.
    pub(crate) fn forward(&self, inputs: &[&Tensor], emb: &Tensor, context: &Context) -> Tensor {
        let forbidden = context.forbidden.as_ref();
        let film = self.film(emb);
        // GPU matmuls need contiguous inputs: concatenate once for all of them.
        let joined = match inputs {
            [x, _, ..] if cuda::may_run(x) => Some(Tensor::cat(inputs, -1)),
            _ => None,
        };
        let joined = joined.as_ref().map(|x| [x]);
        let inputs = joined.as_ref().map_or(inputs, |one| one.as_slice());
        let inner = self.block1.masked(inputs, (film.as_ref(), None), forbidden);
        let inner = self.dropout.forward(&inner, context.dropout.as_ref());
        let skip = match (&self.skip, inputs) {
            (Some(skip), inputs) => skip.forward_parts(inputs),
            (None, [x]) => x.shallow_clone(),
            (None, inputs) => Tensor::cat(inputs, -1),
        };
        self.block2.masked(&[&inner], (None, Some(&skip)), forbidden)
    }
}

/// Convolution, norm and SiLU, as configured.
fn convolution(
    scope: &mut Scope,
    (inputs, outputs): (i64, i64),
    config: &UNet3dConfig,
) -> Result<ConvBlock> {
    let block = ConvBlock::new(scope, inputs, outputs, config.norm)?.wrapped(config.wrap);
    Ok(match config.temporal_kernel {
        Some(kernel) => {
            block.in_time(TemporalConv::new(&mut scope.sub("temporal"), outputs, kernel)?)
        }
        None => block,
    })
}

impl Part for ResidualBlock {
    /// A block built without the embedding ignores it.
    fn forward(&self, inputs: &[&Tensor], emb: &Tensor, context: &Context) -> Vec<Tensor> {
        vec![self.forward(inputs, emb, context)]
    }
}
