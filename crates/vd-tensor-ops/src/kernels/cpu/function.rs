//! Kernels as differentiable functions.

use tch::Tensor;
use vd_torch::{BoxError, Function, Saved, apply};

use super::once;

/// The only output of `forward`, in the graph as a function of `inputs`. Where there is a graph,
/// nothing is kept of weights beyond each pass.
///
/// # Panics
/// Where libtorch cannot put it there, which new tensors give it no reason for.
pub(crate) fn one<F: Function>(
    inputs: &[&Tensor],
    forward: impl FnOnce(&mut Saved) -> (Tensor, F),
) -> Tensor {
    let outputs = apply(inputs, |saved| {
        let (output, function) =
            if saved.tracked() { once(|| forward(saved)) } else { forward(saved) };
        Ok((vec![output], Once(function)))
    });
    match outputs.map(|mut outputs| outputs.pop()) {
        Ok(Some(output)) => output,
        Ok(None) => unreachable!("the function has one output"),
        Err(error) => panic!("the output of a kernel could not enter the graph: {error}"),
    }
}

/// A function whose gradient keeps nothing of weights.
#[derive(Debug)]
struct Once<F>(F);

impl<F: Function> Function for Once<F> {
    fn backward(
        &self,
        saved: &[Tensor],
        grads: &[Option<Tensor>],
        needs: &[bool],
    ) -> Result<Vec<Option<Tensor>>, BoxError> {
        once(|| self.0.backward(saved, grads, needs))
    }

    fn name(&self) -> &'static str {
        self.0.name()
    }
}

/// No gradients.
pub(crate) fn none(count: usize) -> Vec<Option<Tensor>> {
    std::iter::repeat_with(|| None).take(count).collect()
}
