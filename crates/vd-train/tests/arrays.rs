//! Runs on arrays: many channels, any unit, missing values, frames that are not square.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::path::Path;

use common::{assert_same, files, run, step_dir, tiny};
use vd_data::{
    ArrayFormat, ChannelRule, DataConfig, Dtype, FloatClip, Normalise, Scaling, Source, Transform,
    UNSTATED_FPS, write_array,
};
use vd_tensor_ops::{Noise, SeededNoise};
use vd_train::{Checkpoint, Resume, RunConfig, TrainConfig};

/// Rain and wind, 4 frames of 16 x 24: much of the rain is 0, and some of it is missing.
fn radar(at: &Path, gap: f32) {
    std::fs::create_dir(at).unwrap();
    let like = tch::Tensor::empty([4 * 16 * 24 * 2], (tch::Kind::Float, tch::Device::Cpu));
    for clip in 0..5 {
        let drawn = SeededNoise::new(clip, 0).normal(&like.unsqueeze(0));
        let drawn: Vec<f32> = Vec::try_from(drawn.view([-1])).unwrap();
        let value = |(k, x): (usize, &f32)| match k % 2 {
            0 if k % 31 == 0 => gap,
            0 => ((2.0 * x).exp() - 1.0).max(0.0),
            _ => 280.0 + 8.0 * x,
        };
        let values: Vec<f32> = drawn.iter().enumerate().map(value).collect();
        let path = at.join(format!("{clip}.npy"));
        write_array(&path, ArrayFormat::Npy, Dtype::F32, &[4, 16, 24, 2], &values).unwrap();
    }
}

fn config(data: &Path, out: &Path) -> RunConfig {
    let rain = ChannelRule {
        transform: Transform::Log,
        offset: Some(0.1),
        ..ChannelRule::new(Scaling::MinMax)
    };
    let base = tiny(out);
    RunConfig {
        text: None,
        model: vd_unet3d::UNet3dConfig { channels: 2, ..base.model },
        data: DataConfig {
            source: Source::folder(data),
            frames: 3,
            size: [16, 24],
            channels: 2,
            workers: 1,
            flip: true,
            normalise: Some(Normalise::each(vec![rain, ChannelRule::new(Scaling::ZScore)])),
            ..DataConfig::default()
        },
        train: TrainConfig { focus_present: 0.0, ..base.train },
        ..base
    }
}

fn with_steps(config: &RunConfig, steps: u64) -> RunConfig {
    RunConfig { train: TrainConfig { steps, ..config.train.clone() }, ..config.clone() }
}

#[test]
fn a_run_on_arrays_is_resumed_to_the_same_bytes_with_its_own_statistics() {
    let dir = tempfile::tempdir().unwrap();
    let [data, whole, parts] = ["data", "whole", "parts"].map(|name| dir.path().join(name));
    radar(&data, f32::NAN);
    run(&with_steps(&config(&data, &whole), 4), Resume::No).unwrap();
    let half = with_steps(&config(&data, &parts), 2);
    run(&half, Resume::No).unwrap();
    // other data would give other statistics: the run continues with its original ones
    let saved = Checkpoint::open(&parts).unwrap().config.data.unwrap().normalise.unwrap();
    assert!(saved.is_complete());
    run(&with_steps(&half, 4), Resume::Newest).unwrap();
    assert_same(&step_dir(&whole, 4), &step_dir(&parts, 4));
    let other = ChannelRule { statistics: Some([0.0, 1.0]), ..ChannelRule::new(Scaling::MinMax) };
    let mut changed = with_steps(&half, 5);
    changed.data.normalise = Some(Normalise::all(other));
    let error = run(&changed, Resume::Newest).unwrap_err().to_string();
    assert!(error.contains("data.normalise"), "{error}");
    let normaliser = Checkpoint::open(&whole).unwrap().normaliser().unwrap().unwrap();
    assert_eq!((normaliser.channels(), normaliser.is_within()), (2, false));
    let mut clip =
        FloatClip::new(vec![3.5, 280.0, f32::NAN, 283.0], [1, 1, 2, 2], UNSTATED_FPS).unwrap();
    let before = clip.clone();
    normaliser.apply(&mut clip).unwrap();
    normaliser.undo(&mut clip).unwrap();
    for (x, back) in before.values.iter().zip(&clip.values).filter(|(x, _)| x.is_finite()) {
        assert!((x - back).abs() < 1e-4, "{x} {back}");
    }
}

#[test]
fn what_stands_where_a_value_is_missing_has_no_influence_on_a_run() {
    let dir = tempfile::tempdir().unwrap();
    let mut trained = Vec::new();
    for (k, gap) in [f32::NAN, -9999.0, f32::INFINITY, 0.5].into_iter().enumerate() {
        let [data, out] = ["data", "out"].map(|name| dir.path().join(format!("{name}-{k}")));
        radar(&data, gap);
        let mut config = with_steps(&config(&data, &out), 3);
        config.data.invalid = Some(-9999.0);
        run(&config, Resume::No).unwrap();
        let mut files = files(&step_dir(&out, 3));
        files.remove("config.toml");
        let metrics = std::fs::read_to_string(out.join("metrics.jsonl")).unwrap();
        let losses: Vec<f64> = metrics
            .lines()
            .map(|line| {
                serde_json::from_str::<serde_json::Value>(line).unwrap()["loss"].as_f64().unwrap()
            })
            .collect();
        assert!(losses.iter().all(|loss| loss.is_finite()));
        trained.push((files, losses));
    }
    assert!(trained[0] == trained[1] && trained[0] == trained[2]);
    // a present value does
    assert!(trained[0].1 != trained[3].1);
}

#[test]
fn frames_that_are_not_square_are_trained_on_and_previewed_as_pictures_and_as_numbers() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    radar(&data, f32::NAN);
    let preview = |mut config: RunConfig| {
        config.train.preview_every = 2;
        config.train.preview_count = 2;
        config.train.preview_steps = 2;
        let out = config.train.out.clone();
        run(&with_steps(&config, 2), Resume::No).unwrap();
        vd_data::decode(&out.join("previews/step-00000002.gif"), 3).unwrap()
    };
    // two clips side by side, with a gap of two columns
    let pictures = tiny(&dir.path().join("pictures"));
    let pictures = RunConfig { data: DataConfig { size: [16, 24], ..pictures.data }, ..pictures };
    let shown = preview(pictures);
    assert_eq!((shown.f, shown.h, shown.w), (3, 16, 2 * 24 + 2));
    // and the two channels of each clip side by side
    let shown = preview(config(&data, &dir.path().join("numbers")));
    assert_eq!((shown.f, shown.h, shown.w), (3, 16, 2 * (2 * 24 + 2) + 2));
}
