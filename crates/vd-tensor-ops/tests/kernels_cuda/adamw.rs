//! The step of the optimiser and the moving average, of tensors of many sizes.

use proptest::prelude::*;
use tch::{Kind, Tensor};
use vd_tensor_ops::kernels::cpu::AdamWTensors;
use vd_tensor_ops::kernels::cuda::{self, Live};
use vd_tensor_ops::torch::AdamWStep;

use crate::{device, draw, here, off};

const STEP: AdamWStep =
    AdamWStep { lr: 3e-3, beta1: 0.9, beta2: 0.99, eps: 1e-8, weight_decay: 0.05 };

/// A parameter, its gradient, both moments and its average.
fn tensors(seed: u64, count: i64, kind: Kind) -> [Tensor; 5] {
    let of = |k: u64| draw(seed.wrapping_mul(31) ^ k, &[count]);
    [of(1), of(2), of(3) * 0.1, (of(4) * 0.1).square(), of(5)].map(|t| t.to_kind(kind))
}

/// The published algorithm in f64, then the average.
fn by_hand(of: &[Tensor; 5], done: i64, shrink: f64, decay: f64) -> [Tensor; 4] {
    let [p, g, m, v, average] = of.each_ref().map(|t| t.to_kind(Kind::Double));
    let g = g * shrink;
    let m = m * STEP.beta1 + &g * (1.0 - STEP.beta1);
    let v = v * STEP.beta2 + &g * &g * (1.0 - STEP.beta2);
    let mean = &m / (1.0 - STEP.beta1.powf(done as f64));
    let root = (&v / (1.0 - STEP.beta2.powf(done as f64))).sqrt() + STEP.eps;
    let p = p * (1.0 - STEP.lr * STEP.weight_decay) - mean / root * STEP.lr;
    let average = &average + (&p - &average) * (1.0 - decay);
    [p, m, v, average]
}

fn check(counts: &[i64], kind: Kind, seed: u64, (averaged, live): (bool, bool)) {
    let all: Vec<_> =
        counts.iter().enumerate().map(|(i, n)| tensors(seed ^ i as u64, *n, kind)).collect();
    let (done, shrink, decay) = (1 + (seed % 900) as i64, 0.3, 0.9);
    let want: Vec<_> = all.iter().map(|of| by_hand(of, done, shrink, decay)).collect();
    let some: Vec<_> = all
        .iter()
        .map(|[param, grad, exp_avg, exp_avg_sq, average]| AdamWTensors {
            param,
            grad,
            exp_avg,
            exp_avg_sq,
            average: averaged.then_some(average),
        })
        .collect();
    here(|| {
        let on = cuda::adamw_fits(&some).expect("a kernel");
        if live {
            let there = |numbers: &[f32]| Tensor::from_slice(numbers).to_device(device());
            let numbers = there(&cuda::adamw_numbers(&STEP, done, (shrink, decay)));
            let live = Live { numbers: &numbers, gate: &there(&[1.0, 1.0]) };
            return cuda::adamw_gated(&on, &some, live).unwrap();
        }
        cuda::adamw(&on, &STEP, done, (shrink, decay), &some).unwrap();
    });
    for (of, want) in all.iter().zip(&want) {
        let got = [&of[0], &of[2], &of[3], &of[4]];
        for (got, want) in got.into_iter().zip(want).take(if averaged { 4 } else { 3 }) {
            let least = if kind == Kind::BFloat16 { 8e-3 } else { 2e-6 };
            // Of a few values, a moment may be a difference of larger ones.
            let whole = want.norm().double_value(&[]).max(0.2);
            let error = (got.to_kind(Kind::Double) - want).norm().double_value(&[]) / whole;
            assert!(error < least, "{error:e} of {} values", want.numel());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    #[test]
    fn the_step_is_the_published_one_for_tensors_of_every_size(
        counts in proptest::collection::vec(prop_oneof![1i64..40, 1i64..9000], 1..9),
        half in any::<bool>(), seed in any::<u64>(), averaged in any::<bool>(), live in any::<bool>(),
    ) {
        let kind = if half { Kind::BFloat16 } else { Kind::Float };
        check(&counts, kind, seed, (averaged, live));
    }
}

#[test]
fn more_tensors_than_one_launch_takes_are_all_stepped() {
    let counts: Vec<i64> = (0..600).map(|i| 1 + i % 7).collect();
    check(&counts, Kind::Float, 5, (true, false));
}

#[test]
fn a_tensor_that_lies_askew_is_stepped_too() {
    let whole = draw(1, &[101]);
    let [param, others @ ..] = [0, 1, 2, 3].map(|i| draw(i, &[100]).abs());
    let askew = whole.narrow(0, 1, 100);
    askew.shallow_clone().copy_(&param);
    let before = whole.get(0).double_value(&[]);
    let [grad, exp_avg, exp_avg_sq] = &others;
    let of = [param.copy(), grad.copy(), exp_avg.copy(), exp_avg_sq.copy(), param.copy()];
    let want = by_hand(&of, 1, 1.0, 1.0);
    let some = [AdamWTensors { param: &askew, grad, exp_avg, exp_avg_sq, average: None }];
    here(|| {
        let on = cuda::adamw_fits(&some).unwrap();
        cuda::adamw(&on, &STEP, 1, (1.0, 1.0), &some).unwrap();
    });
    assert!(off(&askew, &want[0]) < 2e-6);
    assert_eq!(whole.get(0).double_value(&[]), before);
}

#[test]
fn tensors_of_other_kinds_and_mixed_ones_are_left_to_libtorch() {
    let fits = |kinds: [Kind; 2]| {
        let [a, b] = kinds.map(|kind| Tensor::zeros([4], (kind, device())));
        let some =
            [AdamWTensors { param: &a, grad: &b, exp_avg: &a, exp_avg_sq: &a, average: None }];
        here(|| cuda::adamw_fits(&some).is_some())
    };
    assert!(fits([Kind::Float, Kind::Float]) && fits([Kind::BFloat16, Kind::BFloat16]));
    assert!(!fits([Kind::Float, Kind::BFloat16]) && !fits([Kind::Double, Kind::Double]));
}
