//! Attention along time, between the projection that makes queries, keys and values and the one
//! after it.

mod plan;

use std::ffi::c_void;
use std::sync::Arc;

use tch::{Kind, Tensor};
use vd_torch::cuda::Launch;
use vd_torch::{BoxError, Function};

use super::rows::{floats, kind_name, operand, read};
use super::{Machine, Unit, machine};
use crate::kernels::check;
use crate::kernels::cpu::{none, one};
use crate::layers::HeadShape;
use plan::{Pass, Plan};

/// Maximum number of frames: scores of all pairs are kept.
const FRAMES: i64 = 32;

/// Position information, and the mask between frames.
#[derive(Debug, Clone, Copy)]
pub struct Temporal<'a> {
    /// Cosine and sine of the rotary angle of each frame and rotated pair of features.
    ///
    /// # Shapes
    /// f t 2, f32
    pub turns: &'a Tensor,
    /// Added to the scores.
    ///
    /// # Shapes
    /// n f f
    pub bias: Option<&'a Tensor>,
    /// Masked pairs of frames.
    ///
    /// # Shapes
    /// bool, (b or 1) 1 1 f f
    pub forbidden: Option<&'a Tensor>,
}

/// Declared as in `cu/temporal.cuh`.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
struct Params {
    qkv: *const c_void,
    grad: *const c_void,
    out: *mut c_void,
    turns: *const f32,
    bias: *const f32,
    forbidden: *const u8,
    bias_grad: *mut f32,
    units: u64,
    sites: u32,
    frames: u32,
    heads: u32,
    heads_of_block: u32,
    turned: u32,
    per_block: u32,
    masks: u32,
    scale: f32,
}

/// The machine that runs [`temporal`] on these tensors, if any: f32 or bf16, heads of 16, 32 or 64,
/// up to 32 frames.
///
/// # Shapes
/// `qkv`: b f s (3 n d)
pub fn temporal_fits(
    qkv: &Tensor,
    shape: HeadShape,
    of: &Temporal<'_>,
) -> Option<Arc<dyn Machine>> {
    let mut all = vec![qkv, of.turns];
    all.extend(of.bias);
    all.extend(of.forbidden);
    let frames = match qkv.size().as_slice() {
        &[_, frames, _, _] => frames,
        _ => return None,
    };
    let small = (1..=FRAMES).contains(&frames) && [16, 32, 64].contains(&shape.dim);
    if !small || qkv.numel() == 0 {
        return None;
    }
    for pass in [Pass::Forward, Pass::Backward { bias: of.bias.is_some() }] {
        Plan::new(frames, shape, qkv.kind(), pass)?;
    }
    super::machine_of(Unit::TEMPORAL, &all)
}

/// Attention over frames, position by position.
///
/// # Shapes
/// `qkv`: b f s (3 n d) -> b f s (n d)
///
/// # Panics
/// Sizes that do not match, or that do not [fit](temporal_fits); a machine error.
pub fn temporal(
    on: &Arc<dyn Machine>,
    qkv: &Tensor,
    shape: HeadShape,
    of: &Temporal<'_>,
) -> Tensor {
    let mut given = vec![qkv, of.turns];
    given.extend(of.bias);
    given.extend(of.forbidden);
    machine::check_operands(&**on, "attention along time", &given);
    // The gradient of the bias is f32, whatever the bias is.
    let bias = of.bias.map(|bias| bias.to_kind(Kind::Float));
    let turns = operand(&of.turns.to_kind(Kind::Float));
    let forbidden = of.forbidden.map(|t| t.detach().contiguous());
    let mut inputs = vec![qkv];
    inputs.extend(&bias);
    one(&inputs, |saved| {
        saved.keep(qkv);
        bias.iter().for_each(|bias| saved.keep(bias));
        let operands = Operands { shape, turns, forbidden };
        match operands.forward(&**on, qkv, bias.as_ref()) {
            Ok(y) => (y, Backward { on: Arc::clone(on), operands }),
            Err(error) => panic!("attention along time on a GPU: {error}"),
        }
    })
}

/// Shared by forward and backward.
#[derive(Debug)]
struct Operands {
    shape: HeadShape,
    turns: Tensor,
    forbidden: Option<Tensor>,
}

impl Operands {
    fn params(&self, qkv: &Tensor, bias: Option<&Tensor>, plan: Plan) -> Params {
        let [b, f, s] = self.sizes(qkv);
        let n = self.shape.heads;
        if let Some(bias) = bias {
            check::shape("the bias of an attention along time", bias, &[n, f, f]);
        }
        let masks = self.forbidden.as_ref().map_or(1, |t| t.size()[0]);
        let number = |n: i64| machine::number("sites of an attention along time", n);
        Params {
            qkv: read(qkv),
            grad: std::ptr::null(),
            out: std::ptr::null_mut(),
            turns: floats(&self.turns),
            bias: bias.map_or(std::ptr::null(), |bias| floats(bias)),
            forbidden: self.forbidden.as_ref().map_or(std::ptr::null(), read_bytes),
            bias_grad: std::ptr::null_mut(),
            units: (b * s) as u64 * u64::from(plan.heads),
            sites: number(s),
            frames: number(f),
            heads: number(n),
            heads_of_block: plan.heads,
            turned: number(self.turns.size()[1]),
            per_block: plan.units,
            masks: u32::from(masks > 1),
            scale: self.shape.scale() as f32,
        }
    }

    /// Samples, frames and sites.
    ///
    /// # Panics
    /// Sizes that do not go together, or that no kernel takes.
    fn sizes(&self, qkv: &Tensor) -> [i64; 3] {
        let (size, inner) = (qkv.size(), check::heads("attention along time", self.shape));
        let [b, f, s] = match size.as_slice() {
            &[b, f, s, n] if n == 3 * inner && (1..=FRAMES).contains(&f) && b * s > 0 => [b, f, s],
            _ => panic!(
                "attention along time: expected shape b f s {} of 1 to {FRAMES} frames, got {size:?}",
                3 * inner
            ),
        };
        let turned = self.turns.size().get(1).copied().unwrap_or(0).min(self.shape.dim / 2);
        check::shape("the angles of an attention along time", &self.turns, &[f, turned, 2]);
        if let Some(forbidden) = &self.forbidden {
            check::marks("the forbidden pairs of an attention along time", forbidden, (b, f));
        }
        [b, f, s]
    }

    fn plan(&self, qkv: &Tensor, pass: Pass) -> Plan {
        let frames = self.sizes(qkv)[1];
        assert!(
            [16, 32, 64].contains(&self.shape.dim),
            "attention along time: expected heads of 16, 32 or 64, got {:?}",
            self.shape
        );
        match Plan::new(frames, self.shape, qkv.kind(), pass) {
            Some(plan) => plan,
            None => panic!(
                "attention along time: expected what the memory of a block is enough for, got shape {:?}",
                qkv.size()
            ),
        }
    }

    fn kernel(&self, name: &str, kind: Kind) -> String {
        format!("temporal_{name}_{}_{}", kind_name(kind), self.shape.dim)
    }

    fn forward(
        &self,
        on: &dyn Machine,
        qkv: &Tensor,
        bias: Option<&Tensor>,
    ) -> vd_torch::Result<Tensor> {
        let (qkv, bias) = (operand(qkv), bias.map(operand));
        let (size, plan) = (qkv.size(), self.plan(&qkv, Pass::Forward));
        let y = Tensor::empty(
            [size[0], size[1], size[2], self.shape.inner()],
            (qkv.kind(), qkv.device()),
        );
        let params = Params { out: y.data_ptr(), ..self.params(&qkv, bias.as_ref(), plan) };
        let blocks = params.units.div_ceil(u64::from(plan.units));
        let kernel = self.kernel("forward", qkv.kind());
        // SAFETY: tensors of one device, with the sizes given in the struct.
        unsafe { run(on, &kernel, blocks, plan, &params)? };
        Ok(y)
    }
}

fn read_bytes(x: &Tensor) -> *const u8 {
    x.data_ptr().cast()
}

/// # Safety
/// As [`Machine::run`].
unsafe fn run(
    on: &dyn Machine,
    kernel: &str,
    blocks: u64,
    plan: Plan,
    params: &Params,
) -> vd_torch::Result<()> {
    let blocks = machine::number("blocks of an attention along time", blocks as i64);
    let launch = Launch { blocks, threads: plan.threads, shared: plan.shared };
    // SAFETY: guaranteed by the caller; the struct is the one that these kernels take.
    unsafe { machine::run(on, Unit::TEMPORAL, kernel, launch, params) }
}

#[derive(Debug)]
struct Backward {
    on: Arc<dyn Machine>,
    operands: Operands,
}

impl Function for Backward {
    fn backward(
        &self,
        saved: &[Tensor],
        grads: &[Option<Tensor>],
        needs: &[bool],
    ) -> Result<Vec<Option<Tensor>>, BoxError> {
        let ([qkv, ..], Some(Some(grad))) = (saved, grads.first()) else {
            return Ok(none(needs.len()));
        };
        let (of, on) = (&self.operands, &*self.on);
        let (qkv, bias) = (operand(qkv), saved.get(1).map(operand));
        let grad = operand(&grad.to_kind(qkv.kind()));
        let wanted = needs.get(1) == Some(&true);
        let plan = of.plan(&qkv, Pass::Backward { bias: wanted });
        let out = qkv.empty_like();
        let params = Params {
            grad: read(&grad),
            out: out.data_ptr(),
            ..of.params(&qkv, bias.as_ref(), plan)
        };
        let slices = of.shape.heads as u64 / u64::from(plan.heads);
        let mut blocks = params.units.div_ceil(u64::from(plan.units));
        let sums = bias.filter(|_| wanted).map(|bias| {
            // Each block sums over all units that it processes, so there are no more blocks than
            // run at a time.
            let places = u64::from(plan.resident * on.multiprocessors());
            blocks = blocks.min((places / slices).max(1));
            let size: Vec<i64> = [blocks as i64].into_iter().chain(bias.size()).collect();
            Tensor::empty(size.as_slice(), (Kind::Float, bias.device()))
        });
        blocks *= slices;
        let bias_grad = sums.as_ref().map_or(std::ptr::null_mut(), floats);
        let params = Params { bias_grad, ..params };
        let kernel = of.kernel("backward", qkv.kind());
        // SAFETY: tensors of one device, with the sizes given in the struct.
        unsafe { run(on, &kernel, blocks, plan, &params)? };
        let mut all = vec![Some(out)];
        if needs.len() > 1 {
            let add_up = |sums: Tensor| sums.sum_dim_intlist([0i64].as_slice(), false, Kind::Float);
            all.push(sums.map(add_up));
        }
        Ok(all)
    }

    fn name(&self) -> &'static str {
        "fused attention along time on a GPU"
    }
}
