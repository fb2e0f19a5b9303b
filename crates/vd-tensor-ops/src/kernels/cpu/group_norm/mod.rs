//! Group norm, scale, shift, SiLU and residual, on tensors.

mod backward;
mod forward;
mod function;
mod segments;

use tch::{Kind, Tensor};
use vd_torch::{team_of, threads};

use super::epilogue::fits;
use super::{Isa, pointer, pointer_or_null};
use crate::kernels::check;
pub use function::group_finished;
use segments::Segments;

/// Group norm and the operations after it: y = silu(norm(x) gain + shift) + residual, where norm(x)
/// has mean 0 and variance 1 over each group of channels, all frames and positions of a sample.
#[derive(Debug, Clone, Copy)]
pub struct GroupFinish<'a> {
    /// Number of groups of neighbouring channels; must divide the channels.
    pub groups: i64,
    /// # Shapes
    /// r c, where r divides the number of images: each row applies to a run of neighbouring images
    pub gain: &'a Tensor,
    /// # Shapes
    /// As `gain`
    pub shift: &'a Tensor,
    /// # Shapes
    /// Those of the output
    pub residual: Option<&'a Tensor>,
}

/// The sizes.
#[derive(Debug, Clone, Copy)]
struct Shape {
    samples: usize,
    /// Positions of a sample, in all frames.
    positions: usize,
    c: usize,
    groups: usize,
    /// Positions that share a row of gains and shifts.
    row: usize,
}

impl Shape {
    /// # Panics
    /// If the kernel's pointers would be invalid for the sizes.
    fn new(isa: Isa, x: &Tensor, finish: &GroupFinish<'_>) -> Self {
        let GroupFinish { groups, gain, shift, residual } = finish;
        let size = check::video("the input of a group norm", x);
        check::plain("the input of a group norm", x);
        let [samples, frames, area, c] =
            [size[0], size[1], size[2] * size[3], size[4]].map(|n| n as usize);
        assert!(
            fits(isa, c) && *groups > 0 && size[4] % groups == 0,
            "a group norm: expected channels that are a multiple of {} and of the groups, got shape \
             {size:?} and {groups} groups",
            isa.lanes()
        );
        check::plain("the gains after a group norm", gain);
        let rows = check::rows("the gains after a group norm", gain, (size[0] * size[1], size[4]));
        let rows = rows as usize;
        check::plain_of("the shifts after a group norm", shift, &gain.size());
        if let Some(residual) = residual {
            check::plain_of("the residual of a group norm", residual, &size);
        }
        let (groups, row) = (*groups as usize, samples * frames / rows * area);
        Shape { samples, positions: frames * area, c, groups, row }
    }

    fn total(&self) -> usize {
        self.samples * self.positions
    }

    fn segments(&self, each: usize, members: usize) -> Segments {
        Segments { each, total: self.total(), members }
    }

    /// Positions of the largest segments that lie within one sample and one row.
    fn common(&self) -> usize {
        let (mut a, mut b) = (self.positions, self.row);
        while b > 0 {
            (a, b) = (b, a % b);
        }
        a
    }
}

/// The result of [`group_finish`].
#[derive(Debug)]
pub struct GroupFinished {
    /// # Shapes
    /// b f h w c
    pub y: Tensor,
    /// The mean of each channel's group, and 1 / its deviation, which the gradient needs.
    ///
    /// # Shapes
    /// b 2 c
    pub statistics: Tensor,
}

/// Group norm and the operations after it.
///
/// # Shapes
/// b f h w c -> b f h w c
///
/// # Panics
/// Channels that are not a multiple of the lanes; sizes that do not match; tensors that are not f32
/// on the CPU.
pub fn group_finish(isa: Isa, x: &Tensor, finish: &GroupFinish<'_>) -> GroupFinished {
    let shape = Shape::new(isa, x, finish);
    let [x, gain, shift] = [x, finish.gain, finish.shift].map(|t| t.detach().contiguous());
    let residual = finish.residual.map(|t| t.detach().contiguous());
    let (y, options) = (x.empty_like(), (Kind::Float, x.device()));
    let statistics = Tensor::empty([shape.samples as i64, 2, shape.c as i64], options);
    if shape.total() > 0 {
        let threads = threads();
        let slots = shape.segments(shape.positions, threads).slots();
        let mut sums = vec![0f64; slots * 2 * shape.c];
        let all = &forward::Forward {
            shape,
            x: pointer(&x),
            gain: pointer(&gain),
            shift: pointer(&shift),
            residual: pointer_or_null(residual.as_ref()),
            y: y.data_ptr() as *mut f32,
            statistics: statistics.data_ptr() as *mut f32,
            sums: sums.as_mut_ptr(),
        };
        team_of(threads, |member| isa.run(forward::Share { all, member }));
    }
    GroupFinished { y, statistics }
}

/// Gradients of [`group_finish`].
#[derive(Debug)]
pub struct GroupFinishGrad {
    /// # Shapes
    /// b f h w c
    pub x: Tensor,
    /// # Shapes
    /// r c
    pub gain: Tensor,
    /// # Shapes
    /// r c
    pub shift: Tensor,
}

/// The gradients of [`group_finish`], which returned `statistics`; the gradient of the residual is
/// `grad`.
///
/// # Shapes
/// `x`, `grad`: b f h w c
///
/// # Panics
/// As [`group_finish`].
pub fn group_finish_grad(
    isa: Isa,
    (x, grad): (&Tensor, &Tensor),
    statistics: &Tensor,
    finish: &GroupFinish<'_>,
) -> GroupFinishGrad {
    let shape = Shape::new(isa, x, &GroupFinish { residual: Some(grad), ..*finish });
    let of = [shape.samples as i64, 2, shape.c as i64];
    check::plain_of("the statistics of a group norm", statistics, &of);
    let [x, grad, gain, shift, statistics] =
        [x, grad, finish.gain, finish.shift, statistics].map(|t| t.detach().contiguous());
    let of =
        GroupFinishGrad { x: x.empty_like(), gain: gain.zeros_like(), shift: shift.zeros_like() };
    if shape.total() > 0 {
        let threads = threads();
        let slots = shape.segments(shape.common(), threads).slots();
        let mut sums = vec![0f64; slots * 2 * shape.c];
        let all = &backward::Backward {
            shape,
            x: pointer(&x),
            grad: pointer(&grad),
            gain: pointer(&gain),
            shift: pointer(&shift),
            statistics: pointer(&statistics),
            x_grad: of.x.data_ptr() as *mut f32,
            gain_grad: of.gain.data_ptr() as *mut f32,
            shift_grad: of.shift.data_ptr() as *mut f32,
            sums: sums.as_mut_ptr(),
        };
        team_of(threads, |member| isa.run(backward::Share { all, member }));
    }
    of
}
