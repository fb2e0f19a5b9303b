//! Group norm, scale, shift, SiLU and residual.

use std::sync::Arc;

use tch::{Kind, Tensor};
use vd_torch::cuda::Launch;
use vd_torch::{BoxError, Function};

use super::machine::{check_operands, number, run};
use super::rows::{
    self, Lanes, Norm, THREADS, check_residual, floats, kind_name, operand, read, read_or_null,
};
use super::{Machine, Unit};
use crate::kernels::check;
use crate::kernels::cpu::{GroupFinish, none, one};

/// Blocks per multiprocessor: more if there is no final sum per block.
const FORWARD: u32 = 16;
const SUMS: u32 = 4;

/// The machine that runs [`group_finished`] on these tensors, if any: all f32 or all bf16 (apart
/// from gains and shifts), up to 1024 channels, a multiple of 4 or 8.
pub fn group_fits(x: &Tensor, finish: &GroupFinish<'_>) -> Option<Arc<dyn Machine>> {
    rows::fits(Unit::GROUP_NORM, x, &[finish.gain, finish.shift], finish.residual)
}

/// [`crate::kernels::cpu::group_finished`] on a GPU.
///
/// # Shapes
/// b f h w c -> b f h w c
///
/// # Panics
/// Sizes that do not match, or that do not [fit](group_fits); a machine error.
pub fn group_finished(on: &Arc<dyn Machine>, x: &Tensor, finish: &GroupFinish<'_>) -> Tensor {
    let mut given = vec![x, finish.gain, finish.shift];
    given.extend(finish.residual);
    check_operands(&**on, "a group norm", &given);
    check_residual("the residual of a group norm", x, finish.residual);
    // The gradients of gains are f32, whatever the gains are.
    let [gain, shift] = [finish.gain, finish.shift].map(|t| t.to_kind(Kind::Float));
    let mut all = vec![x, &gain, &shift];
    all.extend(finish.residual);
    one(&all, |saved| {
        let finish = GroupFinish { gain: &gain, shift: &shift, ..*finish };
        match forward(&**on, x, &finish) {
            Ok((y, statistics)) => {
                [x, &gain, &shift, &statistics].into_iter().for_each(|t| saved.keep(t));
                let (groups, residual) = (finish.groups, finish.residual.is_some());
                (y, Backward { on: Arc::clone(on), groups, residual })
            }
            Err(error) => panic!("group norm on a GPU: {error}"),
        }
    })
}

/// Tensors as the kernels take them. The positions of a segment belong to one sample and one row of
/// gains.
struct Operands {
    lanes: Lanes,
    samples: u32,
    /// Positions per sample.
    positions: u32,
    /// Positions per segment.
    each: u32,
    segments: u32,
    per_row: u32,
    groups: u32,
    x: Tensor,
    gain: Tensor,
    shift: Tensor,
}

impl Operands {
    fn new(x: &Tensor, finish: &GroupFinish<'_>) -> Self {
        let GroupFinish { groups, gain, shift, .. } = finish;
        let size = check::video("the input of a group norm", x);
        let (c, area) = (size[4], size[2] * size[3]);
        let rows = check::rows("the gains after a group norm", gain, (size[0] * size[1], c));
        let lanes = Lanes::new(x.kind(), c);
        check::shape("the shifts after a group norm", shift, &[rows, c]);
        let whole = *groups > 0 && c % groups == 0 && x.numel() > 0;
        let (Some(lanes), true) = (lanes, whole) else {
            panic!(
                "a group norm of {:?}: expected channels up to 1024 that are whole vectors and whole \
                 groups, got shape {size:?} and {groups} groups",
                x.kind()
            );
        };
        let (positions, row) = (size[1] * area, size[0] * size[1] / rows * area);
        let each = common(positions, row);
        let number = |n: i64| number("positions of a group norm", n);
        Operands {
            lanes,
            samples: number(size[0]),
            positions: number(positions),
            each: number(each),
            segments: number(size[0] * positions / each),
            per_row: number(row / each),
            groups: number(*groups),
            x: operand(x),
            gain: operand(gain),
            shift: operand(shift),
        }
    }

    fn norm(&self, statistics: &Tensor, chunks: u32) -> Norm {
        Norm {
            x: read(&self.x),
            gain: floats(&self.gain),
            shift: floats(&self.shift),
            statistics: floats(statistics),
            positions: self.each,
            chunks,
            segments_per_row: self.per_row,
            segments_per_sample: self.positions / self.each,
            groups: self.groups,
            ..self.lanes.norm()
        }
    }

    /// Memory for `count` rows of 2 c numbers.
    fn room(&self, count: u32) -> Tensor {
        let size = [i64::from(count), 2, i64::from(self.lanes.c)];
        Tensor::empty(size, (Kind::Float, self.x.device()))
    }

    /// One block per sample.
    fn merge(&self) -> Launch {
        Launch { blocks: self.samples, threads: THREADS, shared: 16 * self.lanes.c }
    }
}

/// Greatest common divisor.
fn common(mut a: i64, mut b: i64) -> i64 {
    while b > 0 {
        (a, b) = (b, a % b);
    }
    a
}

fn forward(
    on: &dyn Machine,
    x: &Tensor,
    finish: &GroupFinish<'_>,
) -> vd_torch::Result<(Tensor, Tensor)> {
    let of = Operands::new(x, finish);
    let (lanes, unit) = (of.lanes, Unit::GROUP_NORM);
    let (statistics, y) = (of.room(of.samples), of.x.empty_like());
    let chunks = lanes.chunks_of_sums(of.positions, of.samples, SUMS * on.multiprocessors());
    let partials = of.room(of.samples * chunks);
    let whole = Norm {
        partials: floats(&partials),
        positions: of.positions,
        segments_per_sample: 1,
        ..of.norm(&statistics, chunks)
    };
    let sums = lanes.launch(of.samples, chunks, true);
    let merge = format!("group_statistics_{}", kind_name(x.kind()));
    let residual = finish.residual.map(operand);
    let last = lanes.chunks(of.each, of.segments, FORWARD * on.multiprocessors());
    let norm = Norm {
        residual: read_or_null(residual.as_ref()),
        out: y.data_ptr(),
        ..of.norm(&statistics, last)
    };
    let launch = lanes.launch(of.segments, last, false);
    // SAFETY: tensors of one device, with the sizes given in the structs.
    unsafe {
        run(on, unit, &lanes.kernel("group_sums"), sums, &whole)?;
        run(on, unit, &merge, of.merge(), &whole)?;
        run(on, unit, &lanes.kernel("group_forward"), launch, &norm)?;
    }
    Ok((y, statistics))
}

#[derive(Debug)]
struct Backward {
    on: Arc<dyn Machine>,
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
        let of = Operands::new(x, &finish);
        let (lanes, unit, on) = (of.lanes, Unit::GROUP_NORM, &*self.on);
        let chunks = lanes.chunks_of_sums(of.each, of.segments, SUMS * on.multiprocessors());
        let (partials, means) = (of.room(of.segments * chunks), of.room(of.samples));
        let (grad_of_y, out) = (operand(&grad.to_kind(x.kind())), of.x.empty_like());
        let norm = Norm {
            grad: read(&grad_of_y),
            out: out.data_ptr(),
            means: floats(&means),
            partials: floats(&partials),
            ..of.norm(statistics, chunks)
        };
        let last = lanes.chunks(of.each, of.segments, FORWARD * on.multiprocessors());
        // SAFETY: tensors of one device, with the sizes given in the structs.
        unsafe {
            let sums = lanes.launch(of.segments, chunks, true);
            run(on, unit, &lanes.kernel("group_backward_sums"), sums, &norm)?;
            run(on, unit, "group_means", of.merge(), &norm)?;
            let (launch, norm) =
                (lanes.launch(of.segments, last, false), Norm { chunks: last, ..norm });
            run(on, unit, &lanes.kernel("group_backward"), launch, &norm)?;
        }
        let rows = partials.view([gain.size()[0], -1, 2, i64::from(lanes.c)]);
        let sums = rows.sum_dim_intlist([1i64].as_slice(), false, Kind::Float);
        let mut all = vec![Some(out), Some(sums.select(1, 0)), Some(sums.select(1, 1))];
        all.extend(self.residual.then(|| Some(grad.shallow_clone())));
        Ok(all)
    }

    fn name(&self) -> &'static str {
        "fused group norm on a GPU"
    }
}
