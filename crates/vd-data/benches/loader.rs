//! The cost of a batch: 8 clips of 16 x 64 x 64 from shards, from GIFs, and, if there is an ffmpeg,
//! from MP4s.
//!
//! Besides criterion's times it prints the CPU time of a batch: user and system time of all threads
//! of the process (`getrusage`; ffmpeg, a separate process, is not included), and which fraction of
//! a core that is if a training step takes `VD_STEP_MS` milliseconds (500 by default). For that
//! measurement a batch is requested at the start of each step, and the bench sleeps for the rest of
//! it, as if the network had the cores.

#![allow(clippy::unwrap_used, clippy::print_stderr, missing_docs)]

use std::fs::{self, File};
use std::hint::black_box;
use std::ops::ControlFlow;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use criterion::{Criterion, criterion_group, criterion_main};
use vd_data::{
    ArrayFormat, ChannelRule, Cursor, DataConfig, Dtype, FireworksConfig, Loader, Normalise,
    Prepare, Scaling, ShardDtype, Source, decode, prepare, write_array, write_synthetic,
};

const CLIPS: usize = 32;
const BATCH: usize = 8;

/// The fraction of a core that loading may take.
const MOST: f64 = 0.05;

/// CPU seconds that the process has used up to now.
fn cpu() -> f64 {
    vd_torch::cpu_time().unwrap().as_secs_f64()
}

/// The duration of a training step.
fn step() -> Duration {
    let ms = std::env::var("VD_STEP_MS").map_or(500, |ms| ms.parse().unwrap());
    Duration::from_millis(ms)
}

fn config(source: Source, workers: usize) -> DataConfig {
    DataConfig { source, frames: 16, size: [64, 64], workers, ..DataConfig::default() }
}

/// The cost of a batch without waiting in between.
fn summary(name: &str, config: &DataConfig, seconds: u64) {
    let mut loader = Loader::new(config, BATCH, Cursor::start(1)).unwrap();
    for _ in 0..4 {
        loader.next().unwrap();
    }
    let (begin, before, mut batches) = (Instant::now(), cpu(), 0u32);
    while begin.elapsed() < Duration::from_secs(seconds) {
        black_box(loader.next().unwrap());
        batches += 1;
    }
    let (wall, cpu) = (begin.elapsed().as_secs_f64(), cpu() - before);
    let clips = f64::from(batches) * BATCH as f64 / wall;
    let each = cpu / f64::from(batches);
    eprintln!(
        "{name}, {} workers: {clips:.0} clips/s, {:.2} ms of CPU a batch, {:.0} % of a core from steps of {:.0} ms on",
        config.workers,
        1e3 * each,
        100.0 * MOST,
        1e3 * each / MOST
    );
}

/// The cost of loading beside training steps of a given duration.
fn beside_steps(name: &str, config: &DataConfig) {
    const STEPS: u32 = 12;
    let mut loader = Loader::new(config, BATCH, Cursor::start(1)).unwrap();
    loader.next().unwrap();
    std::thread::sleep(step());
    let (before, mut waited) = (cpu(), Duration::ZERO);
    for _ in 0..STEPS {
        let asked = Instant::now();
        black_box(loader.next().unwrap());
        waited += asked.elapsed();
        std::thread::sleep(step().saturating_sub(asked.elapsed()));
    }
    let (stated, n) = (step().as_secs_f64(), f64::from(STEPS));
    let cpu = (cpu() - before) / n;
    eprintln!(
        "{name}, {} workers: {:.2} ms of CPU a step = {:.2} % of a core at {:.0} ms a step; {:.2} ms a step waited for",
        config.workers,
        1e3 * cpu,
        100.0 * cpu / stated,
        1e3 * stated,
        1e3 * waited.as_secs_f64() / n
    );
}

/// Arrays of one channel of f32, unchanged and as shards of two dtypes.
fn numbers(dir: &Path) -> Vec<(String, DataConfig)> {
    let arrays = dir.join("arrays");
    fs::create_dir(&arrays).unwrap();
    for k in 0..CLIPS {
        let shape = [48, 64, 64, 1];
        let value = |at: usize| ((at * 7919 + k * 104_729) % 1009) as f32;
        let values: Vec<f32> = (0..shape.iter().product()).map(value).collect();
        let path = arrays.join(format!("{k}.npy"));
        write_array(&path, ArrayFormat::Npy, Dtype::F32, &shape, &values).unwrap();
    }
    let rule = ChannelRule::new(Scaling::ZScore);
    let of = |source| DataConfig {
        channels: 1,
        normalise: Some(Normalise::all(rule.clone())),
        ..config(source, 2)
    };
    let mut found = vec![("arrays of f32".to_owned(), of(Source::folder(&arrays)))];
    for (name, dtype) in [("f32", ShardDtype::F32), ("f16", ShardDtype::F16)] {
        let out = dir.join(name);
        let plan = Prepare { dtype: Some(dtype), ..Prepare::new(&arrays, &out) };
        prepare(&plan, &mut |_| ControlFlow::Continue(())).unwrap();
        found.push((format!("shards of {name}"), of(Source::Shards { path: out })));
    }
    found
}

/// Converts the GIFs to MP4s; false without an ffmpeg, or if MP4s cannot be read.
fn as_mp4(gifs: &Path, out: &Path) -> bool {
    fs::create_dir(out).unwrap();
    for k in 0..CLIPS {
        let name = format!("{k:05}");
        let path = out.join(format!("{name}.mp4"));
        let made = Command::new("ffmpeg")
            .args(["-nostdin", "-loglevel", "error", "-i"])
            .arg(gifs.join(format!("{name}.gif")))
            .args(["-pix_fmt", "yuv420p"])
            .arg(&path)
            .status();
        if !made.is_ok_and(|status| status.success()) || decode(&path, 3).is_err() {
            return false;
        }
    }
    true
}

fn loader(c: &mut Criterion) {
    let dir = tempfile::tempdir().unwrap();
    let (gifs, shards, mp4) =
        (dir.path().join("gifs"), dir.path().join("shards"), dir.path().join("mp4"));
    let fireworks = Source::Fireworks(FireworksConfig::default());
    write_synthetic(&fireworks, 0, CLIPS, 48, [64, 64], &gifs).unwrap();
    prepare(&Prepare::new(&gifs, &shards), &mut |_| ControlFlow::Continue(())).unwrap();
    let mut sources =
        vec![("shards", Source::Shards { path: shards.clone() }), ("gif", Source::folder(&gifs))];
    if as_mp4(&gifs, &mp4) {
        sources.push(("mp4", Source::folder(&mp4)));
    } else {
        eprintln!("mp4: left out, for there is no ffmpeg, or MP4s are not read");
    }
    for (name, source) in &sources {
        for workers in [0, 2] {
            summary(name, &config(source.clone(), workers), 3);
        }
        beside_steps(name, &config(source.clone(), 2));
    }
    for (name, config) in numbers(dir.path()) {
        summary(&name, &config, 3);
        beside_steps(&name, &config);
    }
    let mut group = c.benchmark_group("batch_8x16x64x64");
    group.sample_size(20).measurement_time(Duration::from_secs(4));
    for (name, source) in sources {
        let mut loader = Loader::new(&config(source, 0), BATCH, Cursor::start(1)).unwrap();
        group.bench_function(name, |b| b.iter(|| loader.next().unwrap()));
    }
    group.finish();
}

/// Two ways to read parts of a large file: 16 frames of 64 x 64 at positions of a file in memory.
fn reading(c: &mut Criterion) {
    const CLIP: usize = 16 * 64 * 64 * 3;
    const SHARD: usize = 512 * CLIP;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("shard");
    fs::write(&path, vec![7; SHARD]).unwrap();
    let file = File::open(&path).unwrap();
    let map = vd_torch::map_file(&file).unwrap();
    let mut at = 0;
    // far apart, so that neither the cache nor read-ahead helps
    let mut next = move || {
        at = (at + 197 * CLIP) % (SHARD - CLIP);
        at
    };
    let mut group = c.benchmark_group("read_16x64x64");
    group.bench_function("positioned", |b| {
        b.iter(|| {
            let mut bytes = vec![0; CLIP];
            file.read_exact_at(&mut bytes, next() as u64).unwrap();
            bytes
        });
    });
    group.bench_function("mapped", |b| {
        b.iter(|| {
            let at = next();
            map[at..at + CLIP].to_vec()
        });
    });
    // a new mapping, as at the start of a run: each page is a fault
    group.bench_function("mapped_anew", |b| {
        b.iter(|| {
            let map = vd_torch::map_file(&file).unwrap();
            let at = next();
            map[at..at + CLIP].to_vec()
        });
    });
    group.finish();
}

criterion_group!(benches, loader, reading);
criterion_main!(benches);
