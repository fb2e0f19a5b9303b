//! A signal ends sampling between two steps, and earlier results are kept.
#![allow(clippy::unwrap_used)]

mod common;

use std::fs;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use common::{Place, Ran};
use vd_data::{Clip, decode, write_gif};

/// More than any of this takes on the slowest machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// Runs a command that would take for ever, and sends a signal when a file exists.
fn signalled(place: &Place, args: &str, signal: &str, file: &str) -> String {
    let mut command = place.command(args);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let begun = Instant::now();
    while !place.exists(file) {
        let running = child.try_wait().unwrap().is_none() && begun.elapsed() < PATIENCE;
        assert!(running, "no {file}: {:?}", child.kill());
        sleep(Duration::from_millis(2));
    }
    let kill = Command::new("kill").args([signal, &child.id().to_string()]).status().unwrap();
    assert!(kill.success());
    let ran = Ran::of(child.wait_with_output().unwrap());
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert!(ran.stderr.contains("stopping after this step"), "{ran:?}");
    ran.object()["error"].as_str().unwrap().to_owned()
}

fn files(place: &Place, folder: &str) -> usize {
    fs::read_dir(place.path(folder)).unwrap().count()
}

#[test]
fn clips_that_are_finished_stay() {
    let place = Place::new();
    place.json("train config.toml --set train.steps=1");
    let args = "sample run --num 90000 --batch 2 --steps 5 --threads 1 --out clips --json";
    let message = signalled(&place, args, "-INT", "clips/seed-0-clip-00003.gif");
    let clips = files(&place, "clips");
    assert!(clips >= 4 && clips.is_multiple_of(2), "{clips}");
    let there = format!("clips holds the first {clips} of 90,000 clips");
    assert_eq!(message, format!("stopped by a signal; {there}"));
}

#[test]
fn frames_that_are_final_are_a_video() {
    let place = Place::new();
    place.json("train config.toml --set train.steps=1");
    let known = Clip::new((0..192).collect(), [1, 8, 8, 3], 8.0).unwrap();
    write_gif(&place.path("in.gif"), &known).unwrap();
    let args = "extend run in.gif --frames 90000 --steps 5 --threads 1 --out frames --json";
    let message = signalled(&place, args, "-TERM", "frames/frame-00005.png");
    let video = decode(&place.path("frames"), 3).unwrap();
    assert!(video.f >= 6 && video.frame(0) == known.frame(0));
    let there = format!("frames holds the first {} of 90,000 frames", video.f);
    assert_eq!(message, format!("stopped by a signal; {there}"));
    // The result can be continued.
    let more = format!("extend run frames --frames {} --steps 2 --out more", video.f + 1);
    place.json(&more);
    assert_eq!(files(&place, "more"), video.f + 1);
}
