//! What options of a network cost, against the layer that they change or stand beside: vectors for
//! distances in time, the convolution along time, rings, dropout, an embedding for each frame, texts.
//!
//! Sides take turns, so that whatever else the machine does falls on all of them; the median of each,
//! and of its ratio to the first within a turn. VD_ISA chooses the instructions, VD_BENCH_THREADS the
//! threads (2 where it is not set), VD_BENCH_TURNS the turns (15).

#![allow(clippy::unwrap_used, clippy::print_stderr, missing_docs)]

mod common;

use std::hint::black_box;
use std::time::Instant;

use common::{draw, name};
use tch::{Device, Kind, Tensor};
use vd_tensor_ops::Params;
use vd_tensor_ops::kernels::{self, Precision};
use vd_tensor_ops::layers::{
    ConvBlock, CrossAttention, Dropout, DropoutSeeds, HeadShape, LayerNorm, NormKind, RelativeBias,
    ScaleShift, SpaceConv, SpaceDown, SpaceUp, TemporalAttention, TemporalConv, Wrap,
};

/// b f h w c: the first level of a network and its last, and that of a small network in training.
const SIZES: [[i64; 5]; 3] = [[1, 16, 64, 64, 64], [1, 16, 8, 8, 512], [16, 8, 32, 32, 16]];
const RING: Wrap = Wrap { height: true, width: true };

type Layer = Box<dyn Fn(&Tensor) -> Tensor>;
type Side<'a> = (&'a str, Precision, Box<dyn Fn(&Tensor) -> Tensor + 'a>);

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Milliseconds of one run, forward alone or with backward.
fn run((_, precision, side): &Side<'_>, x: &Tensor, leaves: Option<&[Tensor]>) -> f64 {
    kernels::with(*precision, || {
        let start = Instant::now();
        match leaves {
            None => drop(black_box(tch::no_grad(|| side(x)))),
            Some(leaves) => {
                let mut leaves: Vec<&Tensor> = leaves.iter().collect();
                leaves.push(x);
                let y = side(x);
                let seed = y.ones_like();
                // A side has a gradient for its own parameters alone.
                black_box(vd_torch::grad(&[&y], &[&seed], &leaves).unwrap());
            }
        }
        1e3 * start.elapsed().as_secs_f64()
    })
}

fn turns(what: &str, size: [i64; 5], params: &Params, sides: &[Side<'_>]) {
    let count = std::env::var("VD_BENCH_TURNS").map_or(15, |n| n.parse().unwrap());
    let plain = draw(1, &size);
    let tracked = plain.copy().set_requires_grad(true);
    let leaves: Vec<Tensor> =
        params.trainable().into_iter().map(|(_, t)| t.shallow_clone()).collect();
    for (way, x, leaves) in
        [("forward", &plain, None), ("forward, backward", &tracked, Some(leaves.as_slice()))]
    {
        for side in sides {
            run(side, x, leaves);
        }
        let all: Vec<Vec<f64>> =
            (0..count).map(|_| sides.iter().map(|side| run(side, x, leaves)).collect()).collect();
        for (i, (side, ..)) in sides.iter().enumerate() {
            let time = median(all.iter().map(|turn| turn[i]).collect());
            let ratio = median(all.iter().map(|turn| turn[i] / turn[0]).collect());
            eprintln!("{what}, {}, {way}: {side} {time:.2} ms, {ratio:.2}", name(size));
        }
    }
}

fn distances(size: [i64; 5]) {
    let [_, f, _, _, c] = size;
    let small = HeadShape { heads: 4, dim: 16 };
    let shape = if c < 64 { small } else { HeadShape { heads: 8, dim: 32 } };
    let mut params = Params::new(0, Kind::Float, Device::Cpu);
    let mut root = params.root();
    let bias = RelativeBias::new(&mut root.sub("bias"), shape.heads, 32).unwrap();
    let norm = LayerNorm::new(&mut root.sub("norm"), c).unwrap();
    let plain = TemporalAttention::new(&mut root.sub("plain"), c, shape).unwrap();
    let shaw = TemporalAttention::shaw(&mut root.sub("shaw"), c, shape, 16).unwrap();
    let run_plain = |x: &Tensor| plain.residual(&norm, x, Some(&bias.forward(f)), None);
    let run_shaw = |x: &Tensor| shaw.residual(&norm, x, None, None);
    let sides: [Side<'_>; 4] = [
        ("rotary and bias", Precision::F32, Box::new(run_plain)),
        ("distances", Precision::F32, Box::new(run_shaw)),
        ("rotary and bias by libtorch", Precision::Reference, Box::new(run_plain)),
        ("distances by libtorch", Precision::Reference, Box::new(run_shaw)),
    ];
    turns("attention along time", size, &params, &sides);
}

fn along_time(size: [i64; 5]) {
    let c = size[4];
    let mut params = Params::new(0, Kind::Float, Device::Cpu);
    let mut root = params.root();
    let space = SpaceConv::new(&mut root.sub("space"), c, c, 3).unwrap();
    let time = TemporalConv::new(&mut root.sub("time"), c, 3).unwrap();
    let sides: [Side<'_>; 4] = [
        ("3 x 3 over space", Precision::F32, Box::new(|x| space.forward(x))),
        ("the same by its products", Precision::Exact, Box::new(|x| space.forward(x))),
        ("3 along time", Precision::F32, Box::new(|x| time.forward(x, None))),
        ("the same by libtorch", Precision::Reference, Box::new(|x| time.forward(x, None))),
    ];
    turns("convolution", size, &params, &sides);
}

fn rings(size: [i64; 5]) {
    let c = size[4];
    for what in ["block", "down", "up"] {
        let layer = |ring: Wrap| -> Layer {
            let mut params = Params::new(0, Kind::Float, Device::Cpu);
            let mut root = params.root();
            match what {
                "block" => {
                    let layer = ConvBlock::new(&mut root, c, c, NormKind::Rms).unwrap();
                    let layer = layer.wrapped(ring);
                    Box::new(move |x| layer.forward(&[x], None, None))
                }
                "down" => {
                    let layer = SpaceDown::new(&mut root, c).unwrap().wrapped(ring);
                    Box::new(move |x| layer.forward(x))
                }
                _ => {
                    let layer = SpaceUp::new(&mut root, c).unwrap().wrapped(ring);
                    Box::new(move |x| layer.forward(x))
                }
            }
        };
        let (flat, ring) = (layer(Wrap::default()), layer(RING));
        let sides: [Side<'_>; 2] =
            [("zeros around", Precision::F32, flat), ("a torus", Precision::F32, ring)];
        turns(what, size, &Params::new(0, Kind::Float, Device::Cpu), &sides);
    }
}

fn dropout(size: [i64; 5]) {
    let c = size[4];
    let mut params = Params::new(0, Kind::Float, Device::Cpu);
    let mut root = params.root();
    let one = ConvBlock::new(&mut root.sub("one"), c, c, NormKind::Rms).unwrap();
    let two = ConvBlock::new(&mut root.sub("two"), c, c, NormKind::Rms).unwrap();
    let seeds = DropoutSeeds::new(&vec![7; size[0] as usize]);
    let layer = Dropout::new(0.1, 3).unwrap();
    let block = |x: &Tensor, seeds: Option<&DropoutSeeds>| {
        let inner = layer.forward(&one.forward(&[x], None, None), seeds);
        two.forward(&[&inner], None, Some(x))
    };
    let sides: [Side<'_>; 2] = [
        ("without dropout", Precision::F32, Box::new(|x| block(x, None))),
        ("with dropout", Precision::F32, Box::new(|x| block(x, Some(&seeds)))),
    ];
    turns("residual block", size, &params, &sides);
}

fn embeddings(size: [i64; 5]) {
    let [b, f, _, _, c] = size;
    let mut params = Params::new(0, Kind::Float, Device::Cpu);
    let block = ConvBlock::new(&mut params.root(), c, c, NormKind::Rms).unwrap();
    let [whole, each] = [1, f].map(|frames| {
        let [scale, shift] = [2, 3].map(|seed| draw(seed, &[b, frames, 1, 1, c]));
        ScaleShift { scale, shift }
    });
    let sides: [Side<'_>; 3] = [
        ("none", Precision::F32, Box::new(|x| block.forward(&[x], None, None))),
        ("one for the clip", Precision::F32, Box::new(|x| block.forward(&[x], Some(&whole), None))),
        (
            "one for each frame",
            Precision::F32,
            Box::new(|x| block.forward(&[x], Some(&each), None)),
        ),
    ];
    turns("embedding of a block", size, &params, &sides);
}

fn texts(size: [i64; 5]) {
    let [b, f, _, _, c] = size;
    let shape = HeadShape { heads: 4, dim: 32 };
    let mut params = Params::new(0, Kind::Float, Device::Cpu);
    let mut root = params.root();
    let bias = RelativeBias::new(&mut root.sub("bias"), shape.heads, 32).unwrap();
    let norm = LayerNorm::new(&mut root.sub("norm"), c).unwrap();
    let time = TemporalAttention::new(&mut root.sub("time"), c, shape).unwrap();
    let text = CrossAttention::new(&mut root.sub("text"), c, 64, shape).unwrap();
    let (tokens, weight) = (draw(3, &[b, 32, 64]), draw(4, &[b, 32]).abs());
    let over_time = |x: &Tensor| time.residual(&norm, x, Some(&bias.forward(f)), None);
    let sides: [Side<'_>; 2] = [
        ("along time", Precision::F32, Box::new(over_time)),
        (
            "to 32 tokens",
            Precision::F32,
            Box::new(|x| x + text.forward(&norm.forward(x), &tokens, &weight)),
        ),
    ];
    turns("attention", size, &params, &sides);
}

fn main() {
    common::start();
    for size in SIZES {
        distances(size);
        along_time(size);
        rings(size);
        dropout(size);
        embeddings(size);
        texts(size);
    }
}
