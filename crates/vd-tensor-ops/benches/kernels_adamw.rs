//! The step of the optimiser with the moving average of the weights: the kernel against libtorch's
//! operations, and against what memory gives.
//!
//! Bytes are those that any such step has to move: five numbers in and four out for each weight. The
//! stream moves as many, from as many arrays and to as many, and computes next to nothing; all sides
//! take turns, and a line says which part of its rate the kernel reaches. VD_BENCH_THREADS sets the
//! threads (2 where it is not set).

#![allow(clippy::unwrap_used, clippy::print_stderr, missing_docs)]

mod common;

use std::sync::Mutex;
use std::time::Instant;

use common::draw;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use tch::Tensor;
use vd_tensor_ops::kernels::cpu::{AdamWTensors, Isa, adamw};
use vd_tensor_ops::torch::{AdamWState, AdamWStep, fused_adamw, team, threads};

/// Weights of a network of dim 64, of one of dim 16, and of one that stays in the last cache.
const WEIGHTS: [i64; 3] = [36_000_000, 1_500_000, 100_000];
/// The parameters that they are divided into: kernels, biases and gains differ by as much.
const PARTS: [i64; 4] = [1_000, 64, 3, 1];
/// Turns of each side in the comparison.
const TURNS: usize = 15;
const NUMBERS: AdamWStep =
    AdamWStep { lr: 1e-4, beta1: 0.9, beta2: 0.99, eps: 1e-8, weight_decay: 0.01 };
const DECAY: f64 = 0.995;
/// Numbers that are read of each weight, and written.
const MOVED: u64 = 5 + 4;

/// Parameters, gradients, both moments and averages.
struct Network([Vec<Tensor>; 5]);

impl Network {
    fn new(weights: i64) -> Self {
        let all: i64 = PARTS.iter().sum();
        let list = |seed: u64| {
            let sizes = (0..16).flat_map(|_| PARTS.map(|part| (weights * part / all / 16).max(1)));
            sizes.zip(seed..).map(|(size, seed)| draw(seed, &[size])).collect::<Vec<_>>()
        };
        let zeros = |like: &[Tensor]| like.iter().map(Tensor::zeros_like).collect::<Vec<_>>();
        let (params, grads) = (list(1), list(100));
        let (first, second, averages) = (zeros(&params), zeros(&params), zeros(&params));
        Network([params, grads, first, second, averages])
    }

    fn bytes(&self) -> u64 {
        4 * MOVED * self.0[0].iter().map(|t| t.numel() as u64).sum::<u64>()
    }

    fn fused(&self) {
        let [params, grads, exp_avgs, exp_avg_sqs, averages] = &self.0;
        let tensors: Vec<_> = (0..params.len())
            .map(|k| AdamWTensors {
                param: &params[k],
                grad: &grads[k],
                exp_avg: &exp_avgs[k],
                exp_avg_sq: &exp_avg_sqs[k],
                average: Some(&averages[k]),
            })
            .collect();
        adamw(Isa::current(), &NUMBERS, 1, (0.999, DECAY), &tensors).unwrap();
    }

    /// libtorch's own fused step between the operations that clip and that average.
    fn reference(&self) {
        let [params, grads, exp_avgs, exp_avg_sqs, averages] = &self.0;
        for grad in grads {
            let _: Tensor = grad.shallow_clone().g_mul_scalar_(0.999_999);
        }
        let steps: Vec<_> = params.iter().map(|_| Tensor::from(1f32)).collect();
        let state = AdamWState { params, grads, exp_avgs, exp_avg_sqs, steps: &steps };
        fused_adamw(&NUMBERS, state).unwrap();
        for (average, param) in averages.iter().zip(params) {
            let _: Tensor = average.shallow_clone().lerp_(param, 1.0 - DECAY);
        }
    }
}

/// One array that is read and four that are read and written, a part of them for each thread.
struct Stream(Vec<Mutex<[Vec<f32>; 5]>>);

impl Stream {
    fn new(bytes: u64) -> Self {
        let each = (bytes / 4 / MOVED) as usize / threads();
        let part = || Mutex::new(std::array::from_fn(|i| vec![i as f32; each]));
        Stream((0..threads()).map(|_| part()).collect())
    }

    fn pass(&self) {
        team(|member| {
            let mut part = self.0[member.index].lock().unwrap();
            let [from, rest @ ..] = &mut *part;
            let [a, b, c, d] = rest.each_mut().map(|array| array.iter_mut());
            for ((((x, a), b), c), d) in from.iter().zip(a).zip(b).zip(c).zip(d) {
                *a += x;
                *b += x;
                *c += x;
                *d += x;
            }
        });
    }
}

/// Turns of all sides: the median of their rates within a turn, as parts of the stream's.
fn compare(network: &Network, stream: &Stream) {
    let sides: [(&str, &dyn Fn()); 3] = [
        ("stream", &|| stream.pass()),
        ("fused", &|| network.fused()),
        ("libtorch", &|| network.reference()),
    ];
    let mut seconds = sides.map(|_| Vec::new());
    for _ in 0..TURNS {
        for ((_, side), seconds) in sides.iter().zip(&mut seconds) {
            let start = Instant::now();
            side();
            seconds.push(start.elapsed().as_secs_f64());
        }
    }
    let bytes = network.bytes() as f64;
    let shown = sides.iter().zip(&seconds).map(|((name, _), own)| {
        let parts = seconds[0].iter().zip(own).map(|(stream, own)| stream / own);
        let (taken, part) = (median(own.iter().copied()), median(parts));
        let (ms, rate) = (1e3 * taken, bytes / taken / 1e9);
        format!("{name} {ms:.2} ms, {rate:.1} GB/s, {part:.2} of the stream")
    });
    let shown = shown.collect::<Vec<_>>().join("; ");
    eprintln!("{:.0} MB: {shown} (medians of {TURNS} turns)", bytes / 1e6);
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut sorted: Vec<f64> = values.collect();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}

fn kernels_adamw(criterion: &mut Criterion) {
    common::start();
    for weights in WEIGHTS {
        let network = Network::new(weights);
        let stream = Stream::new(network.bytes());
        compare(&network, &stream);
        let mut group = criterion.benchmark_group(format!("{weights}_weights"));
        group.throughput(Throughput::Bytes(network.bytes()));
        group.bench_function("stream", |bencher| bencher.iter(|| stream.pass()));
        group.bench_function("fused", |bencher| bencher.iter(|| network.fused()));
        group.bench_function("reference", |bencher| bencher.iter(|| network.reference()));
        group.finish();
    }
}

criterion_group! {
    name = benches;
    config = common::config(200, 800);
    targets = kernels_adamw
}
criterion_main!(benches);
