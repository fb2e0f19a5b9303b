//! Group norm with scale, shift, SiLU and residual: the kernel against the same in libtorch's
//! operations, forward and with the gradients.
//!
//! VD_BENCH_THREADS sets the threads (2 where it is not set). Throughput is in values of x.

#![allow(clippy::unwrap_used, clippy::print_stderr, missing_docs)]

mod common;

use std::hint::black_box;

use common::{draw, name};
use criterion::{Criterion, SamplingMode, Throughput, criterion_group, criterion_main};
use tch::Tensor;
use vd_tensor_ops::kernels::cpu::{GroupFinish, Isa, group_finished};
use vd_tensor_ops::torch;

/// b f h w c of the levels of a network, and of a small one.
const SIZES: [[i64; 5]; 5] = [
    [1, 5, 32, 32, 64],
    [1, 16, 64, 64, 64],
    [1, 16, 16, 16, 256],
    [1, 5, 4, 4, 512],
    [16, 8, 32, 32, 16],
];

/// The operations of the layers, `gain` and `shift` b 1 1 1 c.
fn reference([x, gain, shift, residual]: [&Tensor; 4], groups: i64) -> Tensor {
    let (b, c) = (x.size()[0], x.size()[4]);
    let grouped = x.reshape([b, -1, groups, c / groups]);
    let (variance, mean) = grouped.var_mean_correction([1i64, 3].as_slice(), 0, true);
    let normal = ((grouped - mean) * (variance + 1e-5).rsqrt()).view_as(x);
    shift.addcmul(&normal, gain).silu() + residual
}

fn fused([x, gain, shift, residual]: [&Tensor; 4], groups: i64) -> Tensor {
    let (gain, shift) = (&gain.flatten(0, 3), &shift.flatten(0, 3));
    let finish = GroupFinish { groups, gain, shift, residual: Some(residual) };
    group_finished(Isa::current(), x, &finish)
}

fn kernels_norm(criterion: &mut Criterion) {
    common::start();
    for size in SIZES {
        let rows = [size[0], 1, 1, 1, size[4]];
        let operands = [draw(1, &size), draw(2, &rows) + 1.0, draw(3, &rows), draw(4, &size)];
        let leaves = operands.each_ref().map(|t| t.detach().set_requires_grad(true));
        let grad = draw(5, &size);
        let mut group = criterion.benchmark_group(name(size));
        group.sampling_mode(SamplingMode::Flat);
        group.throughput(Throughput::Elements(size.iter().product::<i64>() as u64));
        type Way = fn([&Tensor; 4], i64) -> Tensor;
        for (name, way) in [("fused", fused as Way), ("reference", reference as Way)] {
            group.bench_function(format!("forward/{name}"), |bencher| {
                let _no_gradients = tch::no_grad_guard();
                bencher.iter(|| way(black_box(operands.each_ref()), 8));
            });
            group.bench_function(format!("with_gradients/{name}"), |bencher| {
                bencher.iter(|| {
                    let y = way(black_box(leaves.each_ref()), 8);
                    torch::grad(&[&y], &[&grad], &leaves.each_ref()).unwrap()
                });
            });
        }
        group.finish();
    }
}

criterion_group! {
    name = benches;
    config = common::config(200, 800);
    targets = kernels_norm
}
criterion_main!(benches);
