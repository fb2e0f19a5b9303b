//! Training with conditioning inputs besides the text.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::path::Path;

use common::{assert_same, run, step_dir, tiny};
use vd_data::{Captions, Clip, Source, write_gif};
use vd_text_cond::NullEmbedding;
use vd_train::{Checkpoint, Resume, RunConfig, SignalFrom, SignalSource, Upsampling};
use vd_unet3d::SignalConfig;

/// Eight clips in two folders, one whose clips grow brighter and one whose clips grow darker, with
/// a table of each frame's brightness.
fn two_classes(root: &Path) {
    let mut table = String::new();
    for k in 0..8u8 {
        let class = ["slow_dawn", "dusk"][usize::from(k % 2)];
        std::fs::create_dir_all(root.join(class)).unwrap();
        let light = |f: u8| if k % 2 == 0 { 40 + 30 * f + k } else { 200 - 30 * f - k };
        let frames = (0..5u8).flat_map(|f| vec![light(f); 8 * 8 * 3]).collect();
        let clip = Clip::new(frames, [5, 8, 8, 3], 10.0).unwrap();
        write_gif(&root.join(format!("{class}/{k}.gif")), &clip).unwrap();
        let lights: Vec<_> = (0..5).map(|f| format!("{}", light(f) / 8)).collect();
        if k != 5 {
            let lights = lights.join(", ");
            table += &format!("{{\"file\": \"{class}/{k}.gif\", \"light\": [{lights}]}}\n");
        }
    }
    std::fs::write(root.join("t.jsonl"), table).unwrap();
}

fn config(out: &Path, data: &Path, steps: u64) -> RunConfig {
    let mut config = tiny(out);
    config.data.source =
        Source::Folder { path: data.to_path_buf(), captions: Captions::Table("t.jsonl".into()) };
    config.text = None;
    config.train.steps = steps;
    let source = |from, drop| SignalSource { from, drop };
    let name = "light".to_owned();
    let half = SignalFrom::LowResolution { factor: 2, upsampling: Upsampling::Nearest };
    let first = SignalFrom::Masked { first_frames: Some(1), hidden_box: None };
    for (name, signal, source) in [
        ("sky", SignalConfig::Class { classes: vec![] }, source(SignalFrom::Folder {}, 0.2)),
        (
            "light",
            SignalConfig::Scalar { mean: 15.0, std: 8.0 },
            source(SignalFrom::Array { name }, 0.3),
        ),
        ("low", SignalConfig::Video { channels: 3 }, source(half, 0.5)),
        ("begin", SignalConfig::Video { channels: 4 }, source(first, 0.0)),
    ] {
        config.model.signals.insert(name.to_owned(), signal);
        config.signals.insert(name.to_owned(), source);
    }
    config
}

#[test]
fn a_network_that_is_told_of_classes_frames_and_clips_resumes_to_the_same_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("videos");
    std::fs::create_dir(&data).unwrap();
    two_classes(&data);
    let (whole, parts) = (dir.path().join("whole"), dir.path().join("parts"));
    run(&config(&whole, &data, 6), Resume::No).unwrap();
    run(&config(&parts, &data, 3), Resume::No).unwrap();
    // an additional class would need another network: the run's classes are kept in its config
    let text = std::fs::read_to_string(parts.join("config.toml")).unwrap();
    assert!(text.contains("classes = [\"dusk\", \"slow_dawn\"]"), "{text}");
    let second = run(&config(&parts, &data, 6), Resume::Newest).unwrap();
    assert_eq!((second.from_step, second.step), (3, 6));
    assert_same(&step_dir(&whole, 6), &step_dir(&parts, 6));
    let checkpoint = Checkpoint::open(&whole).unwrap();
    let (trained, not) = (NullEmbedding::Trained, NullEmbedding::Untrained);
    let nulls = [("begin", not), ("light", trained), ("low", trained), ("sky", trained)];
    assert_eq!(checkpoint.signal_nulls(), nulls.map(|(name, null)| (name.to_owned(), null)));
    assert_eq!(checkpoint.config.run().unwrap().signals, config(&whole, &data, 6).signals);
    let mut other = config(&parts, &data, 9);
    other.signals.get_mut("sky").unwrap().drop = 0.4;
    let message = run(&other, Resume::Newest).unwrap_err().to_string();
    assert!(message.contains("signals.sky.drop: 0.2 in the checkpoint, 0.4 now"), "{message}");
}

/// Only the class folders as a signal.
fn sky(out: &Path, data: &Path, steps: u64) -> RunConfig {
    let mut config = config(out, data, steps);
    config.data.source = Source::Folder { path: data.to_path_buf(), captions: Captions::Folders };
    for name in ["light", "begin", "low"] {
        config.model.signals.remove(name);
        config.signals.remove(name);
    }
    config
}

#[test]
fn classes_that_are_left_out_are_those_of_the_checkpoint_at_a_resume() {
    let dir = tempfile::tempdir().unwrap();
    let (data, out) = (dir.path().join("videos"), dir.path().join("run"));
    std::fs::create_dir(&data).unwrap();
    two_classes(&data);
    run(&sky(&out, &data, 1), Resume::No).unwrap();
    for file in std::fs::read_dir(data.join("dusk")).unwrap().map(Result::unwrap) {
        std::fs::rename(file.path(), data.join("slow_dawn").join(file.file_name())).unwrap();
    }
    assert_eq!(run(&sky(&out, &data, 2), Resume::Newest).unwrap().from_step, 1);
    let kept = RunConfig::load(&out.join("config.toml"), &[]).unwrap().model.signals;
    let classes = ["dusk", "slow_dawn"].map(str::to_owned).to_vec();
    assert_eq!(kept["sky"], SignalConfig::Class { classes });
    // another run takes its classes from its data
    let fresh = sky(&dir.path().join("other"), &data, 1).resolved().unwrap().model.signals;
    assert_eq!(fresh["sky"], SignalConfig::Class { classes: vec!["slow_dawn".to_owned()] });
    std::fs::rename(data.join("slow_dawn"), data.join("noon")).unwrap();
    let message = run(&sky(&out, &data, 3), Resume::Newest).unwrap_err().to_string();
    assert!(message.contains("one of the classes dusk, slow_dawn, got \"noon\""), "{message}");
}

#[test]
fn class_folders_give_captions_and_a_preview_goes_without_signals() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("videos");
    std::fs::create_dir(&data).unwrap();
    two_classes(&data);
    let mut config = sky(&dir.path().join("run"), &data, 1);
    config.text = tiny(dir.path()).text;
    config.train.preview_every = 1;
    config.train.preview_steps = 2;
    config.train.preview_scale = 2.0;
    assert_eq!(run(&config, Resume::No).unwrap().step, 1);
    assert!(config.train.out.join("previews/step-00000001.gif").exists());
}

#[test]
fn signals_of_weights_from_elsewhere_are_unknown() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("videos");
    std::fs::create_dir(&data).unwrap();
    two_classes(&data);
    let out = dir.path().join("run");
    run(&config(&out, &data, 1), Resume::No).unwrap();
    let mut checkpoint = Checkpoint::open(&out).unwrap();
    checkpoint.config.signals.clear();
    assert!(checkpoint.signal_nulls().iter().all(|(_, null)| *null == NullEmbedding::Unknown));
    assert_eq!(checkpoint.signal_nulls().len(), 4);
}
