//! The fused step of the optimiser against libtorch's own, and against itself by other threads.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use tch::{Device, Kind, Tensor};
use vd_tensor_ops::kernels::cpu::{AdamWTensors, Isa, adamw};
use vd_tensor_ops::torch::{AdamWState, AdamWStep, fused_adamw, set_threads, threads};
use vd_tensor_ops::{Noise, SeededNoise};

/// No whole number of vectors, nor of shares.
const SIZES: [i64; 5] = [1, 7, 64, 1003, 33];

fn draw(seed: u64) -> Vec<Tensor> {
    let like = |n: i64| Tensor::empty([n], (Kind::Float, Device::Cpu));
    SIZES.into_iter().zip(0..).map(|(n, k)| SeededNoise::new(seed, k).normal(&like(n))).collect()
}

/// Parameters, moments and averages.
struct State {
    all: [Vec<Tensor>; 4],
}

impl State {
    fn new() -> Self {
        let zeros = || draw(1).iter().map(Tensor::zeros_like).collect();
        State { all: [draw(1), zeros(), zeros(), draw(2)] }
    }

    fn step(&self, isa: Isa, numbers: &AdamWStep, done: i64, grads: &[Tensor], averaged: bool) {
        let [params, exp_avgs, exp_avg_sqs, averages] = &self.all;
        let tensors: Vec<_> = (0..SIZES.len())
            .map(|k| AdamWTensors {
                param: &params[k],
                grad: &grads[k],
                exp_avg: &exp_avgs[k],
                exp_avg_sq: &exp_avg_sqs[k],
                average: averaged.then_some(&averages[k]),
            })
            .collect();
        adamw(isa, numbers, done, (0.5, 0.9), &tensors).unwrap();
    }
}

const NUMBERS: AdamWStep =
    AdamWStep { lr: 3e-3, beta1: 0.9, beta2: 0.99, eps: 1e-8, weight_decay: 0.05 };

#[test]
fn steps_are_those_of_libtorch_and_the_average_follows() {
    for isa in Isa::tested() {
        let (own, theirs) = (State::new(), State::new());
        for done in 1..=6 {
            let grads = draw(10 + done as u64);
            own.step(isa, &NUMBERS, done, &grads, true);
            let halved: Vec<_> = grads.iter().map(|g| g * 0.5).collect();
            let steps: Vec<_> = SIZES.iter().map(|_| Tensor::from(done as f32)).collect();
            let [params, exp_avgs, exp_avg_sqs, averages] = &theirs.all;
            let state = AdamWState { params, grads: &halved, exp_avgs, exp_avg_sqs, steps: &steps };
            fused_adamw(&NUMBERS, state).unwrap();
            for (average, param) in averages.iter().zip(params) {
                let _ = average.shallow_clone().lerp_(param, 0.1);
            }
        }
        for (own, theirs) in own.all.iter().flatten().zip(theirs.all.iter().flatten()) {
            // Values are of size 1; both round each of six steps in another order.
            let error = (own - theirs).abs().max().double_value(&[]);
            assert!(error < 1e-6, "{isa}: {error}");
        }
    }
}

#[test]
fn entries_do_not_depend_on_the_threads_and_versions_count() {
    let before = threads();
    let run = |count: usize| {
        set_threads(count);
        let state = State::new();
        let version = state.all[0][3].internal_version();
        state.step(Isa::current(), &NUMBERS, 1, &draw(3), false);
        assert!(state.all[0][3].internal_version() > version);
        assert_eq!(state.all[3], State::new().all[3], "no average was asked for");
        state.all
    };
    let (one, three) = (run(1), run(3));
    set_threads(before);
    assert_eq!(one, three);
}
