//! What is measured: kernels on tensors of the sizes that networks have.

mod steps;

use std::rc::Rc;

use tch::{Device, Kind, Tensor};
use vd_tensor_ops::kernels::cpu::{DropMask, GroupFinish};
use vd_tensor_ops::kernels::cuda::{self, RmsFinish, Temporal};
use vd_tensor_ops::layers::HeadShape;
use vd_tensor_ops::torch;
use vd_tensor_ops::torch::testing::device;

pub(crate) use steps::copy;
use steps::{adamw, judge, noise, stand_in};

/// Bytes that the inputs of all calls have together at least: more than any cache holds.
const TURNING: u64 = 512_000_000;
/// Copies of the inputs at least and at most.
const SETS: (u64, u64) = (2, 16);
const HEADS: HeadShape = HeadShape { heads: 8, dim: 32 };

/// A call, which gives what must not be freed before the device is done.
type Call = Box<dyn FnOnce() -> Vec<Tensor>>;

/// A kernel on tensors of some size.
pub(crate) struct Case {
    pub(crate) kernel: &'static str,
    pub(crate) way: &'static str,
    pub(crate) kind: Kind,
    pub(crate) shape: String,
    /// The least that it moves.
    pub(crate) bytes: u64,
    /// Call number so many.
    pub(crate) call: Box<dyn Fn(usize) -> Call>,
}

impl Case {
    pub(crate) fn dtype(&self) -> &'static str {
        if self.kind == Kind::BFloat16 { "bf16" } else { "f32" }
    }

    /// The same without its tensors.
    pub(crate) fn measured(self) -> Case {
        Case { call: Box::new(|_| Box::new(Vec::new)), ..self }
    }
}

/// Standard normal values; on a GPU its own, for those of the host would take minutes.
#[allow(clippy::disallowed_methods, reason = "no result depends on them")]
pub(crate) fn draw(shape: &[i64], kind: Kind) -> Tensor {
    Tensor::randn(shape, (kind, device()))
}

fn bytes(tensors: &[&Tensor]) -> u64 {
    let each = |t: &&Tensor| t.numel() * t.kind().elt_size_in_bytes();
    tensors.iter().map(each).sum::<usize>() as u64
}

/// Inputs of a call, and the gradient of its output.
struct Set {
    inputs: Vec<Tensor>,
    grad: Tensor,
}

/// Forward and backward of `f` on inputs that `make` draws. The first `large` inputs are counted, and on
/// the way back the first alone, so often as `back` says: read and its gradient written, or one of both.
/// The gradient of a residual is that of the output.
fn both(
    kernel: &'static str,
    (kind, shape): (Kind, &[i64]),
    (large, back): (usize, u64),
    make: impl Fn() -> Vec<Tensor>,
    f: impl Fn(&[Tensor]) -> Tensor + 'static,
) -> Vec<Case> {
    let f = Rc::new(f);
    let set = || {
        let inputs: Vec<Tensor> = make();
        let grad = tch::no_grad(|| f(&inputs)).zeros_like();
        // Leaves: whole, of their own, and with a gradient.
        let inputs = inputs.into_iter().map(|t| t.set_requires_grad(true)).collect();
        Set { inputs, grad: draw(&grad.size(), kind) }
    };
    let first = set();
    let read: Vec<&Tensor> = first.inputs.iter().take(large).collect();
    let forward = bytes(&read) + bytes(&[&first.grad]);
    let backward = back * bytes(&read[..1]) + bytes(&[&first.grad]);
    let more = TURNING.div_ceil(bytes(&read)).clamp(SETS.0, SETS.1);
    let more = if device() == Device::Cpu { 1 } else { more };
    let sets: Rc<Vec<Set>> =
        Rc::new(std::iter::once(first).chain((1..more).map(|_| set())).collect());
    let shape = shape.iter().map(i64::to_string).collect::<Vec<_>>().join("x");
    let case = |way, bytes, call| Case { kernel, way, kind, shape: shape.clone(), bytes, call };
    let (own, run) = (Rc::clone(&sets), Rc::clone(&f));
    let there: Box<dyn Fn(usize) -> Call> = Box::new(move |i| {
        let (sets, f) = (Rc::clone(&own), Rc::clone(&run));
        Box::new(move || vec![tch::no_grad(|| f(&sets[i % sets.len()].inputs))])
    });
    let back: Box<dyn Fn(usize) -> Call> = Box::new(move |i| {
        let sets = Rc::clone(&sets);
        let y = f(&sets[i % sets.len()].inputs);
        Box::new(move || {
            let Set { inputs, grad } = &sets[i % sets.len()];
            let inputs: Vec<&Tensor> = inputs.iter().collect();
            let mut kept = vec![y.shallow_clone()];
            kept.extend(torch::grad(&[&y], &[grad], &inputs).unwrap().into_iter().flatten());
            kept
        })
    });
    vec![case("forward", forward, there), case("backward", backward, back)]
}

fn rms(shape: [i64; 5], kind: Kind, residual: bool) -> Vec<Case> {
    let c = [shape[4]];
    let factor = (shape[4] as f64).sqrt();
    let row = move || draw(&c, Kind::Float);
    if residual {
        let make = move || vec![draw(&shape, kind), draw(&shape, kind), row(), row()];
        return both("rms norm, residual", (kind, &shape), (2, 2), make, move |t| {
            let (bias, residual) = (Some(&t[3]), Some(&t[1]));
            let finish = RmsFinish { bias, gain: &t[2], factor, film: None, residual };
            let on = cuda::rms_fits(&t[0], &finish).expect("a kernel");
            cuda::rms_finished(&on, &t[0], &finish)
        });
    }
    let film = move || draw(&[shape[0], shape[4]], kind);
    let make = move || vec![draw(&shape, kind), row(), row(), film(), film()];
    both("rms norm, scale, shift", (kind, &shape), (1, 2), make, move |t| {
        let (bias, film) = (Some(&t[2]), Some([&t[3], &t[4]]));
        let finish = RmsFinish { bias, gain: &t[1], factor, film, residual: None };
        let on = cuda::rms_fits(&t[0], &finish).expect("a kernel");
        cuda::rms_finished(&on, &t[0], &finish)
    })
}

fn layer(shape: [i64; 5], kind: Kind) -> Vec<Case> {
    let make = move || vec![draw(&shape, kind), draw(&[shape[4]], Kind::Float)];
    both("layer norm", (kind, &shape), (1, 2), make, |t| {
        let on = cuda::layer_norm_fits(&t[0], &t[1]).expect("a kernel");
        cuda::layer_norm(&on, &t[0], &t[1]).y
    })
}

fn dropout(shape: [i64; 5], kind: Kind) -> Vec<Case> {
    let seeds = (0..shape[0] as u64).collect::<Vec<_>>().into();
    let mask = DropMask { seeds, site: 1, rate: 0.1, gain: 1.0 / 0.9 };
    both(
        "dropout",
        (kind, &shape),
        (1, 1),
        move || vec![draw(&shape, kind)],
        move |t| {
            let on = cuda::drop_fits(&t[0]).expect("a kernel");
            cuda::dropped_out(&on, &t[0], &mask)
        },
    )
}

fn group(shape: [i64; 5], kind: Kind) -> Vec<Case> {
    let rows = [shape[0], shape[4]];
    let gain = move || draw(&rows, Kind::Float);
    let make = move || vec![draw(&shape, kind), draw(&shape, kind), gain(), gain()];
    both("group norm, residual", (kind, &shape), (2, 2), make, |t| {
        let finish = GroupFinish { groups: 8, gain: &t[2], shift: &t[3], residual: Some(&t[1]) };
        let on = cuda::group_fits(&t[0], &finish).expect("a kernel");
        cuda::group_finished(&on, &t[0], &finish)
    })
}

fn temporal([b, f, h, w, _]: [i64; 5], kind: Kind) -> Vec<Case> {
    let shape = [b, f, h * w, 3 * HEADS.inner()];
    let make = move || vec![draw(&shape, kind), draw(&[HEADS.heads, f, f], Kind::Float)];
    let turns = draw(&[f, HEADS.dim / 2, 2], Kind::Float);
    both("attention over time", (kind, &shape), (1, 2), make, move |t| {
        let of = Temporal { turns: &turns, bias: Some(&t[1]), forbidden: None };
        let on = cuda::temporal_fits(&t[0], HEADS, &of).expect("a kernel");
        cuda::temporal(&on, &t[0], HEADS, &of)
    })
}

fn linear([b, f, h, w, _]: [i64; 5], kind: Kind) -> Vec<Case> {
    let shape = [b * f, h * w, 3 * HEADS.inner()];
    both(
        "linear attention",
        (kind, &shape),
        (1, 2),
        move || vec![draw(&shape, kind)],
        |t| {
            let on = cuda::linear_fits(&t[0], HEADS).expect("a kernel");
            cuda::linear(&on, &t[0], HEADS)
        },
    )
}

/// b f h w c of the levels: of training with the package's defaults, and of sampling by a larger
/// network.
fn levels() -> Vec<[i64; 5]> {
    if device() == Device::Cpu {
        return vec![[1, 3, 4, 4, 16]];
    }
    let of =
        |b, f, dim: i64| (0..4).map(move |level| [b, f, 64 >> level, 64 >> level, dim << level]);
    of(32, 10, 64).chain(of(4, 16, 128)).collect()
}

/// All cases; the tensors of one are freed before those of the next are made.
pub(crate) fn all() -> Vec<Box<dyn Fn() -> Vec<Case>>> {
    let mut all: Vec<Box<dyn Fn() -> Vec<Case>>> = Vec::new();
    for kind in [Kind::BFloat16, Kind::Float] {
        for shape in levels() {
            all.push(Box::new(move || rms(shape, kind, false)));
            all.push(Box::new(move || rms(shape, kind, true)));
            all.push(Box::new(move || layer(shape, kind)));
            all.push(Box::new(move || dropout(shape, kind)));
            all.push(Box::new(move || group(shape, kind)));
            all.push(Box::new(move || temporal(shape, kind)));
            all.push(Box::new(move || linear(shape, kind)));
        }
        let weights: &[i64] =
            if device() == Device::Cpu { &[10_000] } else { &[36_000_000, 142_000_000] };
        let tokens = if device() == Device::Cpu { (2, 3, 16) } else { (32, 77, 768) };
        all.push(Box::new(move || stand_in(tokens, kind)));
        for &weights in weights {
            all.push(Box::new(move || adamw(weights, kind)));
            all.push(Box::new(move || judge(weights, kind)));
        }
    }
    let videos =
        if device() == Device::Cpu { [(1, 2, 4), (2, 1, 4)] } else { [(32, 10, 64), (4, 16, 64)] };
    all.extend(videos.map(|(b, f, side)| {
        let make: Box<dyn Fn() -> Vec<Case>> = Box::new(move || noise(b, f, side));
        make
    }));
    all
}
