//! The fused convolution of a residual block against the same in libtorch's operations: forward, and
//! the gradients.
//!
//! VD_BENCH_THREADS sets the threads (2 where it is not set). Throughput is in products of the direct
//! way, so it may pass the machine's peak.

#![allow(clippy::unwrap_used, clippy::print_stderr, missing_docs)]

mod common;

use std::hint::black_box;

use common::{draw, name};
use criterion::{Criterion, SamplingMode, Throughput, criterion_group, criterion_main};
use tch::{Device, Kind};
use vd_tensor_ops::Params;
use vd_tensor_ops::kernels::cpu::{self, ConvCache, Isa, conv3x3_input_grad, conv3x3_weight_grad};
use vd_tensor_ops::kernels::{self, Precision};
use vd_tensor_ops::layers::{ConvBlock, NormKind};

/// b f h w c of the levels of a network, and of a small one.
const SIZES: [[i64; 5]; 6] = [
    [1, 5, 32, 32, 64],
    [1, 16, 64, 64, 64],
    [1, 16, 32, 32, 128],
    [1, 16, 16, 16, 256],
    [1, 5, 4, 4, 512],
    [16, 8, 32, 32, 16],
];

fn kernels_conv(criterion: &mut Criterion) {
    common::start();
    let isa = Isa::current();
    for size in SIZES {
        let [b, f, h, w, c] = size;
        let mut params = Params::new(0, Kind::Float, Device::Cpu);
        let block = ConvBlock::new(&mut params.root(), c, c, NormKind::Rms).unwrap();
        let weight = params.get("proj.weight").unwrap().tensor.shallow_clone();
        let (x, grad) = (draw(1, &size), draw(2, &size));
        let mut group = criterion.benchmark_group(name(size));
        group.sampling_mode(SamplingMode::Flat);
        group.throughput(Throughput::Elements((2 * 9 * c * c * b * f * h * w) as u64));
        for precision in [Precision::Reference, Precision::Exact, Precision::F32] {
            group.bench_function(format!("forward/{precision:?}"), |bencher| {
                let _no_gradients = tch::no_grad_guard();
                bencher.iter(|| {
                    kernels::with(precision, || block.forward(&[black_box(&x)], None, Some(&grad)))
                });
            });
        }
        let cache = ConvCache::default();
        group.bench_function("input_grad", |bencher| {
            bencher.iter(|| conv3x3_input_grad(isa, black_box(&grad), (&weight, &cache)));
        });
        group.bench_function("weight_grad", |bencher| {
            bencher.iter(|| conv3x3_weight_grad(isa, &[black_box(&x)], &grad));
        });
        let gain = draw(3, &[1, c]);
        let finish = cpu::Finish { gain: &gain, shift: None, residual: None };
        group.bench_function("finish_grad", |bencher| {
            bencher.iter(|| cpu::finish_grad(isa, black_box(&x), &grad, &finish));
        });
        group.finish();
    }
}

criterion_group! {
    name = benches;
    config = common::config(200, 800);
    targets = kernels_conv
}
criterion_main!(benches);
