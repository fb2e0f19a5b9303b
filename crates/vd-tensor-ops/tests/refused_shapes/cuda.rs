//! The kernels for GPUs: what is wrong is refused before anything is launched.

use std::sync::Arc;

use tch::{Device, Kind, Tensor};
use vd_tensor_ops::kernels::cpu::{AdamWTensors, DropMask, GroupFinish};
use vd_tensor_ops::kernels::cuda::{
    self, Dry, Gradients, Law, Live, Machine, RmsFinish, Streams, Temporal, Verdict,
};
use vd_tensor_ops::layers::HeadShape;
use vd_tensor_ops::torch::AdamWStep;

use super::{caught, drawn_as, is_ours, replaced, wrong};

type Run = Box<dyn Fn(&Arc<dyn Machine>, &[Tensor])>;

/// A kernel, operands that it takes, which axes of which may have any length, and which operands any
/// kind.
struct Case {
    name: &'static str,
    operands: Vec<Tensor>,
    free: &'static [(usize, usize)],
    cast: &'static [usize],
    run: Run,
}

const X: &[i64] = &[2, 3, 6, 5, 16];
const HEADS: HeadShape = HeadShape { heads: 2, dim: 16 };
const STEP: AdamWStep =
    AdamWStep { lr: 1e-2, beta1: 0.9, beta2: 0.99, eps: 1e-8, weight_decay: 0.1 };

fn cases() -> Vec<Case> {
    let case = |name, shapes: &[&[i64]], free, cast, run: Run| Case {
        name,
        operands: drawn_as(shapes),
        free,
        cast,
        run,
    };
    let all = [0, 1, 2, 3].map(|axis| (0, axis));
    let plane: &'static [(usize, usize)] = Box::leak(Box::new(all));
    vec![
        case(
            "layer_norm",
            &[X, &[16]],
            plane,
            &[1],
            Box::new(|on, t| {
                assert!(t[0].dim() == 5, "expected five axes, got others");
                drop(cuda::layer_norm(on, &t[0], &t[1]));
            }),
        ),
        case(
            "rms_finished",
            &[X, &[16], &[16], &[6, 16], &[6, 16], X],
            &[],
            &[1, 2, 3, 4],
            Box::new(|on, t| {
                let axes = t[3].dim() == 2 && t[4].dim() == 2;
                assert!(axes, "expected two axes, got others");
                let film = Some([&t[3], &t[4]]);
                let (bias, gain, residual) = (Some(&t[2]), &t[1], Some(&t[5]));
                drop(cuda::rms_finished(
                    on,
                    &t[0],
                    &RmsFinish { bias, gain, factor: 4.0, film, residual },
                ));
            }),
        ),
        case(
            "group_finished",
            &[X, &[6, 16], &[6, 16], X],
            &[],
            &[1, 2],
            Box::new(|on, t| {
                let (gain, shift, residual) = (&t[1], &t[2], Some(&t[3]));
                drop(cuda::group_finished(
                    on,
                    &t[0],
                    &GroupFinish { groups: 4, gain, shift, residual },
                ));
            }),
        ),
        case(
            "linear",
            &[&[6, 30, 96]],
            &[(0, 0), (0, 1)],
            &[],
            Box::new(|on, t| {
                drop(cuda::linear(on, &t[0], HEADS));
            }),
        ),
        case(
            "temporal",
            &[&[2, 3, 30, 96], &[3, 4, 2], &[2, 3, 3], &[2, 1, 1, 3, 3]],
            &[(0, 2), (1, 1), (3, 0)],
            &[1, 2],
            Box::new(|on, t| {
                let of = Temporal { turns: &t[1], bias: Some(&t[2]), forbidden: Some(&t[3]) };
                drop(cuda::temporal(on, &t[0], HEADS, &of));
            }),
        ),
        case(
            "dropped_out",
            &[X],
            &[(0, 1), (0, 2), (0, 3), (0, 4)],
            &[],
            Box::new(|on, t| {
                assert!(t[0].dim() == 5, "expected five axes, got others");
                let mask = DropMask { seeds: Arc::new([1, 2]), site: 3, rate: 0.3, gain: 1.0 };
                drop(cuda::dropped_out(on, &t[0], &mask));
            }),
        ),
        case(
            "stand_in",
            &[&[4, 3, 8], &[1, 8], &[4, 3, 1]],
            &[(0, 1), (2, 1)],
            &[],
            Box::new(|on, t| {
                assert!(t[1].dim() == 2, "expected two axes, got others");
                drop(cuda::stand_in(on, &t[0], &t[1], &t[2]));
            }),
        ),
        case(
            "add_around",
            &[X, X, X],
            &[],
            &[0, 1, 2],
            Box::new(|_, t| {
                drop(cuda::add_around(&t[0], &t[1], &t[2]));
            }),
        ),
        case(
            "adamw",
            &[&[7], &[7], &[7], &[7], &[7], &[8], &[2]],
            &[],
            &[],
            Box::new(|on, t| {
                assert!(t.iter().all(|t| t.dim() == 1), "expected one axis, got others");
                let tensors = [AdamWTensors {
                    param: &t[0],
                    grad: &t[1],
                    exp_avg: &t[2],
                    exp_avg_sq: &t[3],
                    average: Some(&t[4]),
                }];
                let live = Live { numbers: &t[5], gate: &t[6] };
                cuda::adamw(on, &STEP, 1, (1.0, 0.9), &tensors).unwrap_or_else(|e| panic!("{e}"));
                cuda::adamw_gated(on, &tensors, live).unwrap_or_else(|e| panic!("{e}"));
            }),
        ),
    ]
}

#[test]
fn kernels_for_gpus_refuse_operands_that_do_not_go_together() {
    let dry = Arc::new(Dry::default());
    let on: Arc<dyn Machine> = dry.clone();
    let mut failed = Vec::new();
    cuda::imitated(Arc::clone(&on), || {
        for case in cases() {
            (case.run)(&on, &case.operands);
            dry.take();
            for (at, operand) in case.operands.iter().enumerate() {
                for wrong in wrong(operand) {
                    let bf16 = wrong.tensor.kind() == Kind::BFloat16
                        && wrong.tensor.size() == operand.size();
                    let cast = wrong.tensor.size() == operand.size() && case.cast.contains(&at);
                    let free = wrong.axis.is_some_and(|axis| case.free.contains(&(at, axis)));
                    let alone = bf16 && case.operands.len() == 1;
                    let kinds = bf16 && ["layer_norm", "temporal"].contains(&case.name);
                    let operands = replaced(&case.operands, at, &wrong.tensor);
                    let what = format!("{}: operand {at}, {}", case.name, wrong.what);
                    dry.take();
                    let said = caught(|| (case.run)(&on, &operands));
                    let (passes, launched) = (cast || free || alone || kinds, dry.take());
                    let named = said.as_ref().is_err_and(|said| is_ours(said));
                    // The first step of two is made.
                    let early = launched.is_empty() || (case.name == "adamw" && at > 4);
                    let (taken, refused) = (passes && said.is_ok(), named && early);
                    if !taken && !refused {
                        failed.push(format!("{what}: {said:?}, {launched:?}"));
                    }
                }
            }
        }
    });
    assert!(failed.is_empty(), "not refused:\n{}", failed.join("\n"));
}

#[test]
fn verdicts_on_other_tensors_are_errors() {
    let on: Arc<dyn Machine> = Arc::new(Dry::default());
    let loss = Tensor::zeros([1], (Kind::Double, Device::Cpu));
    let halted = Tensor::zeros([1], (Kind::Int, Device::Cpu));
    let grads = drawn_as(&[&[7], &[3, 4]]);
    let verdict = Verdict::new(2, Device::Cpu).unwrap();
    let judge = |loss: &Tensor, grads: &[Tensor], halted: &Tensor, verdict: &Verdict| {
        let of = Gradients { all: grads, clipped: 2, clip: 1.0 };
        cuda::judge(&*on, loss, of, halted, verdict).map_err(|error| error.to_string())
    };
    assert_eq!(judge(&loss, &grads, &halted, &verdict), Ok(()));
    let half: Vec<Tensor> = grads.iter().map(|t| t.to_kind(Kind::Half)).collect();
    for refused in [
        judge(&loss.to_kind(Kind::Float), &grads, &halted, &verdict),
        judge(&loss.repeat([2]), &grads, &halted, &verdict),
        judge(&loss, &half, &halted, &verdict),
        judge(&loss, &grads[..1], &halted, &verdict),
        judge(&loss, &grads, &loss, &verdict),
        judge(&loss, &grads, &halted, &Verdict::new(1, Device::Cpu).unwrap()),
    ] {
        assert!(refused.is_err_and(|said| is_ours(&said)));
    }
}

#[test]
fn a_machine_refuses_tensors_of_another_device() {
    let on = Dry::default();
    let streams = Streams { key: [1; 8], first: 0, word: 0 };
    let drawn = cuda::draw(&on, Law::Normal, &streams, (2, 5), Device::Cuda(0));
    assert!(drawn.is_err_and(|error| is_ours(&error.to_string())));
}
