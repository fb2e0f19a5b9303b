//! The network between the embeddings and the output: downsampling path, middle, upsampling path.

use tch::Tensor;
use vd_tensor_ops::Scope;
use vd_tensor_ops::layers::{Linear, Norm, SpaceConv, SpaceDown, SpaceUp, TemporalConv};

use crate::attend::{Context, TemporalResidual};
use crate::block::ResidualBlock;
use crate::level::{Level, Names};
use crate::plan::{self, Plan};
use crate::recompute::{Part, Stage};
use crate::{Result, Skips, UNet3dConfig};

/// The temporal convolution after a spatial one, if the config has them.
#[derive(Debug)]
struct InTime(Option<TemporalConv>);

impl InTime {
    /// `temporal`, in the scope of the spatial convolution.
    fn new(scope: &mut Scope, channels: i64, config: &UNet3dConfig) -> Result<Self> {
        Ok(InTime(match config.temporal_kernel {
            Some(kernel) => Some(TemporalConv::new(&mut scope.sub("temporal"), channels, kernel)?),
            None => None,
        }))
    }

    fn forward(&self, x: Tensor, context: &Context) -> Tensor {
        match &self.0 {
            Some(temporal) => temporal.forward(&x, context.forbidden.as_ref()),
            None => x,
        }
    }
}

/// The end of the network, after the upsampling path.
#[derive(Debug)]
enum End {
    /// A residual block that also takes the long skip, and a linear map per position.
    Block(Box<ResidualBlock>, Linear),
    /// A norm, SiLU and a convolution.
    Norm(Norm, SpaceConv, InTime),
}

impl End {
    fn new(scope: &mut Scope, channels: i64, config: &UNet3dConfig) -> Result<Self> {
        let outputs = config.out_channels();
        let end = match config.skips {
            Skips::Level => {
                let io = (channels + config.first_channels(), config.dim);
                let block = ResidualBlock::new(&mut scope.sub(0), io, false, config)?;
                let last = Linear::pointwise(&mut scope.sub(1), config.dim, outputs, 3, true)?;
                End::Block(Box::new(block), last)
            }
            Skips::Block => {
                let norm = Norm::new(&mut scope.sub(0), channels, config.norm)?;
                let mut place = scope.sub(1);
                let conv = SpaceConv::new(&mut place, channels, outputs, 3)?.wrapped(config.wrap);
                End::Norm(norm, conv, InTime::new(&mut place, outputs, config)?)
            }
        };
        if config.zero_init {
            ["1.weight", "1.bias"].iter().try_for_each(|name| scope.zero(name))?;
        }
        Ok(end)
    }
}

impl Part for End {
    fn forward(&self, inputs: &[&Tensor], emb: &Tensor, context: &Context) -> Vec<Tensor> {
        vec![match self {
            End::Block(block, last) => last.forward(&block.forward(inputs, emb, context)),
            End::Norm(norm, conv, time) => match inputs {
                [x, ..] => time.forward(conv.forward(&norm.silu(x)), context),
                [] => Tensor::new(),
            },
        }]
    }
}

/// A level of the downsampling path, and the layer that halves the frame size after it.
type Down = (Stage<Level>, Option<(SpaceDown, InTime)>);
/// A level of the upsampling path, its number of skips, and the layer that doubles the frame size
/// after it.
type Up = (Stage<Level>, usize, Option<(SpaceUp, InTime)>);

/// Convolutions and attentions at all resolutions.
#[derive(Debug)]
pub(crate) struct Body {
    skips: Skips,
    skip_before_temporal: bool,
    init_conv: SpaceConv,
    init_time: InTime,
    init_temporal: Option<TemporalResidual>,
    downs: Vec<Down>,
    middle: Stage<Level>,
    ups: Vec<Up>,
    end: Stage<End>,
}

impl Body {
    /// `init_conv`, `init_temporal_attn`, `downs`, `mid_...`, `ups` and `final_conv`.
    pub(crate) fn new(scope: &mut Scope, config: &UNet3dConfig) -> Result<Self> {
        let plan = Plan::new(config);
        let (first, kernel) = (config.first_channels(), config.init_kernel_size);
        let inputs = (config.channels, config.extra_channels());
        let mut place = scope.sub("init_conv");
        let init_conv = SpaceConv::grown(&mut place, inputs, first, kernel)?.wrapped(config.wrap);
        let init_time = InTime::new(&mut place, first, config)?;
        let init_temporal = if plan::first_temporal(config) {
            let place = &mut scope.sub("init_temporal_attn");
            Some(TemporalResidual::new(place, first, config)?)
        } else {
            None
        };
        let middle =
            |scope: &mut Scope<'_>| Level::new(scope, &plan.middle, false, config, Names::middle);
        Ok(Body {
            skips: config.skips,
            skip_before_temporal: config.skip_before_temporal,
            init_conv,
            init_time,
            init_temporal,
            downs: downs(scope, &plan, config)?,
            middle: Stage::new(scope, middle)?,
            ups: ups(scope, &plan, config)?,
            end: Stage::new(&mut scope.sub("final_conv"), |scope| {
                End::new(scope, plan.last, config)
            })?,
        })
    }

    /// `again`: how many of the finest levels recompute their activations in the backward pass.
    ///
    /// # Shapes
    /// b f h w c -> b f h w c
    pub(crate) fn forward(
        &self,
        x: &Tensor,
        around: (&Tensor, &Context),
        mask_first: bool,
        again: usize,
    ) -> Result<Tensor> {
        let (context, coarsest) = (around.1, self.downs.len().saturating_sub(1));
        let each = self.skips == Skips::Block;
        let mut x = self.init_time.forward(self.init_conv.forward(x), context);
        let mut first = x.shallow_clone();
        if let Some(temporal) = &self.init_temporal {
            x = temporal.forward(&x, context, mask_first);
        }
        if !self.skip_before_temporal {
            first = x.shallow_clone();
        }
        let mut skips = Vec::new();
        if each {
            skips.push(x.shallow_clone());
        }
        for (i, (level, down)) in self.downs.iter().enumerate() {
            let outputs = level.forward(&[&x], around, i < again)?;
            skips.extend(outputs);
            x = skips.last().map_or_else(Tensor::new, Tensor::shallow_clone);
            if let Some((down, time)) = down {
                x = time.forward(down.forward(&x), context);
                if each {
                    skips.push(x.shallow_clone());
                }
            }
        }
        x = self.middle.one(&[&x], around, coarsest < again)?;
        for (i, (level, count, up)) in self.ups.iter().enumerate() {
            let own = skips.split_off(skips.len().saturating_sub(*count));
            let inputs: Vec<&Tensor> = std::iter::once(&x).chain(own.iter().rev()).collect();
            x = level.one(&inputs, around, coarsest - i < again)?;
            if let Some((up, time)) = up {
                x = time.forward(up.forward(&x), context);
            }
        }
        let inputs: &[&Tensor] = if each { &[&x] } else { &[&x, &first] };
        self.end.one(inputs, around, again > 0)
    }
}

/// The name within a level of the layer that changes the frame size.
fn resample(each: bool) -> &'static str {
    if each { "resample" } else { "4" }
}

fn names(each: bool) -> fn(usize) -> Names {
    if each { Names::unit } else { Names::numbered }
}

fn downs(scope: &mut Scope, plan: &Plan, config: &UNet3dConfig) -> Result<Vec<Down>> {
    let (each, last) = (plan.each, plan.downs.len().saturating_sub(1));
    let mut downs = Vec::new();
    for (i, units) in plan.downs.iter().enumerate() {
        let mut scope = scope.sub(format_args!("downs.{i}"));
        let level = |scope: &mut Scope<'_>| Level::new(scope, units, each, config, names(each));
        let level = Stage::new(&mut scope, level)?;
        let channels = units.last().map_or(0, |unit| unit.outputs);
        let down = if i < last {
            let mut place = scope.sub(resample(each));
            let down = SpaceDown::new(&mut place, channels)?.wrapped(config.wrap);
            Some((down, InTime::new(&mut place, channels, config)?))
        } else {
            None
        };
        downs.push((level, down));
    }
    Ok(downs)
}

fn ups(scope: &mut Scope, plan: &Plan, config: &UNet3dConfig) -> Result<Vec<Up>> {
    let (each, last) = (plan.each, plan.ups.len().saturating_sub(1));
    let mut ups = Vec::new();
    for (i, units) in plan.ups.iter().enumerate() {
        let mut scope = scope.sub(format_args!("ups.{i}"));
        let level = |scope: &mut Scope<'_>| Level::new(scope, units, false, config, names(each));
        let level = Stage::new(&mut scope, level)?;
        let channels = units.last().map_or(0, |unit| unit.outputs);
        let up = if i < last {
            let mut place = scope.sub(resample(each));
            let up = SpaceUp::new(&mut place, channels)?.wrapped(config.wrap);
            Some((up, InTime::new(&mut place, channels, config)?))
        } else {
            None
        };
        ups.push((level, if each { units.len() } else { 1 }, up));
    }
    Ok(ups)
}
