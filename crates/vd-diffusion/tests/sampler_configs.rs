//! Samplers by name, and the table of facts about them.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod known;

use std::collections::BTreeSet;
use std::str::FromStr;

use known::{Basis, Mixture, cosine, even, random};
use vd_diffusion::tch::Kind;
use vd_diffusion::{
    Boundary, Deis, DpmPp2m, DpmPp3m, Error, Heun, Ipndm, LastSteps, Lcm, Line, LineRule,
    LineWeight, Lms, Restart, Sampler, SamplerConfig, SamplerFacts, UniPc, keep_going, sample,
};

#[test]
fn the_names_are_those_that_were_promised() {
    let names = [
        "ancestral",
        "ddpm-small",
        "ddpm-large",
        "ddim",
        "euler",
        "euler-ancestral",
        "heun",
        "dpm2",
        "lms",
        "dpmpp-2s-ancestral",
        "dpmpp-2m",
        "dpmpp-2m-sde",
        "dpmpp-3m-sde",
        "unipc-2",
        "unipc-3",
        "pndm",
        "ipndm",
        "deis",
        "lcm",
        "restart",
        "langevin",
    ];
    let all = SamplerConfig::all();
    assert_eq!(SamplerFacts::ALL.iter().map(|f| f.name).collect::<Vec<_>>(), names);
    assert_eq!(
        all.iter().map(|c| c.facts()).collect::<Vec<_>>(),
        SamplerFacts::ALL.iter().collect::<Vec<_>>()
    );
    for (name, config) in names.iter().zip(&all) {
        assert_eq!(&SamplerConfig::from_str(name).unwrap(), config);
        let written = serde_json::to_value(config).unwrap();
        let kind = written.as_str().or(written["kind"].as_str());
        assert_eq!(kind, Some(*name));
        assert_eq!(&serde_json::from_value::<SamplerConfig>(written).unwrap(), config);
    }
    assert_eq!(SamplerConfig::from_str("ddpm").unwrap(), SamplerConfig::DdpmSmall { gamma: 0.0 });
    let message = SamplerConfig::from_str("dpm++").unwrap_err().to_string();
    assert!(names.iter().all(|name| message.contains(name)), "{message}");
}

#[test]
fn a_row_of_the_table_is_an_object_of_json() {
    let row = serde_json::to_value(SamplerConfig::from_str("unipc-2").unwrap().facts()).unwrap();
    let keys: BTreeSet<_> = row.as_object().unwrap().keys().map(String::as_str).collect();
    let expected =
        ["name", "paper", "equation", "order", "nfe", "deterministic", "diffusers", "k_diffusion"];
    assert_eq!(keys, expected.into());
    assert_eq!(row["order"], 3);
    assert!(row["k_diffusion"].is_null());
}

/// A config's table, as in files.
#[derive(Debug, serde::Deserialize, serde::Serialize, PartialEq)]
struct File {
    sampler: SamplerConfig,
}

fn read(text: &str) -> std::result::Result<SamplerConfig, String> {
    toml::from_str::<File>(text).map(|file| file.sampler).map_err(|e| e.to_string())
}

#[test]
fn settings_are_read_and_what_is_left_out_is_the_default() {
    for (text, expected) in [
        ("sampler = { kind = \"ddpm\", gamma = 0.3 }", SamplerConfig::DdpmSmall { gamma: 0.3 }),
        ("sampler = { kind = \"ddim\", eta = 0.5 }", SamplerConfig::Ddim { eta: 0.5 }),
        (
            "sampler = { kind = \"ancestral\", gamma = 0.1 }",
            SamplerConfig::Ancestral { gamma: 0.1 },
        ),
        (
            "sampler = { kind = \"heun\", churn = 40, line = \"edm\" }",
            SamplerConfig::heun(Heun { churn: 40.0, line: Line::Edm, ..Heun::default() }),
        ),
        (
            "[sampler]\nkind = \"restart\"\ntimes = 3\ninner = \"unipc-2\"",
            SamplerConfig::Restart {
                inner: Box::new(SamplerConfig::UniPc2 { line: LineWeight::Exact }),
                low: 0.05,
                high: 2.0,
                times: 3,
            },
        ),
        (
            "sampler = { kind = \"langevin\", inner = { kind = \"ddim\", eta = 1.0 } }",
            SamplerConfig::Langevin {
                inner: Box::new(SamplerConfig::Ddim { eta: 1.0 }),
                delta: 0.1,
            },
        ),
    ] {
        assert_eq!(read(text).unwrap(), expected, "{text}");
        let written = toml::to_string(&File { sampler: expected }).unwrap();
        assert_eq!(toml::from_str::<File>(&written).unwrap(), toml::from_str(text).unwrap());
        let _ = read(text).unwrap().build().unwrap();
    }
    let unknown = read("sampler = { kind = \"lms\", oder = 3 }").unwrap_err();
    assert!(unknown.contains("`oder`") && unknown.contains("`order`"), "{unknown}");
    let bare = read("sampler = { kind = \"euler\", eta = 1.0 }").unwrap_err();
    assert!(bare.contains("`euler` has no settings"), "{bare}");
}

#[test]
fn the_published_forms_are_reached_from_a_config() {
    let (keep, short) = (LastSteps::Keep, LastSteps::FallInShortRuns);
    let cases: Vec<(&str, Box<dyn Sampler>)> = vec![
        ("kind = \"dpmpp-2m\"", Box::new(DpmPp2m::new(0.0))),
        (
            "kind = \"dpmpp-2m\"\nline = \"whole\"\nlast = \"keep\"",
            Box::new(DpmPp2m { line: LineRule::Whole, last: keep, eta: 0.0 }),
        ),
        (
            "kind = \"dpmpp-2m-sde\"\nlast = \"fall-in-short-runs\"",
            Box::new(DpmPp2m { last: short, ..DpmPp2m::new(1.0) }),
        ),
        ("kind = \"dpmpp-3m-sde\"", Box::new(DpmPp3m::new(1.0))),
        (
            "kind = \"dpmpp-3m-sde\"\nform = \"diffusers\"\neta = 0.5",
            Box::new(DpmPp3m::diffusers(0.5)),
        ),
        ("kind = \"dpmpp-3m-sde\"\nform = \"k-diffusion\"", Box::new(DpmPp3m::k_diffusion(1.0))),
        (
            "kind = \"dpmpp-3m-sde\"\nform = \"k-diffusion\"\nlast = \"fall\"",
            Box::new(DpmPp3m { last: LastSteps::Fall, ..DpmPp3m::k_diffusion(1.0) }),
        ),
        ("kind = \"unipc-2\"\nline = \"bh2\"", Box::new(UniPc { order: 2, line: LineWeight::Bh2 })),
        ("kind = \"unipc-3\"\nline = \"bh1\"", Box::new(UniPc { order: 3, line: LineWeight::Bh1 })),
        ("kind = \"deis\"\nlast = \"keep\"", Box::new(Deis { order: 3, last: keep })),
        ("kind = \"lcm\"\n[boundary]", Box::new(Lcm { boundary: Some(Boundary::default()) })),
        (
            "kind = \"lcm\"\nboundary = { timestep_scaling = 3 }",
            Box::new(Lcm {
                boundary: Some(Boundary { timestep_scaling: 3.0, ..Boundary::default() }),
            }),
        ),
        ("kind = \"restart\"", Box::new(Restart::default())),
        (
            "kind = \"restart\"\nhigh = inf",
            Box::new(Restart { high: f64::INFINITY, ..Restart::default() }),
        ),
        (
            "kind = \"restart\"\nhigh = \"inf\"",
            Box::new(Restart { high: f64::INFINITY, ..Restart::default() }),
        ),
    ];
    for (text, sampler) in cases {
        let config: SamplerConfig = toml::from_str(text).unwrap();
        assert_eq!(format!("{:?}", config.build().unwrap()), format!("{sampler:?}"), "{text}");
        let json = serde_json::to_string(&config).unwrap();
        assert_eq!(serde_json::from_str::<SamplerConfig>(&json).unwrap(), config, "{json}");
        let written = toml::to_string(&config).unwrap();
        assert_eq!(toml::from_str::<SamplerConfig>(&written).unwrap(), config, "{written}");
    }
    for (text, part) in [
        ("kind = \"dpmpp-3m-sde\"\nform = \"half\"", "`k-diffusion`"),
        ("kind = \"dpmpp-2m\"\nform = \"whole\"", "`line`"),
        ("kind = \"lcm\"\nboundary = { sigma = 1 }", "`sigma_data`"),
        ("kind = \"restart\"\nhigh = \"infinite\"", "a number, or \"inf\""),
    ] {
        let message = toml::from_str::<SamplerConfig>(text).unwrap_err().to_string();
        assert!(message.contains(part), "{message}");
    }
}

#[test]
fn settings_out_of_range_are_refused_by_name_when_built_and_when_run() {
    let heun = Heun::default();
    let boxed = |sampler| Box::new(sampler);
    let cases: Vec<(SamplerConfig, &str)> = vec![
        (SamplerConfig::heun(Heun { churn: -1.0, ..heun }), "sampler heun: churn"),
        (SamplerConfig::heun(Heun { churn: f64::INFINITY, ..heun }), "sampler heun: churn"),
        (
            SamplerConfig::heun(Heun { churn_min: 2.0, churn_max: 1.0, ..heun }),
            "sampler heun: churn_max",
        ),
        (SamplerConfig::heun(Heun { churn_noise: f64::NAN, ..heun }), "sampler heun: churn_noise"),
        (SamplerConfig::EulerAncestral { eta: 1.5 }, "eta"),
        (
            SamplerConfig::Lms { order: 0 },
            "sampler lms: order: expected a whole number from 1 to 4, got 0",
        ),
        (SamplerConfig::Ipndm { order: 5 }, "sampler ipndm: order"),
        (SamplerConfig::Deis { order: 9, last: LastSteps::Fall }, "sampler deis: order"),
        (SamplerConfig::DpmPp2sAncestral { eta: -0.1 }, "sampler dpmpp-2s-ancestral: eta"),
        (read("sampler = { kind = \"dpmpp-2m-sde\", eta = nan }").unwrap(), "dpmpp-2m-sde: eta"),
        (read("sampler = { kind = \"dpmpp-3m-sde\", eta = 2 }").unwrap(), "dpmpp-3m-sde: eta"),
        (
            read("sampler = { kind = \"lcm\", boundary = { sigma_data = 0 } }").unwrap(),
            "sampler lcm: sigma_data",
        ),
        (
            SamplerConfig::Langevin { inner: boxed(SamplerConfig::Lms { order: 7 }), delta: 0.1 },
            "sampler lms: order",
        ),
        (
            SamplerConfig::Langevin { inner: boxed(SamplerConfig::Euler), delta: -0.1 },
            "sampler langevin: delta",
        ),
        (
            SamplerConfig::Restart {
                inner: boxed(SamplerConfig::Euler),
                low: 2.0,
                high: 1.0,
                times: 1,
            },
            "sampler restart: high",
        ),
    ];
    for (config, part) in cases {
        let message = config.build().unwrap_err().to_string();
        assert!(message.contains(part), "{message}");
    }
    let samplers: [&dyn Sampler; 6] = [
        &Heun { churn: -1.0, ..heun },
        &Lms { order: 0 },
        &Ipndm { order: 5 },
        &Deis { order: 0, last: LastSteps::Keep },
        &UniPc::new(5),
        &DpmPp3m { second_difference: 1.5, ..DpmPp3m::new(0.0) },
    ];
    for sampler in samplers {
        let (x, mut noise) = (random(1, &[2], Kind::Double), Basis { drawn: 0 });
        let end = sample(sampler, &Mixture, &cosine(), &even(3), x, &mut noise, &mut keep_going);
        assert!(matches!(end, Err(Error::Value { .. })), "{sampler:?}: {end:?}");
    }
}

#[test]
fn the_page_on_samplers_has_the_row_of_each() {
    let page = include_str!("../../../docs/samplers.md");
    let code = |name: Option<&str>| name.map_or("-".to_owned(), |name| format!("`{name}`"));
    for facts in SamplerFacts::ALL {
        let order = facts.order.map_or("-".to_owned(), |order| order.to_string());
        let row = format!(
            "| `{}` | {}: {} | {order} | {} | {} | {} | {} |",
            facts.name,
            facts.paper,
            facts.equation,
            facts.nfe,
            if facts.deterministic { "yes" } else { "no" },
            code(facts.diffusers),
            code(facts.k_diffusion),
        );
        assert!(page.lines().any(|line| line == row), "docs/samplers.md has not this row:\n{row}");
    }
}
