//! Training that records and replays its network.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::path::Path;
use std::sync::atomic::AtomicBool;

use common::{files, run, step_dir, tiny};
use vd_torch::graphs::{Flaw, StandIn, imitated};
use vd_torch::{Autocast, testing};
use vd_train::{Event, Resume, RunConfig, train};

fn config(out: &Path, autocast: Autocast) -> RunConfig {
    let mut config = tiny(out);
    config.train.autocast = autocast;
    config.train.steps = 6;
    config
}

/// Runs `f` with the recorder of the tests' device, and returns the number of replays if the
/// recorder is emulated.
fn here<R>(f: impl FnOnce() -> R) -> (R, Option<usize>) {
    if testing::device().is_cuda() {
        return (f(), None);
    }
    let recorder = StandIn::new();
    let done = imitated(recorder.clone(), f);
    (done, Some(recorder.replayed()))
}

#[test]
fn replayed_steps_leave_the_bytes_of_others() {
    if testing::device().is_cuda() {
        return; // where sums are taken in another order from run to run
    }
    let dir = tempfile::tempdir().unwrap();
    for autocast in [Autocast::Off, Autocast::Fp16] {
        let [own, replayed] =
            ["own", "replayed"].map(|name| dir.path().join(format!("{name}-{autocast}")));
        let mut as_it_is = config(&own, autocast);
        as_it_is.train.graphs = false;
        let ((), none) = here(|| drop(run(&as_it_is, Resume::No).unwrap()));
        let mut parts = config(&replayed, autocast);
        let ((), some) = here(|| {
            run(&parts, Resume::No).unwrap();
        });
        // Six steps of two micro-batches, forward and backward; the first is not recorded.
        assert_eq!(none, Some(0));
        assert!(some.unwrap() >= 2 * 11, "{some:?}");
        let mut others = files(&step_dir(&replayed, 6));
        for (file, bytes) in files(&step_dir(&own, 6)).iter().filter(|(f, _)| *f != "config.toml") {
            assert!(others.remove(file).as_ref() == Some(bytes), "{autocast}: {file}");
        }
        // The setting may change at a resume.
        (parts.train.steps, parts.train.graphs) = (7, false);
        run(&parts, Resume::Newest).unwrap();
    }
}

#[test]
fn losses_are_those_of_steps_that_are_not_replayed() {
    let dir = tempfile::tempdir().unwrap();
    let losses = |graphs: bool| {
        let mut config = config(&dir.path().join(graphs.to_string()), Autocast::Off);
        config.train.graphs = graphs;
        let mut losses = Vec::new();
        train(&config, Resume::No, &AtomicBool::new(false), &mut |event| {
            if let Event::Step(report) = event {
                losses.push(report.loss);
            }
        })
        .unwrap();
        losses
    };
    let (replayed, _) = here(|| losses(true));
    for (step, (got, own)) in replayed.iter().zip(losses(false)).enumerate() {
        assert!((got - own).abs() <= testing::tolerance(0.0) * own, "{step}: {got} for {own}");
    }
}

#[test]
fn a_recorder_that_fails_leaves_the_same_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let [own, failed] = ["own", "failed"].map(|name| dir.path().join(name));
    run(&config(&own, Autocast::Off), Resume::No).unwrap();
    let recorder = StandIn::with(Flaw::Refuses(1));
    imitated(recorder.clone(), || run(&config(&failed, Autocast::Off), Resume::No).unwrap());
    if testing::device().is_cuda() {
        return;
    }
    assert_eq!((recorder.recorded(), recorder.replayed()), (2, 0));
    let mut others = files(&step_dir(&failed, 6));
    for (file, bytes) in files(&step_dir(&own, 6)).iter().filter(|(f, _)| *f != "config.toml") {
        assert!(others.remove(file).as_ref() == Some(bytes), "{file}");
    }
}
