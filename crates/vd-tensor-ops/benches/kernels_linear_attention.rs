//! What linear attention over space costs, with its norm and its residual, forward and with its
//! gradients: the kernel against libtorch's operations.
//!
//! Rates are of the products of the plain way: queries, keys, values, context, and the way back.
//! VD_BENCH_THREADS sets the threads (2 where it is not set).

#![allow(clippy::unwrap_used, clippy::print_stderr, missing_docs)]

mod common;

use std::hint::black_box;

use common::draw;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use tch::{Kind, Tensor};
use vd_tensor_ops::kernels::cpu::{
    Isa, LinearAttentionCache, LinearAttentionWeights, linear_attention, linear_attention_backward,
};
use vd_tensor_ops::layers::HeadShape;
use vd_tensor_ops::torch;

/// b f h w c and the number of heads: levels of a network of dim 64, the coarsest of one frame size,
/// and a small network.
const CASES: [([i64; 5], i64); 6] = [
    ([1, 5, 32, 32, 64], 8),
    ([1, 16, 64, 64, 64], 8),
    ([1, 5, 16, 16, 128], 8),
    ([1, 5, 8, 8, 256], 8),
    ([1, 5, 4, 4, 512], 8),
    ([16, 8, 32, 32, 16], 4),
];

/// The operations of the layer.
fn reference(x: &Tensor, weights: &LinearAttentionWeights<'_>, heads: HeadShape) -> Tensor {
    let size = x.size();
    let normal = x.layer_norm([size[4]], Some(weights.gamma), None::<&Tensor>, 1e-5, false);
    let qkv = normal.flatten(2, 3).flatten(0, 1).linear(weights.to_qkv, None::<&Tensor>);
    let parts = qkv.unflatten(-1, [3, heads.heads, heads.dim]);
    let [q, k, v] = [0, 1, 2].map(|i| parts.select(-3, i));
    let q = q.softmax(-1, Kind::Float) * heads.scale();
    let k = k.softmax(1, Kind::Float);
    let context = k.permute([0, 2, 3, 1]).matmul(&v.transpose(1, 2));
    let out = q.transpose(1, 2).matmul(&context).transpose(1, 2).flatten(2, 3);
    x + out.linear(weights.to_out, Some(weights.bias)).view(size.as_slice())
}

fn linear_attention_of_levels(criterion: &mut Criterion) {
    common::start();
    let _no_grad = tch::no_grad_guard();
    for (shape, heads) in CASES {
        let heads = HeadShape { heads, dim: 32 };
        let (c, inner) = (shape[4], heads.inner());
        let sites: i64 = shape[..4].iter().product();
        let x = draw(1, &shape);
        let (gamma, bias) = (draw(2, &[c]) * 0.1 + 1.0, draw(3, &[c]));
        let to_qkv = draw(4, &[3 * inner, c]) / (c as f64).sqrt();
        let to_out = draw(5, &[c, inner]) / (inner as f64).sqrt();
        let weights =
            LinearAttentionWeights { gamma: &gamma, to_qkv: &to_qkv, to_out: &to_out, bias: &bias };
        let [b, f, h, w, _] = shape;
        let mut group =
            criterion.benchmark_group(format!("b{b}_f{f}_{h}x{w}_c{c}_{}", heads.heads));
        let flops = 2 * sites * inner * (4 * c + 2 * heads.dim);
        group.throughput(Throughput::Elements(flops as u64));
        let cache = LinearAttentionCache::default();
        let isa = Isa::current();
        group.bench_function("fused", |bencher| {
            bencher.iter(|| linear_attention(isa, black_box(&x), &weights, &cache, heads));
        });
        group.bench_function("reference", |bencher| {
            bencher.iter(|| reference(black_box(&x), &weights, heads));
        });
        // Gradients take twice the products of the forward.
        group.throughput(Throughput::Elements(3 * flops as u64));
        let grad = draw(6, &shape);
        group.bench_function("fused_with_gradients", |bencher| {
            bencher.iter(|| {
                let y = linear_attention(isa, black_box(&x), &weights, &cache, heads);
                (y, linear_attention_backward(isa, (&x, &grad), &weights, &cache, heads))
            });
        });
        let leaves = [&x, &gamma, &to_qkv, &to_out, &bias];
        let leaves = leaves.map(|t| t.detach().set_requires_grad(true));
        let [x, gamma, to_qkv, to_out, bias] = &leaves;
        let weights = LinearAttentionWeights { gamma, to_qkv, to_out, bias };
        group.bench_function("reference_with_gradients", |bencher| {
            bencher.iter(|| {
                tch::with_grad(|| {
                    let y = reference(black_box(x), &weights, heads);
                    torch::grad(&[&y], &[&grad], &leaves.each_ref()).unwrap()
                })
            });
        });
        group.finish();
    }
}

criterion_group! {
    name = benches;
    config = common::config(300, 1_000);
    targets = linear_attention_of_levels
}
criterion_main!(benches);
