//! Everything that --list names can be used for sampling.
#![allow(clippy::unwrap_used)]

mod common;

use common::Place;
use serde_json::{Value, json};

fn names(list: &Value, key: &str) -> Vec<String> {
    let rows = list[key].as_array().unwrap();
    rows.iter().map(|row| row["name"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn the_list_needs_no_checkpoint_and_says_what_each_sampler_is() {
    let place = Place::new();
    let list = place.json("sample --list");
    let keys: Vec<_> = list.as_object().unwrap().keys().cloned().collect();
    assert_eq!(keys, ["guidances", "samplers", "spacings"]);
    let expected = "ancestral ddpm-small ddpm-large ddim euler euler-ancestral heun dpm2 lms \
         dpmpp-2s-ancestral dpmpp-2m dpmpp-2m-sde dpmpp-3m-sde unipc-2 unipc-3 pndm ipndm deis \
         lcm restart langevin";
    let mut expected: Vec<_> = expected.split(' ').collect();
    let mut samplers = names(&list, "samplers");
    samplers.sort_unstable();
    expected.sort_unstable();
    assert_eq!(samplers, expected);
    for row in list["samplers"].as_array().unwrap() {
        let mut keys: Vec<_> = row.as_object().unwrap().keys().map(String::as_str).collect();
        keys.sort_unstable();
        let all = [
            "deterministic",
            "diffusers",
            "k_diffusion",
            "name",
            "nfe",
            "order",
            "paper",
            "settings",
        ];
        assert_eq!(keys, all);
        assert!(row["paper"].as_str().unwrap().contains("arXiv:"), "{row}");
    }
    let text = place.vd("sample --list").stdout;
    for name in samplers.iter().chain(&names(&list, "spacings")).chain(&names(&list, "guidances")) {
        assert!(text.contains(&format!("\n  {name}")), "{name} is not in\n{text}");
    }
    let message = place.error("sample run --list", 2);
    assert!(message.contains("cannot be used with"), "{message}");
}

#[test]
fn the_settings_that_are_listed_are_all_that_a_table_takes() {
    let place = Place::new();
    let list = place.json("sample --list");
    let text = place.vd("sample --list").stdout;
    assert!(text.contains("{kind=\"explicit\", t="), "{text}");
    let mut settings = 0;
    for key in ["sampler", "spacing", "guidance"] {
        for row in list[&format!("{key}s")].as_array().unwrap() {
            let (name, listed) = (&row["name"], row["settings"].as_object().unwrap());
            // An unknown setting is answered with all known ones.
            let table = format!("{{kind={name},nothing=1}}");
            let message = place.error(&format!("sample run --out a.gif --{key} {table}"), 2);
            let told: Vec<_> = match message.split_once("expected") {
                Some((_, told)) => {
                    told.lines().next().unwrap().split('`').skip(1).step_by(2).collect()
                }
                None => panic!("{message}"),
            };
            let mut told: Vec<_> = told.into_iter().filter(|key| *key != "kind").collect();
            told.sort_unstable();
            let mut keys: Vec<_> = listed.keys().map(String::as_str).collect();
            keys.sort_unstable();
            assert_eq!(keys, told, "{name}: {message}");
            assert!(keys.iter().all(|key| text.contains(&format!("{key}="))), "{name}: {text}");
            settings += keys.len();
        }
    }
    assert!(settings > 20, "{settings}");
}

#[test]
fn every_listed_name_draws_with_its_defaults() {
    let place = Place::new();
    place.json("train config.toml --set train.steps=1");
    let list = place.json("sample --list");
    let draw = "sample run --frames 1 --threads 1 --out a.gif";
    for name in names(&list, "samplers") {
        let report = place.json(&format!("{draw} --steps 2 --sampler {name}"));
        assert_eq!(report["sampler"], json!(name));
    }
    for name in names(&list, "spacings") {
        let report = place.json(&format!("{draw} --steps 2 --spacing {name}"));
        assert_eq!(report["spacing"], json!(name));
    }
    for name in names(&list, "guidances") {
        let args = "--steps 2 --prompt three --cfg-scale 3";
        let report = place.json(&format!("{draw} {args} --guidance {name}"));
        assert_eq!(report["guidance"], json!(name));
    }
}

#[test]
fn settings_are_given_as_a_table_and_reported() {
    let place = Place::new();
    place.json("train config.toml --set train.steps=1");
    let draw = "sample run --frames 1 --threads 1 --out a.gif";
    let report = place.json(&format!(
        "{draw} --steps 3 --sampler {{kind=\"ddim\",eta=0.5}} --spacing {{kind=\"karras\",rho=5}}"
    ));
    assert_eq!(report["settings"]["sampler"], json!({"kind": "ddim", "eta": 0.5}));
    assert_eq!(report["settings"]["spacing"], json!({"kind": "karras", "rho": 5.0}));
    // The whole schedule if the sampler requires it; ddpm is an older name of ddpm-small.
    let report = place.json(&format!("{draw} --sampler ddpm"));
    assert_eq!((&report["sampler"], &report["steps"]), (&json!("ddpm-small"), &json!(60)));
    let report = place.json(&format!("{draw} --spacing {{kind=\"explicit\",t=[1,0.5,0]}}"));
    assert_eq!(report["steps"], json!(2));
    let message = place.error(&format!("{draw} --sampler {{kind=\"ddim\",eta=2}}"), 2);
    assert!(message.contains("eta"), "{message}");
}

#[test]
fn a_worse_checkpoint_guides_away_from_itself() {
    let place = Place::new();
    place.json("train config.toml --set train.steps=2 --set train.checkpoint_every=1");
    let draw = "sample run --steps 3 --threads 1";
    let bytes = |name: &str| std::fs::read(place.path(name)).unwrap();
    place.json(&format!("{draw} --out plain.gif"));
    let guide = "--guide run/checkpoints/step-00000001";
    let report = place.json(&format!("{draw} {guide} --guide-scale 1 --out off.gif"));
    assert_eq!(report["guide_scale"], json!(1.0));
    assert_eq!(bytes("off.gif"), bytes("plain.gif"));
    place.json(&format!("{draw} {guide} --guide-scale 50 --out away.gif"));
    assert_ne!(bytes("away.gif"), bytes("plain.gif"));

    let message = place.error(&format!("{draw} --guide nowhere --out b.gif"), 1);
    assert!(message.contains("--guide: nowhere: there is no such directory"), "{message}");
    let other = "train config.toml --set train.steps=1 --set diffusion.schedule.steps=50";
    place.json(&format!("{other} --set train.out=other"));
    let message = place.error(&format!("{draw} --guide other --out b.gif"), 1);
    assert!(message.contains("a different noise schedule"), "{message}");
    let message = place.error(&format!("{draw} --guide-scale 2 --out b.gif"), 2);
    assert!(message.contains("--guide <CHECKPOINT>"), "{message}");
}
