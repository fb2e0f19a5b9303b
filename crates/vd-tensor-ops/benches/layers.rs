//! What the layers cost: forward, and forward with backward, at a training size and at a small one.
//!
//! VD_BENCH_THREADS sets the threads (2 where it is not set), VD_TEST_DEVICE the device (`cpu`).

#![allow(clippy::unwrap_used, clippy::print_stderr, missing_docs)]

mod common;

use std::hint::black_box;

use common::{draw, name};
use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, criterion_group, criterion_main};
use tch::{Kind, Tensor};
use vd_tensor_ops::layers::{
    CrossAttention, GroupNorm, HeadShape, LayerNorm, Memory, RelativeBias, RmsNorm, SpaceConv,
    SpatialAttention, SpatialLinearAttention, TemporalAttention, TokenShift,
};
use vd_tensor_ops::torch::testing::{device, finished};
use vd_tensor_ops::{Params, Scope};

/// b f h w c: a level of a network in training, and the end of a small one.
const SIZES: [[i64; 5]; 2] = [[1, 5, 32, 32, 64], [1, 5, 8, 8, 32]];
/// What fills a large device.
const ON_CUDA: [[i64; 5]; 1] = [[8, 10, 32, 32, 128]];
const SHAPE: HeadShape = HeadShape { heads: 4, dim: 32 };

type Layer = Box<dyn Fn(&Tensor) -> Tensor>;
type Build = fn(&mut Scope, i64, i64) -> Layer;

/// Name and constructor, from frames and channels.
const LAYERS: [(&str, Build); 10] = [
    ("temporal_attention", |s, f, c| {
        let bias = RelativeBias::new(&mut s.sub("bias"), SHAPE.heads, 32).unwrap();
        let layer = TemporalAttention::new(s, c, SHAPE).unwrap();
        Box::new(move |x| layer.forward(x, Some(&bias.forward(f)), None))
    }),
    ("temporal_attention_with_memory", |s, f, c| {
        let bias = RelativeBias::new(&mut s.sub("bias"), SHAPE.heads, 32).unwrap();
        let layer = TemporalAttention::new(s, c, SHAPE).unwrap();
        let [keys, values] = [3, 4].map(|seed| draw(seed, &[1, 8, SHAPE.heads, SHAPE.dim]));
        let memory = Memory { keys, values };
        Box::new(move |x| layer.forward_with(x, Some(&bias.forward(f)), None, Some(&memory)))
    }),
    ("cross_attention_to_32_tokens", |s, _, c| {
        let layer = CrossAttention::new(s, c, 64, SHAPE).unwrap();
        let (tokens, weight) = (draw(3, &[1, 32, 64]), draw(4, &[1, 32]).abs());
        Box::new(move |x| layer.forward(x, &tokens, &weight))
    }),
    ("token_shift_in_time", |_, _, _| Box::new(|x| TokenShift::time(x, None))),
    ("linear_attention", |s, _, c| {
        let layer = SpatialLinearAttention::new(s, c, SHAPE).unwrap();
        Box::new(move |x| layer.forward(x))
    }),
    ("spatial_attention", |s, _, c| {
        let layer = SpatialAttention::new(s, c, SHAPE).unwrap();
        Box::new(move |x| layer.forward(x))
    }),
    ("convolution_3x3", |s, _, c| {
        let layer = SpaceConv::new(s, c, c, 3).unwrap();
        Box::new(move |x| layer.forward(x))
    }),
    ("rms_norm", |s, _, c| {
        let layer = RmsNorm::new(s, c).unwrap();
        Box::new(move |x| layer.forward(x))
    }),
    ("layer_norm", |s, _, c| {
        let layer = LayerNorm::new(s, c).unwrap();
        Box::new(move |x| layer.forward(x))
    }),
    ("group_norm", |s, _, c| {
        let layer = GroupNorm::new(s, c, 8).unwrap();
        Box::new(move |x| layer.forward(x))
    }),
];

fn layers(c: &mut Criterion) {
    common::start();
    let sizes: &[[i64; 5]] = if device().is_cuda() { &ON_CUDA } else { &SIZES };
    for (name, build) in LAYERS {
        let mut group = c.benchmark_group(name);
        for size in sizes {
            both_ways(&mut group, build, *size);
        }
        group.finish();
    }
}

fn both_ways(group: &mut BenchmarkGroup<WallTime>, build: Build, size: [i64; 5]) {
    let mut params = Params::new(0, Kind::Float, device());
    let layer = build(&mut params.root(), size[1], size[4]);
    let (x, weights, at) = (draw(1, &size), draw(2, &size), name(size));
    group.bench_function(format!("forward/{at}"), |b| {
        let _no_gradients = tch::no_grad_guard();
        b.iter(|| finished(layer(black_box(&x))));
    });
    let leaf = x.set_requires_grad(true);
    let mut leaves: Vec<Tensor> =
        params.trainable().into_iter().map(|(_, t)| t.shallow_clone()).collect();
    leaves.push(leaf.shallow_clone());
    group.bench_function(format!("forward_backward/{at}"), |b| {
        b.iter(|| {
            let value = (layer(black_box(&leaf)) * &weights).sum(Kind::Float);
            finished(Tensor::run_backward(&[value], &leaves, false, false))
        });
    });
}

criterion_group! {
    name = benches;
    config = common::config(150, 700);
    targets = layers
}
criterion_main!(benches);
