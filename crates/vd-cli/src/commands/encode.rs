//! `vd encode`: encodes prompts to a file of embeddings.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde::Serialize;
use tch::{Device, Tensor};
use vd_tensor_ops::Weights;
use vd_text_cond::{Pretrained, PretrainedConfig, TextEncoder};

use crate::args::{EncodeArgs, PoolingName, PrecisionName};
use crate::model::device_name;
use crate::output::{Outcome, plural};

/// Batches that are encoded together: the encoder sorts their prompts by length.
const BATCHES: usize = 4;

#[derive(Debug, Serialize)]
struct Report {
    out: PathBuf,
    encoder: PathBuf,
    prompts: usize,
    width: i64,
    pooling: PoolingName,
    normalize: bool,
    precision: PrecisionName,
    device: String,
}

pub(crate) fn run(args: &EncodeArgs) -> Result<Outcome> {
    let device = args.compute.start()?;
    let text = std::fs::read_to_string(&args.prompts)
        .with_context(|| args.prompts.display().to_string())?;
    // Some editors write a byte order mark at the start.
    let prompts: Vec<_> = text.strip_prefix('\u{feff}').unwrap_or(&text).lines().collect();
    ensure!(
        !prompts.is_empty(),
        "{}: expected at least one line, found an empty file",
        args.prompts.display()
    );
    let folder = args.out.parent().filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.unwrap_or(Path::new("."));
    ensure!(folder.is_dir(), "{}: no such folder; create it first", folder.display());
    let batch = args.batch as usize;
    let encoder = Pretrained::open(&PretrainedConfig {
        pooling: args.pooling.into(),
        normalize: args.normalize,
        truncate: args.truncate,
        precision: args.precision.into(),
        batch,
        ..PretrainedConfig::new(&args.encoder)
    })?;
    for (line, prompt) in (1..).zip(&prompts) {
        let place = || format!("{}, line {line}", args.prompts.display());
        encoder.check(prompt).with_context(place)?;
    }
    let rows = encode(&encoder, &prompts, batch * BATCHES, device)?;
    warn_of_doubles(&prompts, &rows);
    let mut weights = Weights::default();
    weights.tensors.insert("embeddings".to_owned(), rows);
    weights.metadata.insert("prompts".to_owned(), serde_json::to_string(&prompts)?);
    weights.write(&args.out)?;
    let report = Report {
        out: args.out.clone(),
        encoder: args.encoder.clone(),
        prompts: prompts.len(),
        width: encoder.width(),
        pooling: args.pooling,
        normalize: args.normalize,
        precision: args.precision,
        device: device_name(device),
    };
    let (prompts, out) = (plural(report.prompts, "prompt"), report.out.display());
    let text = format!("wrote {prompts}, {} values each, to {out}", report.width);
    Outcome::new(&report, text)
}

/// The embeddings of prompts; equal prompts get identical bits.
///
/// # Shapes
/// n prompts -> n d
fn encode(
    encoder: &Pretrained,
    prompts: &[&str],
    together: usize,
    device: Device,
) -> Result<Tensor> {
    let (mut places, mut distinct) = (HashMap::new(), Vec::new());
    let mut place = |prompt| match places.entry(prompt) {
        Entry::Occupied(place) => *place.get(),
        Entry::Vacant(free) => {
            distinct.push(prompt);
            *free.insert(distinct.len() as i64 - 1)
        }
    };
    let order: Vec<i64> = prompts.iter().map(|prompt| place(*prompt)).collect();
    let mut rows = Vec::new();
    for some in distinct.chunks(together) {
        let cond = encoder.encode(some, device)?;
        let pooled = cond.pooled.context("the encoder returned no embeddings")?;
        rows.push(pooled.f_to_device(Device::Cpu)?);
    }
    Ok(Tensor::f_cat(&rows, 0)?.f_index_select(0, &Tensor::f_from_slice(&order)?)?)
}

/// Warns about prompts that differ only in surrounding blanks but have different embeddings: a
/// lookup in the file cannot tell them apart, and refuses it.
fn warn_of_doubles(prompts: &[&str], rows: &Tensor) {
    let mut first = HashMap::new();
    for (line, prompt) in (1..).zip(prompts) {
        let (before, other) = *first.entry(prompt.trim()).or_insert((line, *prompt));
        if other != *prompt && rows.get(before - 1) != rows.get(line - 1) {
            tracing::warn!(
                "lines {before} and {line} differ only in surrounding spaces, but their \
                 embeddings differ: the file cannot be an encoder of kind \"file\""
            );
        }
    }
}
