//! Runs with asynchronous steps: on a GPU, or on the CPU with an emulated one.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;
#[path = "../../vd-tensor-ops/tests/kernels_cuda/emulator.rs"]
mod emulator;
#[path = "../../vd-tensor-ops/tests/kernels_cuda/failing.rs"]
mod failing;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use common::{assert_same, checkpoints, metric_steps, run, step_dir, tiny, write_videos};
use failing::Failing;
use vd_tensor_ops::kernels::cuda;
use vd_torch::{DeviceChoice, testing};
use vd_train::{Event, Resume, RunConfig, train};

/// Runs `f` with the kernel machine of the tests' device.
fn here<R>(f: impl FnOnce() -> R) -> R {
    if testing::device().is_cuda() { f() } else { cuda::imitated(emulator::machine(), f) }
}

/// A run that uses every input of a step.
fn config(out: &Path) -> RunConfig {
    let mut config = tiny(out);
    config.train.uncertainty = 3;
    config.train.clip = 0.5;
    config
}

/// The events of a run, and its losses.
fn events(config: &RunConfig) -> (Vec<String>, Vec<f64>) {
    let (mut all, mut losses) = (Vec::new(), Vec::new());
    train(config, Resume::No, &AtomicBool::new(false), &mut |event| match event {
        Event::Step(report) => {
            all.push(format!("step {}", report.step));
            losses.push(report.loss);
            assert!(report.seconds > 0.0 && report.grad_norm > 0.0 && !report.skipped);
        }
        Event::Saved { step, .. } => all.push(format!("saved {step}")),
        Event::Preview { step, .. } => all.push(format!("preview {step}")),
        _ => {}
    })
    .unwrap();
    (all, losses)
}

#[test]
fn every_step_is_reported_with_its_own_numbers_and_before_it_is_saved_or_shown() {
    let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let [behind, at_once] = dirs.each_ref().map(|dir| {
        let mut config = config(dir.path());
        config.train.steps = 6;
        config.train.checkpoint_every = 3;
        config.train.preview_every = 5;
        config.train.preview_steps = 1;
        config.train.preview_count = 1;
        config
    });
    let (all, losses) = here(|| events(&behind));
    let expected = [
        "step 1",
        "step 2",
        "step 3",
        "saved 3",
        "step 4",
        "step 5",
        "preview 5",
        "step 6",
        "saved 6",
        "preview 6",
    ];
    assert_eq!(all, expected);
    assert_eq!(metric_steps(dirs[0].path()), [1, 2, 3, 4, 5, 6]);
    if testing::device().is_cuda() {
        return;
    }
    // The kernels of CPU and GPU round differently, and AdamW divides by small gradients.
    let (_, plain) = events(&at_once);
    for (got, want) in losses.iter().zip(&plain) {
        assert!((got - want).abs() < 1e-3 * want, "{losses:?} {plain:?}");
    }
}

#[test]
fn a_run_that_is_stopped_and_resumed_leaves_the_bytes_of_one_that_is_not() {
    let (whole, parts) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let stopped = here(|| {
        run(&config(whole.path()), Resume::No).unwrap();
        let stop = AtomicBool::new(false);
        let summary = train(&config(parts.path()), Resume::No, &stop, &mut |event| {
            if let Event::Step(report) = event
                && report.step == 1
            {
                stop.store(true, Ordering::Relaxed);
            }
        });
        run(&config(parts.path()), Resume::Newest).unwrap();
        summary.unwrap()
    });
    // Step 2 was in flight when the results of step 1 were read.
    assert_eq!((stopped.step, stopped.stopped), (2, true));
    assert_eq!(stopped.last.unwrap().step, 2);
    assert_eq!(checkpoints(parts.path()), ["step-00000002", "step-00000004"]);
    assert_same(&step_dir(whole.path(), 4), &step_dir(parts.path(), 4));
}

#[test]
fn a_bad_step_is_named_and_what_is_saved_is_what_there_was_before_it() {
    let (short, spoilt) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let config = |out: &Path, steps: u64| {
        let mut config = config(out);
        config.train.steps = steps;
        config.train.warmup = 0;
        // After one step, none of the network's outputs is finite any more.
        config.train.lr = 1e30;
        config
    };
    let error = here(|| {
        run(&config(short.path(), 1), Resume::No).unwrap();
        run(&config(spoilt.path(), 9), Resume::No).unwrap_err().to_string()
    });
    assert!(error.starts_with("step 2: the loss ("), "{error}");
    // A step has two micro-batches of two clips.
    assert!(error.ends_with("(its batch begins with clip 5 of epoch 1)"), "{error}");
    assert_eq!(metric_steps(spoilt.path()), [1]);
    assert_eq!(checkpoints(spoilt.path()), ["step-00000001"]);
    // Step 3 was in flight when that was found, and changed nothing either.
    assert_same(&step_dir(short.path(), 1), &step_dir(spoilt.path(), 1));
}

#[test]
fn an_error_of_the_data_comes_behind_the_step_that_is_under_way() {
    let dir = tempfile::tempdir().unwrap();
    let (data, away) = (dir.path().join("videos"), dir.path().join("away"));
    write_videos(&data);
    let mut config = config(&dir.path().join("run"));
    config.train.steps = 9;
    config.data.source = vd_data::Source::folder(data.clone());
    config.data.max_bad_files = 0;
    config.data.workers = 0;
    let error = here(|| {
        train(&config, Resume::No, &AtomicBool::new(false), &mut |event| {
            if let Event::Step(report) = event
                && report.step == 1
            {
                std::fs::rename(&data, &away).unwrap();
            }
        })
        .unwrap_err()
    });
    assert!(error.to_string().contains("max_bad_files = 0"), "{error}");
    // Step 2 had its data, and so did half of step 3.
    assert_eq!(metric_steps(&config.train.out), [1, 2]);
    assert_eq!(checkpoints(&config.train.out), ["step-00000002"]);
}

#[test]
fn a_kernel_that_fails_in_a_forward_ends_the_run_and_its_last_good_step_is_saved() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = config(dir.path());
    config.train.steps = 9;
    config.train.device = DeviceChoice::Cpu;
    let machine = Arc::new(Failing::default());
    let error = cuda::imitated(machine.clone(), || {
        train(&config, Resume::No, &AtomicBool::new(false), &mut |event| {
            if let Event::Step(report) = event
                && report.step == 2
            {
                machine.now.store(true, Ordering::Relaxed);
            }
        })
        .unwrap_err()
    });
    // Step 3 was in flight by then.
    assert!(matches!(error, vd_train::Error::Step { step: 4, .. }), "{error:?}");
    assert!(error.to_string().contains("refused"), "{error}");
    assert_eq!(metric_steps(dir.path()), [1, 2, 3]);
    assert_eq!(checkpoints(dir.path()), ["step-00000003"]);
}
