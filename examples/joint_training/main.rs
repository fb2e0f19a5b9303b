//! How much do independent images beside each clip help? Trains the same small network on fireworks
//! with 0, 4 and 8 of them, with equal steps and seeds, and compares the loss on held-out clips and
//! the spread of the gradient.
//!
//! ```sh
//! cargo run --release -p vd-examples --example joint_training -- runs/joint 500 2
//! ```
//! trains 500 steps for each of two seeds, six runs in all, and writes `joint_training.md` and
//! `joint_training.svg` to the folder. An interrupted comparison continues where it stopped.
#![allow(clippy::print_stdout, reason = "a program for a terminal")]

mod held_out;
mod report;
mod spread;

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};
use vd_torch::tch::Device;
use vd_train::{Checkpoint, Event, LoadedNetwork, Resume, RunConfig, WeightKind, train};

use held_out::HeldOut;
use report::{Curve, Report};

/// How many images are beside each clip.
const BESIDE: [usize; 3] = [0, 4, 8];
/// How often the loss is measured along a run.
const LOOKS: u64 = 10;

const CONFIG: &str = r#"
[model]
dim = 16
dim_mults = [1, 2, 4]
attn_heads = 4
attn_dim_head = 16
init_kernel_size = 5

[text]
encoder = { kind = "hashed", width = 16 }

[data]
source = { kind = "fireworks" }
frames = 8
size = [16, 16]
workers = 1

[train]
batch = 4
lr = 1e-3
warmup = 20
ema = 0.98
preview_every = 0
keep_last = 1000
device = "cpu"
"#;

/// One run: how many images, and which seed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Run {
    images: usize,
    seed: u64,
}

impl Run {
    fn config(self, out: &Path, steps: u64) -> Result<RunConfig> {
        let mut config = CONFIG.to_owned();
        if self.images > 0 {
            let images = format!("images = {{ per_clip = {} }}\n\n[train]", self.images);
            config = config.replace("[train]", &images);
        }
        let file = out.join("config.toml");
        std::fs::write(&file, config)?;
        let settings = [
            format!("train.out={}", self.folder(out).display()),
            format!("train.steps={steps}"),
            format!("train.checkpoint_every={}", (steps / LOOKS).max(1)),
            format!("train.seed={}", self.seed),
        ];
        Ok(RunConfig::load(&file, &settings)?)
    }

    fn folder(self, out: &Path) -> PathBuf {
        out.join(format!("images-{}-seed-{}", self.images, self.seed))
    }

    /// Trains, or goes on; the median time of a step, where there was any.
    fn train(self, out: &Path, steps: u64) -> Result<()> {
        let mut seconds = Vec::new();
        let config = self.config(out, steps)?;
        train(&config, Resume::Newest, &AtomicBool::new(false), &mut |event| {
            if let Event::Step(report) = event {
                seconds.push(report.seconds);
            }
        })?;
        seconds.sort_by(f64::total_cmp);
        if let Some(median) = seconds.get(seconds.len() / 2) {
            std::fs::write(self.folder(out).join("seconds.json"), median.to_string())?;
            println!("{self:?}: {median:.3} s a step");
        }
        Ok(())
    }

    fn seconds(self, out: &Path) -> Option<f64> {
        std::fs::read_to_string(self.folder(out).join("seconds.json")).ok()?.parse().ok()
    }

    /// The network after some steps.
    fn network(self, out: &Path, step: u64, weights: WeightKind) -> Result<LoadedNetwork> {
        let path = self.folder(out).join(format!("checkpoints/step-{step:08}"));
        Ok(Checkpoint::open(&path)?.network(Some(weights), Device::Cpu)?)
    }
}

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [out, steps, seeds] = arguments.as_slice() else { bail!("expected OUT STEPS SEEDS") };
    let steps: u64 = steps.parse().context("STEPS: expected a number")?;
    let seeds: u64 = seeds.parse().context("SEEDS: expected a number")?;
    ensure!(steps >= LOOKS && seeds > 0, "expected at least {LOOKS} STEPS and 1 SEED");
    let out = Path::new(out);
    std::fs::create_dir_all(out)?;

    let runs = || (0..seeds).flat_map(|seed| BESIDE.map(|images| Run { images, seed }));
    for run in runs() {
        run.train(out, steps)?;
    }
    let config = Run { images: 0, seed: 0 }.config(out, steps)?;
    let held_out = HeldOut::new(&config)?;
    let mut curves = Vec::new();
    for run in runs() {
        let mut looks = Vec::new();
        for look in 1..=LOOKS {
            let step = steps / LOOKS * look;
            let network = run.network(out, step, WeightKind::Ema)?.network;
            looks.push((step, held_out.losses(&network)?));
        }
        let last = run.network(out, steps / LOOKS * LOOKS, WeightKind::Model)?.network;
        let raw = held_out.losses(&last)?;
        curves.push(Curve { run, looks, raw, seconds: run.seconds(out) });
    }
    let mut spreads = Vec::new();
    for step in [steps / LOOKS, steps / LOOKS * LOOKS] {
        let at = Run { images: 0, seed: 0 }.network(out, step, WeightKind::Model)?;
        for images in BESIDE {
            let config = Run { images, seed: 0 }.config(out, steps)?;
            let measured = spread::measure(&config, &at)?;
            println!("step {step}, {images} images: {measured:?}");
            spreads.push((step, images, measured));
        }
    }
    let report = Report { config: &config, curves: &curves, spreads: &spreads };
    let text = report.tables()?;
    print!("{text}");
    std::fs::write(out.join("joint_training.md"), text)?;
    vd_data::write_line_plot(&out.join("joint_training.svg"), &report.plot())?;
    Ok(())
}
