//! The resolutions of the network.

use tch::Tensor;
use vd_tensor_ops::Scope;

use crate::attend::{Context, CrossResidual, LinearResidual, SpatialResidual, TemporalResidual};
use crate::block::ResidualBlock;
use crate::plan;
use crate::recompute::{Part, gate};
use crate::{Axes, Result, UNet3dConfig};

/// Cross-attention to the text after the spatial and after the temporal attention.
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

/// Applies cross-attention to x, if there is one.
fn through(cross: Option<&CrossResidual>, x: Tensor, context: &Context) -> Tensor {
    match cross {
        Some(cross) => cross.forward(&x, context),
        None => x,
    }
}

#[derive(Debug)]
enum Spatial {
    Linear(LinearResidual),
    Full(SpatialResidual),
}

/// Names of the parts of a unit, and the prefix of its cross-attentions.
#[derive(Debug)]
pub(crate) struct Names {
    pub(crate) block: String,
    pub(crate) spatial: String,
    pub(crate) temporal: String,
    pub(crate) cross: String,
}

impl Names {
    /// The indices within a level of video-diffusion-pytorch, followed by those of additional
    /// blocks.
    pub(crate) fn numbered(block: usize) -> Names {
        let block = if block < 2 { block.to_string() } else { format!("blocks.{block}") };
        let [spatial, temporal] = ["2", "3"].map(str::to_owned);
        Names { block, spatial, temporal, cross: String::new() }
    }

    /// Those of one of several units with attention.
    pub(crate) fn unit(number: usize) -> Names {
        let [block, spatial, temporal] =
            ["block", "spatial", "temporal"].map(|part| format!("{number}.{part}"));
        Names { block, spatial, temporal, cross: format!("{number}.") }
    }

    /// Those of the middle; the first of its units has the attentions.
    pub(crate) fn middle(number: usize) -> Names {
        let [spatial, temporal] = ["mid_spatial_attn", "mid_temporal_attn"].map(str::to_owned);
        Names {
            block: format!("mid_block{}", number + 1),
            spatial,
            temporal,
            cross: "mid_".to_owned(),
        }
    }
}

/// A residual block and the attentions after it.
#[derive(Debug)]
struct Unit {
    block: ResidualBlock,
    spatial: Option<Spatial>,
    temporal: Option<TemporalResidual>,
    cross: Option<Cross>,
}

impl Unit {
    fn new(
        scope: &mut Scope,
        unit: &plan::Unit,
        names: &Names,
        config: &UNet3dConfig,
    ) -> Result<Self> {
        let plan::Unit { level, inputs, outputs, spatial, temporal } = *unit;
        let block =
            ResidualBlock::new(&mut scope.sub(&names.block), (inputs, outputs), true, config)?;
        let mut place = scope.sub(&names.spatial);
        let spatial = match spatial {
            Some(plan::Spatial::Linear) => {
                Some(Spatial::Linear(LinearResidual::new(&mut place, outputs, config)?))
            }
            Some(plan::Spatial::Full) => {
                Some(Spatial::Full(SpatialResidual::new(&mut place, (outputs, level), config)?))
            }
            None => None,
        };
        let temporal = if temporal {
            Some(TemporalResidual::new(&mut scope.sub(&names.temporal), outputs, config)?)
        } else {
            None
        };
        let cross = if unit.attends() {
            Some(Cross::new(scope, &names.cross, outputs, config)?)
        } else {
            None
        };
        Ok(Unit { block, spatial, temporal, cross })
    }

    /// `inputs` are concatenated along channels.
    fn forward(&self, inputs: &[&Tensor], emb: &Tensor, context: &Context) -> Tensor {
        let cross = self.cross.as_ref();
        let mut x = self.block.forward(inputs, emb, context);
        x = match &self.spatial {
            Some(Spatial::Linear(linear)) => linear.forward(&x, context),
            Some(Spatial::Full(full)) => full.forward(&x, context),
            None => x,
        };
        x = through(cross.and_then(|cross| cross.space.as_ref()), x, context);
        if let Some(temporal) = &self.temporal {
            x = temporal.forward(&x, context, true);
        }
        through(cross.and_then(|cross| cross.time.as_ref()), x, context)
    }
}

/// A sequence of units: one resolution of the downsampling or upsampling path, or the middle.
///
/// The first input passes through all of them; each further one is a skip, concatenated with the
/// input of its unit.
#[derive(Debug)]
pub(crate) struct Level {
    units: Vec<Unit>,
    /// Whether every unit's output is an output of the level, rather than only the last one's.
    each: bool,
}

impl Level {
    pub(crate) fn new(
        scope: &mut Scope,
        units: &[plan::Unit],
        each: bool,
        config: &UNet3dConfig,
        names: fn(usize) -> Names,
    ) -> Result<Self> {
        let units = units.iter().enumerate();
        let units = units.map(|(i, unit)| Unit::new(scope, unit, &names(i), config));
        Ok(Level { units: units.collect::<Result<_>>()?, each })
    }
}

impl Part for Level {
    fn forward(&self, inputs: &[&Tensor], emb: &Tensor, context: &Context) -> Vec<Tensor> {
        let mut outputs = Vec::new();
        let (first, skips) = match inputs.split_first() {
            Some((first, skips)) => (first.shallow_clone(), skips),
            None => return outputs,
        };
        let mut x = first;
        for (i, unit) in self.units.iter().enumerate() {
            x = match skips.get(i) {
                Some(skip) => unit.forward(&[&x, skip], emb, context),
                None => unit.forward(&[&x], emb, context),
            };
            if self.each && i + 1 < self.units.len() {
                let own = gate(&x);
                outputs.push(std::mem::replace(&mut x, own));
            }
        }
        outputs.push(x);
        outputs
    }
}
