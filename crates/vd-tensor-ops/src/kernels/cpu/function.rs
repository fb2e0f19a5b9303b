//! Kernels as differentiable functions.

use tch::Tensor;
use vd_torch::{BoxError, Function, Saved, apply};

use super::once;

/// The only output of `forward`, in the graph as a function of `inputs`. If there is a graph, no
/// form of the weights is cached beyond each pass.
///
/// # Panics
/// If libtorch cannot add it to the graph, which does not happen with new tensors.
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

/// A function whose backward caches nothing of the weights.
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
