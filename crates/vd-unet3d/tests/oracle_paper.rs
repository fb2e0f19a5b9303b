//! The architecture of the paper's models compared with the naive reference in f64.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod network;
#[path = "../../vd-tensor-ops/tests/oracle/mod.rs"]
mod oracle;
mod small;

use network::twins::holds;
use oracle::draw::cases;
use oracle::{array, relative};
use proptest::prelude::*;
use small::{Scene, ask, build, config, noise_levels, paper, scene, told, with_some_null};
use tch::{Kind, Tensor};
use vd_unet3d::ops::torch::testing::device;
use vd_unet3d::{
    Axes, EmbeddingConfig, EmbeddingKind, FrameMask, Skips, TimeEmbedding, TimePositions,
    TokensConfig, UNet3dConfig,
};

const SIZE: [i64; 4] = [2, 3, 4, 8];

fn with_text(base: UNet3dConfig) -> UNet3dConfig {
    let tokens = TokensConfig { dim: 6, cross: vec![], memory: 0, pool: true };
    UNet3dConfig { tokens: Some(tokens), ..base }
}

#[test]
fn the_papers_form_is_the_twin() {
    let three = UNet3dConfig { blocks: 3, dim_mults: vec![1, 3], ..paper() };
    let three = UNet3dConfig { attention_levels: Some(vec![1]), ..three };
    for (seed, config) in [(1, paper()), (2, with_text(paper())), (3, three)] {
        holds(&config, seed, &|kind| {
            let mut scene = scene(&config, kind, seed + 9, SIZE);
            scene.t = noise_levels(&config, seed, &[2, 3]).to_kind(kind);
            scene.cond = with_some_null(&scene.cond, 2, 0b10);
            scene.frames = FrameMask::ClipAndImages { clip: 2 };
            scene
        });
    }
}

proptest! {
    #![proptest_config(cases(16))]

    #[test]
    fn any_mix_of_the_papers_choices_with_the_peers_is_the_twin(
        (blocks, listed, by_block) in (
            1i64..4,
            prop::sample::select(vec![None, Some(vec![]), Some(vec![1]), Some(vec![0, 1])]),
            any::<bool>(),
        ),
        (add, width, layers) in (
            any::<bool>(), prop::sample::select(vec![None, Some(7)]), 1i64..4,
        ),
        (by_channels, head, told_log_snr, shaw) in (
            any::<bool>(), prop::sample::select(vec![None, Some(3), Some(20)]),
            any::<bool>(), prop::sample::select(vec![None, Some(1), Some(9)]),
        ),
        (sparse, spatial_bias, pool, cross) in any::<(bool, bool, bool, bool)>(),
        (mask, absent, seed) in (0..3, any::<bool>(), any::<u64>()),
    ) {
        let kind = if add { EmbeddingKind::Add } else { EmbeddingKind::Film };
        let time_positions = match shaw {
            Some(distance) => TimePositions::Shaw { distance },
            None => TimePositions::Bias,
        };
        let cross = if cross { vec![Axes::Time, Axes::Space] } else { vec![] };
        let tokens = (pool || !cross.is_empty())
            .then_some(TokensConfig { dim: 6, cross, memory: 0, pool });
        let config = UNet3dConfig {
            blocks,
            attention_levels: listed,
            skips: if by_block { Skips::Block } else { Skips::Level },
            embedding: EmbeddingConfig { kind, width, layers },
            heads_by_channels: by_channels,
            spatial_dim_head: head,
            time: if told_log_snr { TimeEmbedding::LogSnr } else { TimeEmbedding::Step },
            time_positions,
            use_sparse_linear_attn: sparse,
            spatial_bias,
            tokens,
            zero_init: seed & 1 == 1,
            ..config()
        };
        holds(&config, seed, &|kind| {
            let mut scene = scene(&config, kind, seed, SIZE);
            let mut cond = told(&config, kind, seed, SIZE, false);
            if absent {
                cond.tokens = None;
            }
            scene.cond = with_some_null(&cond, 2, seed);
            scene.frames = match mask {
                0 => FrameMask::All,
                1 => FrameMask::Focus(Tensor::from_slice(&[true, false]).to_device(device())),
                _ => FrameMask::ClipAndImages { clip: 1 + (seed % 3) as i64 },
            };
            scene
        });
    }
}

#[test]
fn a_log_snr_is_told_as_the_step_of_its_angle() {
    let told = paper();
    let (net, _) = build(&told, Kind::Double, 4);
    let (other, _) =
        build(&UNet3dConfig { time: TimeEmbedding::Step, ..told.clone() }, Kind::Double, 4);
    let scene = scene(&told, Kind::Double, 5, SIZE);
    for (log_snr, step) in [(0.0, 500.0), (f64::INFINITY, 0.0), (f64::NEG_INFINITY, 1000.0)] {
        let at = |t: f64| Tensor::from_slice(&[t, t]).to_device(device());
        let with = |t: f64| Scene {
            x: scene.x.shallow_clone(),
            t: at(t),
            cond: scene.cond.shallow_clone(),
            frames: scene.frames.shallow_clone(),
        };
        let error = relative(&ask(&net, &with(log_snr)), &array(&ask(&other, &with(step))));
        assert!(error < 1e-12, "{log_snr}: {error:e}");
    }
}
