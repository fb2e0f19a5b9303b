//! How far apart do precisions end? Samples the same clips from the same noise once in each
//! precision, with fresh noise at every step, from the model that the demo has trained, and
//! compares the clips.
//!
//! ```sh
//! cargo run --release -p vd-examples --example precision_drift -- demo/run 1000 3
//! ```
//! samples a clip of each of three prompts in 1000 ancestral steps. Every step passes its rounding
//! errors on to the next, so if differences grow, they grow here.
#![allow(clippy::print_stdout, reason = "a program for a terminal")]

use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use vd_data::Colour;
use vd_diffusion::SamplerConfig;
use vd_examples::Opened;
use vd_tensor_ops::kernels::{self, Precision};
use vd_tensor_ops::video;
use vd_text_cond::GenerateRequest;
use vd_torch::tch::{Kind, Tensor};

const SEED: u64 = 2204_03458;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [run, steps, clips] = arguments.as_slice() else { bail!("expected RUN STEPS CLIPS") };
    let steps = steps.parse().context("STEPS: expected a number")?;
    let clips: usize = clips.parse().context("CLIPS: expected a number")?;
    ensure!(clips > 0, "CLIPS: expected at least 1, got 0");
    let colours = Colour::ALL.iter().cycle().take(clips);
    let prompts: Vec<_> = colours.map(|colour| format!("a {} firework", colour.name())).collect();
    let mut model = Opened::run(Path::new(run))?;
    let request = GenerateRequest {
        steps,
        sampler: SamplerConfig::Ancestral { gamma: 0.0 },
        seed: SEED,
        ..model.request(prompts)
    };
    let mut drawn = Vec::new();
    for precision in Precision::ALL {
        let began = std::time::Instant::now();
        model.set_precision(precision);
        drawn.push((precision, model.videos(&request)?));
        let seconds = began.elapsed().as_secs_f64();
        println!("{}: {steps} steps in {seconds:.1} s", kernels::road(precision));
    }
    println!(
        "\n| precisions | relative L2 | largest difference of a pixel, of 255 | other bytes |"
    );
    println!("|---|---|---|---|");
    for (i, (one, a)) in drawn.iter().enumerate() {
        for (other, b) in &drawn[i + 1..] {
            println!("| {one}, {other} | {} |", difference(a, b)?);
        }
    }
    Ok(())
}

/// |b - a| / |a|, the largest difference in units of a byte's 0 to 255, and the share of bytes that
/// differ.
fn difference(a: &Tensor, b: &Tensor) -> Result<String> {
    let (wide, other) = (a.f_to_kind(Kind::Double)?, b.f_to_kind(Kind::Double)?);
    let apart = wide.f_sub(&other)?;
    let relative = apart.f_norm()?.f_div(&wide.f_norm()?)?.f_double_value(&[])?;
    // Clips are in [-1, 1].
    let largest = apart.f_abs()?.f_max()?.f_double_value(&[])? * 127.5;
    let changed = video::to_u8(a).f_ne_tensor(&video::to_u8(b))?;
    let share = changed.f_to_kind(Kind::Double)?.f_mean(Kind::Double)?.f_double_value(&[])?;
    Ok(format!("{relative:.1e} | {largest:.1e} | {:.4} %", 100.0 * share))
}
