//! The whole network against its naive twin in f64, over configs, conditioning, noise levels and
//! frame masks.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod network;
#[path = "../../vd-tensor-ops/tests/oracle/mod.rs"]
mod oracle;
mod small;

use ndarray::{Array1, Array3, Axis};
use network::{Network, Question};
use oracle::attention::Sight;
use oracle::draw::{cases, normal};
use oracle::{Weights, array, relative, row, video};
use proptest::prelude::*;
use small::{Scene, build, conditional, config, levels, scene};
use tch::{Kind, Tensor};
use vd_unet3d::ops::layers::NormKind;
use vd_unet3d::{Backbone, FrameMask, UNet3dConfig};

/// Relative difference that f64 arithmetic explains: measured below 2e-14.
const EXACT: f64 = 1e-12;
/// The same in f32: measured below 2e-6.
const SINGLE: f64 = 2e-5;

/// Which frames see each other: sample, query, key.
fn sees(frames: &FrameMask) -> Sight {
    match frames {
        FrameMask::All => Box::new(|_, _, _| true),
        FrameMask::Focus(mask) => {
            let mask = Vec::<bool>::try_from(mask).unwrap();
            Box::new(move |b, i, j| !mask[b] || i == j)
        }
        FrameMask::ClipAndImages { clip } => {
            let clip = *clip as usize;
            Box::new(move |_, i, j| i == j || i.max(j) < clip)
        }
    }
}

/// Levels of every frame: b f 1.
fn every_frame(t: &Tensor, f: usize) -> Array3<f64> {
    let t = array(t);
    Array3::from_shape_fn(
        (t.shape()[0], f, 1),
        |(b, f, _)| {
            if t.ndim() == 1 { t[[b]] } else { t[[b, f]] }
        },
    )
}

/// The difference of network and twin in f64 and in f32.
fn compare(config: &UNet3dConfig, seed: u64, make: &dyn Fn(Kind) -> Scene) -> [f64; 2] {
    [Kind::Double, Kind::Float].map(|kind| {
        let (net, params) = build(config, kind, seed);
        let scene = make(kind);
        let got = net.forward(&scene.x, &scene.t, &scene.cond, &scene.frames, None).unwrap();
        assert_eq!(got.kind(), kind);

        let x = video(&scene.x);
        let null = scene.cond.null.as_ref().map(|mask| Vec::<bool>::try_from(mask).unwrap());
        let pooled = scene.cond.pooled.as_ref().map(array);
        let cond = |b: usize, f: usize| -> Option<Array1<f64>> {
            let given = pooled.as_ref()?.index_axis(Axis(0), b);
            if null.as_ref().is_some_and(|null| null[b]) {
                return None;
            }
            let given = if given.ndim() == 2 { given.index_axis(Axis(0), f) } else { given };
            Some(given.iter().copied().collect())
        };
        let everyone = sees(&FrameMask::All);
        let masked = sees(&scene.frames);
        let spared = matches!(scene.frames, FrameMask::Focus(_)) && !config.mask_first_temporal;
        let question = Question {
            t: every_frame(&scene.t, x.dim().2),
            x,
            cond: &cond,
            first_sees: if spared { &everyone } else { &masked },
            sees: &masked,
        };
        let weights = Weights::of(&params);
        relative(&got, &Network { config, weights: &weights }.answer(&question))
    })
}

fn holds(config: &UNet3dConfig, seed: u64, make: &dyn Fn(Kind) -> Scene) {
    let [double, single] = compare(config, seed, make);
    assert!(double <= EXACT, "f64: {double:e} for {config:?}");
    assert!(single <= SINGLE, "f32: {single:e} for {config:?}");
}

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

/// The Python package fails here: its last block takes 2 dim channels and gets 2 init_dim.
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
            let cond = scene.cond.with_null(Tensor::from_slice(&mask));
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
                scene.cond.null = Some(Tensor::from_slice(&[false, true]));
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
                let frames = FrameMask::Focus(Tensor::from_slice(&mask));
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
                1 => FrameMask::Focus(Tensor::from_slice(&bits)),
                _ => FrameMask::ClipAndImages { clip: 1 + (seed % f as u64) as i64 },
            };
            if per_frame {
                scene.t = levels(seed, &[b, f]).to_kind(kind);
            }
            if cond_dim.is_some() && seed >> 8 & 1 == 1 {
                scene.cond.null = Some(Tensor::from_slice(&bits));
            }
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
    assert!(relative(&Tensor::from_slice(&got), &known) < 1e-14);
    assert_eq!(row(&Tensor::from_slice(&[oracle::position::erf(-9.0)]))[0], -1.0);
}
