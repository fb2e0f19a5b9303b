//! Evaluations that are recorded and replayed.

use tch::Tensor;
use vd_tensor_ops::FrameMask;
use vd_tensor_ops::torch::graphs::GraphState;

use super::UNet3d;
use super::question::Question;
use crate::{Cond, Error, Result};

impl UNet3d {
    /// Whether what a CUDA device is asked for the second time in the same shapes is recorded, with
    /// its backward where there may be one, and replayed from then on: one launch instead of some
    /// thousand. A network starts without.
    ///
    /// What cannot be recorded is computed as ever: dropout, which draws on the host, and gradients
    /// with respect to the video or the conditioning. What should have been and failed is in
    /// [`UNet3d::graph_state`], and nothing is recorded from then on. Recordings keep the memory that
    /// one evaluation takes, and of a backward too, and without one the weights as products take them,
    /// which they share. Setting this drops those that there are.
    pub fn set_graphs(&mut self, graphs: bool) {
        self.graphs = graphs;
        self.recordings.clear();
    }

    /// Whether evaluations are recorded and replayed.
    pub fn graphs(&self) -> bool {
        self.graphs
    }

    /// What became of recording them.
    pub fn graph_state(&self) -> GraphState {
        self.recordings.state()
    }

    /// The answer to a validated question by a recording, where there is one.
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
