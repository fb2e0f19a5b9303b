//! Kernels as differentiable functions.

use tch::Tensor;
use vd_torch::{Function, Saved, apply};

/// The only output of `forward`, in the graph as a function of `inputs`.
///
/// # Panics
/// Where libtorch cannot put it there, which new tensors give it no reason for.
pub(crate) fn one<F: Function>(
    inputs: &[&Tensor],
    forward: impl FnOnce(&mut Saved) -> (Tensor, F),
) -> Tensor {
    let outputs = apply(inputs, |saved| {
        let (output, function) = forward(saved);
        Ok((vec![output], function))
    });
    match outputs.map(|mut outputs| outputs.pop()) {
        Ok(Some(output)) => output,
        Ok(None) => unreachable!("the function has one output"),
        Err(error) => panic!("the output of a kernel could not enter the graph: {error}"),
    }
}

/// No gradients.
pub(crate) fn none(count: usize) -> Vec<Option<Tensor>> {
    std::iter::repeat_with(|| None).take(count).collect()
}
