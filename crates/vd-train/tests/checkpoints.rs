//! What a checkpoint contains, and what is refused as a checkpoint.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::PathBuf;

use common::{run, step_dir, tiny, values};
use tch::Device;
use vd_text_cond::{Condition, GenerateRequest, Generator, NullEmbedding, generate};
use vd_train::{Checkpoint, CheckpointConfig, Origin, Resume, WeightKind, write_imported};

#[test]
fn a_checkpoint_gives_the_network_back_and_samples_from_a_prompt() {
    let dir = tempfile::tempdir().unwrap();
    let config = tiny(dir.path());
    run(&config, Resume::No).unwrap();
    let checkpoint = Checkpoint::open(dir.path()).unwrap();
    assert_eq!(checkpoint.dir, step_dir(dir.path(), 4));
    assert_eq!(checkpoint.step(), Some(4));
    assert_eq!(checkpoint.config.run().unwrap(), config.clone().resolved().unwrap());
    let again = Checkpoint::open(&checkpoint.dir).unwrap();
    assert_eq!(again.state, checkpoint.state);
    let geometry = checkpoint.geometry();
    assert_eq!((geometry.frames, geometry.size, geometry.assumed), (3, [8, 8], false));
    assert_ne!(
        values(dir.path(), WeightKind::Ema)["init_conv.weight"],
        values(dir.path(), WeightKind::Model)["init_conv.weight"]
    );
    let loaded = checkpoint.network(None, Device::Cpu).unwrap();
    assert_eq!(loaded.weights, WeightKind::Ema);
    let diffusion = vd_diffusion::Diffusion::new(&checkpoint.config.diffusion).unwrap();
    let encoder = checkpoint.encoder().unwrap().unwrap();
    let model = Generator {
        backbone: &loaded.network,
        diffusion: &diffusion,
        encoder: Some(encoder.as_ref()),
        null: checkpoint.null(),
        signals: &[],
    };
    let prompts = vec!["a red firework".to_owned(), "a blue firework".to_owned()];
    let request = GenerateRequest {
        steps: 3,
        guidance: 2.0,
        ..GenerateRequest::new(Condition::Prompts(prompts), [3, 8, 8])
    };
    let video = generate(&model, &request, &mut |_| ControlFlow::Continue(())).unwrap();
    assert_eq!(video.size(), [2, 3, 3, 8, 8]);
    assert!(video.abs().max().double_value(&[]) <= 1.0);
}

#[test]
fn weights_alone_are_enough_to_sample_from_a_runs_folder_but_not_to_go_on() {
    let dir = tempfile::tempdir().unwrap();
    let config = tiny(dir.path());
    run(&config, Resume::No).unwrap();
    for name in ["optimizer.safetensors", "state.json"] {
        std::fs::remove_file(step_dir(dir.path(), 4).join(name)).unwrap();
        let checkpoint = Checkpoint::open(dir.path()).unwrap();
        assert_eq!(checkpoint.dir, step_dir(dir.path(), 4));
        assert!(checkpoint.network(None, Device::Cpu).is_ok());
    }
    let message = run(&config, Resume::No).unwrap_err().to_string();
    assert!(message.contains("cannot be resumed without"), "{message}");
}

#[test]
fn imported_weights_are_a_checkpoint_too() {
    let dir = tempfile::tempdir().unwrap();
    run(&tiny(&dir.path().join("run")), Resume::No).unwrap();
    let trained = Checkpoint::open(&dir.path().join("run")).unwrap();
    let origin = Origin {
        program: "video-diffusion-pytorch".to_owned(),
        version: "0.7.0".to_owned(),
        step: Some(7),
        frames: None,
        size: None,
    };
    let config = CheckpointConfig {
        text: None,
        data: None,
        train: None,
        origin: Some(origin),
        ..trained.config.clone()
    };
    let to = dir.path().join("deep/imported");
    let ema = values(&trained.dir, WeightKind::Ema);
    let weights = || {
        BTreeMap::from([(
            WeightKind::Ema,
            ema.iter().map(|(n, t)| (n.clone(), t.shallow_clone())).collect(),
        )])
    };
    write_imported(&to, &config, weights()).unwrap();
    let imported = Checkpoint::open(&to).unwrap();
    assert_eq!(imported.config, config);
    assert_eq!((imported.step(), imported.null()), (Some(7), NullEmbedding::Unknown));
    let geometry = imported.geometry();
    assert_eq!((geometry.frames, geometry.size, geometry.assumed), (16, [64, 64], true));
    assert_eq!(imported.network(None, Device::Cpu).unwrap().params.tensors(), ema);
    let missing = imported.network(Some(WeightKind::Model), Device::Cpu).unwrap_err().to_string();
    assert!(missing.contains("no model weights; it has: ema"), "{missing}");
    let again = write_imported(&to, &config, weights()).unwrap_err().to_string();
    assert!(again.contains("not empty"), "{again}");
}

#[test]
fn what_is_no_checkpoint_is_said_to_be_none() {
    let dir = tempfile::tempdir().unwrap();
    let message = |path: PathBuf| Checkpoint::open(&path).unwrap_err().to_string();
    assert!(message(dir.path().join("none")).contains("no such directory"));
    assert!(message(dir.path().to_path_buf()).contains("holds no checkpoint"));
    std::fs::write(dir.path().join("file"), "x").unwrap();
    assert!(message(dir.path().join("file")).contains("is a file"));
    std::fs::write(dir.path().join("ema.safetensors"), "x").unwrap();
    assert!(message(dir.path().to_path_buf()).contains("config.toml"));
    std::fs::remove_file(dir.path().join("ema.safetensors")).unwrap();
    let run_dir = dir.path().join("run");
    run(&tiny(&run_dir), Resume::No).unwrap();
    let state = step_dir(&run_dir, 4).join("state.json");
    let text = std::fs::read_to_string(&state).unwrap();
    std::fs::write(&state, text.replace("\"format\": 1", "\"format\": 99")).unwrap();
    assert!(message(step_dir(&run_dir, 4)).contains("got 99"));
}

#[test]
fn a_run_that_has_saved_nothing_says_when_it_will_and_its_checkpoints_folder_stands_for_it() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("run");
    let config = common::tiny(&out).resolved().unwrap();
    std::fs::create_dir(&out).unwrap();
    std::fs::write(out.join("config.toml"), config.to_toml().unwrap()).unwrap();
    let said = vd_train::Checkpoint::open(&out).unwrap_err().to_string();
    assert!(said.ends_with("saved nothing yet; its first checkpoint comes at step 4"), "{said}");
    common::run(&config, vd_train::Resume::Newest).unwrap();
    let opened = vd_train::Checkpoint::open(&out.join("checkpoints")).unwrap();
    assert_eq!(opened.step(), Some(4));
}
