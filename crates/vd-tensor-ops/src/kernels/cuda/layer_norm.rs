//! Layer norm over channels.

use std::sync::Arc;

use tch::{Kind, Tensor};
use vd_torch::{BoxError, Function, apply};

use super::machine::{check_operands, number, run};
use super::rows::{Lanes, Norm, floats, operand, read, read_or_null};
use super::{Machine, Unit};
use crate::kernels::check;
use crate::kernels::cpu::none;

/// Blocks per multiprocessor: more if there is no final sum per block.
const FORWARD: u32 = 16;
const BACKWARD: u32 = 4;

/// The machine that runs [`layer_norm`] on these tensors, if any: `x` of f32 or bf16, up to 1024
/// channels, a multiple of 4 or 8.
///
/// # Shapes
/// `x`: ... c; `gain`: c
pub fn layer_norm_fits(x: &Tensor, gain: &Tensor) -> Option<Arc<dyn Machine>> {
    if x.numel() == 0 {
        return None;
    }
    Lanes::new(x.kind(), x.size().last().copied().unwrap_or(0))?;
    super::machine_of(Unit::LAYER_NORM, &[x, gain])
}

/// Layer norm without a bias, and the node of the residual connection around it.
#[derive(Debug)]
pub struct LayerNormed {
    /// # Shapes
    /// ... c
    pub y: Tensor,
    /// A placeholder for x in the residual sum, as long as there is a graph: its gradient is added
    /// to that of x in the same pass. It has x's shape and no values.
    pub around: Option<Tensor>,
}

/// y = (x - mean) / sqrt(variance + 1e-5) gain over the last axis.
///
/// # Shapes
/// `x`: ... c; `gain`: c
///
/// # Panics
/// Sizes that do not match, or that do not [fit](layer_norm_fits); a machine error.
pub fn layer_norm(on: &Arc<dyn Machine>, x: &Tensor, gain: &Tensor) -> LayerNormed {
    // The gradient of the gain is f32, whatever the dtype of the gain.
    let gain = &gain.to_kind(Kind::Float);
    let outputs = apply(&[x, gain], |saved| {
        saved.keep(x);
        saved.keep(gain);
        check_operands(&**on, "a layer norm", &[x, gain]);
        let mut outputs = vec![forward(&**on, x, gain)?];
        if saved.tracked() {
            let nothing = Tensor::empty([1], (x.kind(), x.device()));
            outputs.push(nothing.expand(x.size(), false));
        }
        Ok((outputs, Backward { on: Arc::clone(on) }))
    });
    let mut outputs = match outputs {
        Ok(outputs) => outputs.into_iter(),
        Err(error) => panic!("layer norm on a GPU: {error}"),
    };
    let Some(y) = outputs.next() else { unreachable!("the function has an output") };
    LayerNormed { y, around: outputs.next() }
}

/// Tensors as the kernels take them.
struct Operands {
    lanes: Lanes,
    positions: u32,
    x: Tensor,
    gain: Tensor,
}

impl Operands {
    fn new(x: &Tensor, gain: &Tensor) -> Self {
        let size = x.size();
        let c = size.last().copied().unwrap_or(0);
        let (Some(lanes), true) = (Lanes::new(x.kind(), c), gain.size() == [c] && x.numel() > 0)
        else {
            panic!(
                "a layer norm of {:?}: expected shape ... c, c up to 1024, whole vectors, and gains of \
                 shape [c], got {size:?} and {:?}",
                x.kind(),
                gain.size()
            );
        };
        let positions = number("positions of a layer norm", x.numel() as i64 / c);
        Operands { lanes, positions, x: operand(x), gain: operand(gain) }
    }

    fn norm(&self, chunks: u32) -> Norm {
        self.lanes.norm_of((&self.x, &self.gain), self.positions, chunks)
    }
}

fn forward(on: &dyn Machine, x: &Tensor, gain: &Tensor) -> vd_torch::Result<Tensor> {
    let of = Operands::new(x, gain);
    let y = of.x.empty_like();
    let chunks = of.lanes.chunks(of.positions, 1, FORWARD * on.multiprocessors());
    let norm = Norm { out: y.data_ptr(), ..of.norm(chunks) };
    let launch = of.lanes.launch(1, chunks, false);
    // SAFETY: tensors of one device, with the sizes given in the struct.
    unsafe { run(on, Unit::LAYER_NORM, &of.lanes.kernel("layer_forward"), launch, &norm)? };
    Ok(y)
}

#[derive(Debug)]
struct Backward {
    on: Arc<dyn Machine>,
}

impl Function for Backward {
    fn backward(
        &self,
        saved: &[Tensor],
        grads: &[Option<Tensor>],
        needs: &[bool],
    ) -> Result<Vec<Option<Tensor>>, BoxError> {
        let ([x, gain], [grad, around]) = (saved, grads) else { return Ok(none(needs.len())) };
        let around = around.as_ref().map(|grad| grad.to_kind(x.kind()));
        let Some(grad) = grad else { return Ok(vec![around, None]) };
        let of = Operands::new(x, gain);
        let (grad, around) = (operand(&grad.to_kind(x.kind())), around.as_ref().map(operand));
        let wanted = BACKWARD * self.on.multiprocessors();
        let chunks = of.lanes.chunks_of_sums(of.positions, 1, wanted);
        let size = [i64::from(chunks), i64::from(of.lanes.c)];
        let partials = Tensor::empty(size, (Kind::Float, x.device()));
        let out = of.x.empty_like();
        let norm = Norm {
            grad: read(&grad),
            residual: read_or_null(around.as_ref()),
            out: out.data_ptr(),
            partials: floats(&partials),
            ..of.norm(chunks)
        };
        let (kernel, launch) =
            (of.lanes.kernel("layer_backward"), of.lanes.launch(1, chunks, true));
        // SAFETY: tensors of one device, with the sizes given in the struct.
        unsafe { run(&*self.on, Unit::LAYER_NORM, &kernel, launch, &norm)? };
        let gain = partials.sum_dim_intlist([0i64].as_slice(), false, Kind::Float);
        Ok(vec![Some(out), Some(gain)])
    }

    fn name(&self) -> &'static str {
        "fused layer norm on a GPU"
    }
}

/// x + y, where `around` represents x in the graph.
///
/// # Shapes
/// alike
///
/// # Panics
/// Tensors of different shapes.
pub fn add_around(x: &Tensor, around: &Tensor, y: &Tensor) -> Tensor {
    let size = x.size();
    check::shape("the place of a sum", around, &size);
    check::shape("a sum with what goes around", y, &size);
    crate::kernels::cpu::one(&[around, y], |_| (x.detach() + y.detach(), Add))
}

#[derive(Debug)]
struct Add;

impl Function for Add {
    fn backward(
        &self,
        _saved: &[Tensor],
        grads: &[Option<Tensor>],
        needs: &[bool],
    ) -> Result<Vec<Option<Tensor>>, BoxError> {
        let grad = || grads.first().and_then(|grad| Some(grad.as_ref()?.shallow_clone()));
        Ok(needs.iter().map(|need| need.then(grad).flatten()).collect())
    }

    fn name(&self) -> &'static str {
        "sum with what went around a norm"
    }
}
