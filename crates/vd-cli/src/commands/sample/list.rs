//! `vd sample --list`: the names of samplers, spacings and rules of guidance, and their settings.

use std::fmt::Write;

use anyhow::Result;
use serde::Serialize;
use toml::{Table, Value};
use vd_diffusion::{GuidanceConfig, SamplerConfig, SamplerFacts, Spacing};

use crate::output::Outcome;

#[derive(Debug, Serialize)]
struct List {
    samplers: Vec<SamplerRow>,
    spacings: Vec<Name>,
    guidances: Vec<Name>,
}

/// What programs are told of a sampler.
#[derive(Debug, Serialize)]
struct SamplerRow {
    name: &'static str,
    paper: &'static str,
    order: Option<usize>,
    nfe: usize,
    deterministic: bool,
    diffusers: Option<&'static str>,
    k_diffusion: Option<&'static str>,
    settings: Table,
}

#[derive(Debug, Serialize)]
struct Name {
    name: &'static str,
    settings: Table,
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

/// The settings of a kind with their defaults, as a table of it would have them.
fn settings(config: &impl Serialize) -> Result<Table> {
    let Value::Table(mut table) = Value::try_from(config)? else { return Ok(Table::new()) };
    // A config leaves an infinite bound out.
    if table.contains_key("churn_min") {
        table.entry("churn_max").or_insert(Value::Float(f64::INFINITY));
    }
    table.remove("kind");
    Ok(table)
}

/// The same for people, behind a name.
fn braced(settings: &Table) -> String {
    if settings.is_empty() {
        return String::new();
    }
    let pairs = settings.iter().map(|(key, value)| format!("{key}={value}"));
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
            writeln!(out, "  {{kind=\"explicit\", t=[1.0, 0.5, 0.0]}}: times of one's own")?;
        }
    }
    writeln!(
        out,
        "settings with their defaults; others as in --sampler '{{kind=\"ddim\", eta=0.5}}'"
    )?;
    Ok(out)
}
