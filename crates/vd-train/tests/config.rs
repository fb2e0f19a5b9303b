//! Configs: what is accepted, what is refused, and the error messages.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::PathBuf;

use vd_train::RunConfig;

const EXAMPLE: &str = r#"[model]
preset = "video-diffusion-pytorch-0.7"
dim = 32
dim_mults = [1, 2, 4]
[diffusion]
schedule = { kind = "cosine-discrete", steps = 1000 }
parameterization = "epsilon"
loss = "l2"
[text]
encoder = { kind = "hashed", width = 64 }
drop = 0.1
[data]
source = { kind = "fireworks" }
frames = 8
size = [32, 32]
stride = 1
[train]
out = "runs/first"
steps = 1000
batch = 8
accumulate = 1
lr = 2e-4
ema = 0.995
checkpoint_every = 200
seed = 0
"#;

fn load(text: &str, overrides: &[&str]) -> Result<RunConfig, String> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("run.toml");
    std::fs::write(&path, text).unwrap();
    let overrides: Vec<_> = overrides.iter().map(|s| (*s).to_owned()).collect();
    RunConfig::load(&path, &overrides).map_err(|e| e.to_string())
}

fn refused(text: &str, overrides: &[&str]) -> String {
    load(text, overrides).unwrap_err()
}

#[test]
fn the_resolved_config_spells_everything_out_and_reads_back_equal() {
    let config = load(EXAMPLE, &[]).unwrap();
    assert_eq!(config.model.cond_dim, Some(64));
    assert_eq!(config.train.betas, [0.9, 0.999]);
    let text = config.to_toml().unwrap();
    for key in [
        "cond_dim",
        "init_dim",
        "out_dim",
        "channels",
        "attn_heads",
        "attn_dim_head",
        "norm",
        "init_kernel_size",
        "use_sparse_linear_attn",
        "skip_before_temporal",
        "times",
        "workers",
        "max_bad_files",
        "crop",
        "flip",
        "short",
        "lr_schedule",
        "warmup",
        "weight_decay",
        "betas",
        "clip",
        "ema_warmup",
        "keep_last",
        "preview_every",
        "preview_count",
        "preview_steps",
        "preview_scale",
        "preview_prompts",
        "focus_present",
        "device",
        "threads",
        "log_every",
    ] {
        assert!(
            text.contains(&format!("\n{key} = ")) || text.contains(&format!(".{key}]")),
            "{key} in {text}"
        );
    }
    assert_eq!(load(&text, &[]).unwrap(), config);
    assert_eq!(load(&text, &[]).unwrap().to_toml().unwrap(), text);
}

/// The config of a run without uncertainty is then the same as before the setting existed.
#[test]
fn an_uncertainty_that_is_off_is_not_written() {
    let off = load(EXAMPLE, &["train.uncertainty=0"]).unwrap();
    assert_eq!(off, load(EXAMPLE, &[]).unwrap());
    assert!(!off.to_toml().unwrap().contains("uncertainty"));
    let on = load(EXAMPLE, &["train.uncertainty=64"]).unwrap();
    assert_eq!(on.train.uncertainty, 64);
    assert_eq!(load(&on.to_toml().unwrap(), &[]).unwrap(), on);
}

#[test]
fn a_network_that_embeds_the_log_snr_needs_a_schedule_that_tells_it() {
    let message = refused(EXAMPLE, &["model.time=log-snr"]);
    assert!(message.contains("model.time") && message.contains("time_input"), "{message}");
    let told = "diffusion.schedule={ kind = \"cosine\", time_input = \"log-snr\" }";
    load(EXAMPLE, &["model.time=log-snr", told]).unwrap();
    let paper = load(EXAMPLE, &["model.preset=paper_bair", "model.dim_mults=[1, 2, 2, 4]", told]);
    assert_eq!(paper.unwrap().model.blocks, 3);
}

#[test]
fn overrides_are_toml_values_or_bare_strings() {
    let config = load(
        EXAMPLE,
        &[
            "train.lr=1e-3",
            "train.out=runs/second",
            "data.size=[16, 24]",
            "text.encoder={ kind = \"hashed\", width = 12 }",
            "train.lr_schedule={ kind = \"cosine\", lr_steps = 500 }",
            "diffusion.times=stratified",
            "train.device=cpu",
            "train.preview_prompts=[\"a red firework\"]",
            " data.source.two_bursts = 0.5",
        ],
    )
    .unwrap();
    assert_eq!(config.train.lr, 1e-3);
    assert_eq!(config.train.out, PathBuf::from("runs/second"));
    assert_eq!(config.data.size, [16, 24]);
    assert_eq!(config.model.cond_dim, Some(12));
    assert_eq!(config.train.lr_schedule.lr_steps(), Some(500));
    // a folder named like a date, and one named like a number, which needs quotes
    let dated = load(EXAMPLE, &["train.out=2026-11-22"]).unwrap();
    assert_eq!(dated.train.out, PathBuf::from("2026-11-22"));
    let quoted = load(EXAMPLE, &["train.out=\"7\""]).unwrap();
    assert_eq!(quoted.train.out, PathBuf::from("7"));
}

#[test]
fn an_override_completes_a_file_that_is_not_complete() {
    let without = EXAMPLE.replace("out = \"runs/first\"\n", "");
    assert!(refused(&without, &[]).starts_with("train.out: expected a folder"));
    assert!(load(&without, &["train.out=x"]).is_ok());
    let unconditional = EXAMPLE.replace("[text]", "[unused]");
    assert!(refused(&unconditional, &[]).contains("unknown field `unused`"));
}

#[test]
fn unknown_keys_are_refused_with_their_line_and_the_known_ones() {
    let cases = [
        ("lr = 2e-4", "lrr = 2e-4", "line 22", "`lr`"),
        ("dim = 32", "dims = 32", "line 3", "`dim`"),
        ("drop = 0.1", "dropp = 0.1", "line 11", "`drop`"),
        ("stride = 1", "strides = 1", "line 16", "`stride`"),
        ("[diffusion]", "[difusion]", "line 5", "`diffusion`"),
        ("loss = \"l2\"", "los = \"l2\"", "line 8", "`loss`"),
        ("\"hashed\", width", "\"hashed\", widths", "line 10", "`width`"),
        ("kind = \"fireworks\"", "kind = \"firework\"", "line 13", "`fireworks`"),
        ("parameterization = \"epsilon\"", "parameterization = \"noise\"", "line 7", "`epsilon`"),
        ("steps = 1000 }", "step = 1000 }", "line 6", "`steps`"),
        ("0.7\"", "0.9\"", "line 2", "video-diffusion-pytorch-0.7"),
        ("seed = 0", "seed = 0\nlr_schedule = \"cosin\"", "line 26", "`cosine`"),
        ("seed = 0", "seed = -1", "line 25", "whole number, 0 or more"),
        ("seed = 0", "seed = 0\ndevice = \"gpu\"", "line 26", "cuda:N"),
        ("batch = 8", "batch = \"8\"", "line 20", "whole number"),
        ("[train]", "[train", "line 17", "expected"),
    ];
    for (from, to, line, expected) in cases {
        let text = EXAMPLE.replacen(from, to, 1);
        assert_ne!(text, EXAMPLE);
        let message = refused(&text, &[]);
        assert!(message.contains("run.toml"), "{message}");
        assert!(message.contains(line) && message.contains(expected), "{to}: {message}");
        // an override elsewhere does not hide the line
        let message = refused(&text, &["train.warmup=3"]);
        assert!(message.contains(line) && message.contains(expected), "{to}: {message}");
    }
}

#[test]
fn a_wrong_override_is_named() {
    let cases = [
        ("train.lrr=3", "unknown field `lrr`"),
        ("train.lr=fast", "expected a number"),
        ("trains.lr=3", "unknown field `trains`"),
        ("train.uncertainty=-1", "expected a whole number, 0 or more"),
        ("train.uncertainty=0.5", "expected a whole number, 0 or more"),
        ("train.uncertainty=true", "expected a whole number, 0 or more"),
        ("train.lr.x=3", "`train.lr` is a value"),
        ("train=3", "expected section.key=value"),
        ("lr=3", "expected section.key=value"),
        ("train.lr", "got no `=`"),
        ("train..lr=3", "expected section.key=value"),
        ("data.source.kind=digits2", "unknown variant `digits2`"),
        ("data.source=videos", "expected a table with its `kind`"),
        ("data.source.path=videos", "set the whole table: --set 'data.source={kind=\"...\", path="),
    ];
    for (text, part) in cases {
        let message = refused(EXAMPLE, &["train.warmup=2", text, "train.seed=4"]);
        assert!(message.starts_with(&format!("--set {text}: ")), "{message}");
        assert!(message.contains(part), "{message}");
    }
    let both = refused(EXAMPLE, &["train.lrr=3", "train.stepz=3"]);
    assert!(both.contains("lrr") || both.contains("stepz"), "{both}");
}

#[test]
fn sections_at_odds_with_each_other_are_refused_by_key() {
    let cases = [
        (vec!["data.size=[30, 32]"], "data.size", "divisible by 4"),
        (vec!["data.channels=1"], "model.channels", "data.channels"),
        (vec!["model.cond_dim=32"], "model.cond_dim", "64"),
        (vec!["model.out_dim=1"], "model.out_dim", "model.channels"),
        (vec!["text.drop=1.5"], "text.drop", "[0, 1)"),
        (vec!["train.focus_present=1.5"], "train.focus_present", "[0, 1]"),
        (vec!["train.focus_present=nan"], "train.focus_present", "[0, 1]"),
        (vec!["train.steps=0"], "train.steps", "at least 1"),
        (vec!["train.keep_last=0"], "train.keep_last", "at least 1"),
        (vec!["train.lr=0"], "train.lr", "above 0"),
        (vec!["train.lr=inf"], "train.lr", "above 0"),
        (vec!["train.betas=[0.9, 1.0]"], "train.betas", "[0, 1)"),
        (vec!["train.ema=1"], "train.ema", "[0, 1)"),
        (vec!["train.out="], "train.out", "got nothing"),
        (vec!["train.batch=65537"], "train.batch", "at most 65536"),
        (vec!["train.accumulate=9000000000000000000"], "train.accumulate", "at most 65536"),
        (vec!["train.preview_count=257"], "train.preview_count", "at most 256"),
        (vec!["train.preview_steps=65537"], "train.preview_steps", "at most 65536"),
        (vec!["train.threads=100000"], "train.threads", "at most 1024"),
        (vec!["train.uncertainty=65537"], "train.uncertainty", "at most 65536"),
        (vec!["train.preview_count=0"], "train.preview_count", "preview_every"),
        (
            vec!["train.warmup=9", "train.lr_schedule={ kind = \"linear\", lr_steps = 9 }"],
            "train.lr_schedule.lr_steps",
            "more than train.warmup = 9",
        ),
        (vec!["text.drop=0", "train.preview_scale=2"], "train.preview_scale", "drop above 0"),
    ];
    for (overrides, key, part) in cases {
        let message = refused(EXAMPLE, &overrides);
        assert!(message.starts_with(&format!("{key}: expected")), "{overrides:?}: {message}");
        assert!(message.contains(part), "{message}");
    }
    let plain: String = {
        let (before, after) = EXAMPLE.split_once("[text]").unwrap();
        format!("{before}[data]{}", after.split_once("[data]").unwrap().1)
    };
    assert!(load(&plain, &[]).unwrap().model.cond_dim.is_none());
    assert!(refused(&plain, &["model.cond_dim=8"]).starts_with("text: expected"));
    let prompts = refused(&plain, &["train.preview_prompts=[\"a\"]"]);
    assert!(prompts.starts_with("train.preview_prompts"), "{prompts}");
}

#[test]
fn a_run_inside_its_own_data_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("videos");
    std::fs::create_dir(&data).unwrap();
    let source = format!("data.source={{ kind = \"folder\", path = {data:?} }}");
    let with = |out: &std::path::Path| load(EXAMPLE, &[&source, &format!("train.out={out:?}")]);
    for inside in [data.clone(), data.join("runs/first"), data.join("../videos/run")] {
        let message = with(&inside).unwrap_err();
        assert!(message.starts_with("train.out: expected a folder outside"), "{message}");
    }
    assert!(with(&dir.path().join("videos-run")).is_ok());
}

#[test]
fn a_missing_config_is_named() {
    let message = RunConfig::load("nowhere/run.toml".as_ref(), &[]).unwrap_err().to_string();
    assert!(message.contains("nowhere/run.toml"), "{message}");
}

#[test]
fn paths_of_the_wrong_kind_are_named_with_what_to_give_instead() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| RunConfig::load(&dir.path().join(name), &[]).unwrap_err().to_string();
    std::fs::write(dir.path().join("film.mp4"), b"\0\0\0\x18ftypisom\xff\xfe").unwrap();
    assert!(at("film.mp4").ends_with("not a TOML config: it is not text"));
    std::fs::create_dir(dir.path().join("run")).unwrap();
    assert!(at("run").ends_with("is a folder; expected a TOML config"));
    std::fs::write(dir.path().join("run/config.toml"), EXAMPLE).unwrap();
    assert!(at("run").contains("is the folder of a run: use"));
    let out = format!("train.out={}", dir.path().join("film.mp4").display());
    assert!(refused(EXAMPLE, &[&out]).contains("film.mp4, which is a file"));
}
