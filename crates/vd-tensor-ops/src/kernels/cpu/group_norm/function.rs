//! Group norm and the operations after it as a differentiable function.

use tch::Tensor;
use vd_torch::{BoxError, Function};

use super::{GroupFinish, GroupFinished, group_finish, group_finish_grad};
use crate::kernels::cpu::{Isa, none, one};

/// Differentiable [`group_finish`].
///
/// # Shapes
/// b f h w c -> b f h w c
///
/// # Panics
/// As [`group_finish`].
pub fn group_finished(isa: Isa, x: &Tensor, finish: &GroupFinish<'_>) -> Tensor {
    let GroupFinish { groups, gain, shift, residual } = *finish;
    let mut all = vec![x, gain, shift];
    all.extend(residual);
    one(&all, |saved| {
        let GroupFinished { y, statistics } = group_finish(isa, x, finish);
        [x, gain, shift, &statistics].into_iter().for_each(|t| saved.keep(t));
        (y, Backward { isa, groups, residual: residual.is_some() })
    })
}

#[derive(Debug)]
struct Backward {
    isa: Isa,
    groups: i64,
    residual: bool,
}

impl Function for Backward {
    fn backward(
        &self,
        saved: &[Tensor],
        grads: &[Option<Tensor>],
        needs: &[bool],
    ) -> Result<Vec<Option<Tensor>>, BoxError> {
        let ([x, gain, shift, statistics], Some(Some(grad))) = (saved, grads.first()) else {
            return Ok(none(needs.len()));
        };
        let finish = GroupFinish { groups: self.groups, gain, shift, residual: None };
        let of = group_finish_grad(self.isa, (x, grad), statistics, &finish);
        let mut out = vec![Some(of.x), Some(of.gain), Some(of.shift)];
        out.extend(self.residual.then(|| Some(grad.shallow_clone())));
        Ok(out)
    }

    fn name(&self) -> &'static str {
        "fused group norm"
    }
}
