//! Counts the work of a network's layers without running them.

use std::collections::BTreeMap;
use std::fmt::Write;

use anyhow::Result;
use serde::Serialize;
use vd_torch::Autocast;
use vd_train::RunConfig;
use vd_unet3d::flops::Shape;
use vd_unet3d::traffic::{self, Floors, Pass, Rates, Sort, Widths};

use super::TOKENS;
use crate::output::{Outcome, count};

#[derive(Debug, Serialize)]
struct Report {
    parameters: u64,
    /// The size of an activation in bytes.
    width: u64,
    /// By what layers do; a forward pass, and one training step.
    forward: Vec<Group>,
    training: Vec<Group>,
    #[serde(skip_serializing_if = "Option::is_none")]
    floors: Option<BothFloors>,
}

#[derive(Debug, Serialize)]
struct Group {
    layers: Sort,
    flops: u64,
    bytes: u64,
    /// Seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    floors: Option<Floors>,
}

#[derive(Debug, Serialize)]
struct BothFloors {
    forward: Floors,
    training: Floors,
}

/// `rates`: GB and Tflop per second.
pub(super) fn counted(config: &RunConfig, rates: Option<(f64, f64)>) -> Result<Outcome> {
    // Includes the widths given by the encoder.
    let config = &config.clone().resolved()?;
    let [h, w] = config.data.size.map(|n| n as u64);
    let (b, f) = (config.train.batch as u64, config.data.frames as u64);
    let layers = traffic::layers(&config.model, Shape { b, f, h, w, tokens: TOKENS });
    let widths = match config.train.autocast {
        Autocast::Off => Widths::F32,
        _ => Widths::HALF,
    };
    let rates = rates.map(|(gb, tflop)| Rates { bytes: 1e9 * gb, flops: 1e12 * tflop });
    let forward = traffic::forward(&layers, widths);
    let training = traffic::training(&layers, widths);
    let floors = rates.map(|rates| BothFloors {
        forward: traffic::floors(&forward, rates),
        training: traffic::floors(&training, rates),
    });
    let report = Report {
        parameters: layers.iter().map(|layer| layer.parameters).sum(),
        width: widths.computed,
        forward: groups(&forward, rates),
        training: groups(&training, rates),
        floors,
    };
    let text = text(&report, [b, f, h, w])?;
    Outcome::new(&report, text)
}

fn groups(passes: &[Pass], rates: Option<Rates>) -> Vec<Group> {
    let mut sorted: BTreeMap<Sort, Vec<Pass>> = BTreeMap::new();
    for pass in passes {
        sorted.entry(pass.sort).or_default().push(*pass);
    }
    let group = |(layers, passes): (Sort, Vec<Pass>)| Group {
        layers,
        flops: passes.iter().map(|pass| pass.flops).sum(),
        bytes: passes.iter().map(|pass| pass.bytes).sum(),
        floors: rates.map(|rates| traffic::floors(&passes, rates)),
    };
    sorted.into_iter().map(group).collect()
}

fn text(report: &Report, [b, f, h, w]: [u64; 4]) -> Result<String> {
    let mut out = String::new();
    let parameters = count(report.parameters);
    let width = report.width;
    writeln!(
        out,
        "{parameters} parameters, {b} x {f} frames at {h}x{w}, activations of {width} bytes"
    )?;
    let both = report.floors.as_ref();
    let ways = [
        ("forward", &report.forward, both.map(|both| both.forward)),
        ("one training step", &report.training, both.map(|both| both.training)),
    ];
    for (way, groups, whole) in ways {
        write!(out, "\n{way:<24}{:>10}{:>10}", "Gflop", "MB")?;
        let floors = "ms memory, arithmetic, the larger of each layer";
        writeln!(out, "{}", whole.map_or(String::new(), |_| format!("   {floors}")))?;
        let all = Group {
            layers: Sort::Convolution,
            flops: groups.iter().map(|group| group.flops).sum(),
            bytes: groups.iter().map(|group| group.bytes).sum(),
            floors: whole,
        };
        let named = groups.iter().map(|group| (group.layers.to_string(), group));
        for (name, group) in named.chain([("all".to_owned(), &all)]) {
            let (flops, bytes) = (group.flops as f64 / 1e9, group.bytes as f64 / 1e6);
            write!(out, "  {name:<22}{flops:>10.1}{bytes:>10.0}")?;
            if let Some(Floors { memory, arithmetic, larger }) = group.floors {
                let [memory, arithmetic, larger] =
                    [memory, arithmetic, larger].map(|seconds| 1e3 * seconds);
                let by = if memory > arithmetic { "memory" } else { "arithmetic" };
                write!(out, "   {memory:>8.3}{arithmetic:>9.3}{larger:>9.3}  {by}")?;
            }
            writeln!(out)?;
        }
    }
    Ok(out)
}
