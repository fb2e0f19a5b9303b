//! Recomputed activations: output, loss and every gradient are bitwise those of the path that keeps
//! them.

#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "../../vd-tensor-ops/tests/oracle/mod.rs"]
mod oracle;
mod small;

use oracle::draw::cases;
use proptest::prelude::*;
use small::{Scene, ask, build, conditional, everything, levels, mixes, paper, scene, told};
use tch::{Kind, Tensor};
use vd_unet3d::ops::SeededNoise;
use vd_unet3d::ops::kernels::{self, Precision};
use vd_unet3d::ops::layers::NormKind;
use vd_unet3d::ops::torch::testing::device;
use vd_unet3d::{Backbone, FrameMask, Skips, UNet3d, UNet3dConfig, Wrap};

/// Three levels with channels that the kernels support.
fn wide(base: UNet3dConfig) -> UNet3dConfig {
    UNet3dConfig { dim: 16, dim_mults: vec![1, 2, 2], ..base }
}

/// The bits of a tensor's values, of any kind; `None` if there is no gradient.
fn bits(x: &Tensor) -> Option<Vec<u64>> {
    let x = x.defined().then(|| x.detach().to_kind(Kind::Double).flatten(0, -1))?;
    Some(Vec::<f64>::try_from(x).unwrap().into_iter().map(f64::to_bits).collect())
}

/// Output, loss, and the gradients of the loss, in training.
fn pass(net: &UNet3d, scene: &Scene, leaves: &[&Tensor]) -> Vec<Option<Vec<u64>>> {
    let mut dropout = SeededNoise::new(11, 0);
    let Scene { x, t, cond, frames } = scene;
    let answer = net.forward(x, t, cond, frames, Some(&mut dropout)).unwrap();
    let loss = (answer.square() * answer.cos()).mean(answer.kind());
    let gradients = Tensor::run_backward(&[&loss], leaves, false, false);
    let all = [&answer, &loss].into_iter().chain(&gradients);
    all.map(bits).collect()
}

/// With respect to every parameter and to the video, for every number of levels.
fn holds(config: &UNet3dConfig, (seed, kind): (u64, Kind), question: impl Fn(&mut Scene)) {
    let (mut net, params) = build(config, kind, seed);
    let side = config.spatial_multiple() * 2;
    let mut scene = scene(config, kind, seed, [2, 3, side, side]);
    question(&mut scene);
    scene.x = scene.x.set_requires_grad(true);
    let mut leaves: Vec<&Tensor> = params.trainable().into_iter().map(|(_, t)| t).collect();
    leaves.push(&scene.x);
    let roads: &[Precision] =
        if kind == Kind::Float { &Precision::ALL } else { &[Precision::Reference] };
    for precision in roads {
        net.set_precision(*precision);
        net.set_recompute(0);
        let kept = pass(&net, &scene, &leaves);
        assert!(kept.iter().flatten().flatten().any(|bits| *bits != 0));
        for levels in [1, 2, 99] {
            net.set_recompute(levels);
            let again = pass(&net, &scene, &leaves);
            for (i, (kept, again)) in kept.iter().zip(&again).enumerate() {
                assert!(kept == again, "{precision}, {levels} levels: tensor {i} differs");
            }
        }
    }
}

fn groups(base: UNet3dConfig) -> UNet3dConfig {
    UNet3dConfig { norm: NormKind::Group { groups: 4 }, skip_before_temporal: true, ..base }
}

#[test]
fn the_graph_of_0_7_has_the_same_gradients() {
    holds(&wide(conditional()), (1, Kind::Float), |_| ());
}

#[test]
fn the_graph_of_0_6_has_the_same_gradients() {
    let config = UNet3dConfig { skip_before_temporal: false, ..groups(wide(conditional())) };
    holds(&config, (2, Kind::Float), |_| ());
}

#[test]
fn the_graph_of_0_5_has_the_same_gradients() {
    holds(&groups(wide(conditional())), (3, Kind::Float), |_| ());
}

#[test]
fn an_image_of_one_frame_has_the_same_gradients() {
    for (seed, config) in [(4, wide(conditional())), (5, groups(wide(conditional())))] {
        holds(&config, (seed, Kind::Float), |scene| {
            scene.x = scene.x.narrow(2, 0, 1).contiguous();
        });
    }
}

#[test]
fn masks_null_texts_and_levels_per_frame_have_the_same_gradients() {
    let config = wide(everything());
    for (seed, per_frame) in [(6, false), (7, true)] {
        holds(&config, (seed, Kind::Float), |scene| {
            let size = scene.x.size();
            let [b, f, h, w] = [size[0], size[2], size[3], size[4]];
            scene.t = levels(seed, &[b, f]);
            scene.cond = told(&config, Kind::Float, seed, [b, f, h, w], per_frame);
            scene.cond.null = Some(Tensor::from_slice(&[false, true]).to_device(device()));
            scene.frames = match per_frame {
                false => FrameMask::Focus(Tensor::from_slice(&[true, false]).to_device(device())),
                true => FrameMask::ClipAndImages { clip: 2 },
            };
        });
    }
}

proptest! {
    #![proptest_config(cases(3))]

    #[test]
    fn any_mix_of_options_has_the_same_gradients(config in mixes(), seed: u64, double: bool) {
        let kind = if double { Kind::Double } else { Kind::Float };
        holds(&config, (seed, kind), |_| ());
    }
}

#[test]
fn dropout_and_a_skip_for_every_block_have_the_same_gradients() {
    let dropped = UNet3dConfig { dropout: 0.3, ..wide(paper()) };
    let more = UNet3dConfig {
        dropout: 0.2,
        temporal_kernel: Some(3),
        wrap: Wrap { height: true, width: false },
        skips: Skips::Block,
        ..wide(everything())
    };
    for (seed, config) in [(10, dropped), (11, more)] {
        for kind in [Kind::Float, Kind::Double] {
            holds(&config, (seed, kind), |scene| {
                scene.frames = FrameMask::ClipAndImages { clip: 2 };
            });
        }
    }
}

#[test]
fn the_second_run_computes_as_exactly_as_the_first_whatever_is_chosen_meanwhile() {
    let config = wide(conditional());
    let (mut net, params) = build(&config, Kind::Float, 8);
    let scene = scene(&config, Kind::Float, 8, [1, 2, 8, 8]);
    let leaves: Vec<&Tensor> = params.trainable().into_iter().map(|(_, t)| t).collect();
    net.set_precision(Precision::Reference);
    let mut found = Vec::new();
    for levels in [0, 3] {
        net.set_recompute(levels);
        let loss = ask(&net, &scene).square().mean(Kind::Float);
        let backward = || Tensor::run_backward(&[&loss], &leaves, false, false);
        let gradients = kernels::with(Precision::F32, || tch::no_grad(backward));
        found.push(gradients.iter().map(bits).collect::<Vec<_>>());
    }
    assert!(found[0] == found[1]);
}

#[test]
fn without_gradients_and_for_frozen_parameters_nothing_changes() {
    let config = wide(conditional());
    let (mut net, params) = build(&config, Kind::Float, 9);
    let scene = scene(&config, Kind::Float, 9, [1, 2, 8, 8]);
    let trained: Vec<&Tensor> = params.trainable().into_iter().map(|(_, t)| t).collect();
    for parameter in &trained[2..] {
        let _ = parameter.set_requires_grad(false);
    }
    let mut found = Vec::new();
    for levels in [0, 2] {
        net.set_recompute(levels);
        let answer = tch::no_grad(|| ask(&net, &scene));
        assert!(!answer.requires_grad());
        let loss = ask(&net, &scene).square().mean(Kind::Float);
        let gradients = Tensor::run_backward(&[&loss], &trained[..2], false, false);
        found.push((bits(&answer), gradients.iter().map(bits).collect::<Vec<_>>()));
    }
    assert!(found[0] == found[1]);
}
