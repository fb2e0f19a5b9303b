//! Gradients of the fused convolution of a residual block, on tensors.

use tch::{Kind, Tensor};
use vd_torch::team;

use super::conv::{Finish, check_inputs, check_rows};
use super::epilogue_grad::RowsGrad;
use super::winograd::{Source, WeightGrad};
use super::{Isa, pointer, pointer_or_null};
use crate::kernels::check;

/// Gradients of [`super::finish`], and of the bias of the convolution before it.
#[derive(Debug)]
pub struct FinishGrad {
    /// # Shapes
    /// Those of the input
    pub x: Tensor,
    /// # Shapes
    /// r c
    pub gain: Tensor,
    /// # Shapes
    /// r c; also present without a shift
    pub shift: Tensor,
    /// Sums of `x`.
    ///
    /// # Shapes
    /// c
    pub bias: Tensor,
}

/// The gradients of [`super::finish`]; that of the residual is `grad`.
///
/// # Shapes
/// `x`, `grad`: b f h w c
///
/// # Panics
/// As [`super::finish`].
pub fn finish_grad(isa: Isa, x: &Tensor, grad: &Tensor, finish: &Finish<'_>) -> FinishGrad {
    let size = check_inputs(isa, &[x]);
    check_rows(finish, &size);
    check::plain_of("the gradient of what follows a convolution", grad, &size);
    let [x, grad, gain] = [x, grad, finish.gain].map(|x| x.detach().contiguous());
    let shift = finish.shift.map(|shift| shift.detach().contiguous());
    let rows = gain.size()[0];
    let [images, area, c] = [size[0] * size[1], size[2] * size[3], size[4]].map(|n| n as usize);
    let out = x.empty_like();
    let threads = vd_torch::threads() as i64;
    // Gains, shifts and the bias of each thread, summed in the order of the threads.
    let sums = Tensor::zeros([threads, 2 * rows + 1, size[4]], (Kind::Float, x.device()));
    let all = All(RowsGrad {
        x: pointer(&x),
        grad: pointer(&grad),
        gain: pointer(&gain),
        shift: pointer_or_null(shift.as_ref()),
        images_per_row: images / rows as usize,
        shape: (area, c),
        out: out.data_ptr() as *mut f32,
        gains: sums.data_ptr() as *mut f32,
        shifts: std::ptr::null_mut(),
        bias: std::ptr::null_mut(),
        range: (0, 0),
    });
    let (all, rows_of) = (&all, rows as usize);
    team(|member| {
        let share = member.share(images * area);
        // SAFETY: each thread has a block of sums; threads beyond the expected count have no share.
        let gains = unsafe { all.0.gains.add(member.index * (2 * rows_of + 1) * c) };
        // SAFETY: within the thread's block.
        let (shifts, bias) = unsafe { (gains.add(rows_of * c), gains.add(2 * rows_of * c)) };
        let range = (share.start, share.end);
        isa.run(RowsGrad { gains, shifts, bias, range, ..all.0 });
    });
    let sums = sums.sum_dim_intlist([0i64].as_slice(), false, None::<Kind>);
    FinishGrad {
        x: out,
        gain: sums.narrow(0, 0, rows),
        shift: sums.narrow(0, rows, rows),
        bias: sums.get(2 * rows),
    }
}

struct All(RowsGrad);

// SAFETY: threads write to separate memory.
unsafe impl Sync for All {}

/// Number of 4 x 4 tiles below which direct products cost less than the transforms of the weights.
const FEW_TILES: i64 = 24;

/// The gradient of [`super::conv3x3`] with respect to its weight.
///
/// # Shapes
/// `inputs`: b f h w c each; `grad`: b f h w o -> o i 1 3 3
///
/// # Panics
/// As [`super::conv3x3`].
pub fn conv3x3_weight_grad(isa: Isa, inputs: &[&Tensor], grad: &Tensor) -> Tensor {
    let (of, size) = (check_inputs(isa, inputs), check_inputs(isa, &[grad]));
    check::shape("the gradient of a convolution", grad, &[of[0], of[1], of[2], of[3], size[4]]);
    let inputs: Vec<Tensor> = inputs.iter().map(|x| x.detach().contiguous()).collect();
    let grad = grad.detach().contiguous();
    let shape = [size[4], of[4], 1, 3, 3];
    if grad.numel() == 0 {
        return Tensor::zeros(shape, (Kind::Float, grad.device()));
    }
    let tiles = size[0] * size[1] * ((size[2] + 3) / 4) * ((size[3] + 3) / 4);
    if tiles < FEW_TILES {
        return direct(&inputs, &grad, &shape);
    }
    let out = Tensor::empty(shape, (Kind::Float, grad.device()));
    let source = |x: &Tensor| Source { at: pointer(x), channels: x.size()[4] as usize };
    let none = Source { at: std::ptr::null(), channels: 0 };
    let [images, h, w] = [size[0] * size[1], size[2], size[3]].map(|n| n as usize);
    let weight_grad = WeightGrad {
        sources: [source(&inputs[0]), inputs.get(1).map_or(none, source)],
        grad: source(&grad),
        images,
        h,
        w,
        out: out.data_ptr() as *mut f32,
    };
    // SAFETY: all tensors are contiguous, of these shapes and alive; the output is new.
    unsafe { weight_grad.run(isa) };
    out
}

/// As one matrix product over all positions, of the inputs that each tap sees and the gradient.
fn direct(inputs: &[Tensor], grad: &Tensor, shape: &[i64; 5]) -> Tensor {
    let images = Tensor::cat(inputs, -1).flatten(0, 1).permute([0, 3, 1, 2]);
    let seen = images.im2col([3, 3], [1, 1], [1, 1], [1, 1]); // (b f) (i 3 3) (h w)
    let seen = seen.transpose(1, 2).flatten(0, 1);
    grad.flatten(0, 3).tr().matmul(&seen).view(shape.as_slice())
}
