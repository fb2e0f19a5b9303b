//! Dropout.

use std::ffi::c_void;
use std::sync::Arc;

use tch::Tensor;
use vd_torch::cuda::Launch;
use vd_torch::{BoxError, Function};

use super::machine::{check_operands, number, run};
use super::rows::{THREADS, kind_name, operand, vector};
use super::{Machine, Unit};
use crate::kernels::cpu::{DropMask, none, one};

/// Samples per launch; as in `cu/dropout.cu`.
const MOST: usize = 512;
/// Vectors per thread.
const STEPS: u64 = 4;

/// Declared as in `cu/dropout.cu`.
#[repr(C)]
struct Params {
    x: *const c_void,
    y: *mut c_void,
    each: u64,
    site: u64,
    frames: u32,
    chunks: u32,
    bound: u32,
    gain: f32,
    seeds: [u64; MOST],
}

/// The machine that runs [`dropped_out`] on this tensor, if any: f32 or bf16.
pub fn drop_fits(x: &Tensor) -> Option<Arc<dyn Machine>> {
    if x.numel() == 0 { None } else { super::machine_of(Unit::DROPOUT, &[x]) }
}

/// [`crate::kernels::cpu::dropped_out`] on a GPU: the same values are dropped.
///
/// # Shapes
/// b f ... -> the same
/// # Panics
/// Fewer than two axes, a number of seeds that differs from that of samples, a tensor that does not
/// [fit](drop_fits); a machine error.
pub fn dropped_out(on: &Arc<dyn Machine>, x: &Tensor, mask: &DropMask) -> Tensor {
    let backward = Backward { on: Arc::clone(on), mask: mask.clone() };
    one(&[x], |_| match drop_out(&**on, x, mask) {
        Ok(y) => (y, backward),
        Err(error) => panic!("dropout on a GPU: {error}"),
    })
}

fn drop_out(on: &dyn Machine, x: &Tensor, mask: &DropMask) -> vd_torch::Result<Tensor> {
    let size = x.size();
    mask.check(x);
    check_operands(on, "a dropout", &[x]);
    let x = operand(x);
    let y = x.empty_like();
    let frames = size[1] as u64;
    let each = size[2..].iter().product::<i64>() as u64;
    let chunks = each.div_ceil(u64::from(THREADS) * STEPS * vector(x.kind()) as u64);
    for (i, seeds) in mask.seeds.chunks(MOST).enumerate() {
        let (first, count) = ((i * MOST) as i64, seeds.len() as i64);
        let part = |of: &Tensor| of.narrow(0, first, count).data_ptr();
        let blocks = number("blocks of a dropout", (count as u64 * frames * chunks) as i64);
        let mut params = Params {
            x: part(&x).cast_const(),
            y: part(&y),
            each,
            site: mask.site,
            frames: frames as u32,
            chunks: chunks as u32,
            bound: mask.bound(),
            gain: mask.gain as f32,
            seeds: [0; MOST],
        };
        params.seeds[..seeds.len()].copy_from_slice(seeds);
        let launch = Launch { blocks, threads: THREADS, shared: 0 };
        let kernel = format!("drop_out_{}", kind_name(x.kind()));
        // SAFETY: tensors of one device, with the sizes given in the struct.
        unsafe { run(on, Unit::DROPOUT, &kernel, launch, &params)? };
    }
    Ok(y)
}

#[derive(Debug)]
struct Backward {
    on: Arc<dyn Machine>,
    mask: DropMask,
}

impl Function for Backward {
    fn backward(
        &self,
        _saved: &[Tensor],
        grads: &[Option<Tensor>],
        needs: &[bool],
    ) -> Result<Vec<Option<Tensor>>, BoxError> {
        let Some(Some(grad)) = grads.first() else { return Ok(none(needs.len())) };
        Ok(vec![Some(drop_out(&*self.on, grad, &self.mask)?)])
    }

    fn name(&self) -> &'static str {
        "dropout on a GPU"
    }
}
