//! Prompts with several parts, negative prompts, files of prompts.
#![allow(clippy::unwrap_used)]

mod common;

use std::fs;

use common::{Place, gif_shape};
use serde_json::{Value, json};

/// A run of one step.
fn trained(set: &str) -> Place {
    let place = Place::new();
    place.json(&format!("train config.toml --set train.steps=1 {set}"));
    place
}

/// `vd sample run` in 2 steps, one clip at a time.
fn sample(place: &Place, flags: &[&str]) -> Value {
    let usual = ["sample", "run", "--steps", "2", "--threads", "1", "--batch", "1", "--json"];
    let ran = place.vd_of(&[&usual, flags].concat());
    assert_eq!(ran.code, Some(0), "{flags:?}: {ran:?}");
    ran.object()
}

fn refused(place: &Place, flags: &[&str], code: i32) -> String {
    place.error_of(&[&["sample", "run", "--steps", "2", "--threads", "1"], flags].concat(), code)
}

fn bytes(place: &Place, name: &str) -> Vec<u8> {
    fs::read(place.path(name)).unwrap()
}

#[test]
fn prompts_are_weighed_go_on_to_another_and_are_pulled_away_from_a_third() {
    let place = trained("");
    let draw = |out: &str, flags: &[&str]| {
        sample(&place, &[&["--out", out, "--cfg-scale", "4"], flags].concat());
        bytes(&place, out)
    };
    let plain = draw("a.gif", &["--prompt", "a three"]);
    assert_eq!(plain, draw("b.gif", &["--prompt", "a three :: 3.5"]));
    assert_eq!(
        draw("c.gif", &["--prompt", "a | b"]),
        draw("d.gif", &["--prompt", "a :: 2 | b :: 2"])
    );
    assert_ne!(plain, draw("e.gif", &["--prompt", "a three | a seven"]));
    assert_ne!(plain, draw("f.gif", &["--prompt", "a three -> a seven"]));
    assert_ne!(plain, draw("g.gif", &["--prompt", "a three", "--negative", "a seven"]));
    let report = sample(&place, &["--prompt", r"a \| b -> c :: 2", "--out", "clips"]);
    assert_eq!(report["clips"][0]["prompt"], r"a \| b -> c");
    let caption = fs::read_to_string(place.path("clips/seed-0-clip-00000.txt")).unwrap();
    assert_eq!(caption, "a \\| b -> c\n");
}

#[test]
fn a_negative_prompt_needs_no_null_embedding_but_something_to_pull() {
    let place = trained("--set text.drop=0");
    let guided = ["--prompt", "a three", "--cfg-scale", "3", "--out", "a.gif"];
    let message = refused(&place, &guided, 1);
    assert!(message.contains("text.drop = 0") && message.contains("--negative"), "{message}");
    sample(&place, &[&guided[..], &["--negative", "a seven | a two"]].concat());
    assert_eq!(gif_shape(&place.path("a.gif")), (2, [8, 8]));
    let alone = ["--cfg-scale", "3", "--out", "b.gif", "--negative", "a"];
    assert!(refused(&place, &alone, 1).contains("--negative: requires --prompt"));
}

#[test]
fn a_text_file_is_its_lines_as_prompts() {
    let place = trained("");
    place.write("prompts.txt", "a three\n\n  a seven \na :: 2 | b -> c\n");
    let report = sample(&place, &["--prompts", "prompts.txt", "--num", "2", "--out", "file"]);
    let flags = ["--prompt", "a three", "--prompt", "  a seven ", "--prompt", "a :: 2 | b -> c"];
    sample(&place, &[&flags[..], &["--num", "2", "--out", "flags"]].concat());
    let clips = report["clips"].as_array().unwrap();
    let prompts: Vec<_> = clips.iter().map(|clip| clip["prompt"].as_str().unwrap()).collect();
    let [three, seven, both] = ["a three", "  a seven ", "a :: 2 | b -> c"];
    assert_eq!(prompts, [three, three, seven, seven, both, both]);
    for clip in 0..6 {
        let name = format!("seed-0-clip-0000{clip}.gif");
        let [file, flags] = ["file", "flags"].map(|dir| bytes(&place, &format!("{dir}/{name}")));
        assert_eq!(file, flags, "{clip}");
    }
}

#[test]
fn json_lines_have_seeds_frames_and_scales_of_their_own() {
    let place = trained("");
    let lines = [
        r#"{"prompt": "a three", "frames": 3}"#,
        r#"{"prompt": "a seven", "seed": 9, "scale": 3, "negative": "a two", "note": "x"}"#,
        r#"{"parts": [{"prompt": "a | b", "weight": 2}, {"prompt": "c"}], "until": "d"}"#,
    ];
    place.write("prompts.jsonl", lines.join("\n"));
    let report = sample(&place, &["--prompts", "prompts.jsonl", "--out", "file"]);
    let clips = report["clips"].as_array().unwrap();
    assert_eq!(clips[0]["frames"], 3);
    assert_eq!((&clips[1]["seed"], &clips[1]["cfg_scale"]), (&json!(9), &json!(3.0)));
    assert_eq!(clips[2]["prompt"], r"a \| b :: 2 | c -> d");
    assert_eq!(gif_shape(&place.path("file/seed-0-clip-00000.gif")), (3, [8, 8]));
    // A clip with its own seed equals a first clip of that seed, wherever its line is.
    let flags = ["--prompt", "a seven", "--negative", "a two", "--cfg-scale", "3", "--seed", "9"];
    sample(&place, &[&flags[..], &["--out", "alone"]].concat());
    let file = bytes(&place, "file/seed-9-clip-00001.gif");
    assert_eq!(file, bytes(&place, "alone/seed-9-clip-00000.gif"));
    // The others are numbered regardless of such lines.
    let flags = ["--prompt", "x", "--prompt", "y", "--prompt", r"a \| b :: 2 | c -> d"];
    sample(&place, &[&flags[..], &["--out", "counted"]].concat());
    let name = "seed-0-clip-00002.gif";
    assert_eq!(bytes(&place, &format!("file/{name}")), bytes(&place, &format!("counted/{name}")));

    let message = refused(&place, &["--prompts", "prompts.jsonl", "--out", "a.gif"], 2);
    assert!(message.contains("3 and of 2 frames") && message.contains("a folder"), "{message}");
}

#[test]
fn lines_that_cannot_be_drawn_are_told_with_file_and_number() {
    let place = trained("");
    let cases = [
        ("{\"prompt\": 3}", "line 2: prompt: expected text, got 3"),
        ("{\"prompt\": \"a\", \"seeds\": 3}", "line 2: line: expected the keys prompt"),
        ("{\"prompt\": \"a\", \"scale\": 5000}", "line 2: scale: expected a number from 0 to 1000"),
        ("{\"prompt\": \"a\", \"frames\": 65537}", "line 2: frames: expected at most 65536"),
        ("{\"prompt\": \"a\", \"signals\": {\"wind\": 1}}", "signals.wind: this model takes no"),
    ];
    for (line, expected) in cases {
        place.write("bad.jsonl", format!("{{\"prompt\": \"a\"}}\n{line}\n"));
        let message = refused(&place, &["--prompts", "bad.jsonl", "--out", "a.gif"], 1);
        assert!(message.contains(expected) && message.contains("bad.jsonl"), "{line}: {message}");
    }
    assert!(!place.exists("a.gif"));
    for (flags, expected) in [
        (["--prompts", "nowhere.txt"], "--prompts: nowhere.txt: No such file"),
        (["--prompts", "config.toml"], "NAME.txt or NAME.jsonl"),
        (["--signal", "wind=1"], "--signal wind=1: this model takes no signals"),
    ] {
        let message = refused(&place, &[&flags[..], &["--out", "a.gif"]].concat(), 1);
        assert!(message.contains(expected), "{message}");
    }
}

#[test]
fn a_dynamic_threshold_has_a_percentile_of_choice() {
    let place = trained("");
    let draw = |threshold: &str| {
        let report = sample(&place, &["--threshold", threshold, "--out", "a.gif"]);
        assert_eq!(report["threshold"], "dynamic");
        (report["settings"]["threshold"].clone(), bytes(&place, "a.gif"))
    };
    let (usual, half) = (draw("dynamic"), draw("{kind=\"dynamic\", percentile=0.5}"));
    assert_eq!(usual.0, json!({ "kind": "dynamic", "percentile": 0.9 }));
    assert_eq!(half.0["percentile"], 0.5);
    assert_ne!(usual.1, half.1);
}
