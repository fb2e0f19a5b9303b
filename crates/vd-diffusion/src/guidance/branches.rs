//! The conditional and unconditional outputs that guidance combines.

use std::fmt;

use tch::Tensor;
use vd_tensor_ops::FrameMask;
use vd_unet3d::{Backbone, Cond};

use super::config::Signal;
use super::rules::{Answers, output};
use crate::denoiser::{ask, same_shape};
use crate::{Denoiser, Diffusion, Error, Levels, Parameterization, Result};

/// The source of the conditional and unconditional outputs.
pub(super) enum Branches<'a> {
    /// One network.
    Network {
        diffusion: &'a Diffusion,
        backbone: &'a dyn Backbone,
        /// The conditioning that suffices at scale 1, if one output is enough there.
        plain: Option<Box<Asked>>,
        /// Every signal, then null; `None` if never needed.
        all: Option<Box<Asked>>,
    },
    /// Two denoisers.
    Denoisers {
        given: Box<dyn Denoiser + 'a>,
        null: Box<dyn Denoiser + 'a>,
        /// The space to which their outputs are converted.
        space: Parameterization,
    },
}

/// The conditioning of one batched network evaluation.
#[derive(Debug)]
pub(super) struct Asked {
    cond: Cond,
    frames: FrameMask,
    /// Number of outputs per sample.
    times: usize,
}

impl Asked {
    pub(super) fn once(cond: &Cond, frames: &FrameMask) -> Asked {
        Asked { cond: cond.shallow_clone(), frames: frames.shallow_clone(), times: 1 }
    }

    /// Every signal, then null (the last signal's own null embedding if none is given), as one
    /// batch.
    pub(super) fn all(
        backbone: &dyn Backbone,
        signals: &[Signal],
        null: Option<Cond>,
        frames: &FrameMask,
    ) -> Result<Asked> {
        let scale = signals.iter().map(|signal| signal.scale).find(|scale| *scale != 1.0);
        let refuse =
            |why: &str| Error::Guidance { scale: scale.unwrap_or(1.0), why: why.to_owned() };
        if !backbone.is_conditional() {
            let why =
                "the network takes no conditioning; use scale 1, or a network trained with it";
            return Err(refuse(why));
        }
        if signals.iter().any(|signal| signal.cond.is_none()) {
            let why = "no conditioning was given to guide towards; give one, or use scale 1";
            return Err(refuse(why));
        }
        let null = null.or_else(|| signals.last().map(|signal| signal.cond.nulled()));
        let conds: Vec<_> = signals.iter().map(|signal| &signal.cond).chain(&null).collect();
        let cond = Cond::cat(&conds)?;
        let times = conds.len();
        Ok(Asked { cond, frames: frames.repeat(times as i64), times })
    }
}

impl Branches<'_> {
    /// The x0-hat at scale 1, if one output suffices for it.
    pub(super) fn plain(&self, x: &Tensor, at: &Levels) -> Result<Option<Tensor>> {
        match self {
            Branches::Network { plain: None, .. } => Ok(None),
            Branches::Network { diffusion, backbone, plain: Some(asked), .. } => {
                let out = ask(diffusion, *backbone, x, at, &asked.cond, &asked.frames)?;
                diffusion.parameterization().to_x0(x, &out, at).map(Some)
            }
            Branches::Denoisers { given, .. } => given.denoise_levels(x, at).map(Some),
        }
    }

    /// The outputs for every signal, and the unconditional one.
    pub(super) fn answers(&self, x: &Tensor, at: &Levels) -> Result<Answers> {
        match self {
            Branches::Network { diffusion, backbone, all: Some(asked), .. } => {
                let Asked { cond, frames, times } = &**asked;
                let many = Tensor::f_cat(&vec![x; *times], 0)?;
                let out = ask(diffusion, *backbone, &many, &at.repeat(*times), cond, frames)?;
                let mut given = out.f_chunk(*times as i64, 0)?;
                let space = diffusion.parameterization();
                given.pop().map(|null| Answers { given, null, space }).ok_or_else(no_signal)
            }
            Branches::Network { all: None, .. } => Err(no_signal()),
            Branches::Denoisers { given, null, space } => {
                let given = given.denoise_levels(x, at)?;
                let null = null.denoise_levels(x, at)?;
                same_shape("x0-hat with conditions", x, &given)?;
                same_shape("x0-hat without conditions", x, &null)?;
                let (given, null) = (output(*space, x, &given, at)?, output(*space, x, &null, at)?);
                Ok(Answers { given: vec![given], null, space: *space })
            }
        }
    }
}

impl fmt::Debug for Branches<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Branches::Network { diffusion, backbone, .. } => f
                .debug_struct("Network")
                .field("diffusion", diffusion)
                .field("backbone", backbone)
                .finish_non_exhaustive(),
            Branches::Denoisers { space, .. } => {
                f.debug_struct("Denoisers").field("space", space).finish_non_exhaustive()
            }
        }
    }
}

pub(super) fn no_signal() -> Error {
    Error::value("guidance", "at least one signal", 0)
}
