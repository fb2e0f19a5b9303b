//! Cost per operation of the paper's architecture, compared with that of video-diffusion-pytorch:
//! forward, and forward with backward, at dim 64.
//!
//! The two sides alternate, so that other load on the machine affects both; reported are the median
//! of each, and of the ratio of their times per operation within a turn. VD_BENCH_TURNS sets the
//! number of turns (5), VD_BENCH_THREADS the threads (2 by default), VD_BENCH_PRESETS other
//! presets.

#![allow(clippy::unwrap_used, clippy::print_stderr, missing_docs)]

use std::hint::black_box;
use std::time::Instant;

use tch::{Device, Kind, Tensor};
use vd_unet3d::flops::{self, Shape};
use vd_unet3d::ops::{Params, SeededNoise, torch};
use vd_unet3d::{Backbone, Cond, FrameMask, Noise, Preset, UNet3d, UNet3dConfig};

/// b c f h w: a clip of the paper.
const SIZE: [i64; 5] = [1, 3, 16, 64, 64];
const DIM: i64 = 64;
/// Tokens of a text, for networks that use them; none are given.
const TOKENS: u64 = 0;

struct Side {
    name: &'static str,
    flops: u64,
    net: UNet3d,
    params: Params,
}

impl Side {
    fn new(preset: Preset) -> Side {
        let config = UNet3dConfig { dim: DIM, ..preset.config() };
        let mut params = Params::new(0, Kind::Float, Device::Cpu);
        let net = UNet3d::new(&config, &mut params.root()).unwrap();
        let [b, _, f, h, w] = SIZE.map(i64::unsigned_abs);
        let flops = flops::forward(&config, Shape { b, f, h, w, tokens: TOKENS });
        Side { name: preset.name(), flops, net, params }
    }

    /// Nanoseconds per thousand operations; backward counts as two forwards.
    fn run(&self, x: &Tensor, weights: &Tensor, train: bool) -> f64 {
        let t = Tensor::from_slice(&[0.5f32]);
        let ask = || self.net.forward(x, &t, &Cond::none(), &FrameMask::All, None).unwrap();
        let leaves: Vec<&Tensor> = self.params.trainable().into_iter().map(|(_, t)| t).collect();
        let begun = Instant::now();
        if train {
            let value = (ask() * weights).sum(Kind::Float);
            black_box(Tensor::run_backward(&[value], &leaves, false, false));
        } else {
            let _answer = black_box(tch::no_grad(ask));
        }
        let passes = if train { 3.0 } else { 1.0 };
        begun.elapsed().as_secs_f64() * 1e12 / (passes * self.flops as f64)
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn main() {
    torch::init().unwrap();
    let number =
        |name: &str, other: usize| std::env::var(name).map_or(other, |n| n.parse().unwrap());
    torch::set_threads(number("VD_BENCH_THREADS", 2));
    let turns = number("VD_BENCH_TURNS", 5);
    eprintln!("{} threads, Float, Cpu, libtorch {}", torch::threads(), torch::version());
    let named = std::env::var("VD_BENCH_PRESETS");
    let names = named.as_deref().unwrap_or("video-diffusion-pytorch-0.7 paper_ucf101");
    let sides: Vec<Side> =
        names.split_whitespace().map(|name| Side::new(name.parse().unwrap())).collect();
    let like = Tensor::empty(SIZE, (Kind::Float, Device::Cpu));
    let (x, weights) = (SeededNoise::new(1, 0).normal(&like), SeededNoise::new(2, 0).normal(&like));
    for (way, train) in [("forward", false), ("forward, backward", true)] {
        for side in &sides {
            side.run(&x, &weights, train);
        }
        let turn = |_| sides.iter().map(|side| side.run(&x, &weights, train)).collect::<Vec<_>>();
        let all: Vec<Vec<f64>> = (0..turns).map(turn).collect();
        for (i, side) in sides.iter().enumerate() {
            let time = median(all.iter().map(|turn| turn[i]).collect());
            let ratio = median(all.iter().map(|turn| turn[i] / turn[0]).collect());
            let flops = side.flops as f64 / 1e9;
            eprintln!(
                "{way}: {}, {flops:.1} G operations, {time:.2} ns for a thousand, {ratio:.2}",
                side.name
            );
        }
    }
}
