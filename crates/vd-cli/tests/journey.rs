//! The basic commands: train, sample, inspect, bench.
#![allow(clippy::unwrap_used)]

mod common;

use std::fs;

use common::{Place, gif_shape, number};
use serde_json::json;

#[test]
fn a_run_is_trained_sampled_inspected_and_timed() {
    let place = Place::new();
    let trained = place.json("train config.toml");
    assert_eq!(trained["checkpoint"], "run/checkpoints/step-00000004");
    assert_eq!((&trained["step"], &trained["stopped"]), (&json!(4), &json!(false)));
    assert!(number(&trained, "loss") > 0.0 && number(&trained, "parameters") > 1e4);
    let files = ["config.toml", "model.safetensors", "ema.safetensors", "optimizer.safetensors"];
    for file in files.iter().chain(&["state.json"]) {
        assert!(place.exists(&format!("run/checkpoints/step-00000004/{file}")), "{file}");
    }
    let resolved = fs::read_to_string(place.path("run/config.toml")).unwrap();
    assert!(resolved.contains("cond_dim = 6") && resolved.contains("lr = 0.0002"), "{resolved}");
    let metrics = fs::read_to_string(place.path("run/metrics.jsonl")).unwrap();
    assert_eq!(metrics.lines().count(), 4);

    sampled(&place);
    inspected(&place);
    timed(&place);
}

#[test]
fn a_run_that_learns_its_uncertainty_is_gone_on_with_sampled_and_inspected() {
    let place = Place::new();
    let on = "--set train.uncertainty=8";
    place.json(&format!("train config.toml --set train.steps=2 {on}"));
    let trained = place.json(&format!("train config.toml --resume {on}"));
    assert_eq!((&trained["from_step"], &trained["step"]), (&json!(2), &json!(4)));
    let sample = "sample run --steps 2 --threads 1 --out clip.gif";
    let with = place.json(sample);
    let inspected = place.json("inspect run");
    assert!(number(&inspected["files"], "uncertainty.safetensors") > 0.0);
    assert_eq!(inspected["parameters"], trained["parameters"]);
    let clip = fs::read(place.path("clip.gif")).unwrap();
    fs::remove_file(place.path("clip.gif")).unwrap();
    fs::remove_file(place.path("run/checkpoints/step-00000004/uncertainty.safetensors")).unwrap();
    assert_eq!(place.json(sample)["step"], with["step"]);
    assert_eq!(fs::read(place.path("clip.gif")).unwrap(), clip);
}

fn sampled(place: &Place) {
    let ran = place.vd_of(&[
        "sample",
        "run",
        "--prompt",
        "a three",
        "--prompt",
        "a seven",
        "--num",
        "2",
        "--steps",
        "4",
        "--cfg-scale",
        "2",
        "--out",
        "clips",
        "--threads",
        "1",
        "--seed",
        "5",
        "--json",
    ]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let report = ran.object();
    assert_eq!(report["weights"], "ema");
    assert_eq!(report["size"], json!([8, 8]));
    let clips = report["clips"].as_array().unwrap();
    let prompts: Vec<_> = clips.iter().map(|clip| clip["prompt"].as_str().unwrap()).collect();
    assert_eq!(prompts, ["a three", "a three", "a seven", "a seven"]);
    assert_eq!(clips[2]["file"], "clips/seed-5-clip-00002.gif");
    assert_eq!(gif_shape(&place.path("clips/seed-5-clip-00002.gif")), (2, [8, 8]));
    let caption = fs::read_to_string(place.path("clips/seed-5-clip-00002.txt")).unwrap();
    assert_eq!(caption, "a seven\n");

    // A checkpoint by its path, another shape, other weights, all clips in one picture.
    let report = place.json(
        "sample run/checkpoints/step-00000002 --num 3 --frames 3 --size 8x12 --steps 3 \
         --sampler ddpm --threshold dynamic --weights model --threads 1 --out deep/er/grid.gif",
    );
    assert_eq!((&report["step"], &report["weights"]), (&json!(2), &json!("model")));
    assert_eq!(gif_shape(&place.path("deep/er/grid.gif")), (3, [8 + 2 + 8, 12 + 2 + 12]));
}

fn inspected(place: &Place) {
    let report = place.json("inspect run");
    assert_eq!(report["checkpoint"], "run/checkpoints/step-00000004");
    assert_eq!((&report["kind"], &report["step"]), (&json!("run"), &json!(4)));
    assert_eq!(report["weights"], json!(["ema", "model"]));
    assert_eq!(report["null_embedding"], "trained");
    assert_eq!(report["config"]["model"]["dim_mults"], json!([1, 2]));
    let modules = report["modules"].as_array().unwrap();
    let sum: f64 = modules.iter().map(|module| number(module, "parameters")).sum();
    assert_eq!(sum, number(&report, "parameters"));
    let text = place.vd("inspect run").stdout;
    for part in ["step        4", "weights     ema, model", "mid_block1", "optimizer.safetensors"] {
        assert!(text.contains(part), "{part} is not in\n{text}");
    }
}

fn timed(place: &Place) {
    let keys = [
        "median_ms",
        "min_ms",
        "max_ms",
        "mode",
        "threads",
        "dtype",
        "precision",
        "device",
        "flops",
        "iters",
        "autocast",
        "graphs",
        "recompute",
        "peak_mib",
    ];
    let args = "bench run --batch 2 --frames 3 --size 8x12 --iters 3 --threads 1";
    let forward = place.json(args);
    let train = place.json(&format!("{args} --train --recompute 2"));
    for (report, mode) in [(&forward, "forward"), (&train, "train")] {
        let mut found: Vec<_> = report.as_object().unwrap().keys().map(String::as_str).collect();
        let mut expected = keys;
        found.sort_unstable();
        expected.sort_unstable();
        assert_eq!(found, expected);
        assert_eq!((&report["mode"], &report["iters"]), (&json!(mode), &json!(3)));
        assert_eq!((&report["device"], &report["threads"]), (&json!("cpu"), &json!(1)));
        let [min, median, max] = ["min_ms", "median_ms", "max_ms"].map(|key| number(report, key));
        assert!(0.0 < min && min <= median && median <= max, "{report}");
    }
    assert_eq!(forward["graphs"], json!(false));
    assert_eq!((&forward["recompute"], &train["recompute"]), (&json!(0), &json!(2)));
    assert!(number(&train, "peak_mib") > 10.0);
    assert_eq!(number(&train, "flops"), 3.0 * number(&forward, "flops"));
}

#[test]
fn sampling_depends_on_the_seed_and_on_nothing_else() {
    let place = Place::new();
    place.json("train config.toml --set train.steps=1");
    let draw = |out: &str, seed: u64| {
        place.json(&format!(
            "sample run --num 2 --batch 2 --steps 3 --threads 1 --seed {seed} --out {out}"
        ));
        let clip =
            |k| fs::read(place.path(&format!("{out}/seed-{seed}-clip-0000{k}.gif"))).unwrap();
        [clip(0), clip(1)]
    };
    let first = draw("a", 1);
    assert_eq!(first, draw("b", 1));
    assert_ne!(first[0], first[1]);
    assert_ne!(first, draw("c", 2));
}

#[test]
fn warnings_are_never_hidden_and_logs_stay_off_stdout() {
    let place = Place::new();
    place.json("train config.toml --set train.steps=1 --set text.drop=0");
    let args = "sample run --steps 2 --threads 1 --out a.gif";
    let sampled =
        |level: &str| common::Ran::of(place.command(args).env("VD_LOG", level).output().unwrap());
    let (usual, errors, odd) = (sampled("info"), sampled("error"), sampled("=,="));
    assert!(usual.stderr.contains("INFO drawing 1 clip"), "{usual:?}");
    assert!(!errors.stderr.contains("INFO"), "{errors:?}");
    assert!(odd.stderr.contains("VD_LOG is invalid"), "{odd:?}");
    for ran in [usual, errors, odd] {
        assert!(ran.stderr.contains("WARN") && ran.stderr.contains("text.drop = 0"), "{ran:?}");
        assert!(ran.stdout.starts_with("wrote 1 clip") && !ran.stderr.contains('\u{1b}'));
    }
}
