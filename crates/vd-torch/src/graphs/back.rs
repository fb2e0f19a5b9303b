//! The backward pass of a recorded function.

use std::sync::{Arc, Mutex, PoisonError};

use tch::Tensor;

use super::Recording;
use super::once::{Place, gradients};
use crate::autograd::{BoxError, Function};
use crate::{Error, Result, shim};

/// Computes the gradients with respect to the parameters from those with respect to the outputs.
#[derive(Debug)]
pub(super) struct Back {
    pub(super) recording: Box<dyn Recording>,
    pub(super) tensors: BackTensors,
}

/// The tensors that a backward pass reads and writes.
#[derive(Debug)]
pub(super) struct BackTensors {
    /// The gradients with respect to the outputs.
    pub(super) seeds: Vec<Tensor>,
    /// The gradients with respect to the parameters.
    pub(super) all: Tensor,
    pub(super) places: Vec<Option<Place>>,
    /// The parameters.
    pub(super) params: Vec<Tensor>,
    /// Outputs with their graph, if the function itself was run again.
    pub(super) outputs: Vec<Tensor>,
    /// The memory in which gradients were last handed out.
    pub(super) handed: Option<Tensor>,
}

impl BackTensors {
    /// The backward as it was recorded.
    fn again(&mut self) -> Result<()> {
        let outputs = std::mem::take(&mut self.outputs);
        if outputs.is_empty() {
            return Err(Error::Torch("no forward pass was run".to_owned()));
        }
        let (all, places) = gradients(&outputs, &self.seeds, &self.params)?;
        if places != self.places {
            return Err(Error::Torch(
                "a different set of parameters has gradients than before".to_owned(),
            ));
        }
        Ok(tch::no_grad(|| self.all.f_copy_(&all))?)
    }

    /// A copy of the gradients, since the next replay overwrites `all`: in the same memory every
    /// time, as long as nobody still holds the previous ones.
    fn hand_out(&mut self) -> Result<Tensor> {
        match &self.handed {
            Some(handed) if shares(handed) > 1 => Ok(self.all.f_detach_copy()?),
            Some(handed) => {
                let mut handed = handed.shallow_clone();
                tch::no_grad(|| handed.f_copy_(&self.all))?;
                Ok(handed)
            }
            None => Ok(self.handed.insert(self.all.f_detach_copy()?).shallow_clone()),
        }
    }
}

/// How many tensors share the memory of this one.
fn shares(x: &Tensor) -> i64 {
    // SAFETY: a tensor that is borrowed until the return.
    unsafe { shim::vd_shares(x.as_ptr().cast()) }
}

impl Back {
    /// Replays it from the values in the seeds.
    pub(super) fn replay(&mut self) -> Result<()> {
        let tensors = &mut self.tensors;
        self.recording.replay(&mut || tensors.again())
    }
}

/// The backward of one replay.
pub(super) struct Replayed {
    pub(super) back: Arc<Mutex<Back>>,
    /// While it lives, the tensors that the forward left are still needed.
    pub(super) _pending: Arc<()>,
}

impl Function for Replayed {
    fn backward(
        &self,
        _saved: &[Tensor],
        grads: &[Option<Tensor>],
        needs: &[bool],
    ) -> std::result::Result<Vec<Option<Tensor>>, BoxError> {
        let mut back = self.back.lock().unwrap_or_else(PoisonError::into_inner);
        for (seed, grad) in back.tensors.seeds.iter_mut().zip(grads) {
            match grad {
                Some(grad) => seed.f_copy_(grad)?,
                None => drop(seed.f_zero_()?),
            }
        }
        back.replay()?;
        let all = back.tensors.hand_out()?;
        let places = back.tensors.places.iter().zip(needs);
        let found = places.map(|(place, need)| match place {
            Some(place) if *need => place.of(&all).map(Some),
            _ => Ok(None),
        });
        Ok(found.collect::<Result<_>>()?)
    }

    fn name(&self) -> &'static str {
        "recorded function"
    }
}
