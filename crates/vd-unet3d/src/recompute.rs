//! Activations that are recomputed in the backward pass instead of kept.

use std::fmt::Debug;
use std::sync::{Arc, Mutex, PoisonError};

use tch::Tensor;
use vd_tensor_ops::{Scope, kernels, torch};

use crate::attend::Context;
use crate::{Error, Result};

/// A part that can be recomputed: a function of its inputs, the embedding and the context.
pub(crate) trait Part: Debug + Send + 'static {
    /// Its outputs, none of which is one of its inputs.
    fn forward(&self, inputs: &[&Tensor], emb: &Tensor, context: &Context) -> Vec<Tensor>;
}

/// A part that keeps either its activations for the backward pass, or only its inputs.
///
/// Both ways give bitwise equal gradients: if an input is used several times within the part, its
/// gradients are summed before they leave the part, and the part does the same for an output that
/// it uses further ([`gate`]).
#[derive(Debug)]
pub(crate) struct Stage<P> {
    /// Shared with graphs, whose backward pass may run in a thread of libtorch. Tensors cannot be
    /// shared between threads, so only one thread at a time.
    part: Arc<Mutex<P>>,
    /// The parameters that the part uses besides its inputs.
    params: Vec<Tensor>,
}

impl<P: Part> Stage<P> {
    /// Makes a part, and records the parameters that it declares.
    pub(crate) fn new(
        scope: &mut Scope,
        make: impl FnOnce(&mut Scope<'_>) -> Result<P>,
    ) -> Result<Self> {
        let (part, params) = scope.watched(make);
        Ok(Stage { part: Arc::new(Mutex::new(part?)), params })
    }

    /// `again`: whether the activations are recomputed in the backward pass.
    pub(crate) fn forward(
        &self,
        inputs: &[&Tensor],
        (emb, context): (&Tensor, &Context),
        again: bool,
    ) -> Result<Vec<Tensor>> {
        if !torch::grad_enabled() {
            return Ok(run(&self.part, inputs, emb, context));
        }
        if again {
            return self.checkpointed(inputs, emb, context);
        }
        let inputs: Vec<Tensor> = inputs.iter().map(|x| gate(x)).collect();
        let inputs: Vec<&Tensor> = inputs.iter().collect();
        Ok(run(&self.part, &inputs, &gate(emb), &context.map(gate)))
    }

    /// The same for a part with one output.
    pub(crate) fn one(
        &self,
        inputs: &[&Tensor],
        around: (&Tensor, &Context),
        again: bool,
    ) -> Result<Tensor> {
        let last = self.forward(inputs, around, again)?.pop();
        last.ok_or_else(|| Error::custom("a part of the network has no output"))
    }

    fn checkpointed(
        &self,
        inputs: &[&Tensor],
        emb: &Tensor,
        context: &Context,
    ) -> Result<Vec<Tensor>> {
        let mut all = inputs.to_vec();
        all.push(emb);
        // Position in the list of each tensor of the context: a tensor captured by the function
        // would be outside its graph.
        let places = context.map(|x| {
            all.push(x);
            all.len() - 1
        });
        let params: Vec<&Tensor> = self.params.iter().collect();
        let (part, precision, count) = (Arc::clone(&self.part), kernels::precision(), inputs.len());
        let outputs = torch::checkpoint(&all, &params, move |all| {
            let inputs: Vec<&Tensor> = all[..count].iter().collect();
            let context = places.map(|place| all[*place].shallow_clone());
            Ok(kernels::with(precision, || {
                kernels::passing(|| run(&part, &inputs, &all[count], &context))
            }))
        });
        outputs.map_err(|error| Error::custom(error.to_string()))
    }
}

fn run<P: Part>(
    part: &Mutex<P>,
    inputs: &[&Tensor],
    emb: &Tensor,
    context: &Context,
) -> Vec<Tensor> {
    // A part only reads, so a panic within one leaves it intact.
    part.lock().unwrap_or_else(PoisonError::into_inner).forward(inputs, emb, context)
}

/// The same tensor as a separate autograd node, at which gradients are summed.
pub(crate) fn gate(x: &Tensor) -> Tensor {
    if x.requires_grad() { x.alias() } else { x.shallow_clone() }
}
