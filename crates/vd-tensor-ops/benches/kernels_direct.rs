//! Convolutions by their products against libtorch's, both channels last: forward, and the gradients.
//!
//! Both sides take turns, and each bench counts its own; the median of the ratios within a turn is
//! printed. VD_BENCH_THREADS sets the threads (2 where it is not set).

#![allow(clippy::unwrap_used, clippy::print_stderr, missing_docs)]

use std::cell::RefCell;
use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{Criterion, SamplingMode, Throughput, criterion_group, criterion_main};
use tch::{Device, Kind, Tensor};
use vd_tensor_ops::kernels::cpu::{
    DirectCache, Isa, Window, direct, direct_transposed, direct_weight_grad, fma_peak,
};
use vd_tensor_ops::{Noise, SeededNoise, torch};

const THREE: Window = Window { kernel: 3, stride: 1, padding: 1 };
const SEVEN: Window = Window { kernel: 7, stride: 1, padding: 3 };
const FOUR: Window = Window { kernel: 4, stride: 2, padding: 1 };

/// Frames and side of the videos: batches of 1 and 4 of 5 frames of 32, and 16 frames of 64.
const VIDEOS: [(i64, i64); 3] = [(5, 32), (20, 32), (16, 64)];
/// Inputs, outputs and by how much the side is divided; of a network of dim 64, multipliers 1 2 4 8.
const LEVELS: [(i64, i64, i64); 5] =
    [(64, 64, 1), (128, 64, 1), (128, 128, 2), (256, 256, 4), (512, 512, 8)];

fn draw(seed: u64, shape: &[i64]) -> Tensor {
    SeededNoise::new(seed, 0).normal(&Tensor::empty(shape, (Kind::Float, Device::Cpu)))
}

/// A side: how long it took this time.
type Side<'a> = &'a dyn Fn() -> Duration;

fn time(f: impl FnOnce() -> Tensor) -> Duration {
    let start = Instant::now();
    drop(black_box(f()));
    start.elapsed()
}

/// Two sides of the same, in turns.
fn turns(
    criterion: &mut Criterion,
    (name, products): (&str, i64),
    ours: Side<'_>,
    theirs: Side<'_>,
) {
    let mut group = criterion.benchmark_group(name);
    group.sampling_mode(SamplingMode::Flat);
    group.throughput(Throughput::Elements(2 * products as u64));
    let ratios = RefCell::new(Vec::new());
    for (side, turned) in [("kernel", false), ("libtorch", true)] {
        group.bench_function(side, |bencher| {
            bencher.iter_custom(|count| {
                let turn = |_| {
                    let (ours, theirs) = (ours(), theirs());
                    ratios.borrow_mut().push(theirs.as_secs_f64() / ours.as_secs_f64());
                    if turned { theirs } else { ours }
                };
                (0..count).map(turn).sum()
            });
        });
    }
    group.finish();
    let mut ratios = ratios.take();
    ratios.sort_by(f64::total_cmp);
    if let Some(ratio) = ratios.get(ratios.len() / 2) {
        eprintln!("{name}: libtorch takes {ratio:.2} times as long, {} turns", ratios.len());
    }
}

/// A convolution in libtorch, on images as it sees them: b f h w c is channels last.
fn theirs(x: &Tensor, weight: &Tensor, window: Window, transposed: bool) -> Tensor {
    let [s, p] = [window.stride, window.padding].map(|n| [n as i64; 2]);
    let (x, weight) = (x.flatten(0, 1).permute([0, 3, 1, 2]), weight.squeeze_dim(2));
    x.convolution(&weight, None::<&Tensor>, s, p, [1, 1], transposed, [0, 0], 1)
}

/// Forward, and both gradients, of one shape.
fn shape(
    criterion: &mut Criterion,
    [frames, side, inputs, outputs]: [i64; 4],
    (window, transposed): (Window, bool),
) {
    let isa = Isa::current();
    let k = window.kernel as i64;
    let (i, o) = if transposed { (outputs, inputs) } else { (inputs, outputs) };
    let weight = draw(1, &[o, i, 1, k, k]);
    let x = draw(2, &[1, frames, side, side, inputs]);
    let images = tch::no_grad(|| theirs(&x, &weight, window, transposed));
    let grad = draw(3, &[1, frames, images.size()[2], images.size()[3], outputs]);
    let seed = grad.flatten(0, 1).permute([0, 3, 1, 2]);
    let small = if transposed { &x } else { &grad };
    let products = small.numel() as i64 * k * k * if transposed { outputs } else { inputs };
    let way = if transposed { "up" } else { "conv" };
    let name = format!("{way}{k}/{frames}x{side}x{side}/{inputs}-{outputs}");
    let cache = DirectCache::default();
    let weights = (&weight, &cache, window);
    let size = |x: &Tensor| [x.size()[2], x.size()[3]].map(|n| n as usize);
    let straight = |x: &Tensor| direct(isa, &[x], weights, None, None);
    let back = |x: &Tensor, to: &Tensor| direct_transposed(isa, x, weights, None, size(to));
    let slope = |of: &Tensor| {
        let [x, weight] = [&x, &weight].map(|x| x.detach().set_requires_grad(true));
        let out = theirs(&x, &weight, window, transposed);
        let of = if of.size() == x.size() { &x } else { &weight };
        time(|| vd_torch::grad(&[&out], &[&seed], &[of]).unwrap().remove(0).unwrap())
    };
    turns(
        criterion,
        (&format!("{name}/forward"), products),
        &|| time(|| if transposed { back(&x, &grad) } else { straight(&x) }),
        &|| tch::no_grad(|| time(|| theirs(&x, &weight, window, transposed))),
    );
    if inputs >= 16 {
        turns(
            criterion,
            (&format!("{name}/input"), products),
            &|| time(|| if transposed { straight(&grad) } else { back(&grad, &x) }),
            &|| slope(&x),
        );
    }
    let (seen, of) = if transposed { (&grad, &x) } else { (&x, &grad) };
    turns(
        criterion,
        (&format!("{name}/weight"), products),
        &|| time(|| direct_weight_grad(isa, &[seen], of, window)),
        &|| slope(&weight),
    );
}

fn kernels_direct(criterion: &mut Criterion) {
    torch::init().unwrap();
    let given = std::env::var("VD_BENCH_THREADS").ok();
    torch::set_threads(given.map_or(2, |n| n.parse().unwrap()));
    let peak = fma_peak(torch::threads()) / 1e9;
    let (threads, version) = (torch::threads(), torch::version());
    eprintln!(
        "{threads} threads, {}, {peak:.0} GFLOP/s at most, libtorch {version}",
        Isa::current()
    );
    for (frames, side) in VIDEOS {
        shape(criterion, [frames, side, 3, 64], (SEVEN, false));
        for (inputs, outputs, divisor) in LEVELS {
            shape(criterion, [frames, side / divisor, inputs, outputs], (THREE, false));
        }
        for (channels, divisor) in [(64, 1), (128, 2), (256, 4)] {
            let side = side / divisor;
            shape(criterion, [frames, side, channels, channels], (FOUR, false));
            shape(criterion, [frames, side / 2, channels, channels], (FOUR, true));
        }
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .sample_size(10)
        .nresamples(1_001)
        .warm_up_time(Duration::from_millis(100))
        .measurement_time(Duration::from_millis(500));
    targets = kernels_direct
}
criterion_main!(benches);
