//! The whole network compared with its naive reference in f64, over configs, conditioning, noise
//! levels and frame masks.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod network;
#[path = "../../vd-tensor-ops/tests/oracle/mod.rs"]
mod oracle;
mod small;

use ndarray::Array1;
use network::twins::holds;
use oracle::draw::{cases, normal};
use oracle::{relative, row};
use proptest::prelude::*;
use small::{Scene, conditional, config, levels, mixes, scene, told, with_some_null};
use tch::Tensor;
use vd_unet3d::ops::layers::NormKind;
use vd_unet3d::ops::torch::testing::device;
use vd_unet3d::{FrameMask, UNet3dConfig};

const SIZE: [i64; 4] = [2, 3, 4, 6];

#[test]
fn the_graphs_of_all_three_presets_are_the_twins() {
    for preset in [
        UNet3dConfig::video_diffusion_pytorch_0_7(),
        UNet3dConfig::video_diffusion_pytorch_0_6(),
        UNet3dConfig::video_diffusion_pytorch_0_5(),
    ] {
        let UNet3dConfig { norm, skip_before_temporal, .. } = preset;
        let config = UNet3dConfig { norm, skip_before_temporal, ..config() };
        holds(&config, 1, &|kind| scene(&config, kind, 2, SIZE));
    }
}

/// The Python package fails here: its last block expects 2 dim channels and gets 2 init_dim.
#[test]
fn the_first_convolution_may_have_channels_of_its_own() {
    for init_dim in [4, 12] {
        for skip_before_temporal in [false, true] {
            let config =
                UNet3dConfig { init_dim: Some(init_dim), skip_before_temporal, ..config() };
            holds(&config, 3, &|kind| scene(&config, kind, 4, SIZE));
        }
    }
}

#[test]
fn rows_of_the_null_mask_get_the_null_embedding() {
    let config = conditional();
    for mask in [[false, false], [true, false], [false, true], [true, true]] {
        holds(&config, 5, &|kind| {
            let scene = scene(&config, kind, 6, SIZE);
            let cond = scene.cond.with_null(Tensor::from_slice(&mask).to_device(device()));
            Scene { cond, ..scene }
        });
    }
}

#[test]
fn a_conditional_network_without_conditioning_uses_its_null_embedding() {
    let config = conditional();
    holds(&config, 5, &|kind| Scene { cond: Default::default(), ..scene(&config, kind, 6, SIZE) });
}

#[test]
fn every_frame_may_have_its_own_level_and_its_own_embedding() {
    let config = conditional();
    for (own_level, own_embedding) in [(true, false), (false, true), (true, true)] {
        holds(&config, 7, &|kind| {
            let mut scene = scene(&config, kind, 8, SIZE);
            if own_level {
                scene.t = levels(9, &[2, 3]).to_kind(kind);
            }
            if own_embedding {
                let embeddings = normal(10, &[2, 3, 5]).to_kind(kind);
                scene.cond.pooled = Some(embeddings);
                scene.cond.null = Some(Tensor::from_slice(&[false, true]).to_device(device()));
            }
            scene
        });
    }
}

#[test]
fn a_focus_mask_spares_the_first_attention_unless_asked() {
    for mask_first_temporal in [false, true] {
        let config = UNet3dConfig { mask_first_temporal, ..config() };
        for mask in [[true, false], [true, true], [false, false]] {
            holds(&config, 11, &|kind| {
                let frames = FrameMask::Focus(Tensor::from_slice(&mask).to_device(device()));
                Scene { frames, ..scene(&config, kind, 12, SIZE) }
            });
        }
    }
}

#[test]
fn images_after_a_clip_are_separate_in_every_attention() {
    for mask_first_temporal in [false, true] {
        let config = UNet3dConfig { mask_first_temporal, ..config() };
        for clip in 1..=3 {
            holds(&config, 13, &|kind| {
                let frames = FrameMask::ClipAndImages { clip };
                Scene { frames, ..scene(&config, kind, 14, SIZE) }
            });
        }
    }
}

proptest! {
    #![proptest_config(cases(16))]

    #[test]
    fn any_small_network_is_its_twin(
        (init_dim, kernel, mults, cond_dim) in (
            prop::sample::select(vec![None, Some(4), Some(8), Some(12)]),
            prop::sample::select(vec![1i64, 3, 5, 7]),
            prop::sample::select(vec![vec![1], vec![2], vec![1, 2], vec![2, 1], vec![1, 1, 2]]),
            prop::sample::select(vec![None, Some(1), Some(6)]),
        ),
        (channels, out_dim, heads, head_dim) in (
            1i64..4,
            prop::sample::select(vec![None, Some(1), Some(5)]),
            1i64..4,
            prop::sample::select(vec![2i64, 8, 34, 35]),
        ),
        norm in prop::sample::select(vec![
            NormKind::Rms, NormKind::Group { groups: 1 }, NormKind::Group { groups: 4 },
        ]),
        (sparse, skip_before_temporal, mask_first_temporal) in any::<(bool, bool, bool)>(),
        (b, f, h, w) in (1i64..3, 1i64..5, 1i64..3, 1i64..4),
        (mask, per_frame, seed) in (0..3, any::<bool>(), any::<u64>()),
    ) {
        let config = UNet3dConfig {
            init_dim,
            init_kernel_size: kernel,
            dim_mults: mults,
            channels,
            out_dim,
            cond_dim,
            attn_heads: heads,
            attn_dim_head: head_dim,
            use_sparse_linear_attn: sparse,
            norm,
            skip_before_temporal,
            mask_first_temporal,
            ..config()
        };
        let m = config.spatial_multiple();
        holds(&config, seed, &|kind| {
            let mut scene = scene(&config, kind, seed, [b, f, h * m, w * m]);
            let bits: Vec<bool> = (0..b).map(|k| seed >> k & 1 == 1).collect();
            scene.frames = match mask {
                0 => FrameMask::All,
                1 => FrameMask::Focus(Tensor::from_slice(&bits).to_device(device())),
                _ => FrameMask::ClipAndImages { clip: 1 + (seed % f as u64) as i64 },
            };
            if per_frame {
                scene.t = levels(seed, &[b, f]).to_kind(kind);
            }
            if cond_dim.is_some() && seed >> 8 & 1 == 1 {
                scene.cond.null = Some(Tensor::from_slice(&bits).to_device(device()));
            }
            scene
        });
    }
}

proptest! {
    #![proptest_config(cases(12))]

    #[test]
    fn a_network_that_is_told_more_is_its_twin(
        mix in mixes(),
        group: bool,
        (mask, per_frame, absent) in (0..3, any::<bool>(), any::<bool>()),
        mask_first_temporal: bool,
        seed: u64,
    ) {
        let norm = if group { NormKind::Group { groups: 4 } } else { NormKind::Rms };
        let config = UNet3dConfig { norm, mask_first_temporal, ..mix };
        holds(&config, seed, &|kind| {
            let mut scene = scene(&config, kind, seed, SIZE);
            let mut cond = told(&config, kind, seed, SIZE, per_frame);
            if absent {
                cond.tokens = cond.tokens.filter(|_| seed >> 20 & 1 == 1);
                cond.pooled = cond.pooled.filter(|_| config.tokens.is_none() || cond.tokens.is_some());
                let mut drawn = seed >> 21;
                cond.signals.retain(|_, _| {
                    drawn >>= 1;
                    drawn & 1 == 1
                });
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
fn the_twin_knows_the_normal_distribution() {
    // erf at 0.5, 1 and 3 to 15 digits (Abramowitz & Stegun, table 7.1, and its series).
    let known =
        Array1::from(vec![0.520_499_877_813_047, 0.842_700_792_949_715, 0.999_977_909_503_001]);
    let got: Vec<f64> = [0.5, 1.0, 3.0].into_iter().map(oracle::position::erf).collect();
    assert!(relative(&Tensor::from_slice(&got).to_device(device()), &known) < 1e-14);
    assert_eq!(
        row(&Tensor::from_slice(&[oracle::position::erf(-9.0)]).to_device(device()))[0],
        -1.0
    );
}
