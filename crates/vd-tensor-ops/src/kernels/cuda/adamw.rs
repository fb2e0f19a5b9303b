//! The optimiser step and the moving average of the weights, for many tensors in one launch.

use std::ffi::c_void;
use std::sync::Arc;

use tch::{Kind, Tensor};
use vd_torch::cuda::Launch;
use vd_torch::{AdamWStep, mark_changed};

use super::machine::{has_kind, run};
use super::rows::{THREADS, floats, kind_name, vector};
use super::{Machine, Unit};
use crate::kernels::cpu::{AdamWTensors, Numbers, changed};

/// Tensors per launch, limited by the 32764 bytes of its struct; as in `cu/adamw.cu`.
pub(super) const MOST: usize = 512;
/// Vectors per thread.
const STEPS: u64 = 4;

/// Values per block.
pub(super) fn each(kind: Kind) -> u64 {
    u64::from(THREADS) * STEPS * vector(kind) as u64
}

/// Declared as in `cu/adamw.cu`.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
struct Entry {
    param: *mut c_void,
    grad: *const c_void,
    exp_avg: *mut c_void,
    exp_avg_sq: *mut c_void,
    average: *mut c_void,
    count: u64,
}

/// Declared as in `cu/adamw.cu`.
#[repr(C)]
struct Params {
    live: *const f32,
    gate: *const f32,
    numbers: Numbers,
    tensors: u32,
    begin: [u32; MOST],
    entries: [Entry; MOST],
}

const _: () = assert!(size_of::<Params>() <= 32764);

/// The machine that runs [`adamw`] on these tensors, if any: each parameter's tensors share one
/// dtype, f32 or bf16; all are contiguous and on one device.
pub fn adamw_fits(tensors: &[AdamWTensors<'_>]) -> Option<Arc<dyn Machine>> {
    let flat: Vec<&Tensor> = tensors.iter().flat_map(all).collect();
    if tensors.iter().all(takes) { super::machine_of(Unit::ADAMW, &flat) } else { None }
}

/// Whether the kernel takes these, wherever they are.
fn takes(of: &AdamWTensors<'_>) -> bool {
    let (kind, count) = (of.param.kind(), of.param.numel());
    has_kind(kind) && all(of).all(|t| t.kind() == kind && t.is_contiguous() && t.numel() == count)
}

fn all<'a>(of: &AdamWTensors<'a>) -> impl Iterator<Item = &'a Tensor> + use<'a> {
    [of.param, of.grad, of.exp_avg, of.exp_avg_sq].into_iter().chain(of.average)
}

/// [`crate::kernels::cpu::adamw`] on a GPU, computed in f32 and rounded to the tensors' dtype; one
/// launch for up to 512 tensors of a dtype.
///
/// # Errors
/// Tensors that do not [fit](adamw_fits) or are on another device, of which none is changed; whatever
/// the machine says: some parameters may be a step ahead then.
pub fn adamw(
    on: &Arc<dyn Machine>,
    step: &AdamWStep,
    done: i64,
    (shrink, decay): (f64, f64),
    tensors: &[AdamWTensors<'_>],
) -> vd_torch::Result<()> {
    let null = std::ptr::null();
    step_all(on, tensors, (Numbers::new(step, done, (shrink, decay)), null, null))
}

/// Numbers that [`adamw_gated`] reads from device memory, all of them f32: a recorded launch is
/// replayed with other numbers.
#[derive(Debug, Clone, Copy)]
pub struct Live<'a> {
    /// [`adamw_numbers`].
    ///
    /// # Shapes
    /// 8
    pub numbers: &'a Tensor,
    /// From a [verdict](super::judge): an additional factor for the gradients, and whether the step
    /// is made at all.
    ///
    /// # Shapes
    /// 2
    pub gate: &'a Tensor,
}

/// As [`adamw`], with numbers in device memory.
///
/// # Errors
/// As [`adamw`]; numbers of other shapes or kinds.
pub fn adamw_gated(
    on: &Arc<dyn Machine>,
    tensors: &[AdamWTensors<'_>],
    Live { numbers, gate }: Live<'_>,
) -> vd_torch::Result<()> {
    for (t, n) in [(numbers, 8), (gate, 2)] {
        let floats = t.kind() == Kind::Float && t.is_contiguous() && t.device() == on.device();
        if t.numel() != n || !floats {
            return Err(vd_torch::Error::Driver {
                what: "the numbers of a step of AdamW".to_owned(),
                why: format!("expected {n} contiguous f32 on {:?}, got {t:?}", on.device()),
            });
        }
    }
    step_all(on, tensors, (Numbers::default(), floats(numbers), floats(gate)))
}

fn step_all(
    on: &Arc<dyn Machine>,
    tensors: &[AdamWTensors<'_>],
    from: (Numbers, *const f32, *const f32),
) -> vd_torch::Result<()> {
    let device = on.device();
    let fits = |of: &AdamWTensors<'_>| takes(of) && all(of).all(|t| t.device() == device);
    if let Some(of) = tensors.iter().find(|of| !fits(of)) {
        return Err(of.refused(&format!("contiguous f32 or bf16 on {device:?}")));
    }
    for kind in [Kind::Float, Kind::BFloat16] {
        let of_kind = |of: &&AdamWTensors<'_>| of.param.kind() == kind && of.param.numel() > 0;
        let some: Vec<_> = tensors.iter().filter(of_kind).collect();
        for some in some.chunks(MOST) {
            launch(&**on, kind, some, from)?;
        }
    }
    // Values that a graph saved of them are stale now.
    mark_changed(changed(tensors))
}

/// The numbers of step `done` (from 1), as the kernel reads them.
pub fn adamw_numbers(step: &AdamWStep, done: i64, (shrink, decay): (f64, f64)) -> [f32; 8] {
    let Numbers { shrink, keep, fresh1, fresh2, rate, root, eps, follow } =
        Numbers::new(step, done, (shrink, decay));
    [shrink, keep, fresh1, fresh2, rate, root, eps, follow]
}

fn launch(
    on: &dyn Machine,
    kind: Kind,
    tensors: &[&AdamWTensors<'_>],
    (numbers, live, gate): (Numbers, *const f32, *const f32),
) -> vd_torch::Result<()> {
    let null = std::ptr::null_mut();
    let nobody =
        Entry { param: null, grad: null, exp_avg: null, exp_avg_sq: null, average: null, count: 0 };
    let mut params = Box::new(Params {
        live,
        gate,
        numbers,
        tensors: tensors.len() as u32,
        begin: [0; MOST],
        entries: [nobody; MOST],
    });
    let each = each(kind);
    let mut blocks = 0u64;
    for (i, of) in tensors.iter().enumerate() {
        params.begin[i] = u32::try_from(blocks).unwrap_or(u32::MAX);
        params.entries[i] = Entry {
            param: of.param.data_ptr(),
            grad: of.grad.data_ptr(),
            exp_avg: of.exp_avg.data_ptr(),
            exp_avg_sq: of.exp_avg_sq.data_ptr(),
            average: of.average.map_or(null, Tensor::data_ptr),
            count: of.param.numel() as u64,
        };
        blocks += (of.param.numel() as u64).div_ceil(each);
    }
    let blocks = u32::try_from(blocks).unwrap_or(u32::MAX);
    let launch = Launch { blocks, threads: THREADS, shared: 0 };
    let kernel = format!("adamw_{}", kind_name(kind));
    // SAFETY: tensors of one device, with the sizes given in the struct.
    unsafe { run(on, Unit::ADAMW, &kernel, launch, &*params) }
}
