//! The resolutions of the network.

use tch::Tensor;
use vd_tensor_ops::Scope;

use crate::attend::{Context, CrossResidual, LinearResidual, SpatialResidual, TemporalResidual};
use crate::block::ResidualBlock;
use crate::embed::Embedding;
use crate::recompute::Part;
use crate::{Axes, Result, UNet3dConfig};

/// Attention over the text after that over space and after that over time.
#[derive(Debug)]
struct Cross {
    space: Option<CrossResidual>,
    time: Option<CrossResidual>,
}

impl Cross {
    fn new(scope: &mut Scope, prefix: &str, channels: i64, config: &UNet3dConfig) -> Result<Self> {
        Ok(Cross {
            space: CrossResidual::new(scope, (prefix, Axes::Space), channels, config)?,
            time: CrossResidual::new(scope, (prefix, Axes::Time), channels, config)?,
        })
    }
}

/// What attention over the text makes of x, or x where there is none.
fn through(cross: Option<&CrossResidual>, x: Tensor, context: &Context) -> Tensor {
    match cross {
        Some(cross) => cross.forward(&x, context),
        None => x,
    }
}

/// One resolution, on the way down or up.
#[derive(Debug)]
pub(crate) struct Level {
    block1: ResidualBlock,
    block2: ResidualBlock,
    spatial: Option<LinearResidual>,
    temporal: TemporalResidual,
    cross: Cross,
}

impl Level {
    pub(crate) fn new(
        scope: &mut Scope,
        (inputs, outputs): (i64, i64),
        config: &UNet3dConfig,
    ) -> Result<Self> {
        let (emb, norm) = (Some(Embedding::width(config)), config.norm);
        let spatial = if config.use_sparse_linear_attn {
            Some(LinearResidual::new(&mut scope.sub(2), outputs, config)?)
        } else {
            None
        };
        Ok(Level {
            block1: ResidualBlock::new(&mut scope.sub(0), (inputs, outputs), emb, norm)?,
            block2: ResidualBlock::new(&mut scope.sub(1), (outputs, outputs), emb, norm)?,
            spatial,
            temporal: TemporalResidual::new(&mut scope.sub(3), outputs, config)?,
            cross: Cross::new(scope, "", outputs, config)?,
        })
    }
}

impl Part for Level {
    fn forward(&self, inputs: &[&Tensor], emb: &Tensor, context: &Context) -> Tensor {
        let mut x = self.block1.forward(inputs, Some(emb));
        x = self.block2.forward(&[&x], Some(emb));
        if let Some(spatial) = &self.spatial {
            x = spatial.forward(&x, context);
        }
        x = through(self.cross.space.as_ref(), x, context);
        x = self.temporal.forward(&x, context, true);
        through(self.cross.time.as_ref(), x, context)
    }
}

/// The coarsest resolution, with full attention over space.
#[derive(Debug)]
pub(crate) struct Middle {
    block1: ResidualBlock,
    spatial: SpatialResidual,
    temporal: TemporalResidual,
    cross: Cross,
    block2: ResidualBlock,
}

impl Middle {
    pub(crate) fn new(scope: &mut Scope, channels: i64, config: &UNet3dConfig) -> Result<Self> {
        let (io, emb) = ((channels, channels), Some(Embedding::width(config)));
        Ok(Middle {
            block1: ResidualBlock::new(&mut scope.sub("mid_block1"), io, emb, config.norm)?,
            spatial: SpatialResidual::new(&mut scope.sub("mid_spatial_attn"), channels, config)?,
            temporal: TemporalResidual::new(&mut scope.sub("mid_temporal_attn"), channels, config)?,
            cross: Cross::new(scope, "mid_", channels, config)?,
            block2: ResidualBlock::new(&mut scope.sub("mid_block2"), io, emb, config.norm)?,
        })
    }
}

impl Part for Middle {
    fn forward(&self, inputs: &[&Tensor], emb: &Tensor, context: &Context) -> Tensor {
        let mut x = self.block1.forward(inputs, Some(emb));
        x = self.spatial.forward(&x, context);
        x = through(self.cross.space.as_ref(), x, context);
        x = self.temporal.forward(&x, context, true);
        x = through(self.cross.time.as_ref(), x, context);
        self.block2.forward(&[&x], Some(emb))
    }
}
