//! The decision whether a step is made: the loss and all gradients are checked on the device.

use std::ffi::c_void;
use std::sync::Arc;

use tch::{Device, Kind, Tensor};
use vd_torch::cuda::Launch;

use super::adamw::{MOST, each};
use super::machine::{has_kind, run};
use super::rows::{THREADS, kind_name, read};
use super::{Machine, Unit};

/// Bytes of shared memory in which a block sums.
const SHARED: u32 = THREADS * 8;
/// Numbers of a report before the norms of its tensors.
const HEAD: i64 = 3;

/// Declared as in `cu/adamw.cu`.
#[repr(C)]
struct Squares {
    of_blocks: *mut f64,
    norms: *mut f64,
    tensors: u32,
    begin: [u32; MOST + 1],
    values: [*const c_void; MOST],
    counts: [u64; MOST],
}

const _: () = assert!(size_of::<Squares>() <= 32764);

/// Declared as in `cu/adamw.cu`.
#[repr(C)]
struct Params {
    loss: *const f64,
    report: *mut f64,
    gates: *mut f32,
    halted: *mut u32,
    clip: f64,
    clipped: u32,
    tensors: u32,
}

/// The gradients of a step, and the maximum norm of some of them.
#[derive(Debug, Clone, Copy)]
pub struct Gradients<'a> {
    /// All gradients.
    pub all: &'a [Tensor],
    /// How many of them, from the first on, are clipped; the others are not.
    pub clipped: usize,
    /// The maximum norm of the clipped gradients together; 0 means no clipping.
    pub clip: f64,
}

/// The result of the check, in device memory.
#[derive(Debug)]
pub struct Verdict {
    /// For [`adamw_gated`](super::adamw_gated): for the clipped gradients, and for the others.
    ///
    /// # Shapes
    /// 2 2, f32
    pub gates: Tensor,
    /// The status of the step ([`Went`]), its loss, the norm of the clipped gradients, and the norm
    /// of each gradient.
    ///
    /// # Shapes
    /// 3 + gradients, f64
    pub report: Tensor,
}

impl Verdict {
    /// Memory for the results of so many gradients.
    ///
    /// # Errors
    /// Out of memory.
    pub fn new(gradients: usize, device: Device) -> vd_torch::Result<Self> {
        let gates = Tensor::f_zeros([2, 2], (Kind::Float, device))?;
        let report = Tensor::f_zeros([HEAD + gradients as i64], (Kind::Double, device))?;
        Ok(Verdict { gates, report })
    }
}

/// The status of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Went {
    /// It was made.
    Well,
    /// Its loss or a gradient is not finite: this step changes nothing, nor do the following ones.
    Badly,
    /// An earlier step went badly.
    Halted,
}

impl Went {
    /// Decodes the first number of a report.
    pub fn of(number: f64) -> Self {
        match number {
            0.0 => Went::Well,
            1.0 => Went::Badly,
            _ => Went::Halted,
        }
    }
}

/// The machine that runs [`judge`] on these gradients, if any: f32 or bf16, contiguous, on one
/// device.
pub fn judge_fits(grads: &[Tensor]) -> Option<Arc<dyn Machine>> {
    if !grads.iter().all(|t| has_kind(t.kind()) && t.is_contiguous()) {
        return None;
    }
    super::machine_of(Unit::ADAMW, &grads.iter().collect::<Vec<_>>())
}

/// Decides whether the step of these gradients is made, and the factor by which they are clipped,
/// without waiting for the device.
///
/// A step is not made if the loss or the norm of a gradient is not finite, nor are any later ones:
/// `halted` is 1 until its owner sets it to 0. The result is written to `verdict`.
///
/// # Shapes
/// `loss`: a scalar, f64; `halted`: 1, i32; both on the gradients' device
/// # Errors
/// Tensors of other kinds, on another device, or that do not [fit](judge_fits); a verdict on another
/// number of gradients; whatever the machine says.
/// # Reference
/// Clipping: Pascanu et al. 2013, algorithm 1, arXiv:1211.5063.
pub fn judge(
    on: &dyn Machine,
    loss: &Tensor,
    grads: Gradients<'_>,
    halted: &Tensor,
    Verdict { gates, report }: &Verdict,
) -> vd_torch::Result<()> {
    let (n, device) = (grads.all.len(), on.device());
    for (what, t, kind, count) in [
        ("the loss of a step", loss, Kind::Double, 1),
        ("the mark of a halted run", halted, Kind::Int, 1),
        ("the gates of a verdict", gates, Kind::Float, 4),
        ("the report of a verdict", report, Kind::Double, HEAD as usize + n),
    ] {
        if t.kind() != kind || t.numel() != count || !t.is_contiguous() || t.device() != device {
            return Err(refused(what, &format!("{count} contiguous {kind:?} on {device:?}"), t));
        }
    }
    let fits = |t: &&Tensor| has_kind(t.kind()) && t.is_contiguous() && t.device() == device;
    if let Some(t) = grads.all.iter().find(|t| !fits(t)) {
        return Err(refused("a gradient", &format!("contiguous f32 or bf16 on {device:?}"), t));
    }
    let mut at = 0;
    // Runs of consecutive tensors of one dtype.
    for run in grads.all.chunk_by(|a, b| a.kind() == b.kind()) {
        for some in run.chunks(MOST) {
            let norms = report.f_narrow(0, HEAD + at, some.len() as i64)?;
            write_norms(on, some, &norms)?;
            at += some.len() as i64;
        }
    }
    let params = Params {
        loss: loss.data_ptr() as *const f64,
        report: report.data_ptr().cast(),
        gates: gates.data_ptr().cast(),
        halted: halted.data_ptr().cast(),
        clip: grads.clip,
        clipped: grads.clipped as u32,
        tensors: n as u32,
    };
    let launch = Launch { blocks: 1, threads: THREADS, shared: SHARED };
    // SAFETY: tensors of one device, with the sizes given in the struct.
    unsafe { run(on, Unit::ADAMW, "verdict", launch, &params) }
}

fn refused(what: &str, expected: &str, got: &Tensor) -> vd_torch::Error {
    let why = format!("expected {expected}, got {got:?}");
    vd_torch::Error::Driver { what: what.to_owned(), why }
}

/// The norm of each of some tensors of one kind.
fn write_norms(on: &dyn Machine, tensors: &[Tensor], norms: &Tensor) -> vd_torch::Result<()> {
    let kind = tensors[0].kind();
    let mut params = Box::new(Squares {
        of_blocks: std::ptr::null_mut(),
        norms: norms.data_ptr().cast(),
        tensors: tensors.len() as u32,
        begin: [0; MOST + 1],
        values: [std::ptr::null(); MOST],
        counts: [0; MOST],
    });
    let mut blocks = 0u64;
    for (i, tensor) in tensors.iter().enumerate() {
        params.values[i] = read(tensor);
        params.counts[i] = tensor.numel() as u64;
        // At least one: otherwise an empty tensor would share the next tensor's block.
        blocks += (tensor.numel() as u64).div_ceil(each(kind)).max(1);
        params.begin[i + 1] = u32::try_from(blocks).unwrap_or(u32::MAX);
    }
    let of_blocks = Tensor::f_empty([blocks as i64], (Kind::Double, norms.device()))?;
    params.of_blocks = of_blocks.data_ptr().cast();
    let blocks = params.begin[tensors.len()];
    let launch = |blocks| Launch { blocks, threads: THREADS, shared: SHARED };
    let squares = format!("squares_{}", kind_name(kind));
    // SAFETY: tensors of one device, with the sizes given in the struct.
    unsafe {
        run(on, Unit::ADAMW, &squares, launch(blocks), &*params)?;
        run(on, Unit::ADAMW, "norms", launch(tensors.len() as u32), &*params)
    }
}
