//! RMS norm, scale, shift, SiLU and residual.

use std::ffi::c_void;
use std::sync::Arc;

use tch::{Kind, Tensor};
use vd_torch::cuda::Launch;
use vd_torch::{BoxError, Function};

use super::machine::run;
use super::rows::{self, Lanes, Norm, floats, kind_name, operand, read, read_or_null, vector};
use super::{Machine, Unit};
use crate::kernels::cpu::{none, one};

/// Blocks for each multiprocessor where nothing is added up at the end of one.
const FORWARD: u32 = 16;
/// Of the blocks that add up the sums of others; as in `cu/rms_norm.cu`.
const FOLD_THREADS: u32 = 512;

/// Channels of a lane up to which the kernel adds up the gradient of the bias; as in `cu/rms_norm.cu`.
const SUMS_OF_BIAS: i64 = 16;

/// What is done to the output of a convolution: y = silu(z / max(|z|, 1e-12) gain factor (scale + 1) +
/// shift) + residual, where z = x + bias.
#[derive(Debug, Clone, Copy)]
pub struct RmsFinish<'a> {
    /// Of the convolution, f32.
    ///
    /// # Shapes
    /// c
    pub bias: Option<&'a Tensor>,
    /// f32.
    ///
    /// # Shapes
    /// c
    pub gain: &'a Tensor,
    /// Multiplies the gain.
    pub factor: f64,
    /// Scale and shift for every so many neighbouring images.
    ///
    /// # Shapes
    /// r c each, or with axes of 1 among them
    pub film: Option<[&'a Tensor; 2]>,
    /// Added at the end.
    ///
    /// # Shapes
    /// b f h w c
    pub residual: Option<&'a Tensor>,
}

/// What runs [`rms_finished`] on these tensors, if anything does: x and residual of f32 or of bf16, up to
/// 1024 channels, a multiple of 4 or 8. The others are cast where they are of another kind than said.
pub fn rms_fits(x: &Tensor, finish: &RmsFinish<'_>) -> Option<Arc<dyn Machine>> {
    let mut beside = vec![finish.gain];
    beside.extend(finish.bias);
    beside.extend(finish.film.into_iter().flatten());
    rows::fits(Unit::RMS_NORM, x, &beside, finish.residual)
}

/// What [`RmsFinish`] says of a convolution's output.
///
/// # Shapes
/// b f h w c -> b f h w c
///
/// # Panics
/// Sizes that do not go together, or that do not [fit](rms_fits); a machine that fails.
pub fn rms_finished(on: &Arc<dyn Machine>, x: &Tensor, finish: &RmsFinish<'_>) -> Tensor {
    let film = finish.film.map(|film| film.map(|t| t.to_kind(x.kind())));
    // The gradients of gain and bias are f32, whatever they are.
    let gain = finish.gain.to_kind(Kind::Float);
    let bias = finish.bias.map(|bias| bias.to_kind(Kind::Float));
    let inputs = [x, &gain].into_iter().chain(&bias).chain(film.iter().flatten());
    let saved: Vec<&Tensor> = inputs.collect();
    let all: Vec<&Tensor> = saved.iter().copied().chain(finish.residual).collect();
    let backward = Backward {
        on: Arc::clone(on),
        bias: bias.is_some(),
        residual: finish.residual.is_some(),
        factor: finish.factor,
    };
    one(&all, |keep| {
        saved.iter().for_each(|t| keep.keep(t));
        let film = film.as_ref().map(|film| film.each_ref());
        let finish = RmsFinish { bias: bias.as_ref(), gain: &gain, film, ..*finish };
        match forward(&**on, x, &finish) {
            Ok(y) => (y, backward),
            Err(error) => panic!("RMS norm on a GPU: {error}"),
        }
    })
}

/// Declared as in `cu/rms_norm.cu`.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
struct Rms {
    norm: Norm,
    bias: *const f32,
    scale: *const c_void,
    shift: *const c_void,
    step: u32,
    factor: f32,
}

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

/// Scale and shift, one row after the other.
struct Film {
    scale: Tensor,
    shift: Tensor,
    rows: i64,
    step: i64,
}

impl Film {
    /// Rows that lie as the kernel reads them are taken where they are.
    fn new([scale, shift]: [&Tensor; 2], c: i64) -> Self {
        let flat = |t: &Tensor| t.detach().reshape([-1, c]);
        let (scale, shift) = (flat(scale), flat(shift));
        let stride = |t: &Tensor| if t.size()[0] == 1 { c } else { t.stride()[0] };
        let lies = |t: &Tensor| {
            t.stride()[1] == 1 && stride(t) % c == 0 && (t.data_ptr() as usize).is_multiple_of(16)
        };
        let (scale, shift) = if lies(&scale) && lies(&shift) && stride(&scale) == stride(&shift) {
            (scale, shift)
        } else {
            (operand(&scale), operand(&shift))
        };
        Film { rows: scale.size()[0], step: stride(&scale), scale, shift }
    }
}

/// Tensors as the kernels take them.
struct Operands {
    lanes: Lanes,
    segments: u32,
    positions: u32,
    factor: f32,
    x: Tensor,
    gain: Tensor,
    bias: Option<Tensor>,
    film: Option<Film>,
}

impl Operands {
    fn new(x: &Tensor, finish: &RmsFinish<'_>) -> Self {
        let (size, c) = (x.size(), x.size()[4]);
        let film = finish.film.map(|film| Film::new(film, c));
        let (rows, images) = (film.as_ref().map_or(1, |film| film.rows), size[0] * size[1]);
        let lanes = Lanes::new(x.kind(), c);
        let whole = rows > 0
            && images % rows == 0
            && film.as_ref().is_none_or(|film| film.scale.size() == film.shift.size())
            && [Some(finish.gain), finish.bias].into_iter().flatten().all(|t| t.size() == [c]);
        let (Some(lanes), true) = (lanes, whole) else {
            panic!("an RMS norm of {size:?} with {rows} rows of scales that no kernel takes");
        };
        let positions = images / rows * size[2] * size[3];
        Operands {
            lanes,
            segments: rows as u32,
            positions: u32::try_from(positions).unwrap_or(u32::MAX),
            factor: finish.factor as f32,
            x: operand(x),
            gain: operand(finish.gain),
            bias: finish.bias.map(operand),
            film,
        }
    }

    fn norm(&self, chunks: u32) -> Norm {
        self.lanes.norm_of((&self.x, &self.gain), self.positions, chunks)
    }

    fn rms(&self, norm: Norm) -> Rms {
        let film = self.film.as_ref();
        Rms {
            norm,
            bias: read_or_null(self.bias.as_ref()).cast(),
            scale: read_or_null(film.map(|film| &film.scale)),
            shift: read_or_null(film.map(|film| &film.shift)),
            step: film.map_or(0, |film| film.step as u32),
            factor: self.factor,
        }
    }
}

fn forward(on: &dyn Machine, x: &Tensor, finish: &RmsFinish<'_>) -> vd_torch::Result<Tensor> {
    let of = Operands::new(x, finish);
    let residual = finish.residual.map(operand);
    let y = of.x.empty_like();
    let Operands { lanes, segments, positions, .. } = of;
    let chunks = lanes.chunks(positions, segments, FORWARD * on.multiprocessors());
    let norm =
        Norm { residual: read_or_null(residual.as_ref()), out: y.data_ptr(), ..of.norm(chunks) };
    let launch = lanes.launch(segments, chunks, false);
    // SAFETY: tensors of one device, with the sizes that the struct says.
    unsafe { run(on, Unit::RMS_NORM, &lanes.kernel("rms_forward"), launch, &of.rms(norm))? };
    Ok(y)
}

#[derive(Debug)]
struct Backward {
    on: Arc<dyn Machine>,
    bias: bool,
    residual: bool,
    factor: f64,
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

/// Blocks of the backward that a multiprocessor has at a time, of 65536 registers: by NVRTC 13.0 a
/// thread takes 52 at most for a vector of f32 and 90 for two, 80 for one of bf16 and 128 for two, more
/// for more. With fewer it spills.
fn resident(lanes: Lanes) -> u32 {
    match (lanes.kind, lanes.vectors) {
        (Kind::Float, 1) => 4,
        (Kind::BFloat16, 1) => 3,
        (_, 2) => 2,
        _ => 1,
    }
}

impl Operands {
    /// The gradient of x, the sums of blocks, and how many of them each row has.
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
        // SAFETY: tensors of one device, with the sizes that the struct says.
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
        // SAFETY: tensors of one device, with the sizes that the struct says.
        unsafe { run(on, Unit::RMS_NORM, &kernel, launch, &fold)? };
        Ok((sums, rows))
    }
}
