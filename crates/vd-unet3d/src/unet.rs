//! The network.

use tch::{Device, Kind, Tensor};
use vd_tensor_ops::layers::{Linear, RelativeBias, SpaceConv, SpaceDown, SpaceUp};
use vd_tensor_ops::{FrameMask, Noise, Scope, video};

use crate::attend::{LinearResidual, SpatialResidual, TemporalResidual, TimeContext};
use crate::block::ResidualBlock;
use crate::check;
use crate::embed::Embedding;
use crate::{Backbone, Cond, Error, Result, SignalConfig, UNet3dConfig};

/// Distance from which on all frames are equally far for the relative bias.
const MAX_DISTANCE: i64 = 32;

/// The space-time factored U-Net: convolutions and linear attention over space, attention over
/// time, at every level.
///
/// Parameters have the names and shapes of video-diffusion-pytorch's checkpoints.
///
/// # Reference
/// Ho et al. 2022, section 3, arXiv:2204.03458.
#[derive(Debug)]
pub struct UNet3d {
    config: UNet3dConfig,
    kind: Kind,
    device: Device,
    bias: RelativeBias,
    init_conv: SpaceConv,
    init_temporal: TemporalResidual,
    embedding: Embedding,
    downs: Vec<Level<SpaceDown>>,
    middle: Middle,
    ups: Vec<Level<SpaceUp>>,
    final_block: ResidualBlock,
    final_conv: Linear,
}

impl UNet3d {
    /// Declares the parameters of the network and starts them as PyTorch does.
    ///
    /// # Errors
    /// A config out of its ranges; names that are taken.
    pub fn new(config: &UNet3dConfig, scope: &mut Scope) -> Result<Self> {
        config.validate()?;
        let (first, norm) = (config.first_channels(), config.norm);
        let channels = config.level_channels();
        let last = channels.len() - 1;
        let kernel = config.init_kernel_size;
        let mut downs = Vec::new();
        for (i, (before, after)) in channels.iter().copied().enumerate() {
            let mut scope = scope.sub(format_args!("downs.{i}"));
            let resample =
                if i < last { Some(SpaceDown::new(&mut scope.sub(4), after)?) } else { None };
            downs.push(Level::new(&mut scope, (before, after), resample, config)?);
        }
        let mut ups = Vec::new();
        for (i, (before, after)) in channels.iter().rev().copied().enumerate() {
            let mut scope = scope.sub(format_args!("ups.{i}"));
            let resample =
                if i < last { Some(SpaceUp::new(&mut scope.sub(4), before)?) } else { None };
            ups.push(Level::new(&mut scope, (2 * after, before), resample, config)?);
        }
        let mut end = scope.sub("final_conv");
        let final_block = ResidualBlock::new(&mut end.sub(0), (2 * first, config.dim), None, norm)?;
        let final_conv =
            Linear::pointwise(&mut end.sub(1), config.dim, config.out_channels(), 3, true)?;
        Ok(UNet3d {
            kind: scope.kind(),
            device: scope.device(),
            bias: RelativeBias::new(
                &mut scope.sub("time_rel_pos_bias"),
                config.attn_heads,
                MAX_DISTANCE,
            )?,
            init_conv: SpaceConv::new(&mut scope.sub("init_conv"), config.channels, first, kernel)?,
            init_temporal: TemporalResidual::new(
                &mut scope.sub("init_temporal_attn"),
                first,
                config,
            )?,
            embedding: Embedding::new(scope, config)?,
            downs,
            middle: Middle::new(scope, config.dim * config.dim_mults[last], config)?,
            ups,
            final_block,
            final_conv,
            config: config.clone(),
        })
    }

    /// What the network is made of.
    pub fn config(&self) -> &UNet3dConfig {
        &self.config
    }

    fn validate(&self, x: &Tensor, t: &Tensor, cond: &Cond, frames: &FrameMask) -> Result<()> {
        let refuse = |what, expected: String, got: &[i64]| {
            Err(Error::Input { what, expected, got: format!("shape {got:?}") })
        };
        let (size, c, m) = (x.size(), self.config.channels, self.config.spatial_multiple());
        let &[b, channels, f, h, w] = size.as_slice() else {
            return refuse("video", "five axes, b c f h w".to_owned(), &size);
        };
        if channels != c || b < 1 || f < 1 || h < 1 || w < 1 || h % m != 0 || w % m != 0 {
            let expected = format!("b {c} f h w with h and w multiples of {m}");
            return refuse("video", expected, &size);
        }
        if t.size() != [b] && t.size() != [b, f] {
            let expected = format!("shape [{b}], or [{b}, {f}] for one noise level per frame");
            return refuse("noise levels", expected, &t.size());
        }
        check::floats("video", x, self.device)?;
        check::steps("noise levels", t, self.device)?;
        frames.validate(b, f)?;
        self.embedding.validate(cond, b, f)
    }

    /// The network on a validated input; b f h w c -> b f h w c.
    fn run(&self, x: &Tensor, emb: &Tensor, time: &TimeContext, mask_first: bool) -> Tensor {
        let mut x = self.init_conv.forward(x);
        let mut first = x.shallow_clone();
        x = self.init_temporal.forward(&x, time, mask_first);
        if !self.config.skip_before_temporal {
            first = x.shallow_clone();
        }
        let mut skips = Vec::new();
        for level in &self.downs {
            x = level.forward(&x, emb, time);
            skips.push(x.shallow_clone());
            if let Some(down) = &level.resample {
                x = down.forward(&x);
            }
        }
        x = self.middle.forward(&x, emb, time);
        for (level, skip) in self.ups.iter().zip(skips.iter().rev()) {
            x = level.forward(&Tensor::cat(&[&x, skip], -1), emb, time);
            if let Some(up) = &level.resample {
                x = up.forward(&x);
            }
        }
        self.final_conv.forward(&self.final_block.forward(&Tensor::cat(&[x, first], -1), None))
    }
}

impl Backbone for UNet3d {
    fn forward(
        &self,
        x: &Tensor,
        t: &Tensor,
        cond: &Cond,
        frames: &FrameMask,
        _train: Option<&mut dyn Noise>,
    ) -> Result<Tensor> {
        self.validate(x, t, cond, frames)?;
        let f = x.size()[2];
        let time =
            TimeContext { bias: self.bias.forward(f), forbidden: frames.forbidden(f, x.device()) };
        // A focus mask spares the first attention, as in video-diffusion-pytorch, unless asked.
        let mask_first = self.config.mask_first_temporal || !matches!(frames, FrameMask::Focus(_));
        let emb = self.embedding.forward(t, cond, self.kind)?;
        let x = video::to_channels_last(&x.to_kind(self.kind));
        Ok(video::to_channels_first(&self.run(&x, &emb, &time, mask_first)))
    }

    fn is_conditional(&self) -> bool {
        self.takes_text() || !self.config.signals.is_empty()
    }

    fn takes_text(&self) -> bool {
        self.config.cond_dim.is_some() || self.config.tokens.is_some()
    }

    fn signals(&self) -> Vec<(&str, &SignalConfig)> {
        self.config.signals.iter().map(|(name, signal)| (name.as_str(), signal)).collect()
    }
}

/// One resolution, on the way down or up.
#[derive(Debug)]
struct Level<R> {
    block1: ResidualBlock,
    block2: ResidualBlock,
    spatial: Option<LinearResidual>,
    temporal: TemporalResidual,
    resample: Option<R>,
}

impl<R> Level<R> {
    fn new(
        scope: &mut Scope,
        (inputs, outputs): (i64, i64),
        resample: Option<R>,
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
            resample,
        })
    }

    fn forward(&self, x: &Tensor, emb: &Tensor, time: &TimeContext) -> Tensor {
        let mut x = self.block1.forward(x, Some(emb));
        x = self.block2.forward(&x, Some(emb));
        if let Some(spatial) = &self.spatial {
            x = spatial.forward(&x);
        }
        self.temporal.forward(&x, time, true)
    }
}

/// The coarsest resolution, with full attention over space.
#[derive(Debug)]
struct Middle {
    block1: ResidualBlock,
    spatial: SpatialResidual,
    temporal: TemporalResidual,
    block2: ResidualBlock,
}

impl Middle {
    fn new(scope: &mut Scope, channels: i64, config: &UNet3dConfig) -> Result<Self> {
        let (io, emb) = ((channels, channels), Some(Embedding::width(config)));
        Ok(Middle {
            block1: ResidualBlock::new(&mut scope.sub("mid_block1"), io, emb, config.norm)?,
            spatial: SpatialResidual::new(&mut scope.sub("mid_spatial_attn"), channels, config)?,
            temporal: TemporalResidual::new(&mut scope.sub("mid_temporal_attn"), channels, config)?,
            block2: ResidualBlock::new(&mut scope.sub("mid_block2"), io, emb, config.norm)?,
        })
    }

    fn forward(&self, x: &Tensor, emb: &Tensor, time: &TimeContext) -> Tensor {
        let x = self.spatial.forward(&self.block1.forward(x, Some(emb)));
        self.block2.forward(&self.temporal.forward(&x, time, true), Some(emb))
    }
}
