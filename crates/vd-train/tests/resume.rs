//! A run that was interrupted and resumed writes the same bytes as an uninterrupted one.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::sync::atomic::{AtomicBool, Ordering};

use common::{assert_same, checkpoints, files, metric_steps, run, step_dir, tiny, write_videos};
use vd_train::{Checkpoint, Event, Resume, RunConfig, TrainConfig, train};

fn with_steps(config: &RunConfig, steps: u64) -> RunConfig {
    RunConfig { train: TrainConfig { steps, ..config.train.clone() }, ..config.clone() }
}

#[test]
fn forty_steps_and_twenty_twice_leave_the_same_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let (whole, parts) = (dir.path().join("whole"), dir.path().join("parts"));
    run(&with_steps(&tiny(&whole), 40), Resume::No).unwrap();
    let first = run(&with_steps(&tiny(&parts), 20), Resume::No).unwrap();
    assert_eq!((first.from_step, first.step, first.stopped), (0, 20, false));
    let second = run(&with_steps(&tiny(&parts), 40), Resume::Newest).unwrap();
    assert_eq!((second.from_step, second.step), (20, 40));
    assert_same(&step_dir(&whole, 40), &step_dir(&parts, 40));
    assert_eq!(metric_steps(&parts), (1..=40).collect::<Vec<_>>());
    // not trivially the same: training continued, and the average differs from the weights
    let (at_20, at_40) = (files(&step_dir(&parts, 20)), files(&step_dir(&parts, 40)));
    assert_ne!(at_20["model.safetensors"], at_40["model.safetensors"]);
    assert_ne!(at_40["ema.safetensors"], at_40["model.safetensors"]);
}

/// Steps in flight when one is reported: on a GPU, the next one.
fn ahead() -> u64 {
    u64::from(vd_torch::testing::device().is_cuda())
}

#[test]
fn a_run_stopped_at_any_step_goes_on_to_the_same_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let (whole, parts) = (dir.path().join("whole"), dir.path().join("parts"));
    run(&with_steps(&tiny(&whole), 7), Resume::No).unwrap();
    let config = with_steps(&tiny(&parts), 7);
    let mut done = Vec::new();
    for after in [3u64, 5, 99] {
        let stop = AtomicBool::new(false);
        let summary = train(&config, Resume::Newest, &stop, &mut |event| {
            if let Event::Step(report) = event
                && report.step >= after
            {
                stop.store(true, Ordering::Relaxed);
            }
        })
        .unwrap();
        assert_eq!(summary.checkpoint.unwrap(), step_dir(&parts, summary.step));
        done.push((summary.from_step, summary.step, summary.stopped));
    }
    let [first, second] = [3, 5].map(|step| step + ahead());
    assert_eq!(done, [(0, first, true), (first, second, true), (second, 7, false)]);
    assert_same(&step_dir(&whole, 7), &step_dir(&parts, 7));
    assert_eq!(metric_steps(&parts), (1..=7).collect::<Vec<_>>());
}

#[test]
fn computing_activations_again_leaves_the_same_bytes_and_may_change_at_a_resume() {
    let dir = tempfile::tempdir().unwrap();
    let config = |name: &str, steps, recompute| {
        let mut config = with_steps(&tiny(&dir.path().join(name)), steps);
        config.train.recompute = recompute;
        config
    };
    run(&config("kept", 6, 0), Resume::No).unwrap();
    run(&config("again", 6, 2), Resume::No).unwrap();
    for (steps, recompute) in [(2, 1), (4, 0), (6, 99)] {
        run(&config("both", steps, recompute), Resume::Newest).unwrap();
    }
    let kept = files(&step_dir(&dir.path().join("kept"), 6));
    for name in ["again", "both"] {
        let mut other = files(&step_dir(&dir.path().join(name), 6));
        for (file, bytes) in kept.iter().filter(|(file, _)| *file != "config.toml") {
            assert!(other.remove(file).as_ref() == Some(bytes), "{name}: {file}");
        }
        assert_eq!(other.into_keys().collect::<Vec<_>>(), ["config.toml"]);
    }
}

#[test]
fn what_an_interrupted_write_left_is_passed_over_and_cleaned() {
    let dir = tempfile::tempdir().unwrap();
    let (whole, parts) = (dir.path().join("whole"), dir.path().join("parts"));
    run(&with_steps(&tiny(&whole), 3), Resume::No).unwrap();
    run(&with_steps(&tiny(&parts), 2), Resume::No).unwrap();
    let from = files(&step_dir(&parts, 2));
    let fake = |name: &str, keep: &[&str]| {
        let at = parts.join("checkpoints").join(name);
        std::fs::create_dir_all(&at).unwrap();
        for name in keep {
            std::fs::write(at.join(name), &from[*name]).unwrap();
        }
    };
    fake(".unfinished-step-00000003", &["config.toml"]);
    fake("step-00000003", &["config.toml", "model.safetensors", "state.json"]);
    fake("step-9", &["config.toml"]);
    std::fs::write(parts.join(".vd-abc.tmp"), "half").unwrap();
    // not the project's files, whatever their names look like
    let others = [".cache.tmp", ".video.part", ".vd-notes", ".unfinished-step-ideas"];
    others.iter().for_each(|name| std::fs::create_dir(parts.join(name)).unwrap());
    let text = std::fs::read_to_string(parts.join("metrics.jsonl")).unwrap();
    std::fs::write(parts.join("metrics.jsonl"), format!("{text}{{\"step\":3,\"lo")).unwrap();
    assert_eq!(Checkpoint::open(&parts).unwrap().step(), Some(2));
    let summary = run(&with_steps(&tiny(&parts), 3), Resume::Newest).unwrap();
    assert_eq!(summary.from_step, 2);
    assert_same(&step_dir(&whole, 3), &step_dir(&parts, 3));
    assert_eq!(checkpoints(&parts), ["step-00000002", "step-00000003", "step-9"]);
    assert!(!parts.join(".vd-abc.tmp").exists());
    assert!(others.iter().all(|name| parts.join(name).exists()));
    assert_eq!(metric_steps(&parts), [1, 2, 3]);
}

#[test]
fn what_is_not_whole_does_not_count_among_the_last_checkpoints() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = with_steps(&tiny(dir.path()), 3);
    config.train.checkpoint_every = 1;
    config.train.keep_last = 1;
    std::fs::create_dir_all(step_dir(dir.path(), 900)).unwrap();
    std::fs::write(step_dir(dir.path(), 900).join("config.toml"), "half").unwrap();
    run(&config, Resume::No).unwrap();
    assert_eq!(checkpoints(dir.path()), ["step-00000003", "step-00000900"]);
    assert_eq!(run(&config, Resume::Newest).unwrap().from_step, 3);
}

#[test]
fn a_checkpoint_whose_file_was_cut_short_is_passed_over() {
    let dir = tempfile::tempdir().unwrap();
    let (whole, parts) = (dir.path().join("whole"), dir.path().join("parts"));
    let every_step = |out: &std::path::Path, steps| {
        let mut config = with_steps(&tiny(out), steps);
        config.train.checkpoint_every = 1;
        config.train.keep_last = 2;
        config
    };
    run(&every_step(&whole, 3), Resume::No).unwrap();
    for name in ["model.safetensors", "ema.safetensors", "optimizer.safetensors", "state.json"] {
        run(&every_step(&parts, 2), Resume::No).unwrap();
        let path = step_dir(&parts, 2).join(name);
        let bytes = std::fs::read(&path).unwrap();
        std::fs::write(&path, &bytes[..bytes.len() - 5]).unwrap();
        let resumed = run(&every_step(&parts, 3), Resume::Newest).unwrap();
        assert_eq!(resumed.from_step, 1, "{name}");
        assert_same(&step_dir(&whole, 3), &step_dir(&parts, 3));
        std::fs::remove_dir_all(&parts).unwrap();
    }
}

#[test]
fn a_run_that_its_data_stop_saves_its_last_good_step_and_goes_on_to_the_same_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let (data, away) = (dir.path().join("videos"), dir.path().join("away"));
    write_videos(&data);
    let config = |name: &str| {
        let mut config = with_steps(&tiny(&dir.path().join(name)), 5);
        config.data.source = vd_data::Source::folder(data.clone());
        config.data.max_bad_files = 0;
        config.data.workers = 0;
        config
    };
    run(&config("whole"), Resume::No).unwrap();
    let parts = config("parts");
    let ended = train(&parts, Resume::No, &AtomicBool::new(false), &mut |event| {
        if let Event::Step(report) = event
            && report.step == 2
        {
            std::fs::rename(&data, &away).unwrap();
        }
    });
    let message = ended.unwrap_err().to_string();
    assert!(message.contains("max_bad_files = 0"), "{message}");
    let good = 2 + ahead();
    assert_eq!(checkpoints(&parts.train.out), [format!("step-{good:08}")]);
    std::fs::rename(&away, &data).unwrap();
    let summary = run(&parts, Resume::Newest).unwrap();
    assert_eq!((summary.from_step, summary.step), (good, 5));
    assert_same(&step_dir(&dir.path().join("whole"), 5), &step_dir(&parts.train.out, 5));
}

#[test]
fn a_new_run_does_not_overwrite_an_old_one() {
    let dir = tempfile::tempdir().unwrap();
    let config = with_steps(&tiny(dir.path()), 1);
    // no checkpoint yet: a resume starts from the beginning
    assert_eq!(run(&config, Resume::Newest).unwrap().from_step, 0);
    let before = files(&step_dir(dir.path(), 1));
    let message = run(&config, Resume::No).unwrap_err().to_string();
    assert!(message.contains("--resume") && message.contains("step 1"), "{message}");
    // nothing left to do
    let summary = run(&config, Resume::Newest).unwrap();
    assert_eq!((summary.from_step, summary.step, summary.last), (1, 1, None));
    assert_eq!(files(&step_dir(dir.path(), 1)), before);
}

#[test]
fn another_config_is_refused_by_key_and_what_is_free_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let base = with_steps(&tiny(dir.path()), 1);
    run(&base, Resume::No).unwrap();
    let mut other = base.clone();
    other.train.lr = 0.5;
    other.train.seed = 6;
    other.model.dim = 16;
    other.data.stride = 2;
    other.text.as_mut().unwrap().drop = 0.2;
    let message = run(&other, Resume::Newest).unwrap_err().to_string();
    for part in [
        "train.lr: 0.001 in the checkpoint, 0.5 now",
        "train.seed: 5 in the checkpoint, 6 now",
        "model.dim: 8 in the checkpoint, 16 now",
        "data.stride: 1 in the checkpoint, 2 now",
        "text.drop: 0.3 in the checkpoint, 0.2 now",
    ] {
        assert!(message.contains(part), "{message}");
    }
    let mut free = base.clone();
    free.train.steps = 2;
    free.train.checkpoint_every = 1;
    free.train.preview_every = 0;
    free.train.preview_steps = 3;
    free.data.workers = 0;
    assert_eq!(run(&free, Resume::Newest).unwrap().step, 2);
    let written = std::fs::read_to_string(dir.path().join("config.toml")).unwrap();
    assert!(written.contains("steps = 2"), "{written}");
}

#[test]
fn two_processes_do_not_share_a_folder() {
    let dir = tempfile::tempdir().unwrap();
    let lock = std::fs::File::create(dir.path().join(".lock")).unwrap();
    lock.lock().unwrap();
    let message = run(&tiny(dir.path()), Resume::No).unwrap_err().to_string();
    assert!(message.contains("another process"), "{message}");
    drop(lock);
    assert!(run(&with_steps(&tiny(dir.path()), 1), Resume::No).is_ok());
}
