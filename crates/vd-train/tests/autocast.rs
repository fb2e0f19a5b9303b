//! Training in half precision.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::path::Path;
use std::sync::atomic::AtomicBool;

use common::{assert_same, files, run, step_dir, tiny};
use vd_torch::{Autocast, testing};
use vd_train::{Checkpoint, Event, Resume, RunConfig, train};

fn config(out: &Path, autocast: Autocast, steps: u64) -> RunConfig {
    let mut config = tiny(out);
    config.train.autocast = autocast;
    config.train.steps = steps;
    config
}

fn losses(config: &RunConfig) -> Vec<f64> {
    let mut losses = Vec::new();
    train(config, Resume::No, &AtomicBool::new(false), &mut |event| {
        if let Event::Step(report) = event {
            losses.push(report.loss);
        }
    })
    .unwrap();
    losses
}

#[test]
fn losses_in_half_precision_are_near_those_in_f32() {
    let dir = tempfile::tempdir().unwrap();
    let of = |cast: Autocast| losses(&config(&dir.path().join(cast.to_string()), cast, 12));
    let exact = of(Autocast::Off);
    for (cast, bound) in [(Autocast::Bf16, 2e-2), (Autocast::Fp16, 2e-2)] {
        let got = of(cast);
        assert_ne!(got, exact);
        // The operands have 8 and 11 bits; errors of single products average out in a mean over
        // thousands of pixels.
        for (step, (got, exact)) in got.iter().zip(&exact).enumerate() {
            let error = (got - exact).abs() / exact;
            assert!(error < bound, "{cast}, step {step}: {got} for {exact}, {error:e}");
        }
    }
}

#[test]
fn a_resumed_run_leaves_the_same_bytes() {
    let dir = tempfile::tempdir().unwrap();
    for cast in [Autocast::Bf16, Autocast::Fp16] {
        let [whole, parts] =
            ["whole", "parts"].map(|name| dir.path().join(format!("{name}-{cast}")));
        run(&config(&whole, cast, 8), Resume::No).unwrap();
        run(&config(&parts, cast, 3), Resume::No).unwrap();
        run(&config(&parts, cast, 8), Resume::Newest).unwrap();
        assert_same(&step_dir(&whole, 8), &step_dir(&parts, 8));
        let scaled = Checkpoint::open(&whole).unwrap().state.unwrap().loss_scale;
        assert_eq!(scaled.is_some(), cast == Autocast::Fp16);
        if let Some(scaled) = scaled {
            assert_eq!(u64::from(scaled.good_steps) + scaled.skipped, 8);
        }
    }
}

#[test]
fn computing_activations_again_leaves_the_same_bytes_in_half_precision_too() {
    let dir = tempfile::tempdir().unwrap();
    let of = |name: &str, recompute| {
        let mut config = config(&dir.path().join(name), Autocast::Bf16, 4);
        config.train.recompute = recompute;
        run(&config, Resume::No).unwrap();
        files(&step_dir(&config.train.out, 4)).remove("model.safetensors").unwrap()
    };
    assert!(of("kept", 0) == of("again", 2));
}

#[test]
fn off_is_not_written_and_another_setting_is_no_resume() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("run");
    let plain = config(&out, Autocast::Off, 1);
    assert!(!plain.to_toml().unwrap().contains("autocast"));
    run(&plain, Resume::No).unwrap();
    let state = std::fs::read_to_string(step_dir(&out, 1).join("state.json")).unwrap();
    assert!(!state.contains("loss_scale") && !state.contains("autocast"), "{state}");
    let metrics = std::fs::read_to_string(out.join("metrics.jsonl")).unwrap();
    assert!(["loss_scale", "skipped\""].iter().all(|key| !metrics.contains(key)));
    assert_eq!(metrics.contains("peak_memory"), testing::device().is_cuda());
    let cast = config(&out, Autocast::Bf16, 2);
    assert!(cast.to_toml().unwrap().contains("autocast = \"bf16\""));
    let message = run(&cast, Resume::Newest).unwrap_err().to_string();
    assert!(
        message.contains("train.autocast: nothing in the checkpoint, \"bf16\" now"),
        "{message}"
    );
}
