//! The moving average of the weights.

use tch::Tensor;
use vd_tensor_ops::Params;

use crate::{Error, Result};

/// The decay of the moving average.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct EmaDecay {
    /// The final decay.
    pub decay: f64,
    /// Whether it starts lower, so that the initial weights are forgotten soon.
    pub warmup: bool,
}

impl EmaDecay {
    /// The decay of the update after `done` updates: with warm-up min(decay, (1 + done) / (10 +
    /// done)).
    pub fn at(&self, done: u64) -> f64 {
        let ramp = (1.0 + done as f64) / (10.0 + done as f64);
        if self.warmup { self.decay.min(ramp) } else { self.decay }
    }
}

/// Moves the averages towards the parameters: average + (1 - decay) (parameter - average), in
/// place.
///
/// # Errors
/// A parameter without an average.
pub(crate) fn update_ema(
    averages: &Params,
    names: &[String],
    params: &[Tensor],
    decay: f64,
) -> Result<()> {
    tch::no_grad(|| {
        for (name, param) in names.iter().zip(params) {
            let mean = average_of(averages, name)?;
            let _: Tensor = mean.shallow_clone().f_lerp_(param, 1.0 - decay)?;
        }
        Ok(())
    })
}

/// The average of a parameter.
///
/// # Errors
/// A parameter without an average.
pub(crate) fn average_of<'a>(averages: &'a Params, name: &str) -> Result<&'a Tensor> {
    averages.get(name).map(|average| &average.tensor).ok_or_else(|| unknown(name))
}

fn unknown(name: &str) -> Error {
    Error::Ops(vd_tensor_ops::Error::Mismatch(format!("`{name}` has no moving average")))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use tch::{Device, Kind};
    use vd_tensor_ops::Init;

    fn params(seed: u64) -> Params {
        let mut params = Params::new(seed, Kind::Float, Device::Cpu);
        let _ = params.root().param("w", &[3, 4], Init::Normal).unwrap();
        params
    }

    fn names() -> Vec<String> {
        vec!["w".to_owned()]
    }

    fn of(params: &Params) -> Tensor {
        params.get("w").unwrap().tensor.shallow_clone()
    }

    #[test]
    fn the_average_is_the_closed_form_of_its_decay() {
        let (average, weights) = (params(1), params(2));
        let value = |p: &Params| p.get("w").unwrap().tensor.detach().to_kind(Kind::Double).copy();
        let (start, end) = (value(&average), value(&weights));
        for _ in 0..7 {
            update_ema(&average, &names(), &[of(&weights)], 0.9).unwrap();
        }
        // constant weights: average = end + 0.9^7 (start - end)
        let expected = &end + 0.9f64.powi(7) * (start - &end);
        assert!((value(&average) - expected).abs().max().double_value(&[]) < 1e-6);
        assert!(average.get("w").unwrap().tensor.requires_grad());
    }

    #[test]
    fn warm_up_follows_its_formula_until_the_decay_takes_over() {
        let ema = EmaDecay { decay: 0.995, warmup: true };
        assert_eq!(ema.at(0), 0.1);
        assert_eq!(ema.at(90), 0.91);
        assert_eq!(ema.at(1_000_000), 0.995);
        assert_eq!(EmaDecay { warmup: false, ..ema }.at(0), 0.995);
    }

    #[test]
    fn a_missing_average_is_named() {
        let empty = Params::new(0, Kind::Float, Device::Cpu);
        assert!(
            update_ema(&empty, &names(), &[of(&params(0))], 0.5)
                .is_err_and(|e| e.to_string().contains("`w`"))
        );
    }
}
