//! Conditioning signals of a model on the command line, and their refusals.
#![allow(clippy::unwrap_used)]

mod common;

use std::fs;

use common::{CONFIG, Place};
use serde_json::json;

/// Digits from a folder, with a class that training sometimes drops and a number that it never
/// drops; with or without captions.
fn trained(text: bool, signals: &str) -> Place {
    let place = Place::new();
    place.json("data synth digits --num 3 --frames 2 --size 8 --out digits");
    let mut names: Vec<_> = fs::read_dir(place.path("digits"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.ends_with(".gif"))
        .collect();
    names.sort();
    let rows = names.iter().zip(["7,1.5", "2,2.5", "7,4"]);
    let rows: String = rows.map(|(name, row)| format!("{name},{name},{row}\n")).collect();
    place.write("digits/digits.csv", format!("file,caption,digit,wind\n{rows}"));
    let source = "{ kind = \"folder\", path = \"digits\", captions = { table = \"digits.csv\" } }";
    let mut config = CONFIG.replace("{ kind = \"digits\" }", source);
    if !text {
        let (before, rest) = config.split_once("[text]").unwrap();
        config = format!("{before}[data]{}", rest.split_once("[data]").unwrap().1);
    }
    place.write("config.toml", format!("{config}{signals}"));
    place.json("train config.toml --set train.steps=1");
    place
}

const SIGNALS: &str = "
[model.signals]
digit = { kind = \"class\" }
wind = { kind = \"scalar\", mean = 2.5, std = 1.0 }
[signals]
digit = { from = { kind = \"column\", name = \"digit\" }, drop = 0.2 }
wind = { from = { kind = \"column\", name = \"wind\" }, drop = 0 }
";

const DRAW: &str = "sample run --steps 2 --threads 1 --out a.gif";

#[test]
fn flags_that_would_do_nothing_are_refused_once_the_file_is_known() {
    let place = trained(true, SIGNALS);
    place.write("told.jsonl", "{\"signals\": {\"digit\": 7}}\n");
    place.write("texts.jsonl", "{\"prompt\": \"a\", \"scale\": 1}\n");
    place.write("negative.jsonl", "{\"prompt\": \"a\", \"negative\": \"b\"}\n");
    place.write("scaled.jsonl", "{\"signals\": {\"digit\": {\"value\": 7, \"scale\": 2}}}\n");
    let nothing = "neither --signal nor a line of --prompts gives wind";
    for (flags, code, expected) in [
        ("--prompts told.jsonl --signal-scale wind=2", 2, nothing),
        ("--prompts told.jsonl --cfg-scale 2", 1, "no line of --prompts has a text"),
        ("--prompts told.jsonl --guidance apg", 2, "no prompt or signal has a scale"),
        ("--prompts texts.jsonl --cfg-scale 2 --guidance apg", 2, "no prompt or signal"),
        ("--prompts negative.jsonl", 1, "line 1: negative: has no effect"),
        ("--prompts told.jsonl --signal wind=2 --signal-scale wind=2", 1, "never dropped it"),
    ] {
        let message = place.error(&format!("{DRAW} {flags}"), code);
        assert!(message.contains(expected), "{flags}: {message}");
    }
    for flags in [
        "--prompts told.jsonl --signal-scale digit=2 --guidance apg",
        "--prompts scaled.jsonl --guidance apg",
        "--prompts negative.jsonl --cfg-scale 2",
        "--prompts told.jsonl --signal wind=2",
    ] {
        place.json(&format!("{DRAW} {flags}"));
    }
}

#[test]
fn what_is_left_out_is_doubtful_where_training_never_left_it_out() {
    let place = trained(true, SIGNALS);
    let said = |flags: &str| place.vd(&format!("{DRAW} --prompt a {flags}")).stderr;
    let none = said("");
    let wind =
        "no --signal wind=VALUE: sampling without this condition, but training never dropped it";
    assert!(none.contains(wind), "{none}");
    assert!(
        none.contains("no --signal digit=VALUE: sampling without this condition, from all"),
        "{none}"
    );
    let both = said("--signal digit=2 --signal wind=3");
    assert!(!both.contains("stand-in"), "{both}");
}

#[test]
fn a_model_of_signals_alone_points_to_them() {
    let place = trained(false, SIGNALS);
    for flags in ["--cfg-scale 2", "--prompt a", "--cond rows.npy"] {
        let message = place.error(&format!("{DRAW} {flags}"), 1);
        assert!(message.contains("on signals only (digit, wind)"), "{message}");
        assert!(message.contains("--signal-scale digit=2"), "{message}");
        assert!(!message.contains("unconditional"), "{message}");
    }
    let text = place.vd("inspect run").stdout;
    assert!(text.contains("--signal digit=VALUE") && !text.contains("unconditional"), "{text}");
}

#[test]
fn a_guide_is_told_what_the_model_is_told_in_the_same_terms() {
    let place = trained(true, SIGNALS);
    let train = "train config.toml --set train.steps=1";
    place.json(&format!("{train} --set train.out=same"));
    place.json(&format!("{train} --set train.out=words --set text.encoder.width=5"));
    place.json(&format!("{train} --set train.out=winds --set model.signals.wind.std=2"));
    let draw = format!("{DRAW} --prompt a");
    place.json(&format!("{draw} --guide same"));
    for (guide, expected) in [("words", "text.encoder"), ("winds", "its signal `wind`")] {
        let message = place.error(&format!("{draw} --guide {guide}"), 1);
        assert!(message.contains(expected) && message.contains("--guide"), "{message}");
    }
}

#[test]
fn the_report_has_what_each_clip_was_told_and_pulled_away_from() {
    let place = trained(true, SIGNALS);
    let lines = [
        r#"{"prompt": "a", "negative": "b | c :: 2", "signals": {"digit": {"value": 7, "scale": 3}}}"#,
        r#"{"prompt": "d", "signals": {"wind": [1.5, 2]}}"#,
        r#"{"signals": {"digit": "2"}}"#,
    ];
    place.write("lines.jsonl", lines.join("\n"));
    let flags = "--prompts lines.jsonl --negative e --cfg-scale 2 --signal wind=1";
    let report = place.json(&format!("{DRAW} {flags}"));
    let told =
        |name: &str, value, scale: f64| json!({"name": name, "value": value, "scale": scale});
    let wind = told("wind", json!("1"), 1.0);
    let [first, second, third] = [0, 1, 2].map(|clip| &report["clips"][clip]);
    assert_eq!((&first["prompt"], &first["negative"]), (&json!("a"), &json!("b | c :: 2")));
    assert_eq!(first["signals"], json!([wind, told("digit", json!(7.0), 3.0)]));
    assert_eq!(second["negative"], "e");
    assert_eq!(second["signals"], json!([told("wind", json!([1.5, 2.0]), 1.0)]));
    assert_eq!(third["signals"], json!([wind, told("digit", json!("2"), 1.0)]));
    assert!(third.get("prompt").is_none() && third.get("negative").is_none(), "{third}");
    let plain = place.json(DRAW);
    assert!(plain["clips"][0].get("signals").is_none(), "{plain}");
    let long = "extend run a.gif --frames 3 --window 2 --steps 2 --threads 1 --out b.gif";
    let report =
        place.json(&format!("{long} --prompt a --negative b --cfg-scale 2 --signal digit=2"));
    assert_eq!((&report["prompt"], &report["negative"]), (&json!("a"), &json!("b")));
    assert_eq!(report["signals"], json!([told("digit", json!("2"), 1.0)]));
}
