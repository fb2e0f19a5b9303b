//! Synthetic clips, folders of videos with a damaged file, and `vd doctor`.
#![allow(clippy::unwrap_used)]

mod common;

use common::{CONFIG, Place, gif_shape, number};
use serde_json::json;

/// Eight fireworks and a damaged file.
fn place_with_videos() -> Place {
    let place = Place::new();
    let report = place.json("data synth fireworks --num 8 --frames 3 --size 8x12 --out videos");
    assert_eq!(report["clips"], 8);
    let whole = std::fs::read(place.path("videos/00000.gif")).unwrap();
    place.write("videos/torn.gif", &whole[..40]);
    place.write("videos/notes.md", "not a video");
    let folder = CONFIG
        .replace("{ kind = \"digits\" }", "{ kind = \"folder\", path = \"videos\" }")
        .replace("[train]", "[train]\nkeep_last = 1");
    place.write("folder.toml", folder);
    place
}

#[test]
fn synthetic_clips_come_with_captions_and_depend_on_the_seed() {
    let place = Place::new();
    let read = |name: &str| std::fs::read(place.path(name)).unwrap();
    place.json("data synth digits --num 2 --frames 3 --size 16 --out a");
    place.json("data synth digits --num 2 --frames 3 --size 16 --out b --seed 0");
    place.json("data synth digits --num 2 --frames 3 --size 16 --out c --seed 1");
    assert_eq!(read("a/00001.gif"), read("b/00001.gif"));
    assert_ne!(read("a/00001.gif"), read("c/00001.gif"));
    assert_eq!(gif_shape(&place.path("a/00001.gif")), (3, [16, 16]));
    assert!(!read("a/00001.txt").is_empty());
    let message = place.error("data synth digits --num 2 --frames 3 --size 16 --out a", 1);
    assert!(message.contains("a: already exists and is not empty"), "{message}");
}

#[test]
fn a_folder_is_described_with_its_damaged_file() {
    let place = place_with_videos();
    let report = place.json("data inspect videos");
    assert_eq!((&report["clips"], &report["captions"]), (&json!(8), &json!(8)));
    assert_eq!(report["sizes"], json!([{ "h": 8, "w": 12, "clips": 8 }]));
    assert_eq!(report["other_files"], json!({ "md": 1 }));
    assert!(report["bad_files"][0]["path"].as_str().unwrap().ends_with("torn.gif"));
    let text = place.vd("data inspect videos").stdout;
    for part in ["8 readable videos", "1 file cannot be read", "torn.gif", "8x12 (8)"] {
        assert!(text.contains(part), "{part} is not in\n{text}");
    }
    std::fs::create_dir(place.path("empty")).unwrap();
    let ran = place.vd("data inspect empty --json");
    assert_eq!((ran.code, number(&ran.object(), "clips")), (Some(1), 0.0));
    assert!(place.error("data inspect nowhere", 1).contains("nowhere"));
}

#[test]
fn training_on_a_folder_names_the_damaged_file_and_goes_on() {
    let place = place_with_videos();
    let ran = place.vd("train folder.toml --json");
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert_eq!(ran.object()["skipped_files"], 1);
    assert!(ran.stderr.contains("WARN") && ran.stderr.contains("torn.gif"), "{ran:?}");
    let message = place.error("train folder.toml --set data.max_bad_files=0 --resume", 1);
    assert!(message.contains("max_bad_files"), "{message}");
    let inside = ["train", "folder.toml", "--set", "train.out=videos/run"];
    let message = place.error_of(&inside, 2);
    assert!(message.contains("train.out: expected a folder outside"), "{message}");
}

#[test]
fn the_doctor_names_machine_libtorch_cuda_and_variables() {
    let place = Place::new();
    let report = place.json("doctor");
    assert!(number(&report["machine"], "cores") >= 1.0);
    assert!(report["libtorch"]["found"].as_str().unwrap().starts_with("2.11.0"), "{report}");
    assert!(report["libtorch"]["path"].is_string() && report["libtorch"]["from"].is_string());
    assert_eq!(report["cuda"]["reason"], "VD_CUDA=off");
    let told = |what: &str| {
        report["cuda"][what].is_null() != report["cuda"][format!("{what}_reason")].is_null()
    };
    assert!(told("driver") && told("nvrtc") && report["libtorch"]["cuda"].is_boolean(), "{report}");
    let graphs = (&report["cuda"]["graphs"], report["cuda"]["graphs_reason"].is_string());
    assert_eq!(graphs, (&json!(false), true));
    assert_eq!(report["variables"]["VD_CUDA"], "off");
    assert_eq!(report["problems"], json!([]));
    let doctor = |name: &str, value: &str| {
        common::Ran::of(place.command("doctor --json").env(name, value).output().unwrap())
    };
    let wrong = doctor("VD_CUDA", "perhaps");
    assert_eq!(wrong.code, Some(1), "{wrong:?}");
    let problems = wrong.object()["problems"].to_string();
    assert!(problems.contains("expected auto, off or require"), "{problems}");
    let wrong = doctor("VD_ISA", "mmx");
    assert_eq!(wrong.code, Some(1), "{wrong:?}");
    let problems = wrong.object()["problems"].to_string();
    assert!(problems.contains("VD_ISA") && problems.contains("portable"), "{problems}");
    let plain = doctor("VD_ISA", "portable");
    assert_eq!(plain.object()["machine"]["instructions"], "portable", "{plain:?}");
    let typo = doctor("VD_LOGS", "debug");
    assert_eq!(typo.code, Some(0), "{typo:?}");
    assert!(typo.object()["problems"].to_string().contains("VD_LOGS is set"), "{typo:?}");
}
