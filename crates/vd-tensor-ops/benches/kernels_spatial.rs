//! What full attention over space costs, with its norm and its residual, forward and with its
//! gradients: the kernel against libtorch's operations.
//!
//! Rates are of the products of the plain way: queries, keys, values, scores, what heads give, and
//! the way back. VD_BENCH_THREADS sets the threads (1 where it is not set).

#![allow(clippy::unwrap_used, missing_docs)]

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use criterion::{BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main};
use tch::{Device, Kind, Tensor};
use vd_tensor_ops::kernels::cpu::{
    Isa, SpatialWeights, spatial_attention, spatial_attention_backward,
};
use vd_tensor_ops::layers::HeadShape;
use vd_tensor_ops::{Noise, SeededNoise, torch};

/// b f h w c, and whether scores have a bias: the coarsest level of a network of dim 64 on small and
/// on large frames, finer levels, and a small network.
const CASES: [([i64; 5], bool); 7] = [
    ([1, 5, 4, 4, 512], false),
    ([1, 16, 8, 8, 512], false),
    ([1, 16, 8, 8, 512], true),
    ([1, 16, 16, 16, 256], false),
    ([1, 16, 16, 16, 256], true),
    ([1, 2, 48, 48, 64], false),
    ([16, 8, 4, 4, 64], false),
];

fn draw(seed: u64, shape: &[i64]) -> Tensor {
    SeededNoise::new(seed, 0).normal(&Tensor::empty(shape, (Kind::Float, Device::Cpu)))
}

/// The operations of the layer.
fn reference(x: &Tensor, all: [&Tensor; 3], heads: HeadShape, bias: Option<&Tensor>) -> Tensor {
    let (size, [gamma, to_qkv, to_out]) = (x.size(), all);
    let normal = x.layer_norm([size[4]], Some(gamma), None::<&Tensor>, 1e-5, false);
    let qkv = normal.flatten(2, 3).flatten(0, 1).linear(to_qkv, None::<&Tensor>);
    let parts = qkv.unflatten(-1, [3, heads.heads, heads.dim]);
    let [q, k, v] = [0, 1, 2].map(|i| parts.select(-3, i).transpose(1, 2));
    let bias = bias.map(|bias| bias.unsqueeze(0));
    let scale = heads.scale();
    let out =
        Tensor::scaled_dot_product_attention(&q, &k, &v, bias.as_ref(), 0.0, false, scale, false);
    x + out.transpose(1, 2).flatten(2, 3).linear(to_out, None::<&Tensor>).view(size.as_slice())
}

type Group<'a> = BenchmarkGroup<'a, criterion::measurement::WallTime>;

fn one(group: &mut Group<'_>, leaves: &[Tensor], heads: HeadShape, flops: i64) {
    let [x, gamma, to_qkv, to_out, bias @ ..] = leaves else { unreachable!("four at least") };
    let (isa, cache, bias) = (Isa::current(), &Arc::default(), bias.first());
    let weights = SpatialWeights { gamma, to_qkv, to_out, shape: heads, cache };
    let all = [gamma, to_qkv, to_out];
    group.throughput(Throughput::Elements(flops as u64));
    group.bench_function("fused", |bencher| {
        bencher.iter(|| spatial_attention(isa, black_box(x), &weights, bias));
    });
    group.bench_function("reference", |bencher| {
        bencher.iter(|| reference(black_box(x), all, heads, bias));
    });
    // Gradients take twice the products of the forward.
    group.throughput(Throughput::Elements(3 * flops as u64));
    let grad = draw(6, &x.size());
    group.bench_function("fused_with_gradients", |bencher| {
        bencher.iter(|| {
            let y = spatial_attention(isa, black_box(x), &weights, bias);
            (y, spatial_attention_backward(isa, (x, &grad), &weights, bias))
        });
    });
    // As in training: a step of the optimiser changes the weights before each.
    group.bench_function("fused_with_gradients_packed_again", |bencher| {
        bencher.iter(|| {
            let cache = &Arc::default();
            let weights = SpatialWeights { cache, ..weights };
            let y = spatial_attention(isa, black_box(x), &weights, bias);
            (y, spatial_attention_backward(isa, (x, &grad), &weights, bias))
        });
    });
    let wanted: Vec<_> = leaves.iter().collect();
    group.bench_function("reference_with_gradients", |bencher| {
        bencher.iter(|| {
            tch::with_grad(|| {
                let y = reference(black_box(x), all, heads, bias);
                torch::grad(&[&y], &[&grad], &wanted).unwrap()
            })
        });
    });
}

fn benches(criterion: &mut Criterion) {
    torch::init().unwrap();
    let threads = std::env::var("VD_BENCH_THREADS").ok().and_then(|n| n.parse().ok()).unwrap_or(1);
    torch::set_threads(threads);
    let _no_grad = tch::no_grad_guard();
    for (shape, bias) in CASES {
        let [b, f, h, w, c] = shape;
        let heads = HeadShape { heads: 8, dim: 32 };
        let (inner, sites) = (heads.inner(), h * w);
        let mut leaves = vec![
            draw(1, &shape),
            draw(2, &[c]) * 0.1 + 1.0,
            draw(4, &[3 * inner, c]) / (c as f64).sqrt(),
            draw(5, &[c, inner]) / (inner as f64).sqrt(),
        ];
        if bias {
            leaves.push(draw(3, &[heads.heads, sites, sites]));
        }
        let leaves: Vec<_> = leaves.iter().map(|t| t.detach().set_requires_grad(true)).collect();
        let name = if bias { "_bias" } else { "" };
        let mut group = criterion.benchmark_group(format!("b{b}_f{f}_{h}x{w}_c{c}{name}"));
        group.sample_size(10);
        group.warm_up_time(Duration::from_millis(500));
        group.measurement_time(Duration::from_secs(2));
        one(&mut group, &leaves, heads, 2 * b * f * sites * inner * (4 * c + 2 * sites));
        group.finish();
    }
}

criterion_group!(all, benches);
criterion_main!(all);
