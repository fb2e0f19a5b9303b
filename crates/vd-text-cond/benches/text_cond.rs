//! From prompts to tokens, to embeddings and to videos.
//!
//! The tiny models of the tests show the overhead around a model. MINILM_DIR is the directory of a
//! real one, such as all-MiniLM-L6-v2, which is then measured too. VD_BENCH_THREADS sets the
//! threads (1 by default).

#![allow(clippy::unwrap_used, clippy::print_stderr, missing_docs)]

use std::hint::black_box;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::Duration;

use criterion::{BatchSize, Criterion, SamplingMode, Throughput, criterion_group, criterion_main};
use vd_text_cond::diffusion::unet3d::ops::{Params, torch};
use vd_text_cond::diffusion::unet3d::{UNet3d, UNet3dConfig};
use vd_text_cond::diffusion::{Diffusion, DiffusionConfig, SamplerConfig};
use vd_text_cond::tch::{Device, Kind};
use vd_text_cond::{
    Condition, GenerateRequest, Generator, Hashed, NullEmbedding, Pretrained, PretrainedConfig,
    TextEncoder, generate,
};

/// Batch size; as many as an encoder processes at a time.
const PROMPTS: usize = 32;
const WORDS: [&str; 12] = [
    "two", "bursts", "over", "the", "water", "green", "then", "gold", "seen", "from", "below", "at",
];

fn start() {
    torch::init().unwrap();
    let given = std::env::var("VD_BENCH_THREADS").ok();
    torch::set_threads(given.map_or(1, |n| n.parse().unwrap()));
    eprintln!("{} threads, Float, Cpu, libtorch {}", torch::threads(), torch::version());
}

/// The words in the permutation of this number: another prompt with the same number of tokens.
fn prompt(mut number: usize) -> String {
    let mut left = WORDS.to_vec();
    let mut words = Vec::with_capacity(left.len());
    while !left.is_empty() {
        words.push(left.remove(number % left.len()));
        number /= left.len() + 1;
    }
    words.join(" ")
}

fn prompts(batch: usize) -> Vec<String> {
    (0..PROMPTS).map(|i| prompt(batch * PROMPTS + i)).collect()
}

/// Names and directories of the available models.
fn models() -> Vec<(&'static str, PathBuf)> {
    let fixture = |name| Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/encoders").join(name);
    let mut models = vec![("tiny T5", fixture("t5_v11")), ("tiny CLIP", fixture("clip_quick"))];
    models.extend(std::env::var_os("MINILM_DIR").map(|path| ("MiniLM", PathBuf::from(path))));
    models
}

fn open(path: PathBuf) -> Pretrained {
    Pretrained::open(&PretrainedConfig::new(path)).unwrap()
}

fn tokenise(c: &mut Criterion) {
    start();
    let prompts = prompts(0);
    let mut group = c.benchmark_group("tokenise");
    group.throughput(Throughput::Elements(PROMPTS as u64));
    for (name, path) in models() {
        let encoder = open(path);
        group.bench_function(name, |b| {
            b.iter(|| -> usize {
                prompts
                    .iter()
                    .map(|prompt| encoder.token_ids(black_box(prompt)).unwrap().len())
                    .sum()
            });
        });
    }
    group.finish();
}

/// Prompts that are new each time, including tokenisation.
fn encode(c: &mut Criterion) {
    start();
    let mut group = c.benchmark_group("encode");
    group.sampling_mode(SamplingMode::Flat);
    for (name, path) in models() {
        let encoder = open(path);
        let tokens = prompts(0).iter().map(|p| encoder.token_ids(p).unwrap().len()).sum::<usize>();
        group.throughput(Throughput::Elements(tokens as u64));
        // the weights are read with the first prompt
        encoder.encode(&["gold"], Device::Cpu).unwrap();
        let mut batch = 0;
        group.bench_function(format!("{name}, {PROMPTS} prompts, {tokens} tokens"), |b| {
            let next = || {
                batch += 1;
                prompts(batch)
            };
            let run = |prompts: Vec<String>| {
                let prompts: Vec<_> = prompts.iter().map(String::as_str).collect();
                encoder.encode(&prompts, Device::Cpu).unwrap()
            };
            b.iter_batched(next, run, BatchSize::PerIteration);
        });
    }
    let encoder = Hashed::new(512).unwrap();
    let prompts = prompts(0);
    let prompts: Vec<_> = prompts.iter().map(String::as_str).collect();
    group.throughput(Throughput::Elements((PROMPTS * WORDS.len()) as u64));
    group.bench_function(format!("hashed, width 512, {PROMPTS} prompts of 12 words"), |b| {
        b.iter(|| encoder.encode(black_box(&prompts), Device::Cpu).unwrap());
    });
    group.finish();
}

/// Two clips in four steps with guidance, with a network of 8 channels.
fn draw(c: &mut Criterion) {
    start();
    let encoder = Hashed::new(16).unwrap();
    let config = UNet3dConfig {
        dim: 8,
        dim_mults: vec![1, 2],
        cond_dim: Some(encoder.width()),
        ..UNet3dConfig::default()
    };
    let mut params = Params::new(0, Kind::Float, Device::Cpu);
    let network = UNet3d::new(&config, &mut params.root()).unwrap();
    let diffusion = Diffusion::new(&DiffusionConfig::default()).unwrap();
    let model = Generator {
        backbone: &network,
        diffusion: &diffusion,
        encoder: Some(&encoder),
        null: NullEmbedding::Trained,
        signals: &[],
    };
    let request = GenerateRequest {
        steps: 4,
        guidance: 2.0,
        sampler: SamplerConfig::Ddim { eta: 0.0 },
        ..GenerateRequest::new(Condition::Prompts(vec![prompt(0), prompt(1)]), [5, 16, 16])
    };
    let mut group = c.benchmark_group("generate");
    group.sampling_mode(SamplingMode::Flat);
    group.throughput(Throughput::Elements(2));
    group.bench_function("2 clips of 3x5x16x16, 4 steps, guidance 2", |b| {
        b.iter(|| {
            generate(&model, black_box(&request), &mut |_| ControlFlow::Continue(())).unwrap()
        });
    });
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .sample_size(20)
        .nresamples(1_001)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(2));
    targets = tokenise, encode, draw
}
criterion_main!(benches);
