//! AdamW with a state that can be saved.

use std::collections::BTreeMap;
use std::sync::Arc;

use tch::{Kind, Tensor};
use vd_tensor_ops::Params;
use vd_tensor_ops::kernels::cpu::{self, AdamWTensors, Isa};
use vd_tensor_ops::kernels::cuda::{Live, Machine};
use vd_tensor_ops::kernels::{self, Precision, cuda};
use vd_torch::{AdamWState, AdamWStep, fused_adamw};

use crate::ema::{average_of, update_ema};
use crate::{Error, Result};

/// The name of the step count in a saved state.
const STEP: &str = "step";

/// The optimiser of a network, for its trainable parameters.
///
/// # Reference
/// Loshchilov & Hutter 2019, algorithm 2, arXiv:1711.05101; eps = 1e-8.
#[derive(Debug)]
pub struct AdamW {
    names: Vec<String>,
    params: Vec<Tensor>,
    exp_avgs: Vec<Tensor>,
    exp_avg_sqs: Vec<Tensor>,
    betas: [f64; 2],
    weight_decay: f64,
    done: i64,
}

impl AdamW {
    /// An optimiser in its initial state.
    pub fn new(params: &Params, betas: [f64; 2], weight_decay: f64) -> Self {
        let trainable = params.trainable();
        let zeros = || trainable.iter().map(|(_, t)| t.detach().zeros_like()).collect();
        AdamW {
            names: trainable.iter().map(|(name, _)| (*name).to_owned()).collect(),
            params: trainable.iter().map(|(_, t)| t.shallow_clone()).collect(),
            exp_avgs: zeros(),
            exp_avg_sqs: zeros(),
            betas,
            weight_decay,
            done: 0,
        }
    }

    /// The names of the parameters, in the order of the gradients.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// Handles on the parameters, in the order of the gradients.
    pub fn params(&self) -> &[Tensor] {
        &self.params
    }

    /// Both moments of all parameters.
    pub(crate) fn moments(&self) -> impl Iterator<Item = &Tensor> {
        self.exp_avgs.iter().chain(&self.exp_avg_sqs)
    }

    /// Updates the parameters in place, with the learning rate `lr` and the gradients times
    /// `shrink`, and then the moving average `follow` (the averages by name, and the decay). The
    /// gradients are not modified.
    ///
    /// # Shapes
    /// `grads`: one for each parameter, of its shape
    /// # Errors
    /// A gradient that is missing, or of another shape, dtype or device than its parameter; a
    /// learning rate that is negative or not finite; an average of other parameters.
    pub fn step(
        &mut self,
        lr: f64,
        grads: &[Tensor],
        shrink: f64,
        follow: Option<(&Params, f64)>,
    ) -> Result<()> {
        self.check(lr, grads)?;
        // Kernels ignore strides: a transposed gradient would be read wrongly.
        let grads: Vec<_> =
            grads.iter().map(Tensor::f_contiguous).collect::<std::result::Result<_, _>>()?;
        if self.step_by_kernels(lr, &grads, shrink, follow)? {
            return Ok(());
        }
        if shrink == 1.0 {
            self.step_by_libtorch(lr, &grads)?;
        } else {
            // Copies, so that the caller's gradients are not modified.
            let shrunk = grads.iter().map(|grad| grad.f_mul_scalar(shrink));
            let shrunk = shrunk.collect::<std::result::Result<Vec<_>, _>>()?;
            self.step_by_libtorch(lr, &shrunk)?;
        }
        match follow {
            Some((average, decay)) => update_ema(average, &self.names, &self.params, decay),
            None => Ok(()),
        }
    }

    /// Refuses tensors that a kernel would read wrongly.
    fn check(&self, lr: f64, grads: &[Tensor]) -> Result<()> {
        if !lr.is_finite() || lr < 0.0 {
            return Err(Error::config("learning rate", "a finite number from 0 on", lr));
        }
        if grads.len() != self.params.len() {
            let expected = format!("{}, one for each parameter", self.params.len());
            return Err(Error::config("gradients", expected, grads.len()));
        }
        for ((name, param), grad) in self.names.iter().zip(&self.params).zip(grads) {
            if !grad.defined() {
                let expected = "a tensor; pass zeros where the loss does not reach a parameter";
                return Err(Error::config(format!("gradient of {name}"), expected, "none"));
            }
            let of = |t: &Tensor| (t.size(), t.kind(), t.device());
            if of(grad) != of(param) {
                let (expected, got) = (format!("{:?}", of(param)), format!("{:?}", of(grad)));
                return Err(Error::config(format!("gradient of {name}"), expected, got));
            }
        }
        Ok(())
    }

    /// Makes the step with one kernel if there is one for these tensors; returns whether it did.
    fn step_by_kernels(
        &mut self,
        lr: f64,
        grads: &[Tensor],
        shrink: f64,
        follow: Option<(&Params, f64)>,
    ) -> Result<bool> {
        let tensors = self.tensors(grads, follow.map(|(average, _)| average))?;
        if tensors.len() != self.params.len() {
            return Ok(false);
        }
        let by = (shrink, follow.map_or(1.0, |(_, decay)| decay));
        let (numbers, done) = (self.numbers(lr), self.done + 1);
        if let Some(on) = cuda::adamw_fits(&tensors) {
            cuda::adamw(&on, &numbers, done, by, &tensors)?;
        } else if kernels::precision() != Precision::Reference
            && tensors.iter().all(AdamWTensors::fits)
        {
            cpu::adamw(Isa::current(), &numbers, done, by, &tensors)?;
        } else {
            return Ok(false);
        }
        self.done = done;
        Ok(true)
    }

    /// Whether [`AdamW::launch`] supports these gradients.
    ///
    /// # Errors
    /// An average of other parameters.
    pub(crate) fn launches(&self, grads: &[Tensor], average: Option<&Params>) -> Result<bool> {
        let tensors = self.tensors(grads, average)?;
        Ok(tensors.len() == self.params.len() && cuda::adamw_fits(&tensors).is_some())
    }

    /// Launches the next step on a GPU, with [numbers](AdamW::live) in its memory; does not count
    /// it.
    pub(crate) fn launch(
        &self,
        on: &Arc<dyn Machine>,
        grads: &[Tensor],
        live: Live<'_>,
        average: Option<&Params>,
    ) -> Result<()> {
        Ok(cuda::adamw_gated(on, &self.tensors(grads, average)?, live)?)
    }

    /// The numbers of the next step, in the GPU's format.
    pub(crate) fn live(&self, lr: f64, decay: f64) -> [f32; 8] {
        cuda::adamw_numbers(&self.numbers(lr), self.done + 1, (1.0, decay))
    }

    /// Steps done.
    pub(crate) fn counted(&self) -> i64 {
        self.done
    }

    /// Counts steps that a device makes, or reverts the count of those that changed nothing.
    pub(crate) fn count(&mut self, done: i64) {
        self.done = done;
    }

    fn numbers(&self, lr: f64) -> AdamWStep {
        let ([beta1, beta2], weight_decay) = (self.betas, self.weight_decay);
        AdamWStep { lr, beta1, beta2, eps: 1e-8, weight_decay }
    }

    /// The tensors that belong to each parameter.
    fn tensors<'a>(
        &'a self,
        grads: &'a [Tensor],
        averages: Option<&'a Params>,
    ) -> Result<Vec<AdamWTensors<'a>>> {
        let average = |name: &str| match averages {
            Some(averages) => average_of(averages, name).map(Some),
            None => Ok(None),
        };
        let moments = self.exp_avgs.iter().zip(&self.exp_avg_sqs);
        let all = self.names.iter().zip(&self.params).zip(grads).zip(moments);
        all.map(|(((name, param), grad), (exp_avg, exp_avg_sq))| {
            Ok(AdamWTensors { param, grad, exp_avg, exp_avg_sq, average: average(name)? })
        })
        .collect()
    }

    fn step_by_libtorch(&mut self, lr: f64, grads: &[Tensor]) -> Result<()> {
        let done = self.done + 1;
        let mut steps = Vec::with_capacity(self.params.len());
        if let Some(first) = self.params.first() {
            let count = Tensor::full([], done as f64, (Kind::Float, first.device()));
            steps.resize_with(self.params.len(), || count.shallow_clone());
        }
        let numbers = self.numbers(lr);
        let state = AdamWState {
            params: &self.params,
            grads,
            exp_avgs: &self.exp_avgs,
            exp_avg_sqs: &self.exp_avg_sqs,
            steps: &steps,
        };
        fused_adamw(&numbers, state)?;
        self.done = done;
        Ok(())
    }

    /// Everything that the next step depends on, by name.
    pub fn state(&self) -> BTreeMap<String, Tensor> {
        let mut state = BTreeMap::new();
        for (i, name) in self.names.iter().enumerate() {
            state.insert(format!("exp_avg.{name}"), self.exp_avgs[i].shallow_clone());
            state.insert(format!("exp_avg_sq.{name}"), self.exp_avg_sqs[i].shallow_clone());
        }
        state.insert(STEP.to_owned(), Tensor::from_slice(&[self.done]));
        state
    }

    /// Restores a saved state.
    ///
    /// # Errors
    /// Tensors that are missing, unexpected or of another shape or kind; nothing is changed then.
    pub fn load(&mut self, state: &BTreeMap<String, Tensor>) -> Result<()> {
        let own = self.state();
        let mut complaints = Vec::new();
        for (name, mine) in &own {
            match state.get(name) {
                None => complaints.push(format!("`{name}` is missing")),
                Some(t) if t.size() != mine.size() || t.kind() != mine.kind() => {
                    let (got, expected) = ((t.kind(), t.size()), (mine.kind(), mine.size()));
                    complaints.push(format!("`{name}` is {got:?}, expected {expected:?}"));
                }
                Some(_) => {}
            }
        }
        let unexpected = state.keys().filter(|name| !own.contains_key(*name));
        complaints.extend(unexpected.map(|name| format!("`{name}` is unexpected")));
        if !complaints.is_empty() {
            let what = format!("the optimiser's state: {}", complaints.join("; "));
            return Err(Error::Ops(vd_tensor_ops::Error::Mismatch(what)));
        }
        for (name, mine) in own {
            let Some(value) = state.get(&name) else { continue };
            if name == STEP {
                self.done = value.f_int64_value(&[0])?;
            } else {
                mine.shallow_clone().f_copy_(value)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "optimizer_tests.rs"]
mod tests;
