//! A learned uncertainty of the loss: trained, saved, resumed, and without side effects.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::path::Path;
use std::sync::atomic::AtomicBool;

use common::{assert_same, files, run, step_dir, tiny};
use tch::{Device, Kind, Tensor};
use vd_tensor_ops::Weights;
use vd_train::{Checkpoint, Event, Resume, RunConfig, StepReport, WeightKind, train};

const FILE: &str = "uncertainty.safetensors";

/// A tiny run with an uncertainty of 16 cosines.
fn learned(out: &Path, steps: u64) -> RunConfig {
    let mut config = tiny(out);
    config.train.steps = steps;
    config.train.uncertainty = 16;
    config
}

fn reports(config: &RunConfig) -> Vec<StepReport> {
    let mut reports = Vec::new();
    train(config, Resume::No, &AtomicBool::new(false), &mut |event| {
        if let Event::Step(report) = event {
            reports.push(**report);
        }
    })
    .unwrap();
    reports
}

fn weights(out: &Path, step: u64, file: &str) -> Weights {
    Weights::read(&step_dir(out, step).join(file), Device::Cpu).unwrap()
}

fn largest(x: &Tensor) -> f64 {
    x.abs().max().double_value(&[])
}

#[test]
fn forty_steps_and_twenty_twice_leave_the_same_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let (whole, parts) = (dir.path().join("whole"), dir.path().join("parts"));
    run(&learned(&whole, 40), Resume::No).unwrap();
    run(&learned(&parts, 20), Resume::No).unwrap();
    let second = run(&learned(&parts, 40), Resume::Newest).unwrap();
    assert_eq!((second.from_step, second.step), (20, 40));
    assert_same(&step_dir(&whole, 40), &step_dir(&parts, 40));
    let (at_20, at_40) = (files(&step_dir(&parts, 20)), files(&step_dir(&parts, 40)));
    assert_ne!(at_20[FILE], at_40[FILE]);
}

#[test]
fn it_moves_and_the_network_comes_to_train_otherwise() {
    let dir = tempfile::tempdir().unwrap();
    let (with, without) = (dir.path().join("with"), dir.path().join("without"));
    let mut config = learned(&with, 4);
    config.train.checkpoint_every = 1;
    config.train.keep_last = 4;
    let got = reports(&config);
    config.train.out.clone_from(&without);
    config.train.uncertainty = 0;
    let plain = reports(&config);
    // Untrained it divides by 1: the first step equals that of a run without it.
    assert!((got[0].loss - plain[0].loss).abs() < 1e-6 * plain[0].loss);
    assert!((got[0].grad_norm - plain[0].grad_norm).abs() < 1e-6 * plain[0].grad_norm);
    let model = WeightKind::Model.to_string() + ".safetensors";
    let differ = |step: u64| {
        let [a, b] = [&with, &without].map(|out| weights(out, step, &model).tensors);
        assert!(a.keys().eq(b.keys()));
        a.iter().zip(b.values()).any(|((_, a), b)| a != b)
    };
    assert!(differ(4));
    let (first, last) = (weights(&with, 1, FILE).tensors, weights(&with, 4, FILE).tensors);
    let names: Vec<_> = last.keys().map(String::as_str).collect();
    let expected = [
        "exp_avg.uncertainty.weight",
        "exp_avg_sq.uncertainty.weight",
        "step",
        "uncertainty.frequencies",
        "uncertainty.phases",
        "uncertainty.weight",
    ];
    assert_eq!(names, expected);
    assert_eq!(last["step"], Tensor::from_slice(&[4i64]));
    for fixed in ["uncertainty.frequencies", "uncertainty.phases"] {
        assert_eq!(first[fixed], last[fixed]);
    }
    // Adam's first step is the learning rate, here a third of 1e-3, whatever the gradient.
    let moved = largest(&first["uncertainty.weight"]);
    assert!((moved - 1e-3 / 3.0).abs() < 1e-6, "{moved}");
    assert!(largest(&(&last["uncertainty.weight"] - &first["uncertainty.weight"])) > 1e-3);
    assert!(!step_dir(&without, 4).join(FILE).exists());
}

/// With one clip per step there is one level: the bin of its log-SNR and the loss are equal.
#[test]
fn metrics_have_the_loss_without_it() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = learned(dir.path(), 6);
    config.train.batch = 1;
    config.train.accumulate = 1;
    config.train.warmup = 0;
    // High enough that u is far from 0 after a few steps.
    config.train.lr = 0.05;
    for report in reports(&config) {
        let bins: Vec<f64> = report.loss_by_log_snr.iter().flatten().copied().collect();
        assert_eq!(bins.len(), 1);
        assert!((report.loss - bins[0]).abs() <= 1e-12 * bins[0], "{report:?}");
    }
    let weight = &weights(dir.path(), 6, FILE).tensors["uncertainty.weight"];
    assert!(largest(weight) > 0.1);
}

/// In all these runs the gradients of the first step are equal.
#[test]
fn neither_weight_decay_nor_clipping_reaches_it() {
    let dir = tempfile::tempdir().unwrap();
    let after = |name: &str, decay: f64, clip: f64| {
        let mut config = learned(&dir.path().join(name), 1);
        (config.train.weight_decay, config.train.clip) = (decay, clip);
        let report = reports(&config)[0];
        (files(&step_dir(&config.train.out, 1)), report.grad_norm)
    };
    let (plain, norm) = after("plain", 0.0, 0.0);
    for (name, decay, clip) in [("decayed", 0.5, 0.0), ("clipped", 0.0, norm / 1000.0)] {
        let (other, other_norm) = after(name, decay, clip);
        assert_eq!(plain[FILE], other[FILE], "{name}");
        assert_eq!(norm, other_norm);
        let reached = if decay > 0.0 { "model.safetensors" } else { "optimizer.safetensors" };
        assert_ne!(plain[reached], other[reached], "{name}");
    }
}

#[test]
fn sampling_needs_no_file_of_it_and_going_on_needs_it_whole() {
    let dir = tempfile::tempdir().unwrap();
    let (whole, parts) = (dir.path().join("whole"), dir.path().join("parts"));
    let every_step = |out: &Path, steps| {
        let mut config = learned(out, steps);
        config.train.checkpoint_every = 1;
        config
    };
    run(&every_step(&whole, 3), Resume::No).unwrap();
    for cut in [true, false] {
        run(&every_step(&parts, 2), Resume::No).unwrap();
        let path = step_dir(&parts, 2).join(FILE);
        let bytes = std::fs::read(&path).unwrap();
        match cut {
            true => std::fs::write(&path, &bytes[..bytes.len() - 5]).unwrap(),
            false => std::fs::remove_file(&path).unwrap(),
        }
        let checkpoint = Checkpoint::open(&parts).unwrap();
        assert_eq!(checkpoint.step(), Some(2));
        assert!(checkpoint.network(None, Device::Cpu).is_ok());
        let resumed = run(&every_step(&parts, 3), Resume::Newest).unwrap();
        assert_eq!(resumed.from_step, 1);
        assert_same(&step_dir(&whole, 3), &step_dir(&parts, 3));
        std::fs::remove_dir_all(&parts).unwrap();
    }
    run(&learned(&parts, 1), Resume::No).unwrap();
    std::fs::remove_file(step_dir(&parts, 1).join(FILE)).unwrap();
    let message = run(&learned(&parts, 2), Resume::No).unwrap_err().to_string();
    assert!(message.contains("cannot be resumed without") && message.contains(FILE), "{message}");
}

#[test]
fn a_file_of_another_one_is_refused_and_a_bad_value_named() {
    let dir = tempfile::tempdir().unwrap();
    run(&learned(dir.path(), 2), Resume::No).unwrap();
    let path = step_dir(dir.path(), 2).join(FILE);
    let going_on = |name: &str, value: Tensor| {
        let mut file = weights(dir.path(), 2, FILE);
        file.tensors.insert(name.to_owned(), value);
        let before = std::fs::read(&path).unwrap();
        file.write(&path).unwrap();
        let message = run(&learned(dir.path(), 3), Resume::Newest).unwrap_err().to_string();
        std::fs::write(&path, before).unwrap();
        message
    };
    let value = |n: i64, value: f64| Tensor::full([n], value, (Kind::Float, Device::Cpu));
    for (name, part) in [
        ("uncertainty.weight", "`uncertainty.weight` has shape [8], expected [16]"),
        ("exp_avg.uncertainty.weight", "`exp_avg.uncertainty.weight` is (Float, [8])"),
        ("uncertainty.bias", "`uncertainty.bias` is not a parameter"),
        ("bias", "`bias` is unexpected"),
    ] {
        let message = going_on(name, value(8, 0.5));
        assert!(message.contains(FILE) && message.contains(part), "{message}");
    }
    let message = going_on("uncertainty.weight", value(16, f64::NAN));
    let expected = "step 3: the parameter `uncertainty.weight` is not finite";
    assert!(message.contains(expected), "{message}");
    // With the original config the run continues.
    assert_eq!(run(&learned(dir.path(), 3), Resume::Newest).unwrap().from_step, 2);
}

#[test]
fn a_run_does_not_gain_or_lose_one_in_its_middle() {
    let dir = tempfile::tempdir().unwrap();
    let (with, without) = (dir.path().join("with"), dir.path().join("without"));
    run(&learned(&with, 1), Resume::No).unwrap();
    let mut plain = tiny(&without);
    plain.train.steps = 1;
    run(&plain, Resume::No).unwrap();
    let mut other = learned(&without, 2);
    let message = run(&other, Resume::Newest).unwrap_err().to_string();
    assert!(message.contains("train.uncertainty: nothing in the checkpoint, 16 now"), "{message}");
    other.train.out.clone_from(&with);
    other.train.uncertainty = 0;
    let message = run(&other, Resume::Newest).unwrap_err().to_string();
    assert!(message.contains("train.uncertainty: 16 in the checkpoint, nothing now"), "{message}");
}
