//! Runs that are stopped or killed, and resume as if uninterrupted.
#![allow(clippy::unwrap_used)]

mod common;

use std::fs;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use common::{Place, Ran, number};

const WEIGHTS: [&str; 3] = ["model.safetensors", "ema.safetensors", "optimizer.safetensors"];
/// Long enough for a loaded machine, short enough that a test does not hang for good.
const PATIENCE: Duration = Duration::from_secs(120);

/// A small deterministic generator for the times of the kills.
struct Moments(u64);

impl Moments {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % n
    }
}

fn start(place: &Place, args: &str) -> Child {
    let mut command = place.command(args);
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

/// The number of lines in the run's metrics, which is that of its completed steps.
fn steps_done(place: &Place, run: &str) -> usize {
    let text = fs::read_to_string(place.path(&format!("{run}/metrics.jsonl"))).unwrap_or_default();
    text.lines().count()
}

/// Waits until a run has done `steps` steps or has ended; returns whether it is still running.
fn wait_for(place: &Place, run: &str, steps: usize, child: &mut Child) -> bool {
    let begun = Instant::now();
    while begun.elapsed() < PATIENCE {
        if child.try_wait().unwrap().is_some() {
            return false;
        }
        if steps_done(place, run) >= steps {
            return true;
        }
        sleep(Duration::from_millis(2));
    }
    child.kill().unwrap();
    panic!("no {steps} steps within {PATIENCE:?}");
}

fn weights(place: &Place, run: &str, step: u64) -> Vec<Vec<u8>> {
    let folder = format!("{run}/checkpoints/step-{step:08}");
    let read = |name: &&str| fs::read(place.path(&format!("{folder}/{name}"))).unwrap();
    WEIGHTS.iter().map(read).collect()
}

fn signalled(signal: &str) {
    let place = Place::new();
    // Long enough that only the signal can end it; the only checkpoint is written on the signal.
    let flags = "--set train.steps=100000 --set train.checkpoint_every=0";
    let mut child = start(&place, &format!("train config.toml {flags} --json"));
    assert!(wait_for(&place, "run", 3, &mut child), "{:?}", child.wait_with_output());
    let kill = Command::new("kill").args([signal, &child.id().to_string()]).status().unwrap();
    assert!(kill.success());
    let ran = Ran::of(child.wait_with_output().unwrap());
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let report = ran.object();
    assert_eq!(report["stopped"], true);
    let step = number(&report, "step") as u64;
    assert!(step >= 3 && ran.stderr.contains("stopping after this step"), "{ran:?}");
    assert_eq!(steps_done(&place, "run"), step as usize);
    weights(&place, "run", step);

    let steps = step + 2;
    let report = place.json(&format!("train config.toml --set train.steps={steps} --resume"));
    assert_eq!(number(&report, "from_step") as u64, step);
    assert_eq!((number(&report, "step") as u64, &report["stopped"]), (steps, &false.into()));
    assert_eq!(steps_done(&place, "run"), steps as usize);
}

#[test]
fn sigterm_finishes_the_step_saves_and_exits_with_0() {
    signalled("-TERM");
}

#[test]
fn sigint_finishes_the_step_saves_and_exits_with_0() {
    signalled("-INT");
}

#[test]
fn a_run_killed_at_random_moments_ends_with_the_bytes_of_an_unbroken_one() {
    let place = Place::new();
    let steps = 40;
    // A checkpoint at every step: half of the kills happen while one is written.
    let flags =
        format!("--set train.steps={steps} --set train.checkpoint_every=1 --set train.keep_last=2");
    place.json(&format!("train config.toml {flags} --set train.out=whole"));
    let mut moments = Moments(0x9E37_79B9_7F4A_7C15);
    let mut killed = 0;
    for round in 0u64..6 {
        let mut child = start(&place, &format!("train config.toml {flags} --resume"));
        let target = steps_done(&place, "run") + 1 + moments.below(3) as usize;
        if !wait_for(&place, "run", target.min(steps - 1), &mut child) {
            let ran = Ran::of(child.wait_with_output().unwrap());
            assert_eq!(ran.code, Some(0), "round {round}: {ran:?}");
            break;
        }
        sleep(Duration::from_micros(moments.below(30_000)));
        child.kill().unwrap();
        let status = child.wait().unwrap();
        killed += u32::from(status.code().is_none());
    }
    assert!(killed >= 3, "only {killed} runs were caught alive");
    place.json(&format!("train config.toml {flags} --resume"));
    assert_eq!(weights(&place, "run", steps as u64), weights(&place, "whole", steps as u64));
    assert_eq!(steps_done(&place, "run"), steps);
    // No half-written files are left.
    let names = |folder: &str| {
        let entries = fs::read_dir(place.path(folder)).unwrap();
        let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names
    };
    assert_eq!(names("run/checkpoints"), names("whole/checkpoints"));
    assert_eq!(names("run"), names("whole"));
}

#[test]
fn resuming_what_is_not_there_begins_and_what_is_done_stays() {
    let place = Place::new();
    let first = place.vd("train config.toml --resume");
    assert_eq!(first.code, Some(0), "{first:?}");
    assert!(first.stderr.contains("WARN --resume: no checkpoint to go on from"), "{first:?}");
    let before = weights(&place, "run", 4);
    let again = place.json("train config.toml --resume");
    assert_eq!((number(&again, "from_step"), number(&again, "step")), (4.0, 4.0));
    assert_eq!(weights(&place, "run", 4), before);
}

#[test]
fn going_on_under_another_libtorch_or_other_threads_warns() {
    let place = Place::new();
    place.json("train config.toml");
    let state = place.path("run/checkpoints/step-00000004/state.json");
    let text = fs::read_to_string(&state).unwrap();
    let mut value: serde_json::Value = serde_json::from_str(&text).unwrap();
    value["machine"]["torch"] = "2.10.0".into();
    fs::write(&state, value.to_string()).unwrap();
    let ran = place.vd("train config.toml --set train.steps=5 --set train.threads=2 --resume");
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let warnings: Vec<_> = ran.stderr.lines().filter(|line| line.contains("WARN")).collect();
    let [warning] = warnings[..] else { panic!("{ran:?}") };
    for part in ["libtorch: 2.10.0 then, 2.11.0", "threads: 1 then, 2 now", "may differ"] {
        assert!(warning.contains(part), "{warning}");
    }
}
