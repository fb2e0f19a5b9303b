//! Preparing films: the effect of a signal, and what the next run can reuse.
#![allow(clippy::unwrap_used)]

mod common;

use std::collections::BTreeMap;
use std::fs::{self, File, Permissions};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc::channel;
use std::time::Duration;

use common::{Place, Ran};
use serde_json::json;
use vd_data::Ffmpeg;

/// More than any of this takes on the slowest machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// Three films, and a program `ffmpeg.sh` that runs `script` before ffmpeg.
#[allow(clippy::print_stderr, reason = "a test that shows nothing says so")]
fn films(script: &str) -> Option<Place> {
    let real = match Ffmpeg::find() {
        Ok(found) => &found.ffmpeg,
        Err(why) => {
            assert!(std::env::var_os("VD_REQUIRE_FFMPEG").is_none(), "{why}");
            eprintln!("not tested: {why}");
            return None;
        }
    };
    let place = Place::new();
    fs::create_dir(place.path("films")).unwrap();
    for k in 0..3 {
        let picture = format!("testsrc2=size=64x48:rate={}", 10 + k);
        let mut command = Command::new(real);
        command.args(["-nostdin", "-loglevel", "error", "-f", "lavfi", "-i", &picture]);
        command.args(["-t", "1", "-c:v", "ffv1"]).arg(place.path(&format!("films/{k}.mkv")));
        assert!(command.status().unwrap().success());
    }
    let real = real.display();
    let script = format!(
        "#!/bin/sh\nffmpeg() {{ '{real}' \"$@\"; }}\n\
         if [ \"$1\" != -version ]; then\n{script}\nfi\nexec '{real}' \"$@\"\n"
    );
    place.write("ffmpeg.sh", script);
    fs::set_permissions(place.path("ffmpeg.sh"), Permissions::from_mode(0o755)).unwrap();
    Some(place)
}

fn prepare(place: &Place, out: &str) -> Command {
    let args = format!("data prepare films --out {out} --workers 1 --json");
    let mut command = place.command(&args);
    command.env("VD_FFMPEG", place.path("ffmpeg.sh"));
    command
}

fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let paths = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let name = |path: &Path| path.file_name().unwrap().to_string_lossy().into_owned();
    paths.map(|path| (name(&path), fs::read(&path).unwrap())).collect()
}

/// Resumes an interrupted run, and compares with an uninterrupted one.
fn goes_on(place: &Place, out: &str, kept: usize) {
    let report = place.json(&format!("data prepare films --out {out} --workers 1"));
    assert_eq!((&report["kept"], &report["clips"]), (&json!(kept), &json!(3)), "{report}");
    assert_eq!(report["bad_files"], json!([]));
    place.json("data prepare films --out whole --workers 1");
    assert!(files(&place.path(out)) == files(&place.path("whole")));
    assert_eq!(place.json(&format!("data verify {out}"))["damaged"], json!([]));
}

#[test]
fn ctrl_c_does_not_reach_ffmpeg_and_the_clip_under_way_is_whole() {
    // reports that it has started, and waits for permission to continue
    let gate = "if [ ! -e open ]; then echo begun > begun; read go < go; fi";
    let Some(place) = films(gate) else { return };
    for fifo in ["begun", "go"] {
        assert!(Command::new("mkfifo").arg(place.path(fifo)).status().unwrap().success());
    }
    // as a shell starts it: Ctrl-C is sent to the whole group
    let mut command = prepare(&place, "out");
    command.process_group(0).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let (send, begun) = channel();
    let path = place.path("begun");
    std::thread::spawn(move || {
        let mut line = String::new();
        let read = File::open(path).and_then(|mut fifo| fifo.read_to_string(&mut line));
        send.send(read.map(|_| line))
    });
    let begun = begun.recv_timeout(PATIENCE);
    assert!(begun.is_ok(), "no film is decoded: {:?}", child.kill());
    let group = format!("-{}", child.id());
    assert!(Command::new("kill").args(["-INT", "--", &group]).status().unwrap().success());
    let mut said = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    while !line.contains("stopping after this step") {
        line.clear();
        assert_ne!(said.read_line(&mut line).unwrap(), 0, "the signal is not heard");
    }
    place.write("open", "");
    File::options().write(true).open(place.path("go")).unwrap().write_all(b"go\n").unwrap();
    std::thread::spawn(move || std::io::copy(&mut said, &mut std::io::sink()));
    let ran = Ran::of(child.wait_with_output().unwrap());
    assert_eq!(ran.code, Some(1), "{ran:?}");
    let report = ran.object();
    assert_eq!((&report["stopped"], &report["clips"]), (&json!(true), &json!(1)), "{report}");
    assert_eq!(report["bad_files"], json!([]));
    assert!(!place.exists("out/index.jsonl"));
    goes_on(&place, "out", 1);
}

#[test]
fn an_ffmpeg_that_was_ended_is_no_fault_of_its_film() {
    // after two and a half frames of the second film it ends as if by a signal
    for (how, end) in [("killed", "kill -KILL $$"), ("asked", "exit 255")] {
        let script =
            format!("case \"$*\" in */1.mkv*) ffmpeg \"$@\" | head -c 23000; {end};; esac");
        let Some(place) = films(&script) else { return };
        let ran = Ran::of(prepare(&place, "out").output().unwrap());
        assert_eq!(ran.code, Some(1), "{how}: {ran:?}");
        let said = ran.object()["error"].as_str().unwrap().to_owned();
        assert!(said.contains("1.mkv: ffmpeg was ended: "), "{said}");
        assert!(!place.exists("out/index.jsonl"), "{how}");
        goes_on(&place, "out", 1);
    }
}

#[test]
fn half_a_film_that_ends_well_is_a_bad_file() {
    let script = "case \"$*\" in */1.mkv*) ffmpeg \"$@\" | head -c 23000; exit 0;; esac";
    let Some(place) = films(script) else { return };
    let ran = Ran::of(prepare(&place, "out").output().unwrap());
    let report = ran.object();
    assert_eq!((ran.code, &report["clips"]), (Some(0), &json!(2)), "{report}");
    let reason = report["bad_files"][0]["reason"].as_str().unwrap();
    assert!(reason.contains("expected 11 frames") && reason.ends_with("found 2"), "{reason}");
    // tried again
    let report = place.json("data prepare films --out out --workers 1");
    assert_eq!((&report["kept"], &report["new"]), (&json!(2), &json!(1)), "{report}");
    assert_eq!(report["bad_files"], json!([]));
}
