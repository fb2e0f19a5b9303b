//! Prepared clips: the same training, previews and statistics, and refusals.
#![allow(clippy::unwrap_used)]

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::thread::sleep;
use std::time::Duration;

use common::{CONFIG, Place};
use serde_json::json;

fn with_videos(num: usize, frames: usize, size: usize) -> Place {
    let place = Place::new();
    let flags = format!("--num {num} --frames {frames} --size {size} --out videos");
    place.json(&format!("data synth fireworks {flags}"));
    place
}

fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let paths = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let name = |path: &Path| path.file_name().unwrap().to_string_lossy().into_owned();
    paths.map(|path| (name(&path), fs::read(&path).unwrap())).collect()
}

#[test]
fn training_on_shards_reaches_the_weights_of_training_on_the_videos() {
    let place = with_videos(6, 5, 12);
    let report = place.json("data prepare videos --out shards");
    assert_eq!(
        (&report["clips"], &report["frames"], &report["new"]),
        (&json!(6), &json!(30), &json!(6))
    );
    let mut weights = Vec::new();
    for (kind, path) in [("folder", "videos"), ("shards", "shards")] {
        let source = format!("{{ kind = \"{kind}\", path = \"{path}\" }}");
        place.write("this.toml", CONFIG.replace("{ kind = \"digits\" }", &source));
        place.json(&format!("train this.toml --set train.out=of-{kind}"));
        let step = format!("of-{kind}/checkpoints/step-00000004/ema.safetensors");
        weights.push(fs::read(place.path(&step)).unwrap());
    }
    assert!(weights[0] == weights[1]);
    let inside = ["train", "this.toml", "--set", "train.out=shards/run"];
    assert!(place.error_of(&inside, 2).contains("expected a folder outside"));
    let text = place.vd("data prepare videos --out shards").stdout;
    assert!(text.contains("already up to date, nothing to do (6 clips"), "{text}");
    let message = place.error("data prepare videos --out shards --size 8", 1);
    assert!(message.contains("size") && message.contains("another folder"), "{message}");
}

#[test]
fn a_preparation_that_is_killed_goes_on_to_the_same_bytes() {
    let place = with_videos(24, 24, 48);
    place.json("data prepare videos --out whole --workers 1");
    let expected = files(&place.path("whole"));
    for wait in [10, 60, 150] {
        let mut command = place.command("data prepare videos --out killed --workers 2");
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        sleep(Duration::from_millis(wait));
        child.kill().unwrap();
        child.wait().unwrap();
    }
    place.json("data prepare videos --out killed --workers 2");
    assert!(files(&place.path("killed")) == expected);
    let verified = place.json("data verify killed");
    assert_eq!((&verified["clips"], &verified["damaged"]), (&json!(24), &json!([])));
}

#[test]
fn a_preview_and_numbers_come_from_videos_and_from_shards() {
    let place = with_videos(5, 6, 16);
    fs::write(place.path("videos/bad.gif"), "GIF89a").unwrap();
    place.json("data prepare videos --out shards");
    for source in ["videos", "shards"] {
        let drawn = place.json(&format!("data preview {source} -o {source}.png --num 3"));
        assert_eq!((&drawn["shown"], drawn["clips"].as_u64().unwrap() >= 5), (&json!(3), true));
        let stats = place.json(&format!("data stats {source}"));
        assert_eq!((&stats["clips"], &stats["frames"]), (&json!(5), &json!(30)));
        assert_eq!(stats["sizes"], json!([{ "h": 16, "w": 16, "clips": 5 }]));
        assert_eq!(stats["pixels"]["channels"][0]["name"], "red");
        assert_eq!(stats["bad_files"].as_array().unwrap().len(), 1);
        let text = place.vd(&format!("data stats {source}")).stdout;
        for part in ["5 ", "captions  5 (100 %)", "pixels of 20 frames in 5 clips", "##", "bad.gif"]
        {
            assert!(text.contains(part), "{part} is not in\n{text}");
        }
        let inspected = place.json(&format!("data inspect {source}"));
        assert_eq!((&inspected["clips"], &inspected["captions"]), (&json!(5), &json!(5)));
    }
    assert!(place.error("data preview videos -o a.gif", 2).contains(".png"));
    assert!(place.error("data stats shards --captions folders", 2).contains("omit it"));
    assert!(place.error("data verify videos", 1).contains("index.jsonl"));
    let message = place.error("data prepare videos --out strict --max-bad 0", 1);
    assert!(message.contains("max_bad") && message.contains("bad.gif"), "{message}");
    assert!(place.error("data prepare videos --out videos/in", 1).contains("outside the source"));
    assert!(place.error("data prepare videos --out x --shard-size 3", 2).contains("256M"));
}
