//! What a batch costs: 8 clips of 16 x 64 x 64 from shards, from GIFs, and from MP4s where there is an ffmpeg.
//!
//! Beside criterion's times it prints clips a second and CPU seconds a batch, of all threads of the process.

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
    Cursor, DataConfig, FireworksConfig, Loader, Prepare, Source, decode, prepare, write_synthetic,
};

const CLIPS: usize = 32;
const BATCH: usize = 8;

/// Seconds of CPU that the process has taken so far, in its clock's ticks of 1/100.
fn cpu() -> f64 {
    let stat = fs::read_to_string("/proc/self/stat").unwrap();
    let rest = stat.rsplit_once(')').unwrap().1;
    let ticks = rest.split_whitespace().skip(11).take(4).map(|n| n.parse::<f64>().unwrap());
    ticks.sum::<f64>() / 100.0
}

fn config(source: Source, workers: usize) -> DataConfig {
    DataConfig { source, frames: 16, size: [64, 64], workers, ..DataConfig::default() }
}

/// How fast batches come when nobody waits for anything else.
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
    let each = 1e3 * cpu / f64::from(batches);
    eprintln!(
        "{name}, {} workers: {clips:.0} clips/s, {each:.2} ms of CPU a batch",
        config.workers
    );
}

/// The GIFs as MP4s; false without an ffmpeg, or where MP4s are not read.
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
    }
    let mut group = c.benchmark_group("batch_8x16x64x64");
    group.sample_size(20).measurement_time(Duration::from_secs(4));
    for (name, source) in sources {
        let mut loader = Loader::new(&config(source, 0), BATCH, Cursor::start(1)).unwrap();
        group.bench_function(name, |b| b.iter(|| loader.next().unwrap()));
    }
    group.finish();
}

/// The two ways to a part of a large file: 16 frames of 64 x 64 at places of a file that is in memory.
fn reading(c: &mut Criterion) {
    const CLIP: usize = 16 * 64 * 64 * 3;
    const SHARD: usize = 512 * CLIP;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("shard");
    fs::write(&path, vec![7; SHARD]).unwrap();
    let file = File::open(&path).unwrap();
    let map = vd_torch::map_file(&file).unwrap();
    let mut at = 0;
    // far apart, so that neither the cache nor a page read ahead helps
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
    // a mapping that is new, as after the start of a run: each page is a fault
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
