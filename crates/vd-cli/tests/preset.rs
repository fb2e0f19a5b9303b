//! `vd inspect` describes a preset without building it.
#![allow(clippy::unwrap_used)]

mod common;

use common::Place;
use serde_json::json;

#[test]
fn a_preset_is_inspected_without_its_memory() {
    let place = Place::new();
    let report = place.json("inspect --preset paper_text_large_9x128");
    assert_eq!(report["preset"], "paper_text_large_9x128");
    assert_eq!(report["config"]["dim_mults"], json!([1, 2, 4, 8, 16]));
    assert_eq!((&report["frames"], &report["size"]), (&json!(9), &json!([128, 128])));
    let parameters = report["parameters"].as_u64().unwrap();
    let memory = &report["memory"];
    assert_eq!(memory["weights"].as_u64(), Some(4 * parameters));
    assert_eq!(memory["all"].as_u64(), Some(20 * parameters));
    let flops = |part: &str| report["flops"][part].as_u64().unwrap();
    assert_eq!(flops("training"), 3 * flops("forward"));
    let text = place.vd("inspect --preset paper_ucf101").stdout;
    for part in [
        "1 clip of 16 frames of 64x64",
        "parameters",
        "skips = \"block\"",
        "T forward",
        "[model]",
        "[model.norm]",
    ] {
        assert!(text.contains(part), "{part} is not in\n{text}");
    }
}

#[test]
fn a_preset_is_scaled_and_asked_for_other_clips() {
    let place = Place::new();
    let one = "inspect --preset paper_bair --dim 16 --frames 4 --size 16x24";
    let (one, three) = (place.json(one), place.json(&format!("{one} --batch 3")));
    assert_eq!(one["config"]["dim"], 16);
    assert_eq!(three["parameters"], one["parameters"]);
    let flops = |report: &serde_json::Value| report["flops"]["forward"].as_u64().unwrap();
    assert_eq!(flops(&three), 3 * flops(&one));
    for (args, part) in [
        ("inspect", "CHECKPOINT"),
        ("inspect run --preset paper_bair", "--preset"),
        ("inspect --preset paper", "paper_bair"),
        ("inspect run --dim 8", "--preset"),
    ] {
        let message = place.error(args, 2);
        assert!(message.contains(part), "{args}: {message}");
    }
    let message = place.error("inspect --preset paper_bair --size 20", 1);
    assert!(message.contains("divisible by 8"), "{message}");
}
