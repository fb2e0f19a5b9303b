//! Requests beyond the machine's limits fail with a message, never with a crash.
#![allow(clippy::unwrap_used)]

mod common;

use common::{Place, Ran};

#[test]
fn memory_that_cannot_be_had_is_an_error_with_a_way_out() {
    let place = Place::new();
    place.json("train config.toml --set train.steps=1");
    let smaller = "use a smaller batch, fewer frames";
    let cases = [
        ("bench run --batch 100000 --frames 65536 --size 16384", smaller),
        ("bench run --batch 1000 --frames 65536 --size 1024", smaller),
        (
            "sample run --out a.gif --batch 100000 --num 100000 --frames 65536 --size 16384",
            "one clip needs at least",
        ),
    ];
    for (args, advice) in cases {
        let message = place.error(args, 1);
        assert!(message.contains(advice), "vd {args}: {message}");
        assert!(!message.contains("frame #") && !message.contains("unwrap"), "{message}");
    }
    assert!(!place.exists("a.gif"));
}

#[test]
fn sizes_beyond_any_network_are_refused_by_their_field() {
    let place = Place::new();
    let cases = [
        ("model.dim=9000000000000000000", "(`model.dim` in TOML): expected"),
        ("model.dim_mults=[9000000000000000000]", "(`model.dim_mults` in TOML): expected"),
        ("model.attn_heads=1000000", "(`model.attn_heads` in TOML): expected"),
        ("text.encoder.width=9000000000000000000", "at most 1048576"),
    ];
    for (set, expected) in cases {
        let message = place.error(&format!("train config.toml --set {set}"), 2);
        assert!(message.contains(expected), "{set}: {message}");
    }
}

/// The command line has the same limits as a config, so that neither accepts what the other
/// refuses.
#[test]
fn frames_beyond_any_config_are_refused_by_their_flag() {
    let place = Place::new();
    place.json("train config.toml --set train.steps=1");
    let message = place.error("train config.toml --set data.frames=65537", 2);
    assert!(message.contains("data.frames") && message.contains("1 to 65536"), "{message}");
    for args in [
        "sample run --out a.gif --frames 65537",
        "bench run --batch 1 --frames 65537 --size 8",
        "data synth fireworks --num 1 --frames 65537 --size 8 --out new",
        "convert model.pt --version 0.7 --out new --frames 65537",
    ] {
        let message = place.error(args, 2);
        assert!(message.contains("65537 is not in 1..=65536"), "vd {args}: {message}");
    }
}

#[test]
fn an_explicit_cpu_wins_over_the_variable_that_requires_cuda() {
    let place = Place::new();
    let mut command = place.command("train config.toml --set train.steps=1 --json");
    let ran = Ran::of(command.env("VD_CUDA", "require").output().unwrap());
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let mut command = place.command("bench run --batch 1 --frames 1 --size 8 --iters 1");
    command.args(["--device", "cpu"]).env("VD_CUDA", "require");
    let ran = Ran::of(command.output().unwrap());
    assert_eq!(ran.code, Some(0), "{ran:?}");
}
