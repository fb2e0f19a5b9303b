//! Normalisation over channels.

use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

use super::ScaleShift;
use crate::kernels::check;
use crate::kernels::cpu::GroupFinish;
use crate::kernels::cuda::{self, LayerNormed, RmsFinish};
use crate::{Error, Init, Result, Scope};

/// Scales the channels of every position to length sqrt(c), then by a learned gain per channel.
///
/// Statistics are per position: frames are independent.
///
/// # Reference
/// Zhang & Sennrich 2019, arXiv:1910.07467; as in video-diffusion-pytorch 0.7: no bias, the length
/// is clamped to at least 1e-12.
#[derive(Debug)]
pub struct RmsNorm {
    pub(super) gamma: Tensor,
}

impl RmsNorm {
    /// `gamma` (c 1 1 1), starting at 1.
    ///
    /// # Errors
    /// A name that is taken; a size below 1.
    pub fn new(scope: &mut Scope, channels: i64) -> Result<Self> {
        Ok(RmsNorm { gamma: scope.param("gamma", &[channels, 1, 1, 1], Init::Const(1.0))? })
    }

    /// # Shapes
    /// ... c -> ... c
    ///
    /// # Panics
    /// Other channels.
    pub fn forward(&self, x: &Tensor) -> Tensor {
        check_last("the input of an RMS norm", x, &self.gamma);
        let wide = match x.kind() {
            Kind::Half | Kind::BFloat16 => x.to_kind(Kind::Float),
            _ => x.shallow_clone(),
        };
        // Computed explicitly, since the backward of libtorch's `norm` takes twice as long.
        let squares = (&wide * &wide).sum_dim_intlist([-1i64].as_slice(), true, None::<Kind>);
        let unit = wide * squares.clamp_min(1e-24).rsqrt();
        unit.to_kind(x.kind()) * self.gain()
    }

    /// Per channel, what a position of unit length is multiplied by: c values.
    pub(super) fn gain(&self) -> Tensor {
        self.gamma.flatten(0, -1) * self.length()
    }

    /// sqrt(c), the length that the norm gives.
    pub(super) fn length(&self) -> f64 {
        (self.gamma.numel() as f64).sqrt()
    }
}

/// Shifts and scales every position to mean 0 and variance 1 over channels, then by a learned gain.
///
/// # Reference
/// Ba et al. 2016, arXiv:1607.06450; without a bias, biased variance, epsilon 1e-5 under the root.
#[derive(Debug)]
pub struct LayerNorm {
    pub(super) gamma: Tensor,
}

impl LayerNorm {
    /// `gamma` (1 c 1 1 1), starting at 1.
    ///
    /// # Errors
    /// A name that is taken; a size below 1.
    pub fn new(scope: &mut Scope, channels: i64) -> Result<Self> {
        Ok(LayerNorm { gamma: scope.param("gamma", &[1, channels, 1, 1, 1], Init::Const(1.0))? })
    }

    /// # Shapes
    /// 1 c 1 1 1
    pub(crate) fn gamma(&self) -> &Tensor {
        &self.gamma
    }

    /// # Shapes
    /// ... c -> ... c
    ///
    /// # Panics
    /// Other channels; a dtype that does not go with the gain's.
    pub fn forward(&self, x: &Tensor) -> Tensor {
        if let Some(LayerNormed { y, .. }) = self.on_gpu(x) {
            return y;
        }
        let gamma = self.gamma.flatten(0, -1);
        x.layer_norm([gamma.size()[0]], Some(&gamma), None::<&Tensor>, 1e-5, false)
    }

    /// The norm of x, together with x for the residual connection.
    ///
    /// # Shapes
    /// ... c -> ... c
    pub fn branch(&self, x: &Tensor) -> (Tensor, Around) {
        let whole = x.shallow_clone();
        match self.on_gpu(x) {
            Some(LayerNormed { y, around }) => (y, Around { x: whole, node: around }),
            None => (self.forward(x), Around { x: whole, node: None }),
        }
    }

    /// By a GPU kernel, where it applies.
    fn on_gpu(&self, x: &Tensor) -> Option<LayerNormed> {
        check_last("the input of a layer norm", x, &self.gamma);
        if !cuda::may_run(x) {
            return None;
        }
        let gamma = self.gamma.flatten(0, -1);
        let on = cuda::layer_norm_fits(x, &gamma)?;
        Some(cuda::layer_norm(&on, x, &gamma))
    }
}

/// The residual connection around a norm and the layers after it.
#[derive(Debug)]
pub struct Around {
    x: Tensor,
    /// The node that takes its gradient, if the norm's backward adds it to its own.
    node: Option<Tensor>,
}

impl Around {
    /// x + y
    ///
    /// # Shapes
    /// those of x
    pub fn plus(&self, y: &Tensor) -> Tensor {
        match &self.node {
            Some(node) => cuda::add_around(&self.x, node, y),
            None => &self.x + y,
        }
    }
}

/// Normalises to mean 0 and variance 1 over groups of channels, all frames and all positions of a
/// sample.
///
/// Statistics include time: frames are coupled.
///
/// # Reference
/// Wu & He 2018, arXiv:1803.08494; epsilon 1e-5.
#[derive(Debug)]
pub struct GroupNorm {
    pub(super) weight: Tensor,
    pub(super) bias: Tensor,
    pub(super) groups: i64,
}

impl GroupNorm {
    /// `weight` (c) starting at 1 and `bias` (c) starting at 0.
    ///
    /// # Errors
    /// Groups that do not divide the channels; names that are taken.
    pub fn new(scope: &mut Scope, channels: i64, groups: i64) -> Result<Self> {
        if groups < 1 || channels % groups != 0 {
            return Err(Error::Value {
                what: "groups of a group norm".to_owned(),
                expected: format!("a divisor of the {channels} channels"),
                got: groups.to_string(),
            });
        }
        Ok(GroupNorm {
            weight: scope.param("weight", &[channels], Init::Const(1.0))?,
            bias: scope.param("bias", &[channels], Init::Const(0.0))?,
            groups,
        })
    }

    /// # Shapes
    /// b f h w c -> b f h w c
    ///
    /// # Panics
    /// Another shape.
    pub fn forward(&self, x: &Tensor) -> Tensor {
        let shape = check::channels("the input of a group norm", x, self.weight.numel() as i64);
        let (b, c) = (shape[0], self.weight.numel() as i64);
        let grouped = x.reshape([b, -1, self.groups, c / self.groups]); // b (f h w) g c/g
        let (variance, mean) = grouped.var_mean_correction([1i64, 3].as_slice(), 0, true);
        let normal = (grouped - mean) * (variance + 1e-5).rsqrt();
        normal.view(shape.as_slice()) * &self.weight + &self.bias
    }

    /// Gains and shifts for each run of neighbouring images: r c each.
    pub(super) fn rows(&self, film: Option<&ScaleShift>) -> (Tensor, Tensor) {
        let GroupNorm { weight, bias, .. } = self;
        match film {
            Some(film) => {
                let scale = (&film.scale + 1.0).flatten(0, 3);
                (weight * &scale, film.shift.flatten(0, 3).addcmul(bias, &scale))
            }
            None => (weight.unsqueeze(0), bias.unsqueeze(0)),
        }
    }
}

/// Which norm follows the convolutions of a residual block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum NormKind {
    /// [`RmsNorm`], per position.
    Rms,
    /// [`GroupNorm`], over frames and positions.
    Group {
        /// Number of groups; must divide every level's channels.
        groups: i64,
    },
}

/// The norm of a residual block.
#[derive(Debug)]
pub enum Norm {
    /// Per position.
    Rms(RmsNorm),
    /// Over frames and positions.
    Group(GroupNorm),
}

impl Norm {
    /// Constructs the norm of this kind.
    ///
    /// # Errors
    /// As the norm's own constructor.
    pub fn new(scope: &mut Scope, channels: i64, kind: NormKind) -> Result<Self> {
        Ok(match kind {
            NormKind::Rms => Norm::Rms(RmsNorm::new(scope, channels)?),
            NormKind::Group { groups } => Norm::Group(GroupNorm::new(scope, channels, groups)?),
        })
    }

    /// # Shapes
    /// b f h w c -> b f h w c
    ///
    /// # Panics
    /// Other channels; what libtorch refuses.
    pub fn forward(&self, x: &Tensor) -> Tensor {
        match self {
            Norm::Rms(norm) => norm.forward(x),
            Norm::Group(norm) => norm.forward(x),
        }
    }

    /// What is learned.
    pub(super) fn parameters(&self) -> impl Iterator<Item = &Tensor> {
        let (first, second) = match self {
            Norm::Rms(norm) => (&norm.gamma, None),
            Norm::Group(norm) => (&norm.weight, Some(&norm.bias)),
        };
        [first].into_iter().chain(second)
    }

    /// silu(norm(x))
    ///
    /// # Shapes
    /// b f h w c -> b f h w c
    pub fn silu(&self, x: &Tensor) -> Tensor {
        self.finished_on_gpu(x, None, (None, None)).unwrap_or_else(|| self.forward(x).silu())
    }

    /// The steps after a convolution by a GPU kernel, where it applies: `bias`, which a group norm
    /// does not accept, is added first, and `residual` last.
    pub(super) fn finished_on_gpu(
        &self,
        x: &Tensor,
        bias: Option<&Tensor>,
        (film, residual): (Option<&ScaleShift>, Option<&Tensor>),
    ) -> Option<Tensor> {
        // First a check of the tensors alone: gains are computed only if they are used.
        if !cuda::may_run(x) {
            return None;
        }
        match self {
            Norm::Rms(norm) => {
                let (gain, factor) = (&norm.gamma.flatten(0, -1), norm.length());
                let film = film.map(|ScaleShift { scale, shift }| [scale, shift]);
                let finish = RmsFinish { bias, gain, factor, film, residual };
                let on = cuda::rms_fits(x, &finish)?;
                Some(cuda::rms_finished(&on, x, &finish))
            }
            Norm::Group(_) if bias.is_some() => None,
            Norm::Group(norm) => {
                let (gain, shift) = norm.rows(film);
                let finish =
                    GroupFinish { groups: norm.groups, gain: &gain, shift: &shift, residual };
                let on = cuda::group_fits(x, &finish)?;
                Some(cuda::group_finished(&on, x, &finish))
            }
        }
    }
}

/// # Panics
/// A tensor whose last axis is not as long as there are gains.
fn check_last(what: &str, x: &Tensor, gains: &Tensor) {
    let (size, c) = (x.size(), gains.numel() as i64);
    assert!(size.last() == Some(&c), "{what}: expected shape ... {c}, got {size:?}");
}

/// Softmax with its sum in f32 at least.
pub(crate) fn softmax(x: &Tensor, axis: i64) -> Tensor {
    match x.kind() {
        Kind::Half | Kind::BFloat16 => x.softmax(axis, Kind::Float).to_kind(x.kind()),
        kind => x.softmax(axis, kind),
    }
}
