//! Evaluations recorded and replayed as CUDA graphs.

use tch::Tensor;
use vd_tensor_ops::FrameMask;
use vd_tensor_ops::torch::graphs::GraphState;

use super::UNet3d;
use super::question::Question;
use crate::{Cond, Error, Result};

impl UNet3d {
    /// Sets whether an evaluation on a CUDA device is recorded when its shapes occur for the second
    /// time, with its backward pass if there may be one, and replayed from then on: one launch
    /// instead of thousands. Initially off.
    ///
    /// What cannot be recorded is computed normally: dropout, which draws on the host, and
    /// gradients with respect to the video or the conditioning. If a recording fails,
    /// [`UNet3d::graph_state`] holds the error, and nothing more is recorded. Recordings keep the
    /// memory of one evaluation, including that of a backward pass; those without a backward pass
    /// share one copy of the weights in the form that matmuls use. Calling this drops existing
    /// recordings.
    pub fn set_graphs(&mut self, graphs: bool) {
        self.graphs = graphs;
        self.recordings.clear();
    }

    /// Whether evaluations are recorded and replayed.
    pub fn graphs(&self) -> bool {
        self.graphs
    }

    /// The state of recording, including its error.
    pub fn graph_state(&self) -> GraphState {
        self.recordings.state()
    }

    /// The output of a recording for a validated input, if there is one.
    pub(super) fn replayed(
        &self,
        x: &Tensor,
        t: &Tensor,
        cond: &Cond,
        frames: &FrameMask,
    ) -> Result<Option<Tensor>> {
        let how = (self.precision, self.autocast, self.recompute);
        let Question { form, tensors } = Question::new((x, t), cond, frames, how, self.device);
        let inputs: Vec<&Tensor> = tensors.iter().collect();
        let answer = self.recordings.answer(form, &inputs, &self.params, |form, tensors| {
            let (x, t, cond, frames) = form.with(tensors);
            self.compute(&x, &t, &cond, &frames, None).map(|y| vec![y])
        });
        let answer = answer.map_err(|error| Error::custom(error.to_string()))?;
        Ok(answer.and_then(|mut outputs| outputs.pop()))
    }
}
