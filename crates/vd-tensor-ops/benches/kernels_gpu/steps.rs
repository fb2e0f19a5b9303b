//! Kernels beside those of layers: noise, stand-ins, the end of a step, and the copy that they are measured
//! against.

use std::rc::Rc;

use tch::{Device, Kind, Tensor};
use vd_tensor_ops::kernels::cpu::AdamWTensors;
use vd_tensor_ops::kernels::cuda::{self, Gradients, Law, Streams, Verdict};
use vd_tensor_ops::torch::AdamWStep;
use vd_tensor_ops::torch::testing::device;

use super::{Call, Case, both, bytes, draw};

/// The noise of a batch of videos, which is arithmetic more than memory.
pub(super) fn noise(b: u64, f: u64, side: u64) -> Vec<Case> {
    let each = 3 * f * side * side;
    let call: Box<dyn Fn(usize) -> Call> = Box::new(move |i| {
        Box::new(move || {
            let streams = Streams { key: [7; 8], first: b * i as u64, word: 0 };
            let on = cuda::machine(device()).expect("kernels");
            vec![cuda::draw(&*on, Law::Normal, &streams, (b, each), device()).unwrap()]
        })
    });
    let shape = format!("{b}x3x{f}x{side}x{side}");
    vec![Case {
        kernel: "noise",
        way: "forward",
        kind: Kind::Float,
        shape,
        bytes: 4 * b * each,
        call,
    }]
}

/// Tokens of captions, of which a tenth is dropped: few bytes, so that it is the launch that counts.
pub(super) fn stand_in((b, tokens, d): (i64, i64, i64), kind: Kind) -> Vec<Case> {
    let row = Tensor::arange(b, (Kind::Int64, device()));
    let dropped = row.remainder(10).eq(0).view([b, 1, 1]);
    let make = move || vec![draw(&[b, tokens, d], kind), draw(&[1, d], kind)];
    both("stand-ins of a conditioning", (kind, &[b, tokens, d]), (1, 1), make, move |t| {
        let on = cuda::stand_in_fits(&t[0], &t[1], &dropped).expect("a kernel");
        cuda::stand_in(&on, &t[0], &t[1], &dropped)
    })
}

/// The step of the optimiser with the average, on a network's weights in as many tensors as it has.
pub(super) fn adamw(weights: i64, kind: Kind) -> Vec<Case> {
    // Kernels, biases and gains.
    let sizes = (0..64).flat_map(move |_| [weights / 80, weights / 320, 512, 64]);
    let sizes: Vec<i64> = sizes.collect();
    let list = |scale: f64| {
        let tensor = |n: &i64| draw(&[*n], kind).abs() * scale;
        sizes.iter().map(tensor).collect::<Vec<Tensor>>()
    };
    let all = Rc::new([list(1.0), list(0.1), list(0.1), list(0.01), list(1.0)]);
    let once: u64 = all[0].iter().map(|t| bytes(&[t])).sum();
    let call: Box<dyn Fn(usize) -> Call> = Box::new(move |_| {
        let all = Rc::clone(&all);
        Box::new(move || {
            step(&all);
            Vec::new()
        })
    });
    let shape = format!("{weights}");
    vec![Case { kernel: "adamw, average", way: "step", kind, shape, bytes: 9 * once, call }]
}

fn step([params, grads, first, second, averages]: &[Vec<Tensor>; 5]) {
    const STEP: AdamWStep =
        AdamWStep { lr: 1e-4, beta1: 0.9, beta2: 0.99, eps: 1e-8, weight_decay: 0.01 };
    let tensors: Vec<_> = (0..params.len())
        .map(|k| AdamWTensors {
            param: &params[k],
            grad: &grads[k],
            exp_avg: &first[k],
            exp_avg_sq: &second[k],
            average: Some(&averages[k]),
        })
        .collect();
    let on = cuda::adamw_fits(&tensors).expect("a kernel");
    cuda::adamw(&on, &STEP, 1, (1.0, 0.995), &tensors).unwrap();
}

/// The norms of a network's gradients, and whether they make a step.
pub(super) fn judge(weights: i64, kind: Kind) -> Vec<Case> {
    let grads: Vec<Tensor> = (0..64).map(|_| draw(&[weights / 64], kind)).collect();
    let moved = grads.iter().map(|t| bytes(&[t])).sum();
    let loss = draw(&[], Kind::Double);
    let halted = Tensor::zeros([1], (Kind::Int, device()));
    let found = Verdict::new(grads.len(), device()).expect("room");
    let all = Rc::new((grads, loss, halted, found));
    let call: Box<dyn Fn(usize) -> Call> = Box::new(move |_| {
        let all = Rc::clone(&all);
        Box::new(move || {
            let (grads, loss, halted, found) = &*all;
            let on = cuda::judge_fits(grads).expect("a kernel");
            let of = Gradients { all: grads, clipped: grads.len(), clip: 1.0 };
            cuda::judge(&*on, loss, of, halted, found).unwrap();
            Vec::new()
        })
    });
    let shape = format!("{weights}");
    vec![Case { kernel: "norms of gradients", way: "step", kind, shape, bytes: moved, call }]
}

/// What the others are measured against.
pub(crate) fn copy() -> Case {
    let count = if device() == Device::Cpu { 1 << 20 } else { 1 << 29 };
    let [from, to] = [draw(&[count], Kind::Float), draw(&[count], Kind::Float)];
    let moved = bytes(&[&from, &to]);
    let call: Box<dyn Fn(usize) -> Call> = Box::new(move |_| {
        let (from, mut to) = (from.shallow_clone(), to.shallow_clone());
        Box::new(move || {
            to.copy_(&from);
            Vec::new()
        })
    });
    let shape = format!("{count}");
    Case { kernel: "copy", way: "forward", kind: Kind::Float, shape, bytes: moved, call }
}
