//! A checkpoint identifies the text encoder that it was trained with.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::fs;
use std::path::{Path, PathBuf};

use common::{assert_same, run, step_dir, tiny};
use vd_text_cond::{EncoderConfig, PretrainedConfig, TextConfig};
use vd_torch::testing::folder;
use vd_train::{Checkpoint, Resume, RunConfig};

/// A copy of a small BERT that a test may damage.
fn model(at: &Path) -> PathBuf {
    let bert = folder(env!("CARGO_MANIFEST_DIR")).join("../vd-text-cond/tests/encoders/bert");
    fs::create_dir(at).unwrap();
    for name in ["config.json", "tokenizer.json", "model.safetensors"] {
        fs::copy(bert.join(name), at.join(name)).unwrap();
    }
    at.to_path_buf()
}

/// Another model of the same shape: one bit of its last weight is flipped.
fn change(model: &Path) {
    let weights = model.join("model.safetensors");
    let mut bytes = fs::read(&weights).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(weights, bytes).unwrap();
}

fn config(out: &Path, model: &Path, steps: u64) -> RunConfig {
    let mut config = tiny(out);
    let encoder = EncoderConfig::Pretrained(PretrainedConfig::new(model));
    config.text = Some(TextConfig { encoder, drop: 0.3 });
    config.train.steps = steps;
    config
}

fn identity(run: &Path) -> Option<String> {
    Checkpoint::open(run).unwrap().state.unwrap().encoder
}

fn assert_refused(message: &str) {
    let expected = ["trained with", "expected ", "got ", "--encoder DIR", "text.encoder.path"];
    assert!(expected.iter().all(|part| message.contains(part)), "{message}");
}

#[test]
fn another_model_of_the_same_shape_is_refused_by_sampling_and_by_a_resume() {
    let dir = tempfile::tempdir().unwrap();
    let (out, bert) = (dir.path().join("run"), model(&dir.path().join("bert")));
    run(&config(&out, &bert, 1), Resume::No).unwrap();
    assert_eq!(identity(&out).unwrap().len(), 64);
    Checkpoint::open(&out).unwrap().encoder().unwrap().unwrap();
    change(&bert);
    let checkpoint = Checkpoint::open(&out).unwrap();
    assert_refused(&checkpoint.encoder().unwrap_err().to_string());
    assert_refused(&checkpoint.encoder_at(&bert).unwrap_err().to_string());
    assert_refused(&run(&config(&out, &bert, 2), Resume::Newest).unwrap_err().to_string());
    // The right encoder, at another path.
    let moved = model(&dir.path().join("moved"));
    checkpoint.encoder_at(&moved).unwrap().unwrap();
    assert_eq!(run(&config(&out, &moved, 2), Resume::Newest).unwrap().step, 2);
}

#[test]
fn an_older_checkpoint_that_does_not_know_its_encoder_goes_on_and_then_knows() {
    let dir = tempfile::tempdir().unwrap();
    let (out, bert) = (dir.path().join("run"), model(&dir.path().join("bert")));
    run(&config(&out, &bert, 1), Resume::No).unwrap();
    let known = identity(&out).unwrap();
    let state = step_dir(&out, 1).join("state.json");
    let text = fs::read_to_string(&state).unwrap();
    let older = text.replace(&format!(",\n  \"encoder\": \"{known}\""), "");
    assert_ne!(older, text);
    fs::write(&state, older).unwrap();
    assert_eq!(identity(&out), None);
    change(&bert);
    Checkpoint::open(&out).unwrap().encoder().unwrap().unwrap();
    run(&config(&out, &bert, 2), Resume::Newest).unwrap();
    let now = identity(&out).unwrap();
    assert_ne!(now, known);
}

#[test]
fn a_resumed_run_with_a_language_model_leaves_the_bytes_of_an_unbroken_one() {
    let dir = tempfile::tempdir().unwrap();
    let bert = model(&dir.path().join("bert"));
    let (whole, parts) = (dir.path().join("whole"), dir.path().join("parts"));
    run(&config(&whole, &bert, 3), Resume::No).unwrap();
    run(&config(&parts, &bert, 1), Resume::No).unwrap();
    run(&config(&parts, &bert, 3), Resume::Newest).unwrap();
    assert_same(&step_dir(&whole, 3), &step_dir(&parts, 3));
}

#[test]
fn a_hashed_encoder_is_known_by_its_config() {
    let dir = tempfile::tempdir().unwrap();
    let of = |name: &str, width: i64| {
        let out = dir.path().join(name);
        let mut config = tiny(&out);
        config.text.as_mut().unwrap().encoder = EncoderConfig::Hashed { width };
        config.train.steps = 1;
        run(&config, Resume::No).unwrap();
        identity(&out).unwrap()
    };
    let eight = of("a", 8);
    assert_eq!(of("b", 8), eight);
    assert_ne!(of("c", 9), eight);
}

#[test]
fn the_widths_of_a_language_model_are_those_of_its_config_alone() {
    let dir = tempfile::tempdir().unwrap();
    let bert = model(&dir.path().join("bert"));
    fs::remove_file(bert.join("tokenizer.json")).unwrap();
    let resolved = config(&dir.path().join("run"), &bert, 1).resolved().unwrap();
    assert_eq!(resolved.model.cond_dim, Some(16));
    // Other missing files are reported when they are needed.
    let message = run(&resolved, Resume::No).unwrap_err().to_string();
    assert!(message.contains("tokenizer.json is missing"), "{message}");
}
