//! Checkpoints of the Python package reproduce the package's own outputs.
//!
//! The fixtures were written by crates/vd-unet3d/tests/parity/checkpoints.py.
#![allow(clippy::unwrap_used)]

mod common;

use std::io::Read;
use std::path::{Path, PathBuf};

use common::{Place, gif_shape, number};
use flate2::Crc;
use flate2::read::GzDecoder;
use serde_json::json;

const VERSIONS: [&str; 3] = ["0.5.3", "0.6.3", "0.7.0"];

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

/// A checkpoint, unpacked.
fn unpacked(name: &str) -> Vec<u8> {
    let packed = std::fs::read(fixture(&format!("{name}.gz"))).unwrap();
    let mut bytes = Vec::new();
    GzDecoder::new(packed.as_slice()).read_to_end(&mut bytes).unwrap();
    bytes
}

/// Flags that the file of a version needs.
fn flags(version: &str) -> &'static str {
    if version == "0.7.0" { "--threads 1" } else { "--threads 1 --resnet-groups 4" }
}

fn io(version: &str, weights: &str) -> String {
    fixture(&format!("trainer-{version}.{weights}-io.safetensors")).display().to_string()
}

/// Unpacks the Trainer's checkpoint of every version as `VERSION.pt`.
fn place_with_trainers() -> Place {
    let place = Place::new();
    for version in VERSIONS {
        place.write(&format!("{version}.pt"), unpacked(&format!("trainer-{version}.pt")));
    }
    place
}

#[test]
fn both_sets_of_weights_of_every_version_answer_as_the_package_does() {
    let place = place_with_trainers();
    for version in VERSIONS {
        for weights in ["ema", "model"] {
            let (flags, io) = (flags(version), io(version, weights));
            let out = format!("{version}-{weights}");
            let chosen = if weights == "ema" { "" } else { "--weights model" };
            let report = place.json(&format!(
                "convert {version}.pt --version {version} --out {out} --check {io} {chosen} {flags}"
            ));
            assert!(number(&report, "relative_l2") <= 1e-5, "{report}");
            assert!(number(&report, "max_abs_error") < 1e-4, "{report}");
            assert_eq!((&report["passed"], &report["chosen"]), (&json!(true), &json!(weights)));
            assert_eq!((&report["step"], &report["timesteps"]), (&json!(700), &json!(50)));
            assert_eq!((&report["frames"], &report["size"]), (&json!(3), &json!([8, 12])));
            let there = |name: &str| place.exists(&format!("{out}/{name}.safetensors"));
            assert_eq!((there("ema"), there("model")), (weights == "ema", true));
        }
        let inspected = place.json(&format!("inspect {version}-ema"));
        assert_eq!(inspected["config"]["origin"]["version"], *version);
        assert_eq!(inspected["config"]["model"]["dim_mults"], json!([1, 2]));
        let schedule = json!({ "kind": "cosine-discrete", "steps": 50 });
        assert_eq!(inspected["config"]["diffusion"]["schedule"], schedule);
    }
}

#[test]
fn bare_state_dicts_are_read_too() {
    let place = Place::new();
    let io = io("0.7.0", "ema");
    for (kind, steps) in [("diffusion", 50), ("unet", 1000)] {
        place.write("bare.pt", unpacked(&format!("trainer-0.7.0.{kind}.pt")));
        let report = place.json(&format!(
            "convert bare.pt --version 0.7.0 --out {kind} --check {io} --threads 1"
        ));
        assert_eq!((&report["passed"], &report["weights"]), (&json!(true), &json!(["model"])));
        assert_eq!((&report["timesteps"], &report["step"]), (&json!(steps), &json!(null)));
    }
    let args = "convert bare.pt --version 0.7.0 --threads 1";
    let ran = place.vd(&format!("{args} --out d"));
    assert!(ran.stderr.contains("the cosine schedule of 1000 steps (the package's default)"));
    assert!(
        ran.stderr
            .contains("default number of frames: 16 (the default; the file does not record it)")
    );
    assert!(
        ran.stderr.contains("default frame size: 64x64 (the default; the file does not record it)")
    );
    let report = place.json(&format!("{args} --out e --timesteps 250 --frames 5 --size 8x16"));
    assert_eq!((&report["timesteps"], &report["frames"]), (&json!(250), &json!(5)));
    assert_eq!(report["size"], json!([8, 16]));
    let message = place.error(&format!("{args} --out f --weights ema"), 1);
    assert!(message.contains("--weights ema: the file holds no such weights, only model"));
}

#[test]
fn a_changed_weight_fails_the_check_and_nothing_is_written() {
    let place = Place::new();
    let mut bytes = unpacked("trainer-0.7.0.unet.pt");
    change_one_number(&mut bytes);
    place.write("changed.pt", bytes);
    let io = io("0.7.0", "ema");
    let args = format!("convert changed.pt --version 0.7.0 --out c --check {io} --threads 1");
    let ran = place.vd(&format!("{args} --json"));
    assert_eq!(ran.code, Some(1), "{ran:?}");
    let report = ran.object();
    assert_eq!((&report["passed"], &report["out"]), (&json!(false), &json!(null)));
    assert!(number(&report, "relative_l2") > 1e-5, "{report}");
    let ran = place.vd(&args);
    assert!(ran.code == Some(1) && ran.stdout.contains("check FAILED"), "{ran:?}");
    assert!(ran.stdout.contains("nothing was written") && !place.exists("c"), "{ran:?}");
    // The error bound was exceeded; the file itself is fine.
    let report = place.json(&format!("{args} --tolerance 1e9"));
    assert!(report["passed"] == true && place.exists("c/model.safetensors"));
}

#[test]
fn the_wrong_version_is_refused_or_fails_the_check() {
    let place = place_with_trainers();
    let message = place.error("convert 0.5.3.pt --version 0.7.0 --out c", 1);
    assert!(message.contains("group norms") && message.contains("--version 0.6.3"), "{message}");
    let message = place.error("convert 0.7.0.pt --version 0.6.3 --out c", 1);
    assert!(message.contains("RMS norms") && message.contains("--version 0.7.0"), "{message}");
    let message = place.error("convert 0.6.3.pt --version 0.6.3 --out c", 1);
    assert!(message.contains("--resnet-groups"), "{message}");
    for (file, said) in [("0.5.3", "0.6.3"), ("0.6.3", "0.5.3")] {
        let (flags, io) = (flags(file), io(file, "ema"));
        let ran =
            place.vd(&format!("convert {file}.pt --version {said} --out c --check {io} {flags}"));
        assert_eq!(ran.code, Some(1), "{ran:?}");
        assert!(ran.stdout.contains(&format!("--version {file}")), "{ran:?}");
        assert!(ran.stderr.contains("as --version says"), "{ran:?}");
    }
    assert!(!place.exists("c"));
}

#[test]
fn clips_are_drawn_from_a_converted_model_with_one_warning_about_guidance() {
    let place = place_with_trainers();
    place.json("convert 0.7.0.pt --version 0.7.0 --out c --frames 2 --size 8 --threads 1");
    let rows: Vec<u8> = (0..10).flat_map(|i| (0.3 * i as f32).sin().to_le_bytes()).collect();
    let header = br#"{"embeddings":{"dtype":"F32","shape":[2,5],"data_offsets":[0,40]}}"#;
    let length = (header.len() as u64).to_le_bytes();
    place.write("rows.safetensors", [&length[..], &header[..], &rows[..]].concat());
    let args = "sample c --steps 3 --threads 1 --cond rows.safetensors";
    let ran = place.vd(&format!("{args} --num 2 --cfg-scale 2 --out clips --json"));
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert_eq!(ran.stderr.matches("WARN").count(), 1, "{ran:?}");
    assert!(ran.stderr.contains("its null embedding is untrained"), "{ran:?}");
    let clips = ran.object()["clips"].as_array().unwrap().clone();
    let rows: Vec<_> = clips.iter().map(|clip| number(clip, "row")).collect();
    assert_eq!(rows, [0.0, 0.0, 1.0, 1.0]);
    assert_eq!(gif_shape(&place.path("clips/seed-0-clip-00003.gif")), (2, [8, 8]));
    let ran = place.vd(&format!("{args} --out a.gif"));
    assert!(ran.code == Some(0) && !ran.stderr.contains("WARN"), "{ran:?}");
    let message = place.error("sample c --out a.gif --prompt cat", 1);
    assert!(message.contains("with --cond instead, 5 numbers per row"), "{message}");
}

#[test]
fn files_that_are_no_checkpoint_are_refused() {
    let place = Place::new();
    place.write("text.pt", "not a checkpoint");
    place.write("half.pt", &unpacked("trainer-0.7.0.pt")[..40_000]);
    let cases = [
        ("convert text.pt --version 0.7.0 --out c", "text.pt"),
        ("convert half.pt --version 0.7.0 --out c", "half.pt"),
        ("convert nowhere.pt --version 0.7.0 --out c", "nowhere.pt"),
        ("convert text.pt --version 0.7.0 --out .", "not empty"),
        ("convert text.pt --version 0.7.0 --out c --check text.pt", "--check"),
    ];
    for (args, expected) in cases {
        let message = place.error(args, 1);
        assert!(message.contains(expected), "vd {args}: {message}");
    }
}

/// Sets one weight in the largest tensor of a checkpoint to 3, as if it had been saved with it.
fn change_one_number(archive: &mut [u8]) {
    let u16_at = |b: &[u8], at: usize| usize::from(u16::from_le_bytes([b[at], b[at + 1]]));
    let u32_at =
        |b: &[u8], at: usize| u32::from_le_bytes(b[at..at + 4].try_into().unwrap()) as usize;
    // The zip format: the end record names the directory, whose entries name the files.
    let end = (0..archive.len() - 4).rev().find(|at| archive[*at..].starts_with(b"PK\x05\x06"));
    let (mut entry, mut largest) = (u32_at(archive, end.unwrap() + 16), (0, 0, 0));
    while archive[entry..].starts_with(b"PK\x01\x02") {
        let (size, local) = (u32_at(archive, entry + 20), u32_at(archive, entry + 42));
        let name = u16_at(archive, entry + 28);
        if String::from_utf8_lossy(&archive[entry + 46..entry + 46 + name]).contains("/data/") {
            largest = largest.max((size, entry, local));
        }
        entry += 46 + name + u16_at(archive, entry + 30) + u16_at(archive, entry + 32);
    }
    let (size, entry, local) = largest;
    let data = local + 30 + u16_at(archive, local + 26) + u16_at(archive, local + 28);
    archive[data..data + 4].copy_from_slice(&3f32.to_le_bytes());
    let mut crc = Crc::new();
    crc.update(&archive[data..data + size]);
    archive[entry + 16..entry + 20].copy_from_slice(&crc.sum().to_le_bytes());
    archive[local + 14..local + 18].copy_from_slice(&crc.sum().to_le_bytes());
}
