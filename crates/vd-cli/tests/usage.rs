//! An invalid command line exits with code 2 and reports what is expected.
#![allow(clippy::unwrap_used)]

mod common;

use common::Place;

#[test]
fn without_json_a_failure_leaves_stdout_empty() {
    let place = Place::new();
    for (args, code) in [("sample run --out a.gif --steps 0", 2), ("inspect run", 1), ("", 2)] {
        let ran = place.vd(args);
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(code), ""), "vd {args}");
        assert!(!ran.stderr.is_empty());
    }
}

#[test]
fn numbers_out_of_range_are_usage_errors() {
    let place = Place::new();
    let sample = "sample run --out a.gif";
    let synth = "data synth digits --num 1 --frames 1 --size 8 --out d";
    let bench = "bench run --batch 1 --frames 2 --size 8";
    let convert = "convert m.pt --version 0.7.0 --out c";
    let cases = [
        (format!("{sample} --steps 0"), "1..="),
        (format!("{sample} --num 0"), "1..="),
        (format!("{sample} --num -1"), "--num"),
        (format!("{sample} --frames 0"), "1..="),
        (format!("{sample} --frames two"), "--frames"),
        (format!("{sample} --size 0"), "24x40"),
        (format!("{sample} --size 24x"), "24x40"),
        (format!("{sample} --size 24x40x3"), "24x40"),
        (format!("{sample} --cfg-scale -2"), "a number from 0"),
        (format!("{sample} --cfg-scale nan"), "a number from 0"),
        (format!("{sample} --seed -1"), "--seed"),
        (format!("{sample} --batch 0"), "1..="),
        (format!("{sample} --threads 0"), "1..="),
        (format!("{sample} --fps 0"), "a number above 0"),
        (format!("{synth} --num 0"), "cannot be used multiple times"),
        ("data synth digits --num 0 --frames 1 --size 8 --out d".to_owned(), "1..="),
        ("data synth digits --num 1 --frames 0 --size 8 --out d".to_owned(), "1..="),
        (format!("{bench} --iters 0"), "1..="),
        (format!("{bench} --recompute 1"), "--train"),
        (format!("{convert} --tolerance 0"), "a number above 0"),
        (format!("{convert} --timesteps 0"), "1..="),
        (format!("{convert} --resnet-groups 0"), "1..="),
    ];
    for (args, expected) in cases {
        let message = place.error(&args, 2);
        assert!(message.contains(expected), "vd {args}: {message}");
    }
}

#[test]
fn unknown_words_are_usage_errors_that_name_the_known_ones() {
    let place = Place::new();
    let cases = [
        ("frobnicate", "unrecognized subcommand"),
        ("smaple run --out a.gif", "sample"),
        ("sample run --out a.gif --sampler hein", "ddpm-large, ddim, euler"),
        ("sample run --out a.gif --spacing even", "uniform-t, uniform-log-snr"),
        ("sample run --out a.gif --guidance much", "classifier-free, cfg-zero-star, apg"),
        ("sample run --out a.gif --threshold on", "static, dynamic, none"),
        ("sample run --out a.gif --weights best", "ema, model"),
        ("sample run --out a.gif --device gpu", "cuda:N"),
        ("sample run --out a.gif --prompt a --cond b.npy", "cannot be used with"),
        ("sample run --out a.gif --prompt a --prompts b.txt", "cannot be used with"),
        ("sample run --out a.gif --prompt | --num 1", "expected words between the marks"),
        ("sample run --out a.gif --prompt a --negative b", "--negative: has no effect"),
        ("sample run --out a.gif --signal rain", "weather=rain"),
        (
            "sample run --out a.gif --signal a=1 --signal a=2",
            "--signal a=...: given more than once",
        ),
        ("sample run --out a.gif --signal-scale a=2", "no --signal a=VALUE"),
        ("sample run --out a.gif --signal a=1 --signal-scale a=-2", "a number from 0"),
        ("sample run --out a.mov", "give FILE.gif, .webp, .mp4"),
        ("sample run --out a --format gif,mov", "gif, webp, mp4, png, npy, safetensors"),
        ("sample run --out a.gif --format webp", "its extension matches none of --format"),
        ("sample run --out a --grid all.npy", "--grid all.npy: expected FILE.gif, .webp or .mp4"),
        ("convert m.pt --version 0.8.0 --out c", "0.5.3, 0.6.3, 0.7.0"),
        ("data synth fire --num 1 --frames 1 --size 8 --out d", "fireworks"),
    ];
    for (args, expected) in cases {
        let message = place.error(args, 2);
        assert!(message.contains(expected), "vd {args}: {message}");
    }
}

#[test]
fn what_is_missing_is_named() {
    let place = Place::new();
    let cases = [
        ("train", "<CONFIG.toml>"),
        ("sample run", "--out <FILE.gif|DIR>"),
        ("sample --out a.gif", "<CHECKPOINT>"),
        ("bench run --batch 1 --frames 2", "--size <H[xW]>"),
        ("data synth digits --num 1", "--out <DIR>"),
        ("convert m.pt --out c", "--version <VERSION>"),
        ("convert m.pt --out c", "files of 0.5 and 0.6 cannot be told apart"),
    ];
    for (args, expected) in cases {
        let message = place.error(args, 2);
        assert!(message.contains(expected), "vd {args}: {message}");
    }
}

#[test]
fn a_bad_setting_is_the_command_lines_fault_and_a_bad_config_is_not() {
    let place = Place::new();
    let settings = [
        ("train.steps", "section.key=value"),
        ("steps=3", "section.key=value"),
        ("train.stepz=3", "unknown field `stepz`"),
        ("train.steps=many", "train.steps=many"),
        ("train.steps=0", "train.steps: expected at least 1, got 0"),
        ("data.size=[7,8]", "divisible by 2"),
        ("data.source.kind=films", "folder"),
    ];
    for (setting, expected) in settings {
        let message = place.error_of(&["train", "config.toml", "--set", setting], 2);
        assert!(message.contains(expected), "--set {setting}: {message}");
    }
    place.write("bad.toml", common::CONFIG.replace("steps = 4", "stepz = 4"));
    let message = place.error("train bad.toml", 1);
    assert!(message.contains("bad.toml") && message.contains("line 21"), "{message}");
    assert!(message.contains("expected one of `out`, `steps`"), "{message}");
    assert!(place.error("train nowhere.toml", 1).contains("nowhere.toml: No such file"));
    assert!(!place.exists("run"));
}
