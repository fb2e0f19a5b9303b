//! Help texts are complete, and their examples are valid command lines.
#![allow(clippy::unwrap_used)]

mod common;

use common::Place;

const COMMANDS: [(&str, &[&str]); 19] = [
    ("train", &["CONFIG.toml", "--set <section.key=value>", "--resume"]),
    ("plan", &["CONFIG.toml", "--set <section.key=value>", "--gpu <NAME>", "- h100"]),
    (
        "sample",
        &[
            "<CHECKPOINT>",
            "--num <N>",
            "--frames <F>",
            "--size <H[xW]>",
            "--steps <S>",
            "--sampler",
            "--cfg-scale",
            "--threshold",
            "--weights",
            "--prompt <TEXT>",
            "--prompts <FILE>",
            "--negative <TEXT>",
            "--signal <NAME=VALUE>",
            "--signal-scale <NAME=SCALE>",
            "--cond <FILE>",
            "--seed <K>",
            "-o, --out <FILE.gif|DIR>",
            "--format <FORMATS>",
            "--grid <FILE.gif>",
            "[default: static]",
            "[default: ddim]",
            "[default: uniform-t]",
            "--spacing <NAME|TABLE>",
            "--guidance <NAME|TABLE>",
            "--list",
            "percentile=0.995",
        ],
    ),
    (
        "extend",
        &["<CHECKPOINT>", "<VIDEO>", "--frames <N>", "--plan <NAME|TABLE>", "--format <FORMATS>"],
    ),
    ("interpolate", &["<VIDEO>", "--factor <K>", "--no-replace", "--sampler", "--every <K>"]),
    ("inpaint", &["<VIDEO>", "--mask <FILE>", "--box <Y,X,H,W>", "--window <F>"]),
    ("upscale", &["<VIDEO>", "--time <K>", "--down <HOW>", "- bilinear", "--size <H[xW]>"]),
    (
        "encode",
        &[
            "<PROMPTS.txt>",
            "--encoder <DIR>",
            "--pooling <HOW>",
            "- peer",
            "[default: mean]",
            "--out <FILE.safetensors>",
            "--normalize",
            "--truncate",
            "- bf16",
            "--batch <B>",
            "--device <DEVICE>",
        ],
    ),
    (
        "convert",
        &[
            "<MODEL.pt>",
            "--version <VERSION>",
            "- 0.5.3",
            "- 0.6.3",
            "- 0.7.0",
            "--out <DIR>",
            "--weights",
            "--resnet-groups <N>",
            "[default: 8]",
            "--timesteps <N>",
            "[default: 1000]",
            "--frames <F>",
            "--size <H[xW]>",
            "--check <IO.safetensors>",
            "--tolerance <E>",
            "[default: 1e-5]",
            "null_mask",
        ],
    ),
    ("inspect", &["CHECKPOINT", "--preset <NAME>", "--dim <N>", "--frames <F>", "paper_bair"]),
    (
        "bench",
        &[
            "--batch <B>",
            "--frames <F>",
            "--size <H[xW]>",
            "--train",
            "--recompute <N>",
            "--graphs <WHETHER>",
            "--iters <N>",
            "flops",
            "peak_mib",
        ],
    ),
    ("data", &["synth", "inspect", "prepare", "preview", "stats", "verify"]),
    ("data synth", &["fireworks", "digits", "--num <N>", "--frames <F>", "--size", "--out <DIR>"]),
    ("data inspect", &["<DIR>", "--captions <FROM>"]),
    (
        "data prepare",
        &[
            "<SRC>",
            "--out <DIR>",
            "--captions <FROM>",
            "--size <H[xW]>",
            "--fps <R>",
            "--stride <K>",
            "--max-frames <F>",
            "--channels <C>",
            "--dtype <TYPE>",
            "- f16",
            "--axes <AXES>",
            "--member <NAME>",
            "--invalid <X>",
            "--shard-size <BYTES>",
            "--workers <N>",
            "--max-bad <N>",
            "kind = \"shards\"",
        ],
    ),
    ("data preview", &["<SRC>", "--out <FILE.png>", "--num <N>", "--frames <F>"]),
    ("data stats", &["<SRC>", "--captions <FROM>", "--sample <N>"]),
    ("data verify", &["<DIR>"]),
    ("doctor", &[]),
];

#[test]
fn every_command_explains_its_flags_with_examples() {
    let place = Place::new();
    for (command, flags) in COMMANDS {
        let ran = place.vd(&format!("{command} --help"));
        assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""), "{command}");
        for part in flags.iter().chain(&["--json", "--help", "Usage: vd", "Examples:"]) {
            assert!(ran.stdout.contains(part), "vd {command} --help lacks `{part}`");
        }
        assert!(ran.stdout.contains(&format!("\n  vd {command} ")) || command == "doctor");
        let wide = ran.stdout.lines().find(|line| line.chars().count() > 104);
        assert_eq!(wide, None, "vd {command} --help: wider than a wide terminal");
    }
}

#[test]
fn the_first_help_names_every_command_the_exit_codes_and_the_variables() {
    let place = Place::new();
    let help = place.vd("--help").stdout;
    let commands = COMMANDS.iter().filter(|(name, _)| !name.contains(' '));
    for (command, _) in commands {
        assert!(help.contains(&format!("\n  {command} ")), "{command}");
    }
    for part in
        ["CHECKPOINT", "Exit status: 0 success, 1 failure, 2", "VD_LOG", "VD_CUDA", "VD_ISA"]
    {
        assert!(help.contains(part), "{part}");
    }
    assert_eq!(place.vd("--version").stdout.trim(), concat!("vd ", env!("CARGO_PKG_VERSION")));
    // Without arguments: the help, as an error.
    let bare = place.vd("");
    assert_eq!((bare.code, bare.stdout.as_str()), (Some(2), ""));
    assert!(bare.stderr.contains("Usage: vd"));
}

#[test]
fn the_help_of_train_names_what_a_resume_may_change() {
    let help = Place::new().vd("train --help").stdout;
    for key in [
        "data.workers",
        "steps",
        "checkpoint_every",
        "preview_*",
        "out",
        "graphs",
        "recompute",
        "threads",
    ] {
        assert!(help.contains(key), "{key}: {help}");
    }
}
