//! The backward pass of an RMS norm: gradients and partial sums per block, and their final sums.

use std::ffi::c_void;
use std::sync::Arc;

use tch::{Kind, Tensor};
use vd_torch::cuda::Launch;
use vd_torch::{BoxError, Function};

use super::super::machine::run;
use super::super::rows::{Lanes, Norm, floats, kind_name, operand, read, read_or_null, vector};
use super::super::{Machine, Unit};
use super::{Operands, RmsFinish};
use crate::kernels::cpu::none;

/// Threads of the blocks that sum the partial sums of others; as in `cu/rms_norm.cu`.
const FOLD_THREADS: u32 = 512;

/// Maximum channels per lane with which the kernel sums the gradient of the bias; as in
/// `cu/rms_norm.cu`.
const SUMS_OF_BIAS: i64 = 16;

/// Declared as in `cu/rms_norm.cu`.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
struct Fold {
    partials: *const f32,
    gain: *const f32,
    scale: *const c_void,
    film: *mut c_void,
    sums: *mut f32,
    rows: u32,
    chunks: u32,
    c: u32,
    step: u32,
    factor: f32,
}

#[derive(Debug)]
pub(super) struct Backward {
    pub(super) on: Arc<dyn Machine>,
    pub(super) bias: bool,
    pub(super) residual: bool,
    pub(super) factor: f64,
}

impl Function for Backward {
    fn backward(
        &self,
        saved: &[Tensor],
        grads: &[Option<Tensor>],
        needs: &[bool],
    ) -> Result<Vec<Option<Tensor>>, BoxError> {
        let ([x, gain, rest @ ..], Some(Some(grad))) = (saved, grads.first()) else {
            return Ok(none(needs.len()));
        };
        let (bias, film) = rest.split_at_checked(usize::from(self.bias)).unwrap_or_default();
        let film = if let [scale, shift] = film { Some([scale, shift]) } else { None };
        let finish =
            RmsFinish { bias: bias.first(), gain, factor: self.factor, film, residual: None };
        let of = Operands::new(x, &finish);
        let grad_of_y = operand(&grad.to_kind(x.kind()));
        let (out, partials, chunks) = of.backward(&*self.on, &grad_of_y)?;
        let (sums, rows) = of.fold(&*self.on, &partials, chunks)?;
        let bias = self.bias.then(|| {
            if i64::from(of.lanes.vectors) * vector(x.kind()) <= SUMS_OF_BIAS {
                return Some(sums.select(0, 1));
            }
            Some(out.sum_dim_intlist([0i64, 1, 2, 3].as_slice(), false, Kind::Float))
        });
        let mut all = vec![Some(out), Some(sums.select(0, 0))];
        all.extend(bias);
        if let (Some(rows), Some(film)) = (rows, film) {
            all.extend([0, 1].map(|i| Some(rows.select(1, i).view(film[0].size().as_slice()))));
        }
        all.extend(self.residual.then(|| Some(grad.shallow_clone())));
        Ok(all)
    }

    fn name(&self) -> &'static str {
        "fused RMS norm on a GPU"
    }
}

/// Blocks of the backward that a multiprocessor holds at a time, with 65536 registers: compiled by
/// NVRTC 13.0 a thread takes at most 52 for one vector of f32 and 90 for two, 80 for one of bf16
/// and 128 for two, and more beyond that. With fewer registers it spills.
fn resident(lanes: Lanes) -> u32 {
    match (lanes.kind, lanes.vectors) {
        (Kind::Float, 1) => 4,
        (Kind::BFloat16, 1) => 3,
        (_, 2) => 2,
        _ => 1,
    }
}

impl Operands {
    /// The gradient of x, the sums of blocks, and the number of blocks per row.
    fn backward(&self, on: &dyn Machine, grad: &Tensor) -> vd_torch::Result<(Tensor, Tensor, u32)> {
        let Operands { lanes, segments, positions, .. } = *self;
        let places = resident(lanes) * on.multiprocessors();
        let chunks = lanes.chunks_in_waves(positions, segments, places);
        let size = [i64::from(segments * chunks), 3, i64::from(lanes.c)];
        let partials = Tensor::empty(size, (Kind::Float, grad.device()));
        let out = self.x.empty_like();
        let norm = Norm {
            grad: read(grad),
            out: out.data_ptr(),
            partials: floats(&partials),
            ..self.norm(chunks)
        };
        let launch = lanes.launch(segments, chunks, true);
        // SAFETY: tensors of one device, with the sizes given in the struct.
        unsafe { run(on, Unit::RMS_NORM, &lanes.kernel("rms_backward"), launch, &self.rms(norm))? };
        Ok((out, partials, chunks))
    }

    /// The gradients of gain and bias, and of scale and shift for each row.
    ///
    /// # Shapes
    /// 2 c; r 2 c
    fn fold(
        &self,
        on: &dyn Machine,
        partials: &Tensor,
        chunks: u32,
    ) -> vd_torch::Result<(Tensor, Option<Tensor>)> {
        let (c, device) = (i64::from(self.lanes.c), partials.device());
        let sums = Tensor::empty([2, c], (Kind::Float, device));
        let film = self.film.as_ref();
        let rows = film.map(|film| Tensor::empty([film.rows, 2, c], (self.x.kind(), device)));
        let fold = Fold {
            partials: floats(partials),
            gain: floats(&self.gain),
            scale: read_or_null(film.map(|film| &film.scale)),
            film: rows.as_ref().map_or(std::ptr::null_mut(), Tensor::data_ptr),
            sums: floats(&sums),
            rows: self.segments,
            chunks,
            c: self.lanes.c,
            step: film.map_or(0, |film| film.step as u32),
            factor: self.factor,
        };
        let blocks = self.lanes.c.div_ceil(32);
        let launch = Launch { blocks, threads: FOLD_THREADS, shared: 8 * FOLD_THREADS };
        let kernel = format!("rms_fold_{}", kind_name(self.x.kind()));
        // SAFETY: tensors of one device, with the sizes given in the struct.
        unsafe { run(on, Unit::RMS_NORM, &kernel, launch, &fold)? };
        Ok((sums, rows))
    }
}
