//! Hundreds of thousands of damaged configs: an error or a value, never a panic, a hang or
//! excessive memory.
//!
//! `VD_FUZZ=1000000` sets the number of inputs.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use vd_torch::fuzz::{Counting, Fuzz};
use vd_train::RunConfig;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const SMALL: &str = r#"[model]
dim = 8
dim_mults = [1, 2]
[data]
source = { kind = "fireworks" }
frames = 8
size = [32, 32]
[train]
out = "runs/first"
steps = 1000
"#;

const LARGE: &str = r#"[model]
preset = "video-diffusion-pytorch-0.7"
dim = 32
dim_mults = [1, 2, 4]
[model.signals.speed]
kind = "scalar"
mean = 3.5
std = 2.0
[signals.speed]
from = { kind = "column", name = "speed" }
drop = 0.1
[diffusion]
schedule = { kind = "cosine-discrete", steps = 1000 }
parameterization = "epsilon"
loss = "l2"
[text]
encoder = { kind = "hashed", width = 64 }
drop = 0.1
[data]
source = { kind = "folder", path = "v", captions = { table = "t.csv" } }
frames = 8
size = [32, 32]
crop = "random"
[train]
out = "runs/first"
steps = 1000
batch = 8
lr = 2e-4
ema = 0.995
preview_prompts = ["a red firework"]
"#;

#[test]
fn run_configs() {
    let seeds = [SMALL, LARGE].map(|text| text.as_bytes().to_vec());
    // in a list of one-digit numbers each takes a node; the messages quote the text
    Fuzz::new(seeds.to_vec()).allocation(1024, 1 << 20).run(|bytes| {
        let text = std::str::from_utf8(bytes).map_err(|e| e.to_string())?;
        let config: RunConfig = toml::from_str(text).map_err(|e| e.to_string())?;
        // nothing is read from the disk: the folders of these configs do not exist
        config.validate().map_err(|e| e.to_string())
    });
}
