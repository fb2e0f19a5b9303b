//! The fused convolution as differentiable functions.

use tch::{Kind, Tensor};
use vd_torch::{BoxError, Function, Saved};

use super::conv::Finish;
use super::{Isa, Road, conv_grad, none, one};

/// A convolution's weight and bias, and its algorithm.
#[derive(Debug, Clone, Copy)]
pub struct ConvWeights<'a> {
    /// # Shapes
    /// o i 1 k k; i o 1 k k of a transposed one
    pub weight: &'a Tensor,
    /// # Shapes
    /// o
    pub bias: &'a Tensor,
    /// The algorithm, with the weight's packed forms.
    pub road: &'a Road,
}

/// A differentiable convolution, alone or with the operations after it.
///
/// # Shapes
/// `inputs`: b f h w c each -> b f h' w' o
///
/// # Panics
/// As [`super::conv3x3`], [`super::direct()`] and [`super::direct_transposed`]; anything that follows a
/// transposed one, or a second input of it.
pub fn conv(
    isa: Isa,
    inputs: &[&Tensor],
    weights: ConvWeights<'_>,
    finish: Option<&Finish<'_>>,
) -> Tensor {
    let mut all = inputs.to_vec();
    all.extend([weights.weight, weights.bias]);
    all.extend(finish.iter().flat_map(|finish| finish.tensors()));
    let (shift, residual) =
        finish.map_or((false, false), |of| (of.shift.is_some(), of.residual.is_some()));
    let road = weights.road.clone();
    let function =
        Conv { isa, road, inputs: inputs.len(), finish: finish.is_some(), shift, residual };
    let forward = |saved: &mut Saved| {
        let run =
            |finish| weights.road.forward(isa, inputs, (weights.weight, weights.bias), finish);
        if !saved.tracked() {
            return run(finish);
        }
        inputs.iter().for_each(|x| saved.keep(x));
        saved.keep(weights.weight);
        let x = run(None);
        let Some(finish) = finish else { return x };
        keep(saved, &x, finish);
        super::finish(isa, &x, finish)
    };
    one(&all, |saved| (forward(saved), function))
}

/// Differentiable [`super::finish`].
///
/// # Shapes
/// b f h w c -> b f h w c
///
/// # Panics
/// As [`super::finish`].
pub fn finished(isa: Isa, x: &Tensor, finish: &Finish<'_>) -> Tensor {
    let mut all = vec![x];
    all.extend(finish.tensors());
    let (shift, residual) = (finish.shift.is_some(), finish.residual.is_some());
    one(&all, |saved| {
        keep(saved, x, finish);
        (super::finish(isa, x, finish), Finished { isa, shift, residual })
    })
}

/// Keeps the tensors for the gradient of the operations after a convolution.
fn keep(saved: &mut Saved, x: &Tensor, finish: &Finish<'_>) {
    saved.keep(x);
    saved.keep(finish.gain);
    finish.shift.iter().for_each(|shift| saved.keep(shift));
}

impl<'a> Finish<'a> {
    fn tensors(&self) -> impl Iterator<Item = &'a Tensor> {
        [Some(self.gain), self.shift, self.residual].into_iter().flatten()
    }
}

#[derive(Debug)]
struct Conv {
    isa: Isa,
    road: Road,
    inputs: usize,
    finish: bool,
    shift: bool,
    residual: bool,
}

impl Function for Conv {
    fn backward(
        &self,
        saved: &[Tensor],
        grads: &[Option<Tensor>],
        needs: &[bool],
    ) -> Result<Vec<Option<Tensor>>, BoxError> {
        let Some(Some(grad)) = grads.first() else { return Ok(none(needs.len())) };
        let (inputs, rest) = saved.split_at(self.inputs);
        let mut after = Vec::new();
        let (x, bias) = if self.finish {
            let kept = (&rest[1], &rest[2], rest.get(3));
            let gradients = finish_grad(self.isa, kept, grad);
            after.push(Some(gradients.gain));
            after.extend(self.shift.then_some(Some(gradients.shift)));
            after.extend(self.residual.then(|| Some(grad.shallow_clone())));
            (gradients.x, gradients.bias)
        } else {
            let axes = [0i64, 1, 2, 3];
            (grad.shallow_clone(), grad.sum_dim_intlist(axes.as_slice(), false, None::<Kind>))
        };
        let mut out = none(self.inputs);
        if needs[..self.inputs].contains(&true) {
            let all = self.road.input_grad(self.isa, inputs, &rest[0], &x);
            let mut start = 0;
            for (slot, input) in out.iter_mut().zip(inputs) {
                let c = input.size()[4];
                *slot = Some(all.narrow(4, start, c));
                start += c;
            }
        }
        out.push(needs[self.inputs].then(|| self.road.weight_grad(self.isa, inputs, &x)));
        out.push(Some(bias));
        out.extend(after);
        Ok(out)
    }

    fn name(&self) -> &'static str {
        "convolution"
    }
}

/// The gradient, from `x`, `gain` and `shift` as they were kept.
fn finish_grad(
    isa: Isa,
    (x, gain, shift): (&Tensor, &Tensor, Option<&Tensor>),
    grad: &Tensor,
) -> conv_grad::FinishGrad {
    conv_grad::finish_grad(isa, x, grad, &Finish { gain, shift, residual: None })
}

#[derive(Debug)]
struct Finished {
    isa: Isa,
    shift: bool,
    residual: bool,
}

impl Function for Finished {
    fn backward(
        &self,
        saved: &[Tensor],
        grads: &[Option<Tensor>],
        needs: &[bool],
    ) -> Result<Vec<Option<Tensor>>, BoxError> {
        let Some(Some(grad)) = grads.first() else { return Ok(none(needs.len())) };
        let gradients = finish_grad(self.isa, (&saved[0], &saved[1], saved.get(2)), grad);
        let mut out = vec![Some(gradients.x), Some(gradients.gain)];
        out.extend(self.shift.then_some(Some(gradients.shift)));
        out.extend(self.residual.then(|| Some(grad.shallow_clone())));
        Ok(out)
    }

    fn name(&self) -> &'static str {
        "fused norm"
    }
}
