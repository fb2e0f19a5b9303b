//! Stops a run when its numbers are no longer finite.

use tch::Tensor;
use vd_data::Cursor;

use crate::trainer::Trainer;
use crate::{Error, Result};

impl Trainer {
    /// Refuses weights that the last step has spoilt, so that no checkpoint contains them.
    ///
    /// # Errors
    /// A parameter that is not finite, by name.
    pub(crate) fn check_parameters(&mut self) -> Result<()> {
        match self.bad_parameter() {
            None => Ok(()),
            Some(name) => {
                self.sound = false;
                let tensor = format!("the parameter `{name}`");
                Err(Error::NotFinite { step: self.step, tensor, batch: None })
            }
        }
    }

    /// The first parameter that is not finite: by name, the network's before the uncertainty's.
    fn bad_parameter(&self) -> Option<String> {
        let beside = self.learned.iter().flat_map(|learned| learned.params.iter());
        let bad = self.params.iter().chain(beside).find(|(_, param)| is_bad(&param.tensor));
        bad.map(|(name, _)| name.to_owned())
    }

    /// The tensor that went wrong: the first bad parameter, else the loss, else the first bad
    /// gradient according to `is_bad`, which takes its index.
    pub(crate) fn not_finite(&mut self, loss: f64, is_bad: &dyn Fn(usize) -> bool) -> Error {
        let parameter = self.bad_parameter();
        let beside = self.learned.iter().flat_map(|learned| learned.optimizer.names());
        let mut named = self.optimizer.names().iter().chain(beside).enumerate();
        let tensor = if let Some(name) = parameter {
            self.sound = false;
            format!("the parameter `{name}`")
        } else if !loss.is_finite() {
            format!("the loss ({loss})")
        } else if let Some((_, name)) = named.find(|(k, _)| is_bad(*k)) {
            format!("the gradient of `{name}`")
        } else {
            "the norm of all gradients".to_owned()
        };
        let Cursor { epoch, position, .. } = self.cursor;
        let batch = Some(format!("clip {} of epoch {}", position + 1, epoch + 1));
        Error::NotFinite { step: self.step + 1, tensor, batch }
    }
}

pub(crate) fn is_bad(tensor: &Tensor) -> bool {
    tensor.isfinite().all().int64_value(&[]) == 0
}
