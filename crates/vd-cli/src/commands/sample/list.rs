//! `vd sample --list`: the names of samplers, spacings and rules of guidance.

use std::fmt::Write;

use anyhow::Result;
use serde::Serialize;
use vd_diffusion::{GuidanceConfig, SamplerFacts, Spacing};

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
}

#[derive(Debug, Serialize)]
struct Name {
    name: &'static str,
}

pub(super) fn run() -> Result<Outcome> {
    let samplers = SamplerFacts::ALL.iter().map(|facts| SamplerRow {
        name: facts.name,
        paper: facts.paper,
        order: facts.order,
        nfe: facts.nfe,
        deterministic: facts.deterministic,
        diffusers: facts.diffusers,
        k_diffusion: facts.k_diffusion,
    });
    let list = List {
        samplers: samplers.collect(),
        spacings: Spacing::all().iter().map(|spacing| Name { name: spacing.name() }).collect(),
        guidances: GuidanceConfig::all_names().into_iter().map(|name| Name { name }).collect(),
    };
    let text = describe(&list)?;
    Outcome::new(&list, text)
}

fn describe(list: &List) -> Result<String> {
    let mut out = String::new();
    writeln!(out, "--sampler           order  asks  noise  paper")?;
    for row in &list.samplers {
        let order = row.order.map_or("-".to_owned(), |order| order.to_string());
        let noise = if row.deterministic { "no" } else { "yes" };
        let SamplerRow { name, nfe, paper, .. } = row;
        writeln!(out, "  {name:<18} {order:>4}  {nfe:>4}  {noise:<5}  {paper}")?;
    }
    for (flag, names) in [("--spacing", &list.spacings), ("--guidance", &list.guidances)] {
        writeln!(out, "{flag}")?;
        for Name { name } in names {
            writeln!(out, "  {name}")?;
        }
    }
    Ok(out)
}
