//! Runs with images beside their clips.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::{assert_same, files, run, step_dir, tiny};
use vd_data::{DigitsConfig, ImagesConfig, Source};
use vd_diffusion::FrameTimes;
use vd_tensor_ops::layers::NormKind;
use vd_train::{Resume, RunConfig};

/// A tiny run with three images beside each clip, each with its own time.
fn joint(out: &std::path::Path, steps: u64) -> RunConfig {
    let mut config = tiny(out);
    config.train.steps = steps;
    config.train.focus_present = 0.0;
    config.data.images = Some(ImagesConfig { source: None, per_clip: 3 });
    config.diffusion.frame_times = FrameTimes::Independent;
    config
}

#[test]
fn a_run_with_images_goes_on_to_the_same_bytes_and_not_to_those_without() {
    let dir = tempfile::tempdir().unwrap();
    let (whole, parts) = (dir.path().join("whole"), dir.path().join("parts"));
    run(&joint(&whole, 6), Resume::No).unwrap();
    for steps in [2, 3, 6] {
        let mut config = joint(&parts, steps);
        config.data.workers = steps as usize % 3;
        run(&config, Resume::Newest).unwrap();
    }
    let [a, b] = [&whole, &parts].map(|out| step_dir(out, 6));
    let (mut of_a, mut of_b) = (files(&a), files(&b));
    for files in [&mut of_a, &mut of_b] {
        files.remove("config.toml").unwrap();
    }
    assert!(of_a == of_b);
    let mut config = joint(&dir.path().join("without"), 6);
    config.data.images = None;
    run(&config, Resume::No).unwrap();
    let without = files(&step_dir(&config.train.out, 6));
    assert_ne!(without["model.safetensors"], of_a["model.safetensors"]);
    // The clips are the same, and so is the position of the next batch.
    assert_eq!(without["state.json"], of_a["state.json"]);
}

#[test]
fn activations_that_are_computed_again_leave_the_same_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let with = |name: &str, recompute| {
        let mut config = joint(&dir.path().join(name), 3);
        config.train.recompute = recompute;
        config.data.images.as_mut().unwrap().source = Some(Source::Digits(DigitsConfig::default()));
        run(&config, Resume::No).unwrap();
        step_dir(&config.train.out, 3)
    };
    let (kept, again) = (with("kept", 0), with("again", 9));
    let own = |dir: &std::path::Path| {
        let mut files = files(dir);
        files.remove("config.toml");
        files
    };
    assert!(own(&kept) == own(&again));
    assert_same(&kept, &kept);
}

#[test]
fn images_that_would_not_be_independent_are_refused_unless_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = joint(dir.path(), 1);
    config.train.focus_present = 0.25;
    let message = run(&config, Resume::No).unwrap_err().to_string();
    assert!(message.starts_with("train.focus_present: expected 0 with data.images"), "{message}");
    config.train.focus_present = 0.0;
    config.model.norm = NormKind::Group { groups: 4 };
    let message = run(&config, Resume::No).unwrap_err().to_string();
    for part in [
        "data.images: expected no data.images with a network that couples",
        "model.norm",
        "train.coupled_images = true",
    ] {
        assert!(message.contains(part), "{message}");
    }
    config.train.coupled_images = true;
    let written = config.to_toml().unwrap();
    assert!(written.contains("coupled_images = true"), "{written}");
    assert_eq!(toml::from_str::<RunConfig>(&written).unwrap(), config);
    run(&config, Resume::No).unwrap();
    let plain = tiny(dir.path()).to_toml().unwrap();
    assert!(!plain.contains("images"), "{plain}");
}

#[test]
fn a_run_inside_its_folder_of_images_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = joint(&dir.path().join("run"), 1);
    let images = config.data.images.as_mut().unwrap();
    images.source = Some(Source::folder(dir.path()));
    let message = config.validate().unwrap_err().to_string();
    assert!(
        message.contains("train.out: expected a folder outside data.images.source.path"),
        "{message}"
    );
}
