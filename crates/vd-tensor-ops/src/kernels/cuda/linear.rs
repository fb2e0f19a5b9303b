//! Linear attention over space, between the projection that makes queries, keys and values and the
//! one after it.

use std::ffi::c_void;
use std::sync::Arc;

use tch::{Kind, Tensor};
use vd_torch::cuda::Launch;
use vd_torch::{BoxError, Function};

use super::machine::{check_operands, number, run};
use super::rows::{THREADS, floats, kind_name, operand, read};
use super::{Machine, Unit};
use crate::kernels::check;
use crate::kernels::cpu::{none, one};
use crate::layers::HeadShape;

/// Blocks per multiprocessor.
const BLOCKS: u32 = 4;
/// Positions per tile; as in `cu/linear.cuh`.
const TILE: u32 = 64;

/// Declared as in `cu/linear.cuh`.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
struct Params {
    qkv: *const c_void,
    grad: *const c_void,
    out: *mut c_void,
    partials: *mut f32,
    context: *mut f32,
    context_grad: *mut f32,
    norms: *mut f32,
    sites: u32,
    heads: u32,
    chunks: u32,
    each: u32,
    scale: f32,
}

/// The machine that runs [`linear`] on this tensor, if any: f32 or bf16, heads of 16 or 32.
///
/// # Shapes
/// `qkv`: i s (3 n d)
pub fn linear_fits(qkv: &Tensor, shape: HeadShape) -> Option<Arc<dyn Machine>> {
    if ![16, 32].contains(&shape.dim) || qkv.numel() == 0 {
        return None;
    }
    super::machine_of(Unit::LINEAR, &[qkv])
}

/// Linear attention over the positions of each image: the softmax of queries runs over features,
/// that of keys over positions.
///
/// # Shapes
/// `qkv`: i s (3 n d) -> i s (n d)
///
/// # Panics
/// Sizes that do not match, or that do not [fit](linear_fits); a machine error.
pub fn linear(on: &Arc<dyn Machine>, qkv: &Tensor, shape: HeadShape) -> Tensor {
    check_operands(&**on, "linear attention", &[qkv]);
    one(&[qkv], |saved| match forward(&**on, qkv, shape) {
        Ok(Forward { y, context, norms }) => {
            [qkv, &context, &norms].into_iter().for_each(|t| saved.keep(t));
            (y, Backward { on: Arc::clone(on), shape })
        }
        Err(error) => panic!("linear attention on a GPU: {error}"),
    })
}

/// How positions are divided over blocks.
#[derive(Debug, Clone, Copy)]
struct Plan {
    units: u32,
    sites: u32,
    chunks: u32,
    each: u32,
    dim: u32,
    kind: Kind,
    shape: HeadShape,
}

impl Plan {
    fn new(on: &dyn Machine, qkv: &Tensor, shape: HeadShape) -> Plan {
        let (size, inner) = (qkv.size(), check::heads("linear attention", shape));
        let whole = size.len() == 3
            && size[2] == 3 * inner
            && [16, 32].contains(&shape.dim)
            && qkv.numel() > 0;
        assert!(
            whole,
            "linear attention of {shape:?}: expected heads of 16 or 32 and shape i s {}, got {size:?}",
            3 * inner
        );
        let number = |n: i64| number("sites of a linear attention", n);
        let (units, sites) = (number(size[0] * shape.heads), number(size[1]));
        let wanted = (BLOCKS * on.multiprocessors()).div_ceil(units);
        let each = sites.div_ceil(wanted).next_multiple_of(TILE);
        let (dim, kind) = (number(shape.dim), qkv.kind());
        Plan { units, sites, chunks: sites.div_ceil(each), each, dim, kind, shape }
    }

    fn params(&self, qkv: &Tensor) -> Params {
        let null = std::ptr::null_mut();
        Params {
            qkv: read(qkv),
            grad: std::ptr::null(),
            out: std::ptr::null_mut(),
            partials: null,
            context: null,
            context_grad: null,
            norms: null,
            sites: self.sites,
            heads: self.shape.heads as u32,
            chunks: self.chunks,
            each: self.each,
            scale: self.shape.scale() as f32,
        }
    }

    /// Floats for `count` rows of `each`, in the memory of the operands.
    fn room(&self, like: &Tensor, count: u32, each: u32) -> Tensor {
        Tensor::empty([i64::from(count), i64::from(each)], (Kind::Float, like.device()))
    }

    fn kernel(&self, name: &str) -> String {
        format!("linear_{name}_{}_{}", kind_name(self.kind), self.dim)
    }

    /// One block for each part of a unit, with `floats` floats of shared memory.
    fn launch(&self, floats: u32) -> Launch {
        Launch { blocks: self.units * self.chunks, threads: THREADS, shared: 4 * floats }
    }

    /// Two tiles, or all partial sums of a block.
    fn tiles(&self) -> u32 {
        let side = self.dim / 4;
        (2 * TILE * (self.dim + 4)).max(THREADS / (side * side) * self.dim * self.dim)
    }
}

struct Forward {
    y: Tensor,
    context: Tensor,
    norms: Tensor,
}

fn forward(on: &dyn Machine, qkv: &Tensor, shape: HeadShape) -> vd_torch::Result<Forward> {
    let (qkv, plan) = (operand(qkv), Plan::new(on, qkv, shape));
    let d = plan.dim;
    let partials = plan.room(&qkv, plan.units * plan.chunks, d * (d + 2));
    let (context, norms) = (plan.room(&qkv, plan.units, d * d), plan.room(&qkv, plan.units, 2 * d));
    let size = [qkv.size()[0], qkv.size()[1], shape.inner()];
    let y = Tensor::empty(size, (qkv.kind(), qkv.device()));
    let params = Params {
        out: y.data_ptr(),
        partials: floats(&partials),
        context: floats(&context),
        norms: floats(&norms),
        ..plan.params(&qkv)
    };
    let fold = Launch { blocks: plan.units, threads: THREADS, shared: 8 * d };
    // SAFETY: tensors of one device, with the sizes given in the struct.
    unsafe {
        let sums = plan.launch(plan.tiles() + 2 * d + THREADS);
        run(on, Unit::LINEAR, &plan.kernel("sums"), sums, &params)?;
        run(on, Unit::LINEAR, &format!("linear_fold_{d}"), fold, &params)?;
        run(on, Unit::LINEAR, &plan.kernel("forward"), plan.launch(d * d), &params)?;
    }
    Ok(Forward { y, context, norms })
}

#[derive(Debug)]
struct Backward {
    on: Arc<dyn Machine>,
    shape: HeadShape,
}

impl Function for Backward {
    fn backward(
        &self,
        saved: &[Tensor],
        grads: &[Option<Tensor>],
        needs: &[bool],
    ) -> Result<Vec<Option<Tensor>>, BoxError> {
        let ([qkv, context, norms], Some(Some(grad))) = (saved, grads.first()) else {
            return Ok(none(needs.len()));
        };
        let (on, qkv) = (&*self.on, operand(qkv));
        let (plan, grad) = (Plan::new(on, &qkv, self.shape), operand(&grad.to_kind(qkv.kind())));
        let (d, out) = (plan.dim, qkv.empty_like());
        let partials = plan.room(&qkv, plan.units * plan.chunks, d * d);
        let params = Params {
            grad: read(&grad),
            out: out.data_ptr(),
            partials: floats(&partials),
            context: floats(context),
            norms: floats(norms),
            ..plan.params(&qkv)
        };
        // SAFETY: tensors of one device, with the sizes given in the struct.
        unsafe {
            let sums = plan.launch(plan.tiles());
            run(on, Unit::LINEAR, &plan.kernel("backward_sums"), sums, &params)?;
            let slopes = partials.view([i64::from(plan.units), i64::from(plan.chunks), -1]);
            let slopes = slopes.sum_dim_intlist([1i64].as_slice(), false, Kind::Float);
            let params = Params { context_grad: floats(&slopes), ..params };
            run(
                on,
                Unit::LINEAR,
                &plan.kernel("backward"),
                plan.launch(2 * d * d + 3 * d),
                &params,
            )?;
        }
        Ok(vec![Some(out)])
    }

    fn name(&self) -> &'static str {
        "fused linear attention on a GPU"
    }
}
