//! The gradient of the whole network, with respect to its input, its conditioning and every
//! parameter, compared with central differences in f64.

#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "../../vd-tensor-ops/tests/oracle/mod.rs"]
mod oracle;
mod small;

use oracle::differences::{check, check_together, leaves};
use oracle::draw::cases;
use proptest::prelude::*;
use small::{ask, build, conditional, everything, levels, mixes, noise_levels, paper, scene, told};
use tch::{Kind, Tensor};
use vd_unet3d::ops::SeededNoise;
use vd_unet3d::ops::layers::NormKind;
use vd_unet3d::ops::torch::testing::device;
use vd_unet3d::{Backbone, Cond, FrameMask, TokensConfig, UNet3dConfig, Wrap};

fn gradients_hold(config: &UNet3dConfig, seed: u64) {
    let (net, params) = build(config, Kind::Double, seed);
    let mut scene = scene(config, Kind::Double, seed, [2, 3, 4, 4]);
    scene.t = levels(seed, &[2, 3]);
    scene.frames = FrameMask::Focus(Tensor::from_slice(&[true, false]).to_device(device()));
    // One row is null, so that both the given and the null embedding take part.
    let pooled = scene.cond.pooled.as_ref().unwrap().set_requires_grad(true);
    scene.cond.pooled = Some(pooled.shallow_clone());
    scene.cond.null = Some(Tensor::from_slice(&[false, true]).to_device(device()));
    let x = scene.x.set_requires_grad(true);
    scene.x = x.shallow_clone();
    let mut leaves = leaves(&params, &x);
    leaves.push(("conditioning".to_owned(), pooled));
    // All together; then each input of the network separately.
    check_together("network", &leaves, (seed, 3), &|| ask(&net, &scene));
    let inputs = leaves.split_off(params.trainable().len());
    check("network", &inputs, seed, &|| ask(&net, &scene));
}

#[test]
fn gradients_of_the_network_are_the_slopes_of_its_values() {
    let base = UNet3dConfig { init_dim: Some(4), out_dim: Some(2), ..conditional() };
    gradients_hold(&base, 1);
    let norm = NormKind::Group { groups: 2 };
    gradients_hold(&UNet3dConfig { norm, skip_before_temporal: true, ..base }, 2);
}

#[test]
fn every_parameter_gets_a_gradient() {
    let config = conditional();
    let (net, params) = build(&config, Kind::Double, 3);
    let mut scene = scene(&config, Kind::Double, 4, [2, 3, 4, 4]);
    scene.cond.null = Some(Tensor::from_slice(&[false, true]).to_device(device()));
    net.forward(&scene.x, &scene.t, &scene.cond, &scene.frames, None)
        .unwrap()
        .square()
        .sum(Kind::Double)
        .backward();
    for (name, parameter) in params.iter() {
        let gradient = parameter.tensor.grad();
        assert_eq!(gradient.defined(), parameter.trainable, "{name}");
        if parameter.trainable {
            assert!(gradient.abs().max().double_value(&[]) > 0.0, "{name}");
        }
    }
}

/// All conditioning inputs; the first sample lacks each of them.
fn half_told(config: &UNet3dConfig, seed: u64, per_frame: bool) -> Cond {
    let mut cond = told(config, Kind::Double, seed, [2, 3, 4, 4], per_frame);
    let first = || Some(Tensor::from_slice(&[true, false]).to_device(device()));
    if cond.has_text() {
        cond.null = first();
    }
    for given in cond.signals.values_mut() {
        given.null = first();
    }
    cond
}

/// Dropout has the same masks at every call, since they are determined by a stream.
#[test]
fn gradients_of_the_papers_form_are_the_slopes_of_its_values() {
    let tokens = TokensConfig { dim: 5, cross: vec![], memory: 0, pool: true };
    let config = UNet3dConfig {
        dropout: 0.25,
        temporal_kernel: Some(3),
        wrap: Wrap { height: false, width: true },
        tokens: Some(tokens),
        ..paper()
    };
    let (net, params) = build(&config, Kind::Double, 6);
    let mut scene = scene(&config, Kind::Double, 7, [2, 3, 4, 8]);
    scene.t = noise_levels(&config, 7, &[2, 3]);
    scene.frames = FrameMask::ClipAndImages { clip: 2 };
    scene.cond.null = Some(Tensor::from_slice(&[false, true]).to_device(device()));
    let x = scene.x.set_requires_grad(true);
    let leaves = leaves(&params, &x);
    check_together("network", &leaves, (8, 3), &|| {
        let mut dropout = SeededNoise::new(1, 0);
        net.forward(&x, &scene.t, &scene.cond, &scene.frames, Some(&mut dropout)).unwrap()
    });
}

proptest! {
    #![proptest_config(cases(6))]

    #[test]
    fn gradients_reach_all_that_is_told(config in mixes(), seed: u64, per_frame: bool) {
        gradients_of_what_is_told(&config, seed, per_frame);
    }
}

#[test]
fn gradients_reach_everything_at_once() {
    for per_frame in [false, true] {
        gradients_of_what_is_told(&everything(), 5, per_frame);
    }
}

/// With respect to every parameter, the video, and all real-valued conditioning: always defined,
/// and equal to the derivative of the output.
fn gradients_of_what_is_told(config: &UNet3dConfig, seed: u64, per_frame: bool) {
    let (net, params) = build(config, Kind::Double, seed);
    let mut scene = scene(config, Kind::Double, seed, [2, 3, 4, 4]);
    scene.frames = FrameMask::ClipAndImages { clip: 2 };
    scene.cond = half_told(config, seed, per_frame);
    scene.x = scene.x.set_requires_grad(true);
    let mut all = leaves(&params, &scene.x);
    let mut leaf = |name: &str, x: &Tensor| {
        let x = x.set_requires_grad(true);
        all.push((name.to_owned(), x.shallow_clone()));
        x
    };
    let own = scene.cond.shallow_clone();
    if let Some(pooled) = own.pooled.filter(|_| config.tokens.as_ref().is_none_or(|t| !t.pool)) {
        scene.cond.pooled = Some(leaf("pooled", &pooled));
    }
    if let Some(tokens) = &mut scene.cond.tokens {
        tokens.values = leaf("tokens", &tokens.values);
        // All tokens present: at a weight of 0 the output has only a one-sided derivative.
        let there = tokens.weight.to_kind(Kind::Double).clamp_min(0.2);
        tokens.weight = leaf("weight", &there);
    }
    for (name, given) in &mut scene.cond.signals {
        if given.value.kind() == Kind::Double {
            given.value = leaf(name, &given.value);
        }
    }
    let answer = || ask(&net, &scene);
    let loss = answer().square().sum(Kind::Double);
    let tensors: Vec<&Tensor> = all.iter().map(|(_, x)| x).collect();
    let gradients = Tensor::run_backward(&[loss], &tensors, true, false);
    for ((name, _), gradient) in all.iter().zip(gradients) {
        assert!(gradient.abs().max().double_value(&[]) > 0.0, "{name} of {config:?}");
    }
    check_together("network", &all, (seed, 2), &answer);
}
