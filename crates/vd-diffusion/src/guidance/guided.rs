//! A network guided towards its conditioning.

use tch::Tensor;
use vd_tensor_ops::{FrameMask, Noise};
use vd_unet3d::{Backbone, Cond};

use super::branches::{Asked, Branches, no_signal};
use super::config::{GuidanceConfig, Signal, Signals};
use super::rules::{Answers, Momentum, from_velocity, projected, rescaled, velocity, zero_star};
use super::steps::Steps;
use crate::{Denoiser, Diffusion, Error, Levels, NoiseLevel, Parameterization, Progress, Result};

/// A network guided away from its unconditional output.
///
/// [`Diffusion::guided_by`] evaluates all outputs in one batch; [`Guided::around`] combines two
/// denoisers of any kind. The network must have been trained with conditioning dropout, otherwise
/// its null embedding is meaningless; [`Diffusion::guided_against`] uses other conditioning
/// instead.
///
/// # Range
/// A scale is 1 + w of Ho & Salimans: null + scale (conditional - null). 1 is off, and the network
/// is then evaluated once; 0 is the unconditional model.
///
/// # Reference
/// Ho & Salimans 2022, equation 6, arXiv:2207.12598; see [`GuidanceConfig`] for the others.
#[derive(Debug)]
pub struct Guided<'a> {
    branches: Branches<'a>,
    rule: GuidanceConfig,
    scales: Vec<f64>,
    momentum: Momentum,
    steps: Steps,
}

impl<'a> Guided<'a> {
    /// Guides the conditional denoiser `given` away from the unconditional `null`; each is
    /// evaluated separately.
    ///
    /// Constraints on the state are those of `given`. The rules act on the x0-hats: classifier-free
    /// guidance is the same there as in any space, CFG-Zero* uses the velocity (x - (alpha + sigma)
    /// x0-hat) / sigma, and `rescale` uses the output of a hypothetical network of parameterisation
    /// `space` for the x0-hat and its eps-hat; [`Parameterization::V`] is the paper's.
    ///
    /// # Errors
    /// A scale that is not finite; settings out of range.
    pub fn around(
        given: impl Denoiser + 'a,
        null: impl Denoiser + 'a,
        scale: f64,
        rule: &GuidanceConfig,
        space: Parameterization,
    ) -> Result<Self> {
        space.validate()?;
        let space = match rule {
            GuidanceConfig::ClassifierFree { rescale, .. } if *rescale != 0.0 => space,
            // No conversion needed.
            _ => Parameterization::X0,
        };
        let (given, null) = (Box::new(given), Box::new(null));
        Guided::with(Branches::Denoisers { given, null, space }, vec![scale], *rule)
    }

    pub(crate) fn new(
        diffusion: &'a Diffusion,
        backbone: &'a dyn Backbone,
        signals: Vec<Signal>,
        null: Option<Cond>,
        frames: FrameMask,
        rule: GuidanceConfig,
    ) -> Result<Self> {
        let scales: Vec<f64> = signals.iter().map(|signal| signal.scale).collect();
        // Checked before anything is built.
        check(&scales, rule)?;
        let last = signals.last().ok_or_else(no_signal)?;
        let on = scales.iter().any(|scale| *scale != 1.0);
        // A single output suffices at scale 1, unless several independent signals are combined.
        let alone = signals.len() == 1 || several(rule) == Signals::Chained;
        let plain = alone.then(|| Asked::once(&last.cond, &frames));
        let all = match on || !alone {
            true => Some(Asked::all(backbone, &signals, null, &frames)?),
            false => None,
        };
        Guided::with(
            Branches::Network {
                diffusion,
                backbone,
                plain: plain.map(Box::new),
                all: all.map(Box::new),
            },
            scales,
            rule,
        )
    }

    fn with(branches: Branches<'a>, scales: Vec<f64>, rule: GuidanceConfig) -> Result<Self> {
        check(&scales, rule)?;
        let (momentum, steps) = Default::default();
        Ok(Guided { branches, rule, scales, momentum, steps })
    }

    /// The x0-hat at scale 1.
    fn plain(&self, x: &Tensor, at: &Levels) -> Result<Tensor> {
        match self.branches.plain(x, at)? {
            Some(x0) => Ok(x0),
            None => self.branches.answers(x, at)?.x0_of_whole(several(self.rule), x, at),
        }
    }

    /// The guided x0-hat.
    fn guided(&self, answers: &Answers, x: &Tensor, at: &Levels) -> Result<Tensor> {
        let to_x0 = |out: &Tensor| answers.space.to_x0(x, out, at);
        let [scale, ..] = self.scales[..] else { return Err(no_signal()) };
        let [given, ..] = &answers.given[..] else { return Err(no_signal()) };
        match self.rule {
            GuidanceConfig::ClassifierFree { rescale, signals, .. } => {
                let mut guided = answers.guided(&self.scales, signals)?;
                if rescale != 0.0 {
                    guided = rescaled(&guided, &answers.whole(signals)?, rescale)?;
                }
                to_x0(&guided)
            }
            GuidanceConfig::CfgZeroStar { .. } => {
                let speed = |out: &Tensor| velocity(x, &to_x0(out)?, at);
                let guided = zero_star(&speed(given)?, &speed(&answers.null)?, scale)?;
                from_velocity(x, &guided, at)
            }
            GuidanceConfig::Apg { eta, norm_threshold, momentum, .. } => {
                let (given, null) = (to_x0(given)?, to_x0(&answers.null)?);
                let mut d = given.f_sub(&null)?;
                if momentum != 0.0 {
                    d = self.momentum.added(&d, at, momentum)?;
                }
                projected(&given, &d, scale, eta, norm_threshold)
            }
        }
    }

    /// Whether the velocity is replaced by 0.
    fn is_held(&self) -> bool {
        let zero_init = match self.rule {
            GuidanceConfig::CfgZeroStar { zero_init, .. } => zero_init,
            GuidanceConfig::ClassifierFree { .. } | GuidanceConfig::Apg { .. } => 0,
        };
        self.steps.is_among_the_first(zero_init)
    }
}

impl Denoiser for Guided<'_> {
    fn denoise(&self, x: &Tensor, at: NoiseLevel) -> Result<Tensor> {
        self.denoise_levels(x, &Levels::from(at))
    }

    fn denoise_levels(&self, x: &Tensor, at: &Levels) -> Result<Tensor> {
        let within = self.rule.within();
        let mut acts = at.values().iter().map(|at| within.contains(*at));
        let off = self.scales.iter().all(|scale| *scale == 1.0);
        if off || !acts.clone().any(|acts| acts) {
            return self.plain(x, at);
        }
        let everywhere = acts.all(|acts| acts);
        let some = |whole: Tensor, guided: Tensor| {
            at.mix(&whole, &guided, |at| {
                Ok(if within.contains(at) { (0.0, 1.0) } else { (1.0, 0.0) })
            })
        };
        if self.is_held() {
            let still = from_velocity(x, &x.f_zeros_like()?, at)?;
            return if everywhere { Ok(still) } else { some(self.plain(x, at)?, still) };
        }
        let answers = self.branches.answers(x, at)?;
        let guided = self.guided(&answers, x, at)?;
        if everywhere {
            return Ok(guided);
        }
        some(answers.x0_of_whole(several(self.rule), x, at)?, guided)
    }

    fn constrain(&self, x: Tensor, at: NoiseLevel, noise: &mut dyn Noise) -> Result<Tensor> {
        match &self.branches {
            Branches::Network { .. } => Ok(x),
            Branches::Denoisers { given, .. } => given.constrain(x, at, noise),
        }
    }

    fn follow(&self, progress: Progress) {
        self.steps.follow(progress);
        if progress != Progress::Step {
            self.momentum.forget();
        }
        if let Branches::Denoisers { given, null, .. } = &self.branches {
            given.follow(progress);
            null.follow(progress);
        }
    }
}

/// How several signals are combined; for a single signal both ways agree.
fn several(rule: GuidanceConfig) -> Signals {
    match rule {
        GuidanceConfig::ClassifierFree { signals, .. } => signals,
        GuidanceConfig::CfgZeroStar { .. } | GuidanceConfig::Apg { .. } => Signals::Independent,
    }
}

/// Refuses invalid scales and settings.
fn check(scales: &[f64], rule: GuidanceConfig) -> Result<()> {
    rule.validate()?;
    if let Some(scale) = scales.iter().find(|scale| !scale.is_finite()) {
        return Err(Error::value("guidance scale", "a finite number, 1 for none", scale));
    }
    if scales.len() > 1 && !matches!(rule, GuidanceConfig::ClassifierFree { .. }) {
        let expected = "one signal; only `classifier-free` takes several";
        let what = format!("guidance {}", rule.name());
        return Err(Error::value(what, expected, scales.len()));
    }
    Ok(())
}
