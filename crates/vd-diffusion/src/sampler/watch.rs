//! Finds the first non-finite state of a run.

use tch::{Device, Kind, Tensor};

use crate::{Error, NoiseLevel, Result};

/// Checks the states of a run without synchronising with a GPU.
#[derive(Debug)]
pub(crate) struct Watch {
    /// The levels of the checked states.
    levels: Vec<NoiseLevel>,
    /// Number of steps of the run.
    of: usize,
    /// Whether each state is checked immediately, if that needs no synchronisation.
    at_once: bool,
    /// On the device: 1 as long as every state was finite, and the number of finite states.
    counts: Option<(Tensor, Tensor)>,
}

impl Watch {
    pub(crate) fn new(of: usize, device: Device) -> Self {
        let at_once = device == Device::Cpu;
        Watch { levels: Vec::with_capacity(of + 1), of, at_once, counts: None }
    }

    /// Checks the next state.
    ///
    /// Sums it in one pass: a non-finite value makes the sum non-finite, and so would only values
    /// near the largest representable ones.
    pub(crate) fn see(&mut self, x: &Tensor, at: NoiseLevel) -> Result<()> {
        self.levels.push(at);
        let sum = x.sum(x.kind());
        if self.at_once {
            return if sum.double_value(&[]).is_finite() { Ok(()) } else { Err(self.error()) };
        }
        let finite = sum.isfinite().to_kind(Kind::Int64);
        self.counts = Some(match self.counts.take() {
            None => (finite.shallow_clone(), finite),
            Some((so_far, count)) => {
                let so_far = so_far * finite;
                let count = count + &so_far;
                (so_far, count)
            }
        });
        Ok(())
    }

    /// Evaluates the checks made on the device.
    pub(crate) fn end(mut self) -> Result<()> {
        let Some((_, count)) = &self.counts else { return Ok(()) };
        let finite = usize::try_from(count.int64_value(&[])).unwrap_or(0);
        if finite == self.levels.len() {
            return Ok(());
        }
        self.levels.truncate(finite + 1);
        Err(self.error())
    }

    /// The error for a newest state that is not finite.
    fn error(&self) -> Error {
        let steps = self.levels.len().saturating_sub(1);
        let nowhere = NoiseLevel { t: f64::NAN, alpha: f64::NAN, sigma: f64::NAN };
        let at = self.levels.last().copied().unwrap_or(nowhere);
        Error::NotFinite { steps, of: self.of, at }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn watch(at_once: bool, broken: Option<usize>) -> Result<()> {
        let mut watch = Watch { at_once, ..Watch::new(4, Device::Cpu) };
        for i in 0..5 {
            let x = Tensor::ones([3], (Kind::Float, Device::Cpu));
            if Some(i) == broken {
                let _ = x.get(1).fill_(f64::NEG_INFINITY);
            }
            watch.see(&x, NoiseLevel { t: i as f64, alpha: 0.6, sigma: 0.8 })?;
        }
        watch.end()
    }

    #[test]
    fn the_first_state_that_is_not_finite_is_found_at_once_or_at_the_end() {
        for at_once in [true, false] {
            assert!(watch(at_once, None).is_ok());
            for broken in 0..5 {
                match watch(at_once, Some(broken)) {
                    Err(Error::NotFinite { steps, of: 4, at }) => {
                        assert_eq!((steps, at.t), (broken, broken as f64));
                    }
                    other => panic!("{other:?}"),
                }
            }
        }
    }
}
