//! What a checkpoint does not support is refused before sampling starts.
#![allow(clippy::unwrap_used)]

mod common;

use common::{CONFIG, Place};

/// A run of one step without a [text] section.
fn unconditional(place: &Place) {
    let text = "[text]\nencoder = { kind = \"hashed\", width = 6 }\ndrop = 0.2\n";
    assert!(CONFIG.contains(text));
    place.write("plain.toml", CONFIG.replace(text, ""));
    place.json("train plain.toml --set train.steps=1 --set train.out=plain");
}

#[test]
fn an_unconditional_model_takes_no_prompts_and_no_guidance() {
    let place = Place::new();
    unconditional(&place);
    let cases = [
        ("--prompt cat", "--prompt: this model is unconditional"),
        ("--cond rows.npy", "--cond: this model is unconditional"),
        ("--cfg-scale 2", "--cfg-scale 2: this model is unconditional"),
    ];
    for (flags, expected) in cases {
        let message = place.error(&format!("sample plain --out a.gif {flags}"), 1);
        assert!(message.contains(expected), "{message}");
    }
    assert!(!place.exists("a.gif"));
    let ran = place.vd("sample plain --out a.gif --steps 2 --threads 1");
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(!ran.stderr.contains("null embedding"), "{ran:?}");
}

#[test]
fn guidance_needs_something_to_guide_towards_and_a_trained_null_embedding() {
    let place = Place::new();
    place.json("train config.toml --set train.steps=1");
    let message = place.error("sample run --out a.gif --cfg-scale 2", 1);
    assert!(message.contains("--prompt or --cond"), "{message}");
    let ran = place.vd("sample run --out a.gif --steps 2 --threads 1");
    assert!(ran.stderr.contains("INFO neither --prompt nor --cond"), "{ran:?}");

    place.json("train config.toml --set train.steps=1 --set text.drop=0 --set train.out=never");
    let message = place.error("sample never --out b.gif --prompt a --cfg-scale 2", 1);
    assert!(message.contains("text.drop = 0 and has never seen it"), "{message}");
    assert!(!place.exists("b.gif"));
    let ran = place.vd("sample never --out b.gif --prompt a --steps 2 --threads 1");
    assert_eq!(ran.code, Some(0), "{ran:?}");
}

#[test]
fn shapes_and_steps_that_do_not_fit_are_refused_by_their_flag() {
    let place = Place::new();
    place.json("train config.toml --set train.steps=1");
    let cases = [
        ("sample run --out a.gif --size 9", "--size 9x9: this network halves frames 1 time"),
        ("sample run --out a.gif --steps 61", "--steps 61: this model's schedule has 60 steps"),
        ("sample run --out a.gif --cond rows.txt", "--cond: rows.txt"),
        ("sample run --out config.toml/a.gif", "config.toml: is a file"),
        ("sample nowhere --out a.gif", "nowhere: there is no such directory"),
        ("sample config.toml --out a.gif", "config.toml: is a file"),
        ("inspect nowhere", "nowhere: there is no such directory"),
        ("bench run --batch 1 --frames 1 --size 9", "both sides must be divisible by 2"),
        ("train config.toml", "resume it with --resume"),
        ("train config.toml --resume --set train.lr=1", "train.lr: 0.0002 in the checkpoint, 1.0"),
    ];
    for (args, expected) in cases {
        let message = place.error(args, 1);
        assert!(message.contains(expected), "vd {args}: {message}");
    }
}

#[test]
fn a_damaged_checkpoint_is_named() {
    let place = Place::new();
    place.json("train config.toml --set train.steps=1");
    let weights = place.path("run/checkpoints/step-00000001/ema.safetensors");
    let bytes = std::fs::read(&weights).unwrap();
    std::fs::write(&weights, &bytes[..bytes.len() - 9]).unwrap();
    let message = place.error("sample run --out a.gif", 1);
    assert!(message.contains("ema.safetensors"), "{message}");
    std::fs::remove_file(&weights).unwrap();
    let message = place.error("sample run/checkpoints/step-00000001 --weights ema --out a.gif", 1);
    assert!(message.contains("no ema weights"), "{message}");
}
