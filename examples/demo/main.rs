//! Everything in one program: captioned clips, training, sampling from prompts, and a check of the
//! result. `cargo xtask demo` runs it.
//!
//! Writes `demo/`: the run, a GIF per prompt, a contact sheet with real clips above generated ones,
//! the loss curve, and report.json with the share of clips that have the colour of their prompt.
//! Arguments of the form `section.key=value` change the config, which is `examples/demo.toml`.
#![allow(clippy::print_stdout, reason = "a program for a terminal")]

mod measure;
mod pictures;

use std::io::Write;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use vd_data::{Clip, Colour, Source};
use vd_diffusion::Diffusion;
use vd_tensor_ops::video;
use vd_text_cond::{Condition, GenerateRequest, Generator, generate};
use vd_train::{Checkpoint, Event, Resume, RunConfig, train};

use crate::measure::{Measured, Metrics, Report};

const CONFIG: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/demo.toml");
const OUT: &str = "demo";
const CLIPS_PER_PROMPT: usize = 16;
const STEPS: usize = 30;
const GUIDANCE: f64 = 2.0;
/// Fixed before the first measurement.
const SEED: u64 = 2204_03458;

fn main() -> Result<()> {
    let overrides: Vec<String> = std::env::args().skip(1).collect();
    let config = RunConfig::load(Path::new(CONFIG), &overrides)?;
    let out = Path::new(OUT);
    std::fs::create_dir_all(out).with_context(|| format!("cannot make the folder {OUT}"))?;

    let real = real_clips(&config)?;
    learn(&config)?;
    let began = Instant::now();
    let generated = draw(&config)?;
    let sampled = began.elapsed().as_secs_f64();

    let metrics = Metrics::read(&config.train.out)?;
    let report = Report {
        rule: measure::RULE,
        generated: Measured::of(&generated),
        real: Measured::of(&real),
        guidance: GUIDANCE,
        sampling_steps: STEPS,
        training_steps: config.train.steps,
        training_seconds: metrics.seconds,
        sampling_seconds: sampled,
    };
    pictures::write(out, &metrics, &real, &generated)?;
    report.write(&out.join("report.json"))?;
    println!("\n{report}");
    println!("{}", farewell(&config));
    ensure!(report.passed(), "the model missed what is asked of it: {}", measure::ASKED);
    Ok(())
}

/// The prompts, each with the colour that it asks for.
fn prompts() -> Vec<(Colour, String)> {
    Colour::ALL.iter().map(|colour| (*colour, format!("a {} firework", colour.name()))).collect()
}

/// Trains the model, or goes on where an earlier demo stopped.
fn learn(config: &RunConfig) -> Result<()> {
    let summary =
        train(config, Resume::Newest, &AtomicBool::new(false), &mut |event| match event {
            Event::Started { step, steps, parameters, device, threads } => println!(
                "training a network of {parameters} parameters on captioned fireworks, steps \
                 {step} to {steps}, on {device:?} with {threads} threads"
            ),
            Event::Step(report) if report.step % 20 == 0 || report.step == config.train.steps => {
                print!("\r  step {:>5}  loss {:.4}", report.step, report.loss);
                let _ = std::io::stdout().flush();
            }
            _ => {}
        });
    let summary = summary.map_err(|e| match e {
        vd_train::Error::ResumeDiffers { .. } => anyhow::Error::new(e).context(format!(
            "an earlier demo with other settings left its run there; remove the folder {OUT}"
        )),
        e => e.into(),
    })?;
    println!("\ntrained in {:.0} s: {}", summary.seconds, config.train.out.display());
    Ok(())
}

/// Sixteen clips of each prompt, from the trained model.
fn draw(config: &RunConfig) -> Result<Vec<(Colour, Clip)>> {
    let checkpoint = Checkpoint::open(&config.train.out)?;
    let device = config.train.device.resolve()?;
    let loaded = checkpoint.network(None, device)?;
    let encoder = checkpoint.encoder()?;
    let diffusion = Diffusion::new(&config.diffusion)?;
    let model = Generator {
        backbone: &loaded.network,
        diffusion: &diffusion,
        encoder: encoder.as_deref(),
        null: checkpoint.null(),
        signals: &[],
    };
    let wanted: Vec<_> =
        prompts().into_iter().flat_map(|p| std::iter::repeat_n(p, CLIPS_PER_PROMPT)).collect();
    let texts = wanted.iter().map(|(_, prompt)| prompt.clone()).collect();
    let shape = [config.data.frames, config.data.size[0], config.data.size[1]].map(|n| n as i64);
    let request = GenerateRequest {
        steps: STEPS,
        guidance: GUIDANCE,
        seed: SEED,
        batch: CLIPS_PER_PROMPT,
        device,
        ..GenerateRequest::new(Condition::Prompts(texts), shape)
    };
    println!("drawing {} clips, {STEPS} steps of DDIM, guidance {GUIDANCE}", wanted.len());
    let videos = generate(&model, &request, &mut |progress| {
        print!("\r  clip {:>3}  step {:>3}", progress.clips + 1, progress.step);
        let _ = std::io::stdout().flush();
        ControlFlow::Continue(())
    })?;
    println!();
    let fps = checkpoint.geometry().fps;
    let clip = |(i, (colour, _)): (usize, &(Colour, String))| {
        let pixels = video::to_u8(&videos.get(i as i64)); // c f h w
        Ok((*colour, Clip::from_tensor(&pixels, fps)?))
    };
    wanted.iter().enumerate().map(clip).collect()
}

/// As many clips of the data, of the same colours, that the model never saw.
fn real_clips(config: &RunConfig) -> Result<Vec<(Colour, Clip)>> {
    let Source::Fireworks(fireworks) = &config.data.source else {
        anyhow::bail!("the demo measures fireworks; train on other data with `vd train`");
    };
    let mut clips = Vec::new();
    for colour in Colour::ALL {
        let one = vd_data::FireworksConfig {
            colours: vec![colour],
            two_bursts: 0.0,
            ..fireworks.clone()
        };
        for _ in 0..CLIPS_PER_PROMPT {
            let data = &config.data;
            let index = clips.len() as u64;
            let (clip, _) =
                vd_data::Generator::clip(&one, SEED, index, data.frames, data.size, data.channels)?;
            clips.push((colour, clip));
        }
    }
    Ok(clips)
}

fn farewell(config: &RunConfig) -> String {
    format!(
        "results: {OUT}/sheet.png, {OUT}/loss.svg, {OUT}/*.gif, {OUT}/report.json\n\n\
         continue with your own videos (GIFs or folders of PNG frames, captions in NAME.txt):\n  \
         cargo build --release --bin vd\n  \
         target/release/vd data inspect VIDEOS\n  \
         target/release/vd train examples/demo.toml \\\n      \
         --set 'data.source={{ kind = \"folder\", path = \"VIDEOS\" }}' --set train.out=runs/mine\n  \
         target/release/vd sample runs/mine --prompt \"...\" --cfg-scale {GUIDANCE} --out mine.gif\n\
         or sample more clips from this model:\n  \
         target/release/vd sample {} --prompt \"a blue firework\" --cfg-scale {GUIDANCE} --out blue.gif",
        config.train.out.display()
    )
}
