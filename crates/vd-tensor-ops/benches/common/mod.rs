//! What the benchmarks of this crate share.

#![allow(dead_code, reason = "each benchmark uses a part")]

use std::time::Duration;

use criterion::Criterion;
use tch::{Kind, Tensor};
use vd_tensor_ops::kernels::cpu::Isa;
use vd_tensor_ops::torch::testing::device;
use vd_tensor_ops::{Noise, SeededNoise, torch};

/// Names the number of threads; 2 where it is not set.
const THREADS: &str = "VD_BENCH_THREADS";

/// Begins as every program of the project does, its allocator tuned, with the threads that were
/// asked for, and says under which conditions it measures.
pub(crate) fn start() {
    torch::init().unwrap();
    torch::set_threads(std::env::var(THREADS).map_or(2, |n| n.parse().unwrap()));
    let (threads, isa) = (torch::threads(), Isa::current());
    eprintln!("{threads} threads, {isa}, Float, {:?}, libtorch {}", device(), torch::version());
}

/// Standard normal values.
pub(crate) fn draw(seed: u64, shape: &[i64]) -> Tensor {
    let size: i64 = shape.iter().product();
    let like = Tensor::empty([1, size], (Kind::Float, device()));
    SeededNoise::new(seed, 0).normal(&like).view(shape)
}

/// `1x5x32x32x64`
pub(crate) fn name(size: [i64; 5]) -> String {
    size.map(|n| n.to_string()).join("x")
}

/// Ten samples, in about this many milliseconds each of warming up and of measuring.
pub(crate) fn config(warm_up: u64, measuring: u64) -> Criterion {
    Criterion::default()
        .sample_size(10)
        .nresamples(1_001)
        .warm_up_time(Duration::from_millis(warm_up))
        .measurement_time(Duration::from_millis(measuring))
}
