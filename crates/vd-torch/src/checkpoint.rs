//! Activations that the backward recomputes instead of keeping.

use tch::{Device, Tensor};

use crate::autocast::{Autocast, autocast, autocast_now};
use crate::autograd::{BoxError, Function, Saved, apply, grad};
use crate::{Error, Result};

/// `f(inputs)`, with a backward that runs `f` again: between the two only `inputs` are kept.
///
/// `params` are the tensors besides its arguments that `f` reads and that may want gradients, that
/// is, its captured weights; gradients with respect to both are the same as without this function.
/// Changing any of them in place before the backward makes the backward fail. `f` must return the
/// same values both times, so it draws no random numbers, and it changes nothing in place. If there
/// will be a backward, `f` builds a graph both times, and the first graph is freed when the call
/// ends: code that takes another path when gradients are wanted takes it twice.
///
/// # Errors
/// Any error of `f`; an output that shares memory with an input or a parameter.
pub fn checkpoint<F>(inputs: &[&Tensor], params: &[&Tensor], f: F) -> Result<Vec<Tensor>>
where
    F: Fn(&[Tensor]) -> Result<Vec<Tensor>> + Send + 'static,
{
    let all: Vec<&Tensor> = inputs.iter().chain(params).copied().collect();
    apply(&all, |saved: &mut Saved| {
        let outputs = if saved.tracked() {
            let inputs = (0..inputs.len()).map(|i| leaf(inputs[i], saved.needs(i)));
            let inputs: Vec<_> = inputs.collect();
            let outputs = tch::with_grad(|| f(&inputs))?;
            outputs.iter().map(Tensor::detach).collect()
        } else {
            f(&inputs.iter().map(|t| t.shallow_clone()).collect::<Vec<_>>())?
        };
        for tensor in &all {
            saved.keep(tensor);
        }
        let params = params.iter().map(|t| t.shallow_clone()).collect();
        Ok((outputs, Recompute { f, params, cast: autocast_now() }))
    })
}

/// The same values as a leaf of a new graph.
fn leaf(tensor: &Tensor, needs_grad: bool) -> Tensor {
    tensor.detach().set_requires_grad(needs_grad)
}

struct Recompute<F> {
    f: F,
    /// The tensors that `f` itself reads: saved copies would not be part of its graph.
    params: Vec<Tensor>,
    /// The autocast setting of the first run.
    cast: (Device, Autocast),
}

impl<F> Function for Recompute<F>
where
    F: Fn(&[Tensor]) -> Result<Vec<Tensor>> + Send + 'static,
{
    fn backward(
        &self,
        saved: &[Tensor],
        grads: &[Option<Tensor>],
        needs: &[bool],
    ) -> std::result::Result<Vec<Option<Tensor>>, BoxError> {
        let n = saved.len() - self.params.len();
        let inputs: Vec<Tensor> =
            saved[..n].iter().zip(needs).map(|(t, need)| leaf(t, *need)).collect();
        // The node restores the gradient mode, also after a panic.
        let (device, cast) = self.cast;
        let outputs = tch::with_grad(|| autocast(device, cast, || (self.f)(&inputs)))??;
        if outputs.len() != grads.len() {
            return Err(Box::new(Error::Torch(format!(
                "checkpoint: expected {} outputs, as in the forward, got {}",
                grads.len(),
                outputs.len()
            ))));
        }
        let seeded = || outputs.iter().zip(grads).filter(|(t, g)| t.requires_grad() && g.is_some());
        let roots: Vec<&Tensor> = seeded().map(|(t, _)| t).collect();
        let seeds: Vec<&Tensor> = seeded().filter_map(|(_, g)| g.as_ref()).collect();
        let all = || inputs.iter().chain(&self.params).zip(needs);
        let wanted: Vec<&Tensor> = all().filter_map(|(t, need)| need.then_some(t)).collect();
        if roots.is_empty() {
            return Ok(needs.iter().map(|_| None).collect());
        }
        let mut found = grad(&roots, &seeds, &wanted)?.into_iter();
        Ok(needs.iter().map(|need| if *need { found.next().flatten() } else { None }).collect())
    }

    fn name(&self) -> &'static str {
        "checkpoint"
    }
}
