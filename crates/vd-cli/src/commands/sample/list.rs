//! `vd sample --list`: the names of samplers, spacings and guidance rules, and their settings.

use std::collections::BTreeMap;
use std::fmt::Write;

use anyhow::Result;
use serde::Serialize;
use toml::Value;
use vd_diffusion::{GuidanceConfig, SamplerConfig, SamplerFacts, Spacing};

use crate::output::Outcome;

/// The settings of a kind with their defaults; `None` for a setting that is omitted by default.
type Settings = BTreeMap<String, Option<Value>>;

#[derive(Debug, Serialize)]
struct List {
    samplers: Vec<SamplerRow>,
    spacings: Vec<Name>,
    guidances: Vec<Name>,
}

/// A sampler in JSON.
#[derive(Debug, Serialize)]
struct SamplerRow {
    name: &'static str,
    paper: &'static str,
    order: Option<usize>,
    nfe: usize,
    deterministic: bool,
    diffusers: Option<&'static str>,
    k_diffusion: Option<&'static str>,
    settings: Settings,
}

#[derive(Debug, Serialize)]
struct Name {
    name: &'static str,
    settings: Settings,
}

pub(super) fn run() -> Result<Outcome> {
    let configs = SamplerConfig::all();
    let row = |(facts, config): (&SamplerFacts, &SamplerConfig)| {
        Ok(SamplerRow {
            name: facts.name,
            paper: facts.paper,
            order: facts.order,
            nfe: facts.nfe,
            deterministic: facts.deterministic,
            diffusers: facts.diffusers,
            k_diffusion: facts.k_diffusion,
            settings: settings(config)?,
        })
    };
    let spacing = |it: &Spacing| Ok(Name { name: it.name(), settings: settings(it)? });
    let guidance = |it: &GuidanceConfig| Ok(Name { name: it.name(), settings: settings(it)? });
    let list = List {
        samplers: SamplerFacts::ALL.iter().zip(&configs).map(row).collect::<Result<_>>()?,
        spacings: Spacing::all().iter().map(spacing).collect::<Result<_>>()?,
        guidances: GuidanceConfig::all().iter().map(guidance).collect::<Result<_>>()?,
    };
    let text = describe(&list)?;
    Outcome::new(&list, text)
}

/// The settings of a kind, as they appear in its config table.
fn settings(config: &impl Serialize) -> Result<Settings> {
    let Value::Table(table) = Value::try_from(config)? else { return Ok(Settings::new()) };
    let kind = table.get("kind").and_then(Value::as_str).unwrap_or_default();
    // Settings that a config omits at their default: an infinite bound, and empty values.
    let left_out = match kind {
        "heun" => Some(("churn_max", Some(Value::Float(f64::INFINITY)))),
        "dpmpp-3m-sde" => Some(("last", None)),
        "lcm" => Some(("boundary", None)),
        _ => None,
    };
    let mut settings: Settings = left_out.into_iter().map(|(k, v)| (k.to_owned(), v)).collect();
    let written = table.into_iter().filter(|(key, _)| key != "kind");
    settings.extend(written.map(|(key, value)| (key, Some(value))));
    Ok(settings)
}

/// The same as text, to follow a name.
fn braced(settings: &Settings) -> String {
    if settings.is_empty() {
        return String::new();
    }
    let pairs = settings.iter().map(|(key, value)| match value {
        Some(value) => format!("{key}={value}"),
        None => format!("{key}=(unset)"),
    });
    format!("{{{}}}", pairs.collect::<Vec<_>>().join(", "))
}

fn describe(list: &List) -> Result<String> {
    let mut out = String::new();
    writeln!(out, "--sampler           order  asks  noise  paper")?;
    for row in &list.samplers {
        let order = row.order.map_or("-".to_owned(), |order| order.to_string());
        let noise = if row.deterministic { "no" } else { "yes" };
        let SamplerRow { name, nfe, paper, .. } = row;
        writeln!(out, "  {name:<18} {order:>4}  {nfe:>4}  {noise:<5}  {paper}")?;
        if !row.settings.is_empty() {
            writeln!(out, "    {}", braced(&row.settings))?;
        }
    }
    for (flag, names) in [("--spacing", &list.spacings), ("--guidance", &list.guidances)] {
        writeln!(out, "{flag}")?;
        for Name { name, settings } in names {
            writeln!(out, "{}", format!("  {name} {}", braced(settings)).trim_end())?;
        }
        if flag == "--spacing" {
            writeln!(out, "  {{kind=\"explicit\", t=[1.0, 0.5, 0.0]}}: your own times")?;
        }
    }
    writeln!(out, "asks: evaluations of the network in each step")?;
    writeln!(
        out,
        "settings with their defaults; other values as in --sampler '{{kind=\"ddim\", eta=0.5}}'"
    )?;
    Ok(out)
}
