//! What stops a run whose numbers are none.

use tch::Tensor;

use crate::trainer::Trainer;
use crate::{Error, Result};

impl Trainer {
    /// Refuses weights that the last step has spoilt: they are not worth a checkpoint.
    ///
    /// # Errors
    /// A parameter that is not finite, named.
    pub(crate) fn check_parameters(&mut self) -> Result<()> {
        match self.bad_parameter() {
            None => Ok(()),
            Some(name) => {
                self.sound = false;
                Err(Error::NotFinite { step: self.step, tensor: format!("the parameter `{name}`") })
            }
        }
    }

    /// The first parameter by name that is not finite.
    fn bad_parameter(&self) -> Option<String> {
        let bad = self.params.iter().find(|(_, param)| is_bad(&param.tensor));
        bad.map(|(name, _)| name.to_owned())
    }

    /// Which tensor went wrong: the first parameter by name, else the loss, else the first gradient
    /// by name.
    pub(crate) fn not_finite(&mut self, loss: f64, grads: &[Tensor]) -> Error {
        let parameter = self.bad_parameter();
        let mut named = self.optimizer.names().iter().zip(grads);
        let tensor = if let Some(name) = parameter {
            self.sound = false;
            format!("the parameter `{name}`")
        } else if !loss.is_finite() {
            format!("the loss ({loss})")
        } else if let Some((name, _)) = named.find(|(_, grad)| is_bad(grad)) {
            format!("the gradient of `{name}`")
        } else {
            "the norm of all gradients".to_owned()
        };
        Error::NotFinite { step: self.step + 1, tensor }
    }
}

fn is_bad(tensor: &Tensor) -> bool {
    tensor.isfinite().all().int64_value(&[]) == 0
}
