//! A run small enough for tests.
#![allow(dead_code)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use tch::{Device, Tensor};
use vd_data::{DataConfig, FireworksConfig, Source};
use vd_diffusion::{DiffusionConfig, Parameterization, ScheduleConfig, TimeSampling};
use vd_text_cond::{EncoderConfig, TextConfig};
use vd_torch::testing;
use vd_train::{Checkpoint, Resume, RunConfig, Summary, TrainConfig, WeightKind, train};
use vd_unet3d::UNet3dConfig;

/// A conditional network of a few thousand weights on generated fireworks, with every option on.
pub(crate) fn tiny(out: &Path) -> RunConfig {
    RunConfig {
        model: UNet3dConfig {
            dim: 8,
            dim_mults: vec![1, 2],
            attn_heads: 2,
            attn_dim_head: 8,
            init_kernel_size: 3,
            ..UNet3dConfig::default()
        },
        diffusion: DiffusionConfig {
            schedule: ScheduleConfig::cosine(),
            parameterization: Parameterization::V,
            times: TimeSampling::Stratified,
            ..DiffusionConfig::default()
        },
        text: Some(TextConfig { encoder: EncoderConfig::Hashed { width: 8 }, drop: 0.3 }),
        signals: BTreeMap::new(),
        data: DataConfig {
            source: Source::Fireworks(FireworksConfig::default()),
            frames: 3,
            size: [8, 8],
            workers: 1,
            ..DataConfig::default()
        },
        train: TrainConfig {
            steps: 4,
            batch: 2,
            accumulate: 2,
            lr: 1e-3,
            warmup: 3,
            weight_decay: 0.01,
            focus_present: 0.25,
            checkpoint_every: 0,
            preview_every: 0,
            device: testing::choice(),
            threads: 1,
            seed: 5,
            out: out.to_path_buf(),
            ..TrainConfig::default()
        },
    }
}

/// Five videos, each with one pattern, with captions, in a new folder.
pub(crate) fn write_videos(folder: &Path) {
    std::fs::create_dir(folder).unwrap();
    for k in 0..5usize {
        let frames = (0..3 * 8 * 8 * 3).map(|i| (i * (2 * k + 3)) as u8).collect();
        let clip = vd_data::Clip::new(frames, [3, 8, 8, 3], 10.0).unwrap();
        vd_data::write_gif(&folder.join(format!("{k}.gif")), &clip).unwrap();
        std::fs::write(folder.join(format!("{k}.txt")), format!("pattern {k}")).unwrap();
    }
}

pub(crate) fn run(config: &RunConfig, resume: Resume) -> vd_train::Result<Summary> {
    train(config, resume, &AtomicBool::new(false), &mut |_| {})
}

pub(crate) fn step_dir(out: &Path, step: u64) -> PathBuf {
    out.join(format!("checkpoints/step-{step:08}"))
}

/// The names of the checkpoints, unfinished ones included.
pub(crate) fn checkpoints(out: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(out.join("checkpoints")).unwrap();
    let mut names: Vec<_> =
        entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// The bytes of every file of a checkpoint.
pub(crate) fn files(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let read = |entry: std::io::Result<std::fs::DirEntry>| {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        (name, std::fs::read(path).unwrap())
    };
    std::fs::read_dir(dir).unwrap().map(read).collect()
}

/// Asserts that two checkpoints have the same bytes, except for the path in their configs.
pub(crate) fn assert_same(a: &Path, b: &Path) {
    let (mut a, mut b) = (files(a), files(b));
    let names: Vec<_> = a.keys().cloned().collect();
    let mut expected = vec![
        "config.toml",
        "ema.safetensors",
        "model.safetensors",
        "optimizer.safetensors",
        "state.json",
    ];
    if String::from_utf8_lossy(&a["config.toml"]).contains("\nuncertainty = ") {
        expected.push("uncertainty.safetensors");
    }
    assert_eq!(names, expected);
    for files in [&mut a, &mut b] {
        let text = String::from_utf8(files.remove("config.toml").unwrap()).unwrap();
        let lines = text.lines().filter(|l| !l.starts_with("out = ") && !l.starts_with("steps = "));
        files.insert("config.toml".to_owned(), lines.collect::<String>().into_bytes());
    }
    for name in names {
        assert!(a[&name] == b[&name], "{name} differs");
    }
}

pub(crate) fn metric_steps(out: &Path) -> Vec<u64> {
    let text = std::fs::read_to_string(out.join("metrics.jsonl")).unwrap();
    let step = |line: &str| {
        serde_json::from_str::<serde_json::Value>(line).unwrap()["step"].as_u64().unwrap()
    };
    text.lines().map(step).collect()
}

/// The weights of a run's newest checkpoint.
pub(crate) fn values(dir: &Path, kind: WeightKind) -> BTreeMap<String, Tensor> {
    let loaded = Checkpoint::open(dir).unwrap().network(Some(kind), Device::Cpu).unwrap();
    assert_eq!(loaded.weights, kind);
    loaded.params.tensors()
}
