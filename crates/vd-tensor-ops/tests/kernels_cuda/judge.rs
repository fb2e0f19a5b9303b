//! Whether a step may be made: norms of tensors of many sizes, and steps that may not.

use proptest::prelude::*;
use tch::{Device, Kind, Tensor};
use vd_tensor_ops::kernels::cpu::AdamWTensors;
use vd_tensor_ops::kernels::cuda::{self, Gradients, Live, Verdict, Went};
use vd_tensor_ops::torch::AdamWStep;

use crate::{device, draw, here};

fn judged(loss: f64, grads: Gradients<'_>, halted: &Tensor) -> Verdict {
    here(|| {
        let on = cuda::judge_fits(grads.all).expect("a kernel");
        let found = Verdict::new(grads.all.len(), device()).unwrap();
        let loss = Tensor::from(loss).to_device(device());
        cuda::judge(&*on, &loss, grads, halted, &found).unwrap();
        found
    })
}

fn running() -> Tensor {
    Tensor::zeros([1], (Kind::Int, device()))
}

fn numbers(x: &Tensor) -> Vec<f64> {
    Vec::try_from(x.to_device(Device::Cpu).to_kind(Kind::Double).flatten(0, -1)).unwrap()
}

fn norm(x: &Tensor) -> f64 {
    x.to_kind(Kind::Double).norm().double_value(&[])
}

fn together(norms: &[f64]) -> f64 {
    norms.iter().map(|norm| norm * norm).sum::<f64>().sqrt()
}

fn near(got: f64, want: f64, least: f64) {
    assert!((got - want).abs() <= least * want.abs(), "{got} for {want}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    #[test]
    fn norms_and_the_factor_are_those_of_one_vector(
        counts in proptest::collection::vec(prop_oneof![0i64..40, 1i64..20_000], 1..9),
        halves in any::<u8>(), clipped in 0usize..9, bound in prop_oneof![Just(0.0), 0.1..1e4], seed in any::<u64>(),
    ) {
        let kind = |i: usize| if halves >> (i % 8) & 1 == 1 { Kind::BFloat16 } else { Kind::Float };
        let of = |(i, n): (usize, &i64)| draw(seed ^ i as u64, &[*n]).to_kind(kind(i));
        let all: Vec<Tensor> = counts.iter().enumerate().map(of).collect();
        let clipped = clipped.min(all.len());
        let halted = running();
        let Verdict { gates, report } =
            judged(0.75, Gradients { all: &all, clipped, clip: bound }, &halted);
        let (report, gates) = (numbers(&report), numbers(&gates));
        let norms: Vec<f64> = all.iter().map(norm).collect();
        let own = together(&norms[..clipped]);
        prop_assert_eq!((Went::of(report[0]), report[1]), (Went::Well, 0.75));
        near(report[2], own, 1e-12);
        report[3..].iter().zip(&norms).for_each(|(got, want)| near(*got, *want, 1e-12));
        let shrink = if bound > 0.0 && own > bound { bound / own } else { 1.0 };
        near(gates[0], shrink, 1e-7);
        prop_assert_eq!(&gates[1..], &[1.0, 1.0, 1.0]);
        prop_assert_eq!(numbers(&halted), [0.0]);
    }
}

#[test]
fn more_tensors_than_one_launch_takes_all_have_their_norm() {
    let all: Vec<Tensor> = (0..1100).map(|i| draw(i, &[1 + i as i64 % 7])).collect();
    let report = judged(1.0, Gradients { all: &all, clipped: 600, clip: 1.0 }, &running()).report;
    let norms: Vec<f64> = all.iter().map(norm).collect();
    near(numbers(&report)[2], together(&norms[..600]), 1e-12);
    numbers(&report)[3..].iter().zip(&norms).for_each(|(got, want)| near(*got, *want, 1e-12));
}

#[test]
fn from_the_first_bad_step_on_nothing_is_changed_until_somebody_has_looked() {
    let grads = || [draw(1, &[5000]), draw(2, &[3]), draw(3, &[40])];
    let spoilt = |which: usize, value: f64| {
        let grads = grads();
        let _ = grads[which].get(2).fill_(value);
        grads
    };
    let went = |loss: f64, all: &[Tensor], halted: &Tensor| {
        let of = judged(loss, Gradients { all, clipped: 2, clip: 1.0 }, halted);
        let gates = numbers(&of.gates);
        assert_eq!(gates[1], gates[3]);
        (Went::of(numbers(&of.report)[0]), gates[1])
    };
    for (loss, bad) in [
        (f64::NAN, grads()),
        (f64::INFINITY, grads()),
        (1.0, spoilt(0, f64::NAN)),
        (1.0, spoilt(1, f64::NEG_INFINITY)),
        (1.0, spoilt(2, f64::NAN)),
    ] {
        let halted = running();
        assert_eq!(went(1.0, &grads(), &halted), (Went::Well, 1.0));
        assert_eq!(went(loss, &bad, &halted), (Went::Badly, 0.0));
        assert_eq!(went(1.0, &grads(), &halted), (Went::Halted, 0.0));
        assert_eq!(went(loss, &bad, &halted), (Went::Halted, 0.0));
        let _ = halted.shallow_clone().zero_();
        assert_eq!(went(1.0, &grads(), &halted), (Went::Well, 1.0));
    }
    // Whose squares no f32 has.
    assert_eq!(went(1.0, &spoilt(0, 3e38), &running()), (Went::Well, 1.0));
}

#[test]
fn a_closed_gate_leaves_every_bit_and_an_open_one_shrinks() {
    let step = AdamWStep { lr: 3e-3, beta1: 0.9, beta2: 0.99, eps: 1e-8, weight_decay: 0.05 };
    let tensors = || [1, 2, 3, 4, 5].map(|k| draw(k, &[3001]).abs());
    let stepped = |gate: Option<[f32; 2]>, shrink: f64| {
        let [param, grad, exp_avg, exp_avg_sq, average] = &tensors();
        let average = Some(average);
        let some = [AdamWTensors { param, grad, exp_avg, exp_avg_sq, average }];
        here(|| {
            let on = cuda::adamw_fits(&some).unwrap();
            match gate {
                None => cuda::adamw(&on, &step, 3, (shrink, 0.9), &some),
                Some(gate) => {
                    let there = |numbers: &[f32]| Tensor::from_slice(numbers).to_device(device());
                    let numbers = there(&cuda::adamw_numbers(&step, 3, (shrink, 0.9)));
                    let live = Live { numbers: &numbers, gate: &there(&gate) };
                    cuda::adamw_gated(&on, &some, live)
                }
            }
            .unwrap();
        });
        [param, exp_avg, exp_avg_sq]
            .map(Tensor::copy)
            .into_iter()
            .chain(average.map(Tensor::copy))
            .collect::<Vec<_>>()
    };
    let [param, _, exp_avg, exp_avg_sq, average] = tensors();
    assert_eq!(stepped(Some([0.25, 0.0]), 0.5), [param, exp_avg, exp_avg_sq, average]);
    assert_eq!(stepped(Some([0.25, 1.0]), 0.5), stepped(None, 0.125));
    assert_ne!(stepped(Some([0.25, 1.0]), 0.5), stepped(None, 0.5));
}
