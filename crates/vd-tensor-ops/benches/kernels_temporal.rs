//! Attention along time with norm and residual: the kernel against libtorch's operations, forward,
//! and forward with backward.
//!
//! Elements of the throughput are floating-point operations of the forward: its products. VD_ISA
//! chooses the instructions, VD_BENCH_THREADS the threads (2 where it is not set).

#![allow(clippy::unwrap_used, clippy::print_stderr, missing_docs)]

mod common;

use std::hint::black_box;

use common::{draw, name};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use tch::{Device, Kind, Tensor};
use vd_tensor_ops::Params;
use vd_tensor_ops::kernels::{self, Precision};
use vd_tensor_ops::layers::{HeadShape, LayerNorm, RelativeBias, TemporalAttention};

/// b f h w c and the heads: the first level of a network and its last, the first of a larger video,
/// and that of a small network in training.
const SIZES: [([i64; 5], HeadShape); 4] = [
    ([1, 5, 32, 32, 64], HeadShape { heads: 8, dim: 32 }),
    ([1, 5, 4, 4, 512], HeadShape { heads: 8, dim: 32 }),
    ([1, 16, 64, 64, 64], HeadShape { heads: 8, dim: 32 }),
    ([16, 8, 32, 32, 16], HeadShape { heads: 4, dim: 16 }),
];

const ROADS: [(&str, Precision); 3] =
    [("fused", Precision::F32), ("bf16", Precision::Bf16), ("reference", Precision::Reference)];

/// Twice the products of projections, scores and weighted sums.
fn operations([b, f, h, w, c]: [i64; 5], shape: HeadShape) -> u64 {
    let site = 4 * shape.inner() * c + 2 * shape.inner() * f;
    (2 * b * f * h * w * site) as u64
}

fn temporal(c: &mut Criterion) {
    common::start();
    for (size, shape) in SIZES {
        let mut params = Params::new(0, Kind::Float, Device::Cpu);
        let mut root = params.root();
        let bias = RelativeBias::new(&mut root.sub("bias"), shape.heads, 32).unwrap();
        let norm = LayerNorm::new(&mut root.sub("norm"), size[4]).unwrap();
        let layer = TemporalAttention::new(&mut root, size[4], shape).unwrap();
        let (x, weights) = (draw(1, &size), draw(2, &size));
        let mut group = c.benchmark_group(name(size));
        group.throughput(Throughput::Elements(operations(size, shape)));
        for (name, precision) in ROADS {
            group.bench_function(format!("forward/{name}"), |b| {
                let _no_gradients = tch::no_grad_guard();
                let bias = bias.forward(size[1]);
                let run = || layer.residual(&norm, black_box(&x), Some(&bias), None);
                kernels::with(precision, || b.iter(run));
            });
        }
        let x = x.set_requires_grad(true);
        let mut leaves: Vec<Tensor> =
            params.trainable().into_iter().map(|(_, t)| t.shallow_clone()).collect();
        leaves.push(x.shallow_clone());
        for (name, precision) in ROADS {
            group.bench_function(format!("forward_backward/{name}"), |b| {
                let run = || {
                    let bias = bias.forward(size[1]);
                    let y = layer.residual(&norm, black_box(&x), Some(&bias), None);
                    let value = (y * &weights).sum(Kind::Float);
                    Tensor::run_backward(&[value], &leaves, false, false)
                };
                kernels::with(precision, || b.iter(run));
            });
        }
        group.finish();
    }
}

criterion_group! {
    name = benches;
    config = common::config(150, 700);
    targets = temporal
}
criterion_main!(benches);
