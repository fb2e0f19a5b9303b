//! RMS norm, scale, shift, SiLU and residual.

mod back;

use std::ffi::c_void;
use std::sync::Arc;

use tch::{Kind, Tensor};

use super::machine::{check_operands, number, run};
use super::rows::{self, Lanes, Norm, check_residual, operand, read_or_null};
use super::{Machine, Unit};
use crate::kernels::check;
use crate::kernels::cpu::one;
use back::Backward;

/// Blocks per multiprocessor if there is no final sum per block.
const FORWARD: u32 = 16;

/// The operations after a convolution: y = silu(z / max(|z|, 1e-12) gain factor (scale + 1) +
/// shift) + residual, where z = x + bias.
#[derive(Debug, Clone, Copy)]
pub struct RmsFinish<'a> {
    /// Bias of the convolution, f32.
    ///
    /// # Shapes
    /// c
    pub bias: Option<&'a Tensor>,
    /// Gain of the norm, f32.
    ///
    /// # Shapes
    /// c
    pub gain: &'a Tensor,
    /// Multiplies the gain.
    pub factor: f64,
    /// Scale and shift, one row for each run of neighbouring images.
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

/// The machine that runs [`rms_finished`] on these tensors, if any: x and residual of f32 or of
/// bf16, up to 1024 channels, a multiple of 4 or 8. The other tensors are cast if they have another
/// dtype than documented.
pub fn rms_fits(x: &Tensor, finish: &RmsFinish<'_>) -> Option<Arc<dyn Machine>> {
    let mut beside = vec![finish.gain];
    beside.extend(finish.bias);
    beside.extend(finish.film.into_iter().flatten());
    rows::fits(Unit::RMS_NORM, x, &beside, finish.residual)
}

/// Applies [`RmsFinish`] to a convolution's output.
///
/// # Shapes
/// b f h w c -> b f h w c
///
/// # Panics
/// Sizes that do not match, or that do not [fit](rms_fits); a machine error.
pub fn rms_finished(on: &Arc<dyn Machine>, x: &Tensor, finish: &RmsFinish<'_>) -> Tensor {
    let mut given = vec![x, finish.gain];
    given.extend(finish.bias);
    given.extend(finish.film.into_iter().flatten());
    given.extend(finish.residual);
    check_operands(&**on, "an RMS norm", &given);
    check_residual("the residual of an RMS norm", x, finish.residual);
    let film = finish.film.map(|film| film.map(|t| t.to_kind(x.kind())));
    // The gradients of gain and bias are f32, whatever their dtype.
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

/// Scale and shift, one row after the other.
struct Film {
    scale: Tensor,
    shift: Tensor,
    rows: i64,
    step: i64,
}

impl Film {
    /// Rows that already have the layout that the kernel reads are used in place.
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
        let size = check::video("the input of an RMS norm", x);
        let c = size[4];
        for t in finish.film.into_iter().flatten() {
            let whole = t.size().last() == Some(&c);
            assert!(whole, "scale and shift: expected shape r {c}, got {:?}", t.size());
        }
        let film = finish.film.map(|film| Film::new(film, c));
        let (rows, images) = (film.as_ref().map_or(1, |film| film.rows), size[0] * size[1]);
        let lanes = Lanes::new(x.kind(), c);
        let whole = rows > 0
            && x.numel() > 0
            && images % rows == 0
            && film.as_ref().is_none_or(|film| film.scale.size() == film.shift.size())
            && [Some(finish.gain), finish.bias].into_iter().flatten().all(|t| t.size() == [c]);
        let (Some(lanes), true) = (lanes, whole) else {
            panic!(
                "an RMS norm of {:?}: expected channels up to 1024 that are whole vectors, rows of scales \
                 that divide the images, gains and a bias of shape [c], got {size:?}, {rows} rows, {:?} \
                 and {:?}",
                x.kind(),
                finish.gain.size(),
                finish.bias.map(Tensor::size)
            );
        };
        let positions = images / rows * size[2] * size[3];
        Operands {
            lanes,
            segments: number("rows of scales", rows),
            positions: number("positions of an RMS norm", positions),
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
    // SAFETY: tensors of one device, with the sizes given in the struct.
    unsafe { run(on, Unit::RMS_NORM, &lanes.kernel("rms_forward"), launch, &of.rms(norm))? };
    Ok(y)
}
