//! vd-train alone: trains from a config in the program, and loads the network back from disk.
#![allow(clippy::print_stdout, reason = "a program for a terminal")]

use std::path::Path;
use std::sync::atomic::AtomicBool;

use vd_train::{Checkpoint, Event, Resume, RunConfig, train};

const CONFIG: &str = r#"
[model]
dim = 8
dim_mults = [1, 2]
attn_heads = 2
channels = 1

[data]
source = { kind = "digits" }
channels = 1
frames = 3
size = [16, 16]

[train]
out = "OUT"
steps = 12
batch = 4
lr = 1e-3
preview_every = 0
"#;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let out = std::env::temp_dir().join("vd-digits-run");
    let file = std::env::temp_dir().join("vd-digits.toml");
    std::fs::write(&file, CONFIG.replace("OUT", &out.display().to_string()))?;

    let config = RunConfig::load(Path::new(&file), &["train.seed=3".to_owned()])?;
    // When started again, this program finds the run finished and goes straight to the weights.
    let summary = train(&config, Resume::Newest, &AtomicBool::new(false), &mut |event| {
        if let Event::Step(report) = event {
            println!("step {:>2}: loss {:.3}", report.step, report.loss);
        }
    })?;
    println!("{} steps, {:?}", summary.step, summary.checkpoint);

    let checkpoint = Checkpoint::open(&out)?;
    let loaded = checkpoint.network(None, vd_train::tch::Device::Cpu)?;
    println!("{} parameters, {} weights", loaded.params.count(), loaded.weights);
    Ok(())
}
