//! Rows of conditioning, with a placeholder for those that are dropped.

use std::ffi::c_void;
use std::sync::Arc;

use tch::{Kind, Tensor};
use vd_torch::cuda::Launch;
use vd_torch::{BoxError, Function};

use super::machine::{check_operands, run};
use super::rows::{THREADS, floats, kind_name};
use super::{Machine, Unit};
use crate::kernels::cpu::{none, one};

/// Declared as in `cu/stand_in.cu`.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
struct Params {
    rows: *const c_void,
    null: *const c_void,
    mask: *const u8,
    grad: *const c_void,
    out: *mut c_void,
    null_grad: *mut f32,
    b: u32,
    row_frames: u32,
    mask_frames: u32,
    frames: u32,
    d: u32,
}

/// b, frames of the rows, frames of the mask, d.
type Sizes = [i64; 4];

fn sizes(rows: &Tensor, null: &Tensor, mask: &Tensor) -> Option<Sizes> {
    let (&[b, row_frames, d], &[mask_b, mask_frames, 1]) =
        (rows.size().as_slice(), mask.size().as_slice())
    else {
        return None;
    };
    let one_or = |n: i64, other: i64| n == 1 || other == 1 || n == other;
    let fits = mask_b == b && one_or(row_frames, mask_frames) && null.numel() as i64 == d;
    let all = b * row_frames.max(mask_frames) * d;
    (fits && all > 0 && i32::try_from(all).is_ok()).then_some([b, row_frames, mask_frames, d])
}

/// The machine that runs [`stand_in`] on these tensors, if any: rows and placeholder both of f32 or
/// of bf16, a mask of bool.
pub fn stand_in_fits(rows: &Tensor, null: &Tensor, mask: &Tensor) -> Option<Arc<dyn Machine>> {
    if rows.kind() != null.kind() || mask.kind() != Kind::Bool || sizes(rows, null, mask).is_none()
    {
        return None;
    }
    super::machine_of(Unit::STAND_IN, &[rows, null, mask])
}

/// The placeholder where the mask is true, the rows elsewhere.
///
/// # Shapes
/// `rows`: b (1 or f) d; `null`: 1 d; `mask`: b (1 or f) 1 -> b f d, or b 1 d if both have one
/// # Panics
/// Tensors that do not [fit](stand_in_fits); a machine error.
pub fn stand_in(on: &Arc<dyn Machine>, rows: &Tensor, null: &Tensor, mask: &Tensor) -> Tensor {
    check_operands(&**on, "stand-ins", &[rows, null, mask]);
    let alike = rows.kind() == null.kind() && mask.kind() == Kind::Bool;
    let Some(sizes) = sizes(rows, null, mask).filter(|_| alike) else {
        panic!(
            "stand-ins: expected rows b (1 or f) d, as many values d of their kind and a mask of Bool, \
             b (1 or f) 1, got shapes {:?}, {:?} and {:?} of {:?}, {:?} and {:?}",
            rows.size(),
            null.size(),
            mask.size(),
            rows.kind(),
            null.kind(),
            mask.kind()
        );
    };
    let mask = mask.contiguous();
    let backward = Backward { on: Arc::clone(on), sizes };
    one(&[rows, null], |saved| {
        saved.keep(&mask);
        match forward(&**on, (rows, null, &mask), sizes) {
            Ok(y) => (y, backward),
            Err(error) => panic!("stand-ins on a GPU: {error}"),
        }
    })
}

fn params(mask: &Tensor, [b, row_frames, mask_frames, d]: Sizes) -> Params {
    Params {
        rows: std::ptr::null(),
        null: std::ptr::null(),
        mask: mask.data_ptr() as *const u8,
        grad: std::ptr::null(),
        out: std::ptr::null_mut(),
        null_grad: std::ptr::null_mut(),
        b: b as u32,
        row_frames: row_frames as u32,
        mask_frames: mask_frames as u32,
        frames: row_frames.max(mask_frames) as u32,
        d: d as u32,
    }
}

fn forward(
    on: &dyn Machine,
    (rows, null, mask): (&Tensor, &Tensor, &Tensor),
    sizes: Sizes,
) -> vd_torch::Result<Tensor> {
    let (rows, null) = (rows.detach().contiguous(), null.detach().contiguous());
    let [b, row_frames, mask_frames, d] = sizes;
    let out = Tensor::f_empty([b, row_frames.max(mask_frames), d], (rows.kind(), rows.device()))?;
    let params = Params {
        rows: rows.data_ptr(),
        null: null.data_ptr(),
        out: out.data_ptr(),
        ..params(mask, sizes)
    };
    let blocks = out.numel().div_ceil(THREADS as usize) as u32;
    let launch = Launch { blocks, threads: THREADS, shared: 0 };
    let kernel = format!("stand_in_forward_{}", kind_name(rows.kind()));
    // SAFETY: tensors of one device, with the sizes given in the struct.
    unsafe { run(on, Unit::STAND_IN, &kernel, launch, &params)? };
    Ok(out)
}

#[derive(Debug)]
struct Backward {
    on: Arc<dyn Machine>,
    sizes: Sizes,
}

impl Function for Backward {
    fn backward(
        &self,
        saved: &[Tensor],
        grads: &[Option<Tensor>],
        needs: &[bool],
    ) -> Result<Vec<Option<Tensor>>, BoxError> {
        let ([mask, ..], Some(Some(grad))) = (saved, grads.first()) else {
            return Ok(none(needs.len()));
        };
        let ([b, row_frames, _, d], grad) = (self.sizes, grad.contiguous());
        let like = (grad.kind(), grad.device());
        let rows = needs.first().is_some_and(|needed| *needed);
        let of_rows = rows.then(|| Tensor::empty([b, row_frames, d], like));
        let of_null = Tensor::empty([1, d], (Kind::Float, grad.device()));
        let params = Params {
            grad: grad.data_ptr(),
            out: of_rows.as_ref().map_or(std::ptr::null_mut(), Tensor::data_ptr),
            null_grad: floats(&of_null),
            ..params(mask, self.sizes)
        };
        let launch =
            Launch { blocks: (d as u32).div_ceil(32), threads: THREADS, shared: THREADS * 4 };
        let kernel = format!("stand_in_backward_{}", kind_name(grad.kind()));
        // SAFETY: tensors of one device, with the sizes given in the struct.
        unsafe { run(&*self.on, Unit::STAND_IN, &kernel, launch, &params)? };
        Ok(vec![of_rows, Some(of_null.to_kind(grad.kind()))])
    }

    fn name(&self) -> &'static str {
        "stand-ins on a GPU"
    }
}
