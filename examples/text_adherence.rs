//! How much does a better text encoder help? Samples clips of the same prompts from several models
//! of fireworks, and compares the share of clips that have the colour that the prompt means.
//!
//! ```sh
//! vd train examples/text/hashed.toml
//! vd train examples/text/minilm.toml --set text.encoder.path=MINILM
//! cargo run --release -p vd-examples --example text_adherence -- \
//!     examples/text/prompts.jsonl 4 adherence runs/text/hashed runs/text/minilm
//! ```
//! samples four clips of each prompt, with the same seeds and guidance, and compares every further
//! run with the first. Finished prompts are kept in the folder, so an interrupted comparison
//! continues where it stopped.
#![allow(clippy::print_stdout, reason = "a program for a terminal")]

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use vd_data::{
    Clip, Colour, Share, SheetRow, dominant_colour, newcombe, wilson, write_contact_sheet,
};
use vd_diffusion::SamplerConfig;
use vd_examples::Opened;
use vd_text_cond::GenerateRequest;

const GUIDANCE: f64 = 2.0;
const SAMPLER: &str = "unipc-3";
const STEPS: usize = 20;
const SEED: u64 = 2204_03458;
/// Prompts of a colour on the sheet, and how many times a pixel is enlarged there.
const SHOWN: usize = 2;
const SCALE: usize = 2;

/// A prompt and what it means.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    prompt: String,
    colour: Colour,
    /// Whether it occurs in training.
    seen: bool,
}

/// The clips of a prompt: one line of a run's file.
#[derive(Debug, Serialize, Deserialize)]
struct Drawn {
    prompt: String,
    /// The colour of each clip; `null` where it has none.
    colours: Vec<Option<Colour>>,
    /// Bytes of the middle frame of each clip, h w c.
    middle: Vec<Vec<u8>>,
    size: [usize; 3],
}

/// A run with its clips, in the order of the prompts.
struct Contestant {
    name: String,
    drawn: Vec<Drawn>,
}

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [prompts, clips, out, runs @ ..] = arguments.as_slice() else {
        bail!("expected PROMPTS.jsonl CLIPS_PER_PROMPT OUT RUN ...");
    };
    let clips: usize = clips.parse().context("CLIPS_PER_PROMPT: expected a number")?;
    let prompts: Vec<Asked> = read_lines(Path::new(prompts))?;
    ensure!(clips > 0 && !runs.is_empty() && !prompts.is_empty(), "nothing to draw");
    let out = Path::new(out);
    fs::create_dir_all(out).with_context(|| format!("cannot make {}", out.display()))?;
    let mut contestants = Vec::new();
    for run in runs {
        let run = Path::new(run);
        let name = run.file_name().context("RUN: expected a folder")?.to_string_lossy();
        let path = out.join(format!("{name}.jsonl"));
        let drawn = draw(run, &path, &prompts, clips)?;
        contestants.push(Contestant { name: name.into_owned(), drawn });
    }
    by_prompt(&prompts, &contestants);
    for (seen, what) in [(true, "seen in training"), (false, "never seen")] {
        table(what, seen, &prompts, &contestants);
    }
    sheet(&out.join("sheet.png"), &prompts, &contestants)
}

/// The lines of a JSON Lines file.
fn read_lines<T: DeserializeOwned>(path: &Path) -> Result<Vec<T>> {
    let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
    let line = |line: &str| serde_json::from_str(line).with_context(|| path.display().to_string());
    text.lines().map(line).collect()
}

/// The clips of all prompts, including those of an earlier call.
fn draw(run: &Path, path: &PathBuf, prompts: &[Asked], clips: usize) -> Result<Vec<Drawn>> {
    let mut done: Vec<Drawn> = if path.exists() { read_lines(path)? } else { Vec::new() };
    let model = Opened::run(run)?;
    let [h, w] = model.geometry.size;
    let size = [h, w, 3];
    let mut file = OpenOptions::new().create(true).append(true).open(path)?;
    for (number, asked) in prompts.iter().enumerate().skip(done.len()) {
        let request = GenerateRequest {
            steps: STEPS,
            sampler: SAMPLER.parse::<SamplerConfig>()?,
            guidance: GUIDANCE,
            seed: SEED,
            first_sample: (number * clips) as u64,
            batch: clips,
            ..model.request(vec![asked.prompt.clone(); clips])
        };
        let drawn = model.draw(&request)?;
        let colours = drawn.iter().map(dominant_colour).collect();
        let frame = size.iter().product::<usize>();
        let middle = |clip: &Clip| clip.frames[clip.f / 2 * frame..][..frame].to_vec();
        let middle = drawn.iter().map(middle).collect();
        let drawn = Drawn { prompt: asked.prompt.clone(), colours, middle, size };
        writeln!(file, "{}", serde_json::to_string(&drawn)?)?;
        done.push(drawn);
    }
    Ok(done)
}

/// How many clips of a prompt have its colour.
fn hits(asked: &Asked, drawn: &Drawn) -> usize {
    drawn.colours.iter().filter(|colour| **colour == Some(asked.colour)).count()
}

fn by_prompt(prompts: &[Asked], contestants: &[Contestant]) {
    let names: Vec<_> = contestants.iter().map(|of| of.name.as_str()).collect();
    println!("| prompt | means | {} |", names.join(" | "));
    println!("|---|---|{}", "---|".repeat(names.len()));
    for (k, asked) in prompts.iter().enumerate() {
        let cells: Vec<_> = contestants
            .iter()
            .map(|of| format!("{} of {}", hits(asked, &of.drawn[k]), of.drawn[k].colours.len()))
            .collect();
        println!("| {} | {} | {} |", asked.prompt, asked.colour, cells.join(" | "));
    }
}

/// The share of each run among the prompts seen in training, or among the others, and how much
/// larger it is than the first run's: by clips (Newcombe), and by prompts (Student's t of the
/// paired differences), because clips of one prompt are correlated.
fn table(what: &str, seen: bool, prompts: &[Asked], contestants: &[Contestant]) {
    println!(
        "\n| prompts {what}: run | clips in their colour | more than the first | by prompts |"
    );
    println!("|---|---|---|---|");
    let rows = |of: &Contestant| -> Vec<(usize, usize)> {
        let both = prompts.iter().zip(&of.drawn).filter(|(asked, _)| asked.seen == seen);
        both.map(|(asked, drawn)| (hits(asked, drawn), drawn.colours.len())).collect()
    };
    let share = |rows: &[(usize, usize)]| -> Share {
        wilson(rows.iter().map(|row| row.0).sum(), rows.iter().map(|row| row.1).sum())
    };
    let Some(first) = contestants.first().map(rows) else { return };
    for of in contestants {
        let own = rows(of);
        let one = share(&own);
        let more = newcombe(one, share(&first));
        let each =
            own.iter().zip(&first).map(|(a, b)| a.0 as f64 / a.1 as f64 - b.0 as f64 / b.1 as f64);
        let [low, high] = paired(&each.collect::<Vec<_>>());
        println!(
            "| {} | {} of {} = {:.1} % ({:.1} to {:.1}) | {:+.3} ({:+.3} to {:+.3}) | {:+.3} to {:+.3} |",
            of.name,
            one.successes,
            one.n,
            100.0 * one.share,
            100.0 * one.low,
            100.0 * one.high,
            more.difference,
            more.low,
            more.high,
            low,
            high
        );
    }
}

/// The 95 % interval of the mean of a few differences.
fn paired(differences: &[f64]) -> [f64; 2] {
    let n = differences.len() as f64;
    let mean = differences.iter().sum::<f64>() / n;
    let variance = differences.iter().map(|d| (d - mean).powi(2)).sum::<f64>() / (n - 1.0);
    // Student's t for n - 1 degrees of freedom: Cornish and Fisher's expansion, right to 1e-3 from 8 on.
    let (z, v): (f64, f64) = (1.959_963_985, n - 1.0);
    let t = z
        + (z.powi(3) + z) / (4.0 * v)
        + (5.0 * z.powi(5) + 16.0 * z.powi(3) + 3.0 * z) / (96.0 * v * v);
    let half = t * (variance / n).sqrt();
    [mean - half, mean + half]
}

/// The middle frames of the clips of some prompts that were never seen, a row for each run.
fn sheet(path: &Path, prompts: &[Asked], contestants: &[Contestant]) -> Result<()> {
    let mut clips = Vec::new();
    for colour in Colour::ALL {
        let unseen = prompts.iter().enumerate();
        let unseen = unseen.filter(|(_, asked)| !asked.seen && asked.colour == colour);
        for (k, asked) in unseen.take(SHOWN) {
            for of in contestants {
                let Drawn { middle, size: [h, w, c], .. } = &of.drawn[k];
                let clip = Clip::new(middle.concat(), [middle.len(), *h, *w, *c], 1.0)?;
                clips.push((format!("{} ({})", asked.prompt, of.name), clip));
            }
        }
    }
    let row = |(label, clip)| SheetRow::Clip { label: String::clone(label), clip };
    let rows: Vec<_> = clips.iter().map(|(label, clip)| row((label, clip))).collect();
    Ok(write_contact_sheet(path, &rows, SCALE, 16)?)
}
