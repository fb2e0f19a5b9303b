//! Properties of a run besides resuming.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::sync::atomic::{AtomicBool, Ordering};

use common::{assert_same, checkpoints, metric_steps, run, step_dir, tiny, values};
use tch::Tensor;
use vd_data::{Clip, Dataset, DigitsConfig, Generator, Source};
use vd_train::{Checkpoint, Event, Resume, RunConfig, WeightKind, train, train_on};

#[test]
fn the_loss_falls_on_moving_digits() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = tiny(dir.path());
    config.data.source = Source::Digits(DigitsConfig::default());
    config.train.steps = 60;
    config.train.batch = 4;
    config.train.accumulate = 1;
    config.train.lr = 5e-3;
    config.train.focus_present = 0.0;
    let mut losses = Vec::new();
    let stop = AtomicBool::new(false);
    train(&config, Resume::No, &stop, &mut |event| {
        if let Event::Step(report) = event {
            losses.push(report.loss);
        }
    })
    .unwrap();
    let mean = |part: &[f64]| part.iter().sum::<f64>() / part.len() as f64;
    let (first, last) = (mean(&losses[..5]), mean(&losses[50..]));
    assert!(last < 0.6 * first, "{first} -> {last}");
}

#[test]
fn checkpoints_metrics_and_previews_come_when_they_are_due() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = tiny(dir.path());
    config.train.steps = 7;
    config.train.checkpoint_every = 2;
    config.train.keep_last = 2;
    config.train.log_every = 3;
    config.train.preview_every = 5;
    config.train.preview_count = 2;
    config.train.preview_steps = 2;
    config.train.preview_scale = 1.5;
    let mut events = Vec::new();
    let stop = AtomicBool::new(false);
    let summary = train(&config, Resume::No, &stop, &mut |event| match event {
        Event::Saved { step, .. } => events.push(format!("saved {step}")),
        Event::Preview { step, path } => {
            assert!(path.exists());
            events.push(format!("preview {step}"));
        }
        _ => {}
    })
    .unwrap();
    let expected = ["saved 2", "saved 4", "preview 5", "saved 6", "saved 7", "preview 7"];
    assert_eq!(events, expected);
    assert_eq!(checkpoints(dir.path()), ["step-00000006", "step-00000007"]);
    assert_eq!(metric_steps(dir.path()), [3, 6, 7]);
    let last = summary.last.as_ref().unwrap();
    let bins: Vec<f64> = last.loss_by_log_snr.iter().flatten().copied().collect();
    assert!(!bins.is_empty() && bins.iter().all(|mean| mean.is_finite() && *mean > 0.0));
    let range = bins.iter().fold((f64::MAX, f64::MIN), |(a, b), x| (a.min(*x), b.max(*x)));
    assert!(range.0 <= last.loss * 1.000_001 && last.loss <= range.1 * 1.000_001);
    assert_eq!(summary.checkpoint, Some(step_dir(dir.path(), 7)));
    let clip = vd_data::decode(&dir.path().join("previews/step-00000007.gif"), 3).unwrap();
    // two clips of 8 pixels with a gap of 2
    assert_eq!((clip.f, clip.h, clip.w), (3, 8, 18));
    let written = std::fs::read_to_string(dir.path().join("config.toml")).unwrap();
    assert_eq!(written, config.resolved().unwrap().to_toml().unwrap());
}

#[test]
fn a_preview_changes_nothing_in_what_is_trained() {
    let dir = tempfile::tempdir().unwrap();
    let (with, without) = (dir.path().join("with"), dir.path().join("without"));
    let mut config = tiny(&with);
    run(&tiny(&without), Resume::No).unwrap();
    config.train.preview_every = 1;
    config.train.preview_steps = 2;
    run(&config, Resume::No).unwrap();
    for kind in WeightKind::ALL {
        assert_eq!(values(&with, kind), values(&without, kind));
    }
}

#[test]
fn a_preview_takes_no_more_steps_than_a_discrete_schedule_has() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = tiny(dir.path());
    config.diffusion.schedule = vd_diffusion::ScheduleConfig::cosine_discrete(5);
    config.train.steps = 1;
    config.train.preview_every = 1;
    config.train.preview_count = 1;
    run(&config, Resume::No).unwrap();
    assert!(dir.path().join("previews/step-00000001.gif").exists());
}

#[test]
fn a_run_that_diverges_stops_and_names_what_went_wrong() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = tiny(dir.path());
    config.train.steps = 50;
    config.train.checkpoint_every = 1;
    config.train.warmup = 0;
    config.train.lr = 1e30;
    config.train.clip = 0.0;
    let message = run(&config, Resume::No).unwrap_err().to_string();
    let named = ["the parameter `", "the loss (", "the gradient of `"]
        .iter()
        .any(|part| message.contains(part));
    assert!(named && message.contains("is not finite"), "{message}");
    // older checkpoints still exist
    assert!(Checkpoint::open(dir.path()).is_ok());
}

#[test]
fn a_stop_before_the_first_step_saves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let stop = AtomicBool::new(true);
    let summary = train(&tiny(dir.path()), Resume::No, &stop, &mut |_| {}).unwrap();
    assert_eq!((summary.step, summary.stopped, summary.checkpoint), (0, true, None));
    stop.store(false, Ordering::Relaxed);
    assert!(train(&tiny(dir.path()), Resume::No, &stop, &mut |_| {}).is_ok());
}

#[test]
fn a_folder_of_clips_with_and_without_captions_is_trained_on() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("videos");
    std::fs::create_dir(&data).unwrap();
    for k in 0..3u8 {
        let frames: Vec<u8> = (0..(2 + usize::from(k)) * 12 * 10 * 3)
            .map(|i| (i * usize::from(k + 3)) as u8)
            .collect();
        let shape = [2 + usize::from(k), 12, 10, 3];
        let clip = vd_data::Clip::new(frames, shape, 10.0).unwrap();
        vd_data::write_gif(&data.join(format!("{k}.gif")), &clip).unwrap();
    }
    std::fs::write(data.join("1.txt"), "a moving pattern\n").unwrap();
    std::fs::write(data.join("broken.gif"), "GIF89a").unwrap();
    let mut config = tiny(&dir.path().join("run"));
    config.data.source = Source::folder(data);
    config.train.preview_every = 4;
    config.train.preview_steps = 2;
    let summary = run(&config, Resume::No).unwrap();
    let last = summary.last.unwrap();
    assert_eq!((last.step, last.skipped_files), (4, 1));
}

#[test]
fn captions_that_a_file_of_embeddings_lacks_are_found_before_the_first_step() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("videos");
    std::fs::create_dir(&data).unwrap();
    let frames = (0..3 * 8 * 8 * 3).map(|i| (i * 7) as u8).collect();
    let clip = vd_data::Clip::new(frames, [3, 8, 8, 3], 10.0).unwrap();
    vd_data::write_gif(&data.join("a.gif"), &clip).unwrap();
    std::fs::write(data.join("a.txt"), "a moving pattern").unwrap();
    let mut weights = vd_tensor_ops::Weights::default();
    let rows = Tensor::from_slice(&[0.5f32, -1.0, 0.25, 2.0]).view([1, 4]);
    weights.tensors.insert("embeddings".to_owned(), rows);
    weights.metadata.insert("prompts".to_owned(), "[\"a moving patern\"]".to_owned());
    let path = dir.path().join("e.safetensors");
    weights.write(&path).unwrap();
    let mut config = tiny(&dir.path().join("run"));
    config.data.source = Source::folder(data.clone());
    config.text.as_mut().unwrap().encoder =
        vd_text_cond::EncoderConfig::File { path, prompts: None };
    let message = run(&config, Resume::No).unwrap_err().to_string();
    assert!(message.contains("a moving pattern") && message.contains("patern"), "{message}");
    std::fs::write(data.join("a.txt"), "a moving patern").unwrap();
    assert!(run(&config, Resume::No).is_ok());
}

#[test]
fn prompts_of_previews_that_the_encoder_lacks_are_found_before_the_first_step() {
    let dir = tempfile::tempdir().unwrap();
    let mut weights = vd_tensor_ops::Weights::default();
    let rows = Tensor::from_slice(&[0.5f32, -1.0, 0.25, 2.0]).view([1, 4]);
    weights.tensors.insert("embeddings".to_owned(), rows);
    weights.metadata.insert("prompts".to_owned(), "[\"a known prompt\"]".to_owned());
    let path = dir.path().join("e.safetensors");
    weights.write(&path).unwrap();
    let mut config = tiny(&dir.path().join("run"));
    config.text.as_mut().unwrap().encoder =
        vd_text_cond::EncoderConfig::File { path, prompts: None };
    config.train.preview_every = 500;
    config.train.preview_prompts = vec!["a known prompt".to_owned(), "a stranger".to_owned()];
    let message = run(&config, Resume::No).unwrap_err().to_string();
    assert!(message.contains("a stranger"), "{message}");
    // without prompts, captions of the generator are shown, none of which is in the file
    config.train.preview_prompts.clear();
    let message = run(&config, Resume::No).unwrap_err().to_string();
    assert!(message.contains("firework"), "{message}");
    assert!(!config.train.out.exists());
}

/// Clips of a downstream program: a bright square whose position depends on the clip's number.
#[derive(Debug)]
struct Squares;

impl Generator for Squares {
    fn clip(
        &self,
        _seed: u64,
        index: u64,
        frames: usize,
        [h, w]: [usize; 2],
        channels: usize,
    ) -> vd_data::Result<(Clip, String)> {
        let place = index as usize * 7 % (h * w);
        let frame = (0..h * w * channels).map(|i| if i / channels == place { 255 } else { 0 });
        let bytes = frame.collect::<Vec<u8>>().repeat(frames);
        Ok((Clip::new(bytes, [frames, h, w, channels], 10.0)?, format!("square {place}")))
    }
}

#[test]
fn a_programs_own_clips_are_trained_on_stopped_and_resumed() {
    let (whole, parts) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let squares = |config: &RunConfig| Dataset::endless(&config.data, Box::new(Squares)).unwrap();
    let go = |out: &std::path::Path, resume: Resume, stop_at: u64| {
        let config = tiny(out);
        let stop = AtomicBool::new(false);
        train_on(&config, squares(&config), resume, &stop, &mut |event| {
            if let Event::Step(report) = event
                && report.step == stop_at
            {
                stop.store(true, Ordering::Relaxed);
            }
        })
        .unwrap()
    };
    assert_eq!(go(whole.path(), Resume::No, 99).step, 4);
    assert!(go(parts.path(), Resume::No, 2).stopped);
    assert_eq!(go(parts.path(), Resume::Newest, 99).from_step, 2);
    assert_same(&step_dir(whole.path(), 4), &step_dir(parts.path(), 4));
    // Its config alone cannot open the data that it was trained on.
    let config = Checkpoint::open(whole.path()).unwrap().config;
    assert_eq!(config.data.unwrap().source, Source::Program);
    let resumed = train(&tiny(whole.path()), Resume::Newest, &AtomicBool::new(false), &mut |_| {});
    let error = resumed.unwrap_err().to_string();
    assert!(error.contains("data.source") && error.contains("program"), "{error}");
}
