//! A network pulled towards its conditions.

use tch::Tensor;
use vd_tensor_ops::FrameMask;
use vd_unet3d::{Backbone, Cond};

use super::config::{GuidanceConfig, Signal, Signals};
use super::rules::{Answers, Momentum, from_velocity, projected, rescaled, velocity, zero_star};
use super::steps::Steps;
use crate::denoiser::ask;
use crate::{Denoiser, Diffusion, Error, Levels, NoiseLevel, Progress, Result};

/// A network guided away from what it says without conditioning.
///
/// All its answers come from one batch. The network must have been trained with its conditioning
/// dropped now and then, or its null embedding means nothing.
///
/// # Range
/// A scale is 1 + w of Ho & Salimans: null + scale (conditional - null). 1 is off, and then the
/// network is asked once; 0 is the unconditional model.
///
/// # Reference
/// Ho & Salimans 2022, equation 6, arXiv:2207.12598; see [`GuidanceConfig`] for the others.
#[derive(Debug)]
pub struct Guided<'a> {
    diffusion: &'a Diffusion,
    backbone: &'a dyn Backbone,
    rule: GuidanceConfig,
    scales: Vec<f64>,
    /// Where guidance is off: the conditions that are enough for the answer at scale 1.
    plain: Option<Asked>,
    /// Where it is on: every signal, then null.
    branches: Option<Asked>,
    momentum: Momentum,
    steps: Steps,
}

/// A batch that the network is asked at once.
#[derive(Debug)]
struct Asked {
    cond: Cond,
    frames: FrameMask,
    /// How many answers it holds to each sample.
    times: usize,
}

impl<'a> Guided<'a> {
    pub(crate) fn new(
        diffusion: &'a Diffusion,
        backbone: &'a dyn Backbone,
        signals: Vec<Signal>,
        frames: FrameMask,
        rule: GuidanceConfig,
    ) -> Result<Self> {
        rule.validate()?;
        let scales: Vec<f64> = signals.iter().map(|signal| signal.scale).collect();
        if let Some(scale) = scales.iter().find(|scale| !scale.is_finite()) {
            return Err(Error::value("guidance scale", "a finite number, 1 for none", scale));
        }
        let Some(last) = signals.last() else {
            return Err(Error::value("guidance", "at least one signal", 0));
        };
        if signals.len() > 1 && !matches!(rule, GuidanceConfig::ClassifierFree { .. }) {
            let expected = "one signal; several go with `classifier-free`";
            let what = format!("guidance {}", rule.name());
            return Err(Error::value(what, expected, signals.len()));
        }
        let several = match rule {
            GuidanceConfig::ClassifierFree { signals, .. } => signals,
            _ => Signals::Independent,
        };
        let on = scales.iter().any(|scale| *scale != 1.0);
        // One answer is the whole at scale 1, but where several stand side by side.
        let alone = signals.len() == 1 || several == Signals::Chained;
        let plain = alone.then(|| Asked {
            cond: last.cond.shallow_clone(),
            frames: frames.shallow_clone(),
            times: 1,
        });
        let branches =
            if on || !alone { Some(branches(backbone, &signals, &frames)?) } else { None };
        let (momentum, steps) = Default::default();
        Ok(Guided { diffusion, backbone, rule, scales, plain, branches, momentum, steps })
    }

    fn ask(&self, asked: &Asked, x: &Tensor, at: &Levels) -> Result<Tensor> {
        let Asked { cond, frames, times } = asked;
        if *times == 1 {
            return ask(self.diffusion, self.backbone, x, at, cond, frames);
        }
        let x = Tensor::f_cat(&vec![x; *times], 0)?;
        ask(self.diffusion, self.backbone, &x, &at.repeat(*times), cond, frames)
    }

    /// The answer at scale 1 and the guided one, both as x0-hat.
    fn answers(&self, asked: &Asked, x: &Tensor, at: &Levels) -> Result<(Tensor, Tensor)> {
        let all = self.ask(asked, x, at)?;
        let mut given = all.f_chunk(asked.times as i64, 0)?;
        let Some(null) = given.pop() else {
            return Err(Error::value("guidance", "at least one signal", 0));
        };
        let to_x0 = |out: &Tensor| self.diffusion.parameterization().to_x0(x, out, at);
        let answers = Answers { given, null };
        let scale = self.scales.first().copied().unwrap_or(1.0);
        match self.rule {
            GuidanceConfig::ClassifierFree { rescale, signals, .. } => {
                let (whole, guided) = answers.combined(&self.scales, signals)?;
                let guided = rescaled(guided, &whole, rescale)?;
                Ok((to_x0(&whole)?, to_x0(&guided)?))
            }
            GuidanceConfig::CfgZeroStar { .. } => {
                let (given, _) = answers.combined(&[1.0], Signals::Independent)?;
                let (given, null) = (to_x0(&given)?, to_x0(&answers.null)?);
                let speed = |x0: &Tensor| velocity(x, x0, at);
                let guided = zero_star(&speed(&given)?, &speed(&null)?, scale)?;
                Ok((given, from_velocity(x, &guided, at)?))
            }
            GuidanceConfig::Apg { eta, norm_threshold, momentum, .. } => {
                let (given, _) = answers.combined(&[1.0], Signals::Independent)?;
                let (given, null) = (to_x0(&given)?, to_x0(&answers.null)?);
                let mut d = given.f_sub(&null)?;
                if momentum != 0.0 {
                    d = self.momentum.added(&d, at, momentum)?;
                }
                let guided = projected(&given, &d, scale, eta, norm_threshold)?;
                Ok((given, guided))
            }
        }
    }

    /// Whether the velocity is taken for 0.
    fn is_held(&self) -> bool {
        let zero_init = match self.rule {
            GuidanceConfig::CfgZeroStar { zero_init, .. } => zero_init,
            GuidanceConfig::ClassifierFree { .. } | GuidanceConfig::Apg { .. } => 0,
        };
        self.branches.is_some() && self.steps.is_among_the_first(zero_init)
    }
}

impl Denoiser for Guided<'_> {
    fn denoise(&self, x: &Tensor, at: NoiseLevel) -> Result<Tensor> {
        self.denoise_levels(x, &Levels::from(at))
    }

    fn denoise_levels(&self, x: &Tensor, at: &Levels) -> Result<Tensor> {
        if self.is_held() {
            return from_velocity(x, &x.f_zeros_like()?, at);
        }
        let within = self.rule.within();
        let acts = at.values().iter().any(|at| within.contains(*at));
        match (&self.plain, &self.branches) {
            (_, Some(branches)) if acts => {
                let (whole, guided) = self.answers(branches, x, at)?;
                at.mix(&whole, &guided, |at| {
                    Ok(if within.contains(at) { (0.0, 1.0) } else { (1.0, 0.0) })
                })
            }
            (Some(plain), _) => {
                let out = self.ask(plain, x, at)?;
                self.diffusion.parameterization().to_x0(x, &out, at)
            }
            (None, Some(branches)) => Ok(self.answers(branches, x, at)?.0),
            (None, None) => Err(Error::value("guidance", "at least one signal", 0)),
        }
    }

    fn follow(&self, progress: Progress) {
        self.steps.follow(progress);
        if progress != Progress::Step {
            self.momentum.forget();
        }
    }
}

/// Every signal, then null, as one batch.
fn branches(backbone: &dyn Backbone, signals: &[Signal], frames: &FrameMask) -> Result<Asked> {
    let scale = signals.iter().map(|signal| signal.scale).find(|scale| *scale != 1.0);
    let refuse = |why: &str| Error::Guidance { scale: scale.unwrap_or(1.0), why: why.to_owned() };
    if !backbone.is_conditional() {
        let why = "the network takes no conditioning; use scale 1, or a network trained with it";
        return Err(refuse(why));
    }
    if signals.iter().any(|signal| signal.cond.pooled.is_none()) {
        let why = "no conditioning was given to guide towards; give one, or use scale 1";
        return Err(refuse(why));
    }
    let mut conds: Vec<Cond> = signals.iter().map(|signal| signal.cond.shallow_clone()).collect();
    if let Some(null) = conds.last().map(Cond::nulled) {
        conds.push(null);
    }
    let cond = Cond::cat(&conds.iter().collect::<Vec<_>>())?;
    let times = conds.len();
    Ok(Asked { cond, frames: frames.repeat(times as i64), times })
}
