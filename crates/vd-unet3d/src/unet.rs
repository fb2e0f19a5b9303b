//! The network.

mod graphs;
mod question;

use tch::{Device, Kind, Tensor};
use vd_tensor_ops::kernels::{self, Precision, cuda};
use vd_tensor_ops::layers::{DropoutSeeds, RelativeBias, RelativeBias2d};
use vd_tensor_ops::torch::graphs::Recordings;
use vd_tensor_ops::torch::{self, Autocast};
use vd_tensor_ops::{FrameMask, Noise, Scope, video};

use crate::attend::Context;
use crate::body::Body;
use crate::check;
use crate::embed::Embedding;
use crate::plan::{Plan, Spatial};
use crate::signals::Signals;
use crate::text::Text;
use crate::{Axes, Backbone, Cond, Error, Result, SignalConfig, TimePositions, UNet3dConfig};
use question::Form;

/// Distance from which on all frames, and all positions of a frame, share one relative bias.
const MAX_DISTANCE: i64 = 32;

/// The space-time factored U-Net: convolutions and attention over space, attention over time.
///
/// Parameters have the names and shapes of video-diffusion-pytorch's checkpoints. Parameters that
/// do not exist in that package have additional names: `text`, `signals`, `space_rel_pos_bias`,
/// `cross_space` and `cross_time` of each level, `memory` of each attention, `temporal` of each
/// convolution. Videos among the signals are further inputs of `init_conv`, in the order of their
/// names. Cross-attention, signals and those inputs start at zero, and temporal convolutions as the
/// identity, so a network that gains them initially gives the same output.
///
/// With a skip for every block ([`Skips::Block`](crate::Skips::Block)) a level has `block`,
/// `spatial` and `temporal` below the number of each block, and `resample`.
///
/// # Reference
/// Ho et al. 2022, section 3, arXiv:2204.03458.
#[derive(Debug)]
pub struct UNet3d {
    config: UNet3dConfig,
    kind: Kind,
    device: Device,
    precision: Precision,
    autocast: Autocast,
    bias: Option<RelativeBias>,
    space_bias: Option<RelativeBias2d>,
    /// Which levels have full spatial attention.
    full: Vec<bool>,
    embedding: Embedding,
    text: Text,
    signals: Signals,
    recompute: usize,
    body: Body,
    /// All trained parameters.
    params: Vec<Tensor>,
    graphs: bool,
    recordings: Recordings<Form>,
}

impl UNet3d {
    /// Declares the parameters of the network and initialises them as PyTorch does.
    ///
    /// # Errors
    /// A config out of range; parameter names that are already taken.
    pub fn new(config: &UNet3dConfig, scope: &mut Scope) -> Result<Self> {
        config.validate()?;
        let (net, params) = scope.watched(|scope| Self::declare(config, scope));
        Ok(UNet3d { params, ..net? })
    }

    fn declare(config: &UNet3dConfig, scope: &mut Scope) -> Result<Self> {
        let heads = |axes| config.most_heads(axes);
        let bias = match config.time_positions {
            TimePositions::Bias => {
                let place = &mut scope.sub("time_rel_pos_bias");
                Some(RelativeBias::new(place, heads(Axes::Time), MAX_DISTANCE)?)
            }
            TimePositions::Shaw { .. } => None,
        };
        let space_bias = if config.spatial_bias {
            let place = &mut scope.sub("space_rel_pos_bias");
            Some(RelativeBias2d::new(place, heads(Axes::Space), MAX_DISTANCE)?)
        } else {
            None
        };
        let mut full = vec![false; config.dim_mults.len()];
        for unit in Plan::new(config).units() {
            full[unit.level] |= unit.spatial == Some(Spatial::Full);
        }
        Ok(UNet3d {
            kind: scope.kind(),
            device: scope.device(),
            precision: Precision::default(),
            autocast: Autocast::default(),
            recompute: 0,
            bias,
            space_bias,
            full,
            embedding: Embedding::new(scope, config)?,
            text: Text::new(scope, config)?,
            signals: Signals::new(scope, config)?,
            body: Body::new(scope, config)?,
            config: config.clone(),
            params: Vec::new(),
            graphs: false,
            recordings: Recordings::default(),
        })
    }

    /// The network's configuration.
    pub fn config(&self) -> &UNet3dConfig {
        &self.config
    }

    /// Sets the precision of the network's kernels; initially [`Precision::F32`].
    pub fn set_precision(&mut self, precision: Precision) {
        self.precision = precision;
    }

    /// The precision of the network's kernels.
    pub fn precision(&self) -> Precision {
        self.precision
    }

    /// Sets autocasting of libtorch's operators, in the forward and the backward pass; the output
    /// keeps the dtype of the weights. On a GPU with [`Autocast::Bf16`], activations stay in bf16
    /// from the first convolution to the last, also through the kernels; on a CPU only libtorch's
    /// operators are used, without the kernels, whatever the precision. Initially
    /// [`Autocast::Off`].
    pub fn set_autocast(&mut self, autocast: Autocast) {
        self.autocast = autocast;
    }

    /// The dtype to which libtorch's operators cast.
    pub fn autocast(&self) -> Autocast {
        self.autocast
    }

    /// Recomputes the activations of the `levels` outermost resolutions in the backward pass
    /// instead of keeping them: less memory, at the cost of a second forward pass of these levels,
    /// with bitwise equal gradients. 0 keeps all activations; the number of levels keeps none, not
    /// even those of the middle, and larger values have no further effect.
    pub fn set_recompute(&mut self, levels: usize) {
        self.recompute = levels;
    }

    /// The number of levels that recompute their activations in the backward pass; initially 0.
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

    /// What the layers share in this evaluation; `x`: b c f h w.
    fn context(
        &self,
        x: &Tensor,
        cond: &Cond,
        frames: &FrameMask,
        dropout: Option<DropoutSeeds>,
    ) -> Context {
        let size = x.size();
        let [f, h, w] = [size[2], size[3], size[4]];
        let levels = self.full.iter().enumerate();
        let space_bias = levels.map(|(level, full)| {
            let bias = self.space_bias.as_ref().filter(|_| *full)?;
            Some(bias.forward(h >> level, w >> level))
        });
        Context {
            bias: self.bias.as_ref().map(|bias| bias.forward(f)),
            space_bias: space_bias.collect(),
            forbidden: frames.forbidden(f, x.device()),
            clip: frames.clip_before_images(f),
            text: self.text.seen(cond, size[0]),
            dropout,
        }
    }

    /// The network on a validated input; b c f h w -> b c f h w.
    fn evaluate(
        &self,
        x: &Tensor,
        t: &Tensor,
        cond: &Cond,
        frames: &FrameMask,
        dropout: Option<DropoutSeeds>,
    ) -> Result<Tensor> {
        let context = self.context(x, cond, frames, dropout);
        // As in video-diffusion-pytorch, a focus mask does not apply to the first attention, unless
        // configured.
        let mask_first = self.config.mask_first_temporal || !matches!(frames, FrameMask::Focus(_));
        let text = self.text.pooled(cond);
        let emb = self.embedding.forward(t, text, (&self.signals, cond), self.kind);
        let x = self.signals.beside(x.to_kind(self.kind), cond);
        let x = video::to_channels_last(&x);
        let y = self.body.forward(&x, (&emb, &context), mask_first, self.recompute)?;
        Ok(video::to_channels_first(&y))
    }

    /// The same, with the network's precision and autocast settings.
    fn compute(
        &self,
        x: &Tensor,
        t: &Tensor,
        cond: &Cond,
        frames: &FrameMask,
        dropout: Option<DropoutSeeds>,
    ) -> Result<Tensor> {
        if self.autocast.is_off() {
            return kernels::with(self.precision, || self.evaluate(x, t, cond, frames, dropout));
        }
        // On a GPU, kernels take the half-precision outputs of libtorch's matmuls; on a CPU they do
        // not support half precision.
        let precision =
            if cuda::takes(self.device) { self.precision } else { Precision::Reference };
        let y = torch::autocast(self.device, self.autocast, || {
            kernels::with(precision, || self.evaluate(x, t, cond, frames, dropout))
        });
        Ok(y.map_err(|error| Error::custom(error.to_string()))??.f_to_kind(self.kind)?)
    }
}

impl Backbone for UNet3d {
    fn forward(
        &self,
        x: &Tensor,
        t: &Tensor,
        cond: &Cond,
        frames: &FrameMask,
        train: Option<&mut dyn Noise>,
    ) -> Result<Tensor> {
        self.validate(x, t, cond, frames)?;
        let dropout = match train.filter(|_| self.config.dropout > 0.0) {
            Some(noise) => Some(DropoutSeeds::draw(noise, x.size()[0])?),
            None => None,
        };
        if self.graphs
            && dropout.is_none()
            && let Some(answer) = self.replayed(x, t, cond, frames)?
        {
            return Ok(answer);
        }
        self.compute(x, t, cond, frames, dropout)
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
