//! The network.

use tch::{Device, Kind, Tensor};
use vd_tensor_ops::kernels::{self, Precision};
use vd_tensor_ops::layers::{Linear, RelativeBias, RelativeBias2d, SpaceConv, SpaceDown, SpaceUp};
use vd_tensor_ops::{FrameMask, Noise, Scope, video};

use crate::attend::{Context, TemporalResidual};
use crate::block::ResidualBlock;
use crate::check;
use crate::embed::Embedding;
use crate::level::{Level, Middle};
use crate::recompute::Stage;
use crate::signals::Signals;
use crate::text::Text;
use crate::{Backbone, Cond, Error, Result, SignalConfig, UNet3dConfig};

/// Distance from which on all frames, and all positions of one, are equally far for the relative
/// biases.
const MAX_DISTANCE: i64 = 32;

/// The space-time factored U-Net: convolutions and linear attention over space, attention over
/// time, at every level.
///
/// Parameters have the names and shapes of video-diffusion-pytorch's checkpoints. What that package
/// has not lies beside them: `text`, `signals`, `space_rel_pos_bias`, `cross_space` and
/// `cross_time` of each level, `memory` of each attention. Videos that the signals show are further
/// inputs of `init_conv`, in the order of their names. Cross-attention, signals and those inputs
/// start at zero, so that a network that gains them answers at first as it did.
///
/// # Reference
/// Ho et al. 2022, section 3, arXiv:2204.03458.
#[derive(Debug)]
pub struct UNet3d {
    config: UNet3dConfig,
    kind: Kind,
    device: Device,
    precision: Precision,
    bias: RelativeBias,
    space_bias: Option<RelativeBias2d>,
    init_conv: SpaceConv,
    init_temporal: TemporalResidual,
    embedding: Embedding,
    text: Text,
    signals: Signals,
    recompute: usize,
    downs: Vec<(Stage<Level>, Option<SpaceDown>)>,
    middle: Stage<Middle>,
    ups: Vec<(Stage<Level>, Option<SpaceUp>)>,
    final_block: Stage<ResidualBlock>,
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
            let level = |scope: &mut Scope<'_>| Level::new(scope, (before, after), config);
            downs.push((Stage::new(&mut scope, level)?, resample));
        }
        let mut ups = Vec::new();
        for (i, (before, after)) in channels.iter().rev().copied().enumerate() {
            let mut scope = scope.sub(format_args!("ups.{i}"));
            let resample =
                if i < last { Some(SpaceUp::new(&mut scope.sub(4), before)?) } else { None };
            let level = |scope: &mut Scope<'_>| Level::new(scope, (2 * after, before), config);
            ups.push((Stage::new(&mut scope, level)?, resample));
        }
        let mut end = scope.sub("final_conv");
        let final_block = Stage::new(&mut end.sub(0), |scope| {
            ResidualBlock::new(scope, (2 * first, config.dim), None, norm)
        })?;
        let final_conv =
            Linear::pointwise(&mut end.sub(1), config.dim, config.out_channels(), 3, true)?;
        let heads = config.attn_heads;
        let space_bias = if config.spatial_bias {
            Some(RelativeBias2d::new(&mut scope.sub("space_rel_pos_bias"), heads, MAX_DISTANCE)?)
        } else {
            None
        };
        let inputs = (config.channels, config.extra_channels());
        Ok(UNet3d {
            kind: scope.kind(),
            device: scope.device(),
            precision: Precision::default(),
            recompute: 0,
            bias: RelativeBias::new(&mut scope.sub("time_rel_pos_bias"), heads, MAX_DISTANCE)?,
            space_bias,
            init_conv: SpaceConv::grown(&mut scope.sub("init_conv"), inputs, first, kernel)?,
            init_temporal: TemporalResidual::new(
                &mut scope.sub("init_temporal_attn"),
                first,
                config,
            )?,
            embedding: Embedding::new(scope, config)?,
            text: Text::new(scope, config)?,
            signals: Signals::new(scope, config)?,
            downs,
            middle: Stage::new(scope, |scope| {
                Middle::new(scope, config.dim * config.dim_mults[last], config)
            })?,
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

    /// Computes so from now on; a network starts with [`Precision::F32`].
    pub fn set_precision(&mut self, precision: Precision) {
        self.precision = precision;
    }

    /// How exactly the network's kernels compute.
    pub fn precision(&self) -> Precision {
        self.precision
    }

    /// Computes the activations of the `levels` outermost resolutions again in the backward instead
    /// of keeping them, from now on: less memory for a second forward of those, and the same
    /// gradients to the last bit. 0 keeps all; the number of levels keeps none, those of the middle
    /// included, and more changes nothing.
    pub fn set_recompute(&mut self, levels: usize) {
        self.recompute = levels;
    }

    /// How many levels compute their activations again in the backward; a new network has 0.
    pub fn recompute(&self) -> usize {
        self.recompute
    }

    fn validate(&self, x: &Tensor, t: &Tensor, cond: &Cond, frames: &FrameMask) -> Result<()> {
        let refuse = |what, expected: String, got: &[i64]| {
            Err(Error::input(what, expected, format!("shape {got:?}")))
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
        self.text.validate(cond, b, f)?;
        self.signals.validate(cond, [b, f, h, w])
    }

    /// What the attentions share in this evaluation; `x`: b c f h w.
    fn context(&self, x: &Tensor, cond: &Cond, frames: &FrameMask) -> Context {
        let (size, m) = (x.size(), self.config.spatial_multiple());
        let [f, h, w] = [size[2], size[3] / m, size[4] / m];
        Context {
            bias: self.bias.forward(f),
            space_bias: self.space_bias.as_ref().map(|bias| bias.forward(h, w)),
            forbidden: frames.forbidden(f, x.device()),
            clip: frames.clip_before_images(f),
            text: self.text.seen(cond, size[0]),
        }
    }

    /// Between the embeddings and the output; b f h w c -> b f h w c.
    fn run(&self, x: &Tensor, emb: &Tensor, context: &Context, mask_first: bool) -> Result<Tensor> {
        let (around, last) = ((emb, context), self.downs.len() - 1);
        let again = |level: usize| level < self.recompute;
        let mut x = self.init_conv.forward(x);
        let mut first = x.shallow_clone();
        x = self.init_temporal.forward(&x, context, mask_first);
        if !self.config.skip_before_temporal {
            first = x.shallow_clone();
        }
        let mut skips = Vec::new();
        for (i, (level, down)) in self.downs.iter().enumerate() {
            x = level.forward(&[&x], around, again(i))?;
            skips.push(x.shallow_clone());
            if let Some(down) = down {
                x = down.forward(&x);
            }
        }
        x = self.middle.forward(&[&x], around, again(last))?;
        for (i, (level, up)) in self.ups.iter().enumerate() {
            x = level.forward(&[&x, &skips[last - i]], around, again(last - i))?;
            if let Some(up) = up {
                x = up.forward(&x);
            }
        }
        x = self.final_block.forward(&[&x, &first], around, again(0))?;
        Ok(self.final_conv.forward(&x))
    }

    /// The network on a validated input; b c f h w -> b c f h w.
    fn evaluate(&self, x: &Tensor, t: &Tensor, cond: &Cond, frames: &FrameMask) -> Result<Tensor> {
        let context = self.context(x, cond, frames);
        // A focus mask spares the first attention, as in video-diffusion-pytorch, unless asked.
        let mask_first = self.config.mask_first_temporal || !matches!(frames, FrameMask::Focus(_));
        let text = self.text.pooled(cond);
        let emb = self.embedding.forward(t, text, (&self.signals, cond), self.kind);
        let x = self.signals.beside(x.to_kind(self.kind), cond);
        let x = video::to_channels_last(&x);
        Ok(video::to_channels_first(&self.run(&x, &emb, &context, mask_first)?))
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
        kernels::with(self.precision, || self.evaluate(x, t, cond, frames))
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
