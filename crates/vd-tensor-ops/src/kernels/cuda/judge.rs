//! Whether a step may be made: what has to be known of a loss and of all gradients, found on the device.

use std::ffi::c_void;
use std::sync::Arc;

use tch::{Device, Kind, Tensor};
use vd_torch::cuda::Launch;

use super::adamw::{MOST, each};
use super::machine::run;
use super::rows::{THREADS, kind_name, read};
use super::{Machine, Unit};

/// Bytes in which a block adds up.
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

/// The gradients of a step, and the bound of some of them.
#[derive(Debug, Clone, Copy)]
pub struct Gradients<'a> {
    /// All of them.
    pub all: &'a [Tensor],
    /// How many, from the first on, have the bound; the others have none.
    pub clipped: usize,
    /// The largest norm of those together; 0 is no bound.
    pub clip: f64,
}

/// What a device found, in its own memory.
#[derive(Debug)]
pub struct Verdict {
    /// For [`adamw_gated`](super::adamw_gated): of the gradients with a bound, and of the others.
    ///
    /// # Shapes
    /// 2 2, f32
    pub gates: Tensor,
    /// How the step went ([`Went`]), its loss, the norm of the gradients with a bound, and the norm of
    /// each gradient.
    ///
    /// # Shapes
    /// 3 + gradients, f64
    pub report: Tensor,
}

impl Verdict {
    /// Room for what is found of so many gradients.
    ///
    /// # Errors
    /// Memory that runs out.
    pub fn new(gradients: usize, device: Device) -> vd_torch::Result<Self> {
        let gates = Tensor::f_zeros([2, 2], (Kind::Float, device))?;
        let report = Tensor::f_zeros([HEAD + gradients as i64], (Kind::Double, device))?;
        Ok(Verdict { gates, report })
    }
}

/// How a step went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Went {
    /// It was made.
    Well,
    /// Its loss or a gradient is not finite: nothing was changed, nor will be by those behind it.
    Badly,
    /// One before it went badly.
    Halted,
}

impl Went {
    /// What the first number of a report says.
    pub fn of(number: f64) -> Self {
        match number {
            0.0 => Went::Well,
            1.0 => Went::Badly,
            _ => Went::Halted,
        }
    }
}

/// What runs [`judge`] on these gradients, if anything does: f32 or bf16, contiguous, on one device.
pub fn judge_fits(grads: &[Tensor]) -> Option<Arc<dyn Machine>> {
    let kinds = [Kind::Float, Kind::BFloat16];
    if !grads.iter().all(|t| kinds.contains(&t.kind()) && t.is_contiguous()) {
        return None;
    }
    super::machine_of(Unit::ADAMW, &grads.iter().collect::<Vec<_>>())
}

/// Whether the step of these gradients may be made, and what they are shrunk by: nobody waits for it.
///
/// A step is not made where the loss or the norm of a gradient is not finite, and from then on none
/// is: `halted` is 1 until its owner sets it to 0. What is found is written to `verdict`.
///
/// # Shapes
/// `loss`: a scalar, f64; `halted`: 1, i32; both on the gradients' device
/// # Errors
/// Whatever the machine says.
/// # Panics
/// Tensors of other kinds, or that do not [fit](judge_fits); a verdict on another number of gradients.
/// # Reference
/// The bound: Pascanu et al. 2013, algorithm 1, arXiv:1211.5063.
pub fn judge(
    on: &dyn Machine,
    loss: &Tensor,
    grads: Gradients<'_>,
    halted: &Tensor,
    Verdict { gates, report }: &Verdict,
) -> vd_torch::Result<()> {
    let of = |t: &Tensor, kind| t.numel() == 1 && t.kind() == kind;
    let fit = of(loss, Kind::Double) && of(halted, Kind::Int) && judge_fits(grads.all).is_some();
    assert!(fit, "a loss and gradients that the kernel does not take");
    let n = grads.all.len();
    assert!(report.numel() == HEAD as usize + n, "a verdict on another number of gradients");
    let mut at = 0;
    // Tensors of a kind that follow each other.
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
    // SAFETY: tensors of one device, with the sizes that the struct says.
    unsafe { run(on, Unit::ADAMW, "verdict", launch, &params) }
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
        // One at least: a block that is nobody's would be taken for the next tensor's.
        blocks += (tensor.numel() as u64).div_ceil(each(kind)).max(1);
        params.begin[i + 1] = u32::try_from(blocks).unwrap_or(u32::MAX);
    }
    let of_blocks = Tensor::f_empty([blocks as i64], (Kind::Double, norms.device()))?;
    params.of_blocks = of_blocks.data_ptr().cast();
    let blocks = params.begin[tensors.len()];
    let launch = |blocks| Launch { blocks, threads: THREADS, shared: SHARED };
    let squares = format!("squares_{}", kind_name(kind));
    // SAFETY: tensors of one device, with the sizes that the struct says.
    unsafe {
        run(on, Unit::ADAMW, &squares, launch(blocks), &*params)?;
        run(on, Unit::ADAMW, "norms", launch(tensors.len() as u32), &*params)
    }
}
