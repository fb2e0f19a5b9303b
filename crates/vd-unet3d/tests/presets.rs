//! The paper's models: their parameters, and that they run and learn.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fmt::Write;

use tch::{Device, Kind, Tensor};
use vd_unet3d::ops::torch::testing::folder;
use vd_unet3d::ops::{Noise, Params, SeededNoise, derive_seed};
use vd_unet3d::{
    Backbone, Cond, EmbeddingConfig, FrameMask, Preset, Tokens, TokensConfig, UNet3d, UNet3dConfig,
};

const PAPER: [Preset; 6] = [
    Preset::PaperUcf101,
    Preset::PaperBair,
    Preset::PaperKinetics600,
    Preset::PaperTextSmall,
    Preset::PaperTextLarge16x64,
    Preset::PaperTextLarge9x128,
];

/// Names and shapes, one per line.
fn listed(config: &UNet3dConfig) -> (String, usize) {
    let mut params = Params::sketch(Kind::Float);
    UNet3d::new(config, &mut params.root()).unwrap();
    let mut text = String::new();
    for (name, param) in params.iter() {
        let shape: Vec<_> = param.tensor.size().iter().map(i64::to_string).collect();
        writeln!(text, "{name} {}", shape.join(" ")).unwrap();
    }
    (text, params.count())
}

/// `VD_WRITE_PARAMETERS=1` rewrites the lists, for intended changes.
#[test]
fn the_parameters_of_every_full_model_are_the_listed_ones() {
    for preset in PAPER {
        let path = folder(env!("CARGO_MANIFEST_DIR"))
            .join(format!("tests/parameters/{}.txt", preset.name()));
        let (text, _) = listed(&preset.config());
        if std::env::var_os("VD_WRITE_PARAMETERS").is_some() {
            std::fs::write(&path, &text).unwrap();
        }
        let known = std::fs::read_to_string(&path).unwrap();
        for (line, known) in text.lines().zip(known.lines()) {
            assert_eq!(line, known, "{}", preset.name());
        }
        assert_eq!(text.lines().count(), known.lines().count(), "{}", preset.name());
    }
}

#[test]
fn the_sizes_of_the_full_models_are_known() {
    let counts = PAPER.map(|preset| listed(&preset.config()).1);
    assert_eq!(counts, COUNTS);
}

const COUNTS: [usize; 6] =
    [1_191_768_835, 143_056_643, 1_189_669_635, 310_626_691, 1_195_966_211, 1_199_393_667];

/// Scaled down by `dim`, and by the widths independent of `dim`, to fit a test.
fn scaled(preset: Preset) -> UNet3dConfig {
    let config = preset.config();
    let embedding = EmbeddingConfig { width: Some(32), ..config.embedding };
    let tokens = config.tokens.clone().map(|tokens| TokensConfig { dim: 12, ..tokens });
    UNet3dConfig { dim: 8, embedding, tokens, ..config }
}

fn build(config: &UNet3dConfig, seed: u64) -> (UNet3d, Params) {
    vd_unet3d::ops::torch::set_threads(1);
    let mut params = Params::new(seed, Kind::Float, Device::Cpu);
    let net = UNet3d::new(config, &mut params.root()).unwrap();
    (net, params)
}

fn drawn(seed: u64, shape: &[i64]) -> Tensor {
    SeededNoise::new(seed, 0).normal(&Tensor::empty(shape, (Kind::Float, Device::Cpu)))
}

/// A text for every sample, if the network takes one.
fn told(config: &UNet3dConfig, b: i64) -> Cond {
    match &config.tokens {
        Some(tokens) => {
            let weight = Tensor::ones([b, 3], (Kind::Float, Device::Cpu));
            Cond::none().with_tokens(Tokens { values: drawn(8, &[b, 3, tokens.dim]), weight })
        }
        None => Cond::none(),
    }
}

#[test]
fn a_sketch_counts_what_a_network_has() {
    for preset in PAPER {
        let config = scaled(preset);
        let (_, params) = build(&config, 1);
        let (text, count) = listed(&config);
        assert_eq!((count, text.lines().count()), (params.count(), params.iter().count()));
        for ((name, param), line) in params.iter().zip(text.lines()) {
            let shape: Vec<_> = param.tensor.size().iter().map(i64::to_string).collect();
            assert_eq!(format!("{name} {}", shape.join(" ")), line);
        }
    }
}

/// The mean square distance of the output from a target, with dropout.
fn loss(net: &UNet3d, step: u64) -> Tensor {
    let config = net.config();
    let side = 2 * config.spatial_multiple();
    let size = [2, 3, 3, side, side];
    let (x, target) = (drawn(2, &size), drawn(3, &size));
    let t = Tensor::from_slice(&[-1.5f32, 2.0]);
    let mut dropout = SeededNoise::new(derive_seed(5, &[step]), 0);
    let train: Option<&mut dyn Noise> = Some(&mut dropout);
    let frames = FrameMask::ClipAndImages { clip: 2 };
    let answer = net.forward(&x, &t, &told(config, 2), &frames, train).unwrap();
    assert!(answer.isfinite().all().int64_value(&[]) == 1);
    (answer - target).square().mean(Kind::Float)
}

#[test]
fn every_model_scaled_down_starts_with_nothing_and_learns_a_batch() {
    for preset in PAPER {
        let (net, params) = build(&scaled(preset), 4);
        let all: Vec<&Tensor> = params.trainable().into_iter().map(|(_, p)| p).collect();
        let mut losses = Vec::new();
        for step in 0..3 {
            let loss = loss(&net, step);
            losses.push(loss.double_value(&[]));
            let grads = Tensor::run_backward(&[loss], &all, false, false);
            for (grad, (name, parameter)) in grads.iter().zip(params.trainable()) {
                if !grad.defined() {
                    // The null embedding is unused if every sample has a text.
                    assert_eq!(name, "null_cond_emb", "{}", preset.name());
                    continue;
                }
                assert!(grad.isfinite().all().int64_value(&[]) == 1, "{name}");
                let _moved = tch::no_grad(|| parameter.shallow_clone().g_sub_(&(grad * 0.2)));
            }
        }
        // The target's own mean square: the output is initially 0 for any input.
        let size = drawn(3, &net_size(net.config())).square().mean(Kind::Float).double_value(&[]);
        assert!((losses[0] - size).abs() < 1e-6, "{losses:?} {size}");
        assert!(losses[1] < losses[0] && losses[2] < losses[1], "{}: {losses:?}", preset.name());
    }
}

fn net_size(config: &UNet3dConfig) -> [i64; 5] {
    let side = 2 * config.spatial_multiple();
    [2, 3, 3, side, side]
}

#[test]
fn a_frame_of_another_clip_changes_no_other_frames_answer() {
    for preset in PAPER {
        let (net, params) = build(&scaled(preset), 6);
        for (i, (_, parameter)) in params.trainable().into_iter().enumerate() {
            let step = drawn(100 + i as u64, &parameter.size()) * 0.2;
            let _moved = tch::no_grad(|| parameter.shallow_clone().g_add_(&step));
        }
        let config = net.config();
        let side = config.spatial_multiple() * 2;
        let (clip, f) = (2, 4);
        let x = drawn(7, &[1, 3, f, side, side]);
        let frames = FrameMask::ClipAndImages { clip };
        let t = Tensor::from_slice(&[0.5f32]);
        let cond = told(config, 1);
        let ask = |x: &Tensor| tch::no_grad(|| net.forward(x, &t, &cond, &frames, None).unwrap());
        let before = ask(&x);
        for changed in 0..f {
            let other = x.copy();
            other.narrow(2, changed, 1).copy_(&(drawn(9, &[1, 3, 1, side, side]) * 5.0));
            let after = ask(&other);
            for frame in 0..f {
                let linked = frame == changed || frame.max(changed) < clip;
                let same = before.narrow(2, frame, 1) == after.narrow(2, frame, 1);
                assert_eq!(same, !linked, "{}: {frame} of {changed}", preset.name());
            }
        }
    }
}
