//! `vd plan` reports the cost of a run before it starts, and leaves no files.
#![allow(clippy::unwrap_used)]

mod common;

use common::{Place, number};

#[test]
fn a_plan_has_time_memory_and_the_largest_batch_and_writes_nothing() {
    let place = Place::new();
    // The data of the config are not needed to count the work of a step.
    let plan = place.json("plan config.toml --set train.batch=3 --set train.accumulate=2");
    let parameters = number(&plan, "parameters");
    assert!(parameters > 1000.0);
    assert_eq!(number(&plan, "weight_bytes"), 4.0 * parameters);
    assert_eq!(number(&plan, "optimizer_bytes"), 8.0 * parameters);
    for (way, recompute) in [("plan", 0.0), ("recomputed", 2.0)] {
        let way = &plan[way];
        assert_eq!(number(way, "recompute"), recompute);
        assert!(number(way, "seconds_per_step") > 0.0);
        assert!(number(way, "peak_bytes") > 20.0 * parameters);
        assert!(number(way, "largest_batch") >= 3.0);
        assert_eq!(way["measured"]["batches"].to_string(), "[1,3]");
    }
    assert!(plan["gpus"].as_array().unwrap().is_empty());
    assert!(!place.exists("run"));
}

#[test]
fn a_card_that_is_not_here_is_estimated_and_the_text_says_so() {
    let place = Place::new();
    let ran = place.vd("plan config.toml --set train.recompute=2 --gpu t4 --gpu h200");
    assert_eq!(ran.code, Some(0), "{ran:?}");
    for part in ["estimates, not measured", "h200", "t4", "recomputed (train.recompute = 2)"] {
        assert!(ran.stdout.contains(part), "{part}: {}", ran.stdout);
    }
    assert!(!ran.stdout.contains("activations kept"), "{}", ran.stdout);
}

#[test]
fn what_cannot_run_cannot_be_planned() {
    let place = Place::new();
    let message = place.error("plan config.toml --set data.size=[9,9]", 2);
    assert!(message.contains("data.size"), "{message}");
    assert!(place.error("plan nowhere.toml", 1).contains("nowhere.toml"));
    let message = place.error("plan config.toml --gpu tpu", 2);
    assert!(message.contains("h100"), "{message}");
}

#[test]
fn layers_are_counted_without_a_run_and_their_floors_follow_from_two_rates() {
    let place = Place::new();
    let plan = place.json("plan config.toml --layers --rates 3000,798");
    assert!(number(&plan, "parameters") > 1000.0);
    assert_eq!(number(&plan, "width"), 4.0);
    for way in ["forward", "training"] {
        let floors = &plan["floors"][way];
        let of = |groups: &serde_json::Value, key: &str| -> f64 {
            groups.as_array().unwrap().iter().map(|group| number(group, key)).sum()
        };
        let memory = of(&plan[way], "bytes") / 3e12;
        assert!((number(floors, "memory") / memory - 1.0).abs() < 1e-9);
        let arithmetic = of(&plan[way], "flops") / 798e12;
        assert!((number(floors, "arithmetic") / arithmetic - 1.0).abs() < 1e-9);
        assert!(number(floors, "larger") >= memory.max(arithmetic) * (1.0 - 1e-9));
    }
    let half = place.json("plan config.toml --layers --set train.autocast=bf16");
    assert_eq!(number(&half, "width"), 2.0);
    assert!(half.get("floors").is_none());
    let ran = place.vd("plan config.toml --layers --rates 3000,798");
    for part in ["convolutions", "attention over time", "AdamW and average", "all"] {
        assert!(ran.stdout.contains(part), "{part}: {}", ran.stdout);
    }
    let message = place.error("plan config.toml --layers --rates 3000", 2);
    assert!(message.contains("3000,798"), "{message}");
    assert!(place.error("plan config.toml --rates 3,4", 2).contains("--layers"));
}
