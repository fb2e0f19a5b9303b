//! RMS norm, scale, shift, SiLU and residual.

use std::sync::Arc;

use tch::{Kind, Tensor};
use vd_torch::{BoxError, Function};

use super::rows::{self, Lanes, Norm, floats, operand, read, read_or_null, run};
use super::{Machine, Unit};
use crate::kernels::cpu::{Finish, none, one};

/// Blocks for each multiprocessor: more where nothing is added up at the end of one.
const FORWARD: u32 = 16;
const BACKWARD: u32 = 4;

/// What runs [`rms_finished`] on these tensors, if anything does: all of f32 or all of bf16 (gains and
/// shifts apart), up to 1024 channels, a multiple of 4 or 8.
pub fn rms_fits(x: &Tensor, finish: &Finish<'_>) -> Option<Arc<dyn Machine>> {
    let mut beside = vec![finish.gain];
    beside.extend(finish.shift);
    rows::fits(Unit::RMS_NORM, x, &beside, finish.residual)
}

/// [`crate::kernels::cpu::finished`] on a GPU: y = silu(x / max(|x|, 1e-12) gain + shift) + residual.
///
/// # Shapes
/// b f h w c -> b f h w c
///
/// # Panics
/// Sizes that do not go together, or that do not [fit](rms_fits); a machine that fails.
pub fn rms_finished(on: &Arc<dyn Machine>, x: &Tensor, finish: &Finish<'_>) -> Tensor {
    // The gradients of gains are f32, whatever the gains are.
    let gain = finish.gain.to_kind(Kind::Float);
    let shift = finish.shift.map(|shift| shift.to_kind(Kind::Float));
    let mut all = vec![x, &gain];
    all.extend(&shift);
    all.extend(finish.residual);
    let backward = Backward {
        on: Arc::clone(on),
        shift: shift.is_some(),
        residual: finish.residual.is_some(),
    };
    one(&all, |saved| {
        saved.keep(x);
        saved.keep(&gain);
        shift.iter().for_each(|shift| saved.keep(shift));
        let finish = Finish { gain: &gain, shift: shift.as_ref(), residual: finish.residual };
        match forward(&**on, x, &finish) {
            Ok(y) => (y, backward),
            Err(error) => panic!("RMS norm on a GPU: {error}"),
        }
    })
}

/// Tensors as the kernels take them.
struct Operands {
    lanes: Lanes,
    segments: u32,
    positions: u32,
    x: Tensor,
    gain: Tensor,
    shift: Option<Tensor>,
}

impl Operands {
    fn new(x: &Tensor, gain: &Tensor, shift: Option<&Tensor>) -> Self {
        let (size, c) = (x.size(), x.size()[4]);
        let (rows, images) = (gain.size()[0], size[0] * size[1]);
        let lanes = Lanes::new(x.kind(), c);
        let whole = rows > 0 && images % rows == 0 && gain.size() == [rows, c];
        let same = shift.is_none_or(|shift| shift.size() == gain.size());
        let (Some(lanes), true) = (lanes, whole && same) else {
            panic!("an RMS norm of {size:?} with {rows} rows of gains that no kernel takes");
        };
        let positions = images / rows * size[2] * size[3];
        Operands {
            lanes,
            segments: rows as u32,
            positions: u32::try_from(positions).unwrap_or(u32::MAX),
            x: operand(x),
            gain: operand(gain),
            shift: shift.map(operand),
        }
    }

    fn norm(&self, chunks: u32) -> Norm {
        Norm {
            x: read(&self.x),
            gain: floats(&self.gain),
            shift: read_or_null(self.shift.as_ref()).cast(),
            positions: self.positions,
            chunks,
            ..self.lanes.norm()
        }
    }
}

fn forward(on: &dyn Machine, x: &Tensor, finish: &Finish<'_>) -> vd_torch::Result<Tensor> {
    let of = Operands::new(x, finish.gain, finish.shift);
    let residual = finish.residual.map(operand);
    let y = of.x.empty_like();
    let Operands { lanes, segments, positions, .. } = of;
    let chunks = lanes.chunks(positions, segments, FORWARD * on.multiprocessors());
    let norm =
        Norm { residual: read_or_null(residual.as_ref()), out: y.data_ptr(), ..of.norm(chunks) };
    let launch = lanes.launch(segments, chunks, false);
    // SAFETY: tensors of one device, with the sizes that the struct says.
    unsafe { run(on, Unit::RMS_NORM, &lanes.kernel("rms_forward"), launch, &norm)? };
    Ok(y)
}

#[derive(Debug)]
struct Backward {
    on: Arc<dyn Machine>,
    shift: bool,
    residual: bool,
}

impl Function for Backward {
    fn backward(
        &self,
        saved: &[Tensor],
        grads: &[Option<Tensor>],
        needs: &[bool],
    ) -> Result<Vec<Option<Tensor>>, BoxError> {
        let ([x, gain, ..], Some(Some(grad))) = (saved, grads.first()) else {
            return Ok(none(needs.len()));
        };
        let of = Operands::new(x, gain, saved.get(2));
        let Operands { lanes, segments, positions, .. } = of;
        let grad_of_y = operand(&grad.to_kind(x.kind()));
        let wanted = BACKWARD * self.on.multiprocessors();
        let chunks = lanes.chunks_of_sums(positions, segments, wanted);
        let size = [i64::from(segments), i64::from(chunks), 2, i64::from(lanes.c)];
        let partials = Tensor::empty(size, (Kind::Float, x.device()));
        let out = of.x.empty_like();
        let norm = Norm {
            grad: read(&grad_of_y),
            out: out.data_ptr(),
            partials: floats(&partials),
            ..of.norm(chunks)
        };
        let launch = lanes.launch(segments, chunks, true);
        // SAFETY: tensors of one device, with the sizes that the struct says.
        unsafe { run(&*self.on, Unit::RMS_NORM, &lanes.kernel("rms_backward"), launch, &norm)? };
        let sums = partials.sum_dim_intlist([1i64].as_slice(), false, Kind::Float);
        let mut all = vec![Some(out), Some(sums.select(1, 0))];
        all.extend(self.shift.then(|| Some(sums.select(1, 1))));
        all.extend(self.residual.then(|| Some(grad.shallow_clone())));
        Ok(all)
    }

    fn name(&self) -> &'static str {
        "fused RMS norm on a GPU"
    }
}
