//! Which sampler, and how many steps? Samples the same clips with several samplers from the model
//! that the demo has trained, and compares the share of clips that have the colour of their prompt.
//!
//! ```sh
//! cargo run --release -p vd-examples --example compare_samplers -- \
//!     demo/run comparison 67 ancestral:250 unipc-3@uniform-log-snr:20
//! ```
//! samples 67 clips of each of the six prompts, with the same seeds and guidance, and compares
//! every further sampler (NAME@SPACING:STEPS) with the first. Finished batches are kept in the
//! folder, so an interrupted comparison continues where it stopped.
#![allow(clippy::print_stdout, reason = "a program for a terminal")]

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};
use vd_data::{Colour, dominant_colour, newcombe, wilson};
use vd_diffusion::{SamplerConfig, Spacing};
use vd_examples::Opened;
use vd_text_cond::GenerateRequest;

const GUIDANCE: f64 = 2.0;
const SEED: u64 = 2204_03458;
/// Clips sampled at a time.
const BATCH: usize = 16;

/// One sampler to compare, as the command line names it.
struct Contestant {
    name: String,
    sampler: SamplerConfig,
    spacing: Spacing,
    steps: usize,
}

/// A finished batch: one line of a contestant's file.
#[derive(Debug, Serialize, Deserialize)]
struct Batch {
    colour: String,
    first: usize,
    hits: Vec<bool>,
    seconds: f64,
}

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [run, out, clips, names @ ..] = arguments.as_slice() else {
        bail!("expected RUN OUT CLIPS_PER_PROMPT NAME[@SPACING]:STEPS ...");
    };
    let clips: usize = clips.parse().context("CLIPS_PER_PROMPT: expected a number")?;
    ensure!(clips > 0 && !names.is_empty(), "nothing to compare: no clips, or no samplers");
    let contestants = names.iter().map(|name| parse(name)).collect::<Result<Vec<_>>>()?;
    fs::create_dir_all(out).with_context(|| format!("cannot make the folder {out}"))?;
    let mut results = Vec::new();
    for contestant in &contestants {
        let batches = draw(Path::new(run), Path::new(out), clips, contestant)?;
        results.push((contestant, batches));
    }
    table(&results);
    Ok(())
}

/// NAME[@SPACING]:STEPS
fn parse(text: &str) -> Result<Contestant> {
    let what = || format!("{text}: expected NAME[@SPACING]:STEPS");
    let (parts, steps) = text.rsplit_once(':').with_context(what)?;
    let (sampler, spacing) = parts.split_once('@').unwrap_or((parts, "uniform-t"));
    let name = |value: &str| serde_json::Value::String(value.to_owned());
    Ok(Contestant {
        name: text.to_owned(),
        sampler: serde_json::from_value(name(sampler)).with_context(what)?,
        spacing: serde_json::from_value(name(spacing)).with_context(what)?,
        steps: steps.parse().with_context(what)?,
    })
}

/// All batches of a contestant, including those of an earlier call.
fn draw(run: &Path, out: &Path, clips: usize, of: &Contestant) -> Result<Vec<Batch>> {
    let path = out.join(of.name.replace(['@', ':'], "-") + ".jsonl");
    let mut done = read(&path)?;
    let model = Opened::run(run)?;
    let mut file = OpenOptions::new().create(true).append(true).open(&path)?;
    for (number, colour) in Colour::ALL.iter().enumerate() {
        for first in (0..clips).step_by(BATCH) {
            if done.iter().any(|batch| batch.colour == colour.name() && batch.first == first) {
                continue;
            }
            let began = std::time::Instant::now();
            let prompts = vec![format!("a {} firework", colour.name()); BATCH.min(clips - first)];
            let request = GenerateRequest {
                steps: of.steps,
                sampler: of.sampler.clone(),
                spacing: of.spacing.clone(),
                guidance: GUIDANCE,
                seed: SEED,
                first_sample: (number * clips + first) as u64,
                batch: BATCH,
                ..model.request(prompts)
            };
            let drawn = model.draw(&request)?;
            let hits = drawn.iter().map(|clip| dominant_colour(clip) == Some(*colour)).collect();
            let seconds = began.elapsed().as_secs_f64();
            let batch = Batch { colour: colour.name().to_owned(), first, hits, seconds };
            writeln!(file, "{}", serde_json::to_string(&batch)?)?;
            done.push(batch);
        }
    }
    Ok(done)
}

fn read(path: &PathBuf) -> Result<Vec<Batch>> {
    if !path.exists() {
        return Ok(Vec::new());
    }
    let text = fs::read_to_string(path)?;
    let line = |line: &str| serde_json::from_str(line).with_context(|| path.display().to_string());
    text.lines().map(line).collect()
}

/// The share of each, and its difference from the first with Newcombe's interval for unpaired data.
fn table(results: &[(&Contestant, Vec<Batch>)]) {
    let mut first = None;
    println!("| sampler | clips in their colour | difference from the first | s per clip |");
    println!("|---|---|---|---|");
    for (of, batches) in results {
        let hits: Vec<bool> = batches.iter().flat_map(|batch| batch.hits.clone()).collect();
        let share = wilson(hits.iter().filter(|hit| **hit).count(), hits.len());
        let base = *first.get_or_insert(share);
        let more = newcombe(share, base);
        let seconds: f64 = batches.iter().map(|batch| batch.seconds).sum();
        println!(
            "| {} | {} of {} = {:.2} % ({:.2} to {:.2}) | {:+.4} ({:+.4} to {:+.4}) | {:.2} |",
            of.name,
            share.successes,
            share.n,
            100.0 * share.share,
            100.0 * share.low,
            100.0 * share.high,
            more.difference,
            more.low,
            more.high,
            seconds / hits.len() as f64
        );
    }
}
