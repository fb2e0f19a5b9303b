//! Activations computed a second time in the backward instead of kept.

use tch::{Device, Tensor};

use crate::autocast::{Autocast, autocast, autocast_now};
use crate::autograd::{BoxError, Function, Saved, apply, grad};
use crate::{Error, Result};

/// `f(inputs)`, whose backward runs `f` again: between the two only `inputs` are kept.
///
/// `params` are the tensors besides its arguments that `f` reads and that may want gradients, its
/// captured weights; the gradients with respect to both come as without this function. A change of
/// any of them in place before the backward makes the backward an error. `f` gives the same at both
/// times, so it draws no random numbers, and changes nothing in place. Where there will be a
/// backward it makes a graph at both times, which the first frees at its end: what takes another
/// road for the sake of gradients takes it twice.
///
/// # Errors
/// Whatever `f` gives; an output that shares memory with an input or a parameter.
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

/// The same values where a graph begins.
fn leaf(tensor: &Tensor, needs_grad: bool) -> Tensor {
    tensor.detach().set_requires_grad(needs_grad)
}

struct Recompute<F> {
    f: F,
    /// The very tensors that `f` reads: saved ones have no place in a graph.
    params: Vec<Tensor>,
    /// What was set at the first time.
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
        // The node sets the mode back, also after a panic.
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
