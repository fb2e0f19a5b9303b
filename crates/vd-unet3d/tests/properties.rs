//! Invariances of the output under changes of the input.

#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "../../vd-tensor-ops/tests/oracle/mod.rs"]
mod oracle;
mod small;

use oracle::draw::{cases, normal};
use oracle::{array, relative};
use proptest::prelude::*;
use small::{Scene, ask, build, conditional, config, levels, scene};
use tch::{Kind, Tensor};
use vd_unet3d::ops::layers::NormKind;
use vd_unet3d::ops::torch::testing::{device, tolerance};
use vd_unet3d::{Backbone, Cond, FrameMask, UNet3d, UNet3dConfig};

/// Tolerance for two orders of the same sums, through the whole network.
///
/// In f32 the network differs from its f64 reference by up to 1.5e-6, and so do two batches with
/// the same sample: measured over 600 networks, 2e-6 at most and typically 5e-7. In f64 nothing is
/// hidden by rounding.
fn same(kind: Kind) -> f64 {
    if kind == Kind::Double { 1e-13 } else { tolerance(5e-6) }
}

/// Levels per sample or per frame: over 300 networks 2.9e-6 at most in f32, with Winograd
/// convolutions (7e-7 with direct ones).
fn same_levels(kind: Kind) -> f64 {
    if kind == Kind::Double { 1e-13 } else { tolerance(5e-6) }
}

const KINDS: [Kind; 2] = [Kind::Double, Kind::Float];

fn group_norm() -> UNet3dConfig {
    UNet3dConfig { norm: NormKind::Group { groups: 4 }, ..conditional() }
}

/// The videos of `scene` with the frames from `from` on replaced.
fn with_frames(scene: &Scene, from: i64, frames: &Tensor) -> Scene {
    let kept = scene.x.narrow(2, 0, from);
    Scene {
        x: Tensor::cat(&[&kept, frames], 2),
        t: scene.t.shallow_clone(),
        cond: scene.cond.shallow_clone(),
        frames: scene.frames.shallow_clone(),
    }
}

proptest! {
    #![proptest_config(cases(8))]

    #[test]
    fn equal_levels_of_all_frames_are_one_level(
        b in 1i64..4, f in 1i64..5, group: bool, seed: u64,
    ) {
        let config = if group { group_norm() } else { conditional() };
        for kind in KINDS {
            let (net, _) = build(&config, kind, seed);
            let one = scene(&config, kind, seed, [b, f, 4, 6]);
            let expected = array(&ask(&net, &one));
            let each = Scene { t: one.t.unsqueeze(1).repeat([1, f]), ..one };
            prop_assert!(relative(&ask(&net, &each), &expected) <= same_levels(kind));
            // And equal embeddings of all frames equal a single embedding, also where a row is
            // null.
            let pooled = each.cond.pooled.as_ref().unwrap();
            let null = Tensor::from_slice(&(0..b).map(|k| k == 1).collect::<Vec<_>>()).to_device(device());
            let per_sample = Scene { cond: each.cond.with_null(null.shallow_clone()), ..each };
            let pooled = pooled.unsqueeze(1).repeat([1, f, 1]);
            let expected = array(&ask(&net, &per_sample));
            let per_frame = Scene { cond: Cond::pooled(pooled).with_null(null), ..per_sample };
            prop_assert!(relative(&ask(&net, &per_frame), &expected) <= same_levels(kind));
        }
    }

    #[test]
    fn a_sample_does_not_depend_on_its_batch(
        b in 2i64..5, f in 1i64..5, group: bool, mask in 0..3, draws: u64,
    ) {
        let config = if group { group_norm() } else { conditional() };
        let bits: Vec<bool> = (0..b).map(|k| draws >> k & 1 == 1).collect();
        let null: Vec<bool> = (0..b).map(|k| draws >> (8 + k) & 1 == 1).collect();
        let frames = |rows: &[bool]| match mask {
            0 => FrameMask::All,
            1 => FrameMask::Focus(Tensor::from_slice(rows).to_device(device())),
            _ => FrameMask::ClipAndImages { clip: 1 + f / 2 },
        };
        for kind in KINDS {
            let (net, _) = build(&config, kind, draws);
            let all = scene(&config, kind, draws, [b, f, 4, 6]);
            let cond = all.cond.with_null(Tensor::from_slice(&null).to_device(device()));
            let all = Scene { frames: frames(&bits), cond, ..all };
            let together = ask(&net, &all);
            for k in 0..b {
                let row = |t: &Tensor| t.narrow(0, k, 1);
                let alone = Scene {
                    x: row(&all.x),
                    t: row(&all.t),
                    cond: all.cond.rows(k, 1).unwrap(),
                    frames: frames(&bits[k as usize..=k as usize]),
                };
                let error = relative(&ask(&net, &alone), &array(&row(&together)));
                prop_assert!(error <= same(kind), "{kind:?}, sample {k}: {error:e}");
            }
        }
    }

    #[test]
    fn a_clip_does_not_see_the_images_behind_it(
        clip in 1i64..4, images in 1i64..4, mask_first_temporal: bool, seed: u64,
    ) {
        let config = UNet3dConfig { mask_first_temporal, ..conditional() };
        let (net, _) = build(&config, Kind::Float, seed);
        let f = clip + images;
        let first = scene(&config, Kind::Float, seed, [2, f, 4, 6]);
        let first = Scene { frames: FrameMask::ClipAndImages { clip }, ..first };
        let answer = ask(&net, &first);
        // Other images, with values of another magnitude.
        let other = normal(seed ^ 5, &[2, 3, images, 4, 6]).to_kind(Kind::Float) * 7.0;
        let changed = ask(&net, &with_frames(&first, clip, &other));
        prop_assert_eq!(answer.narrow(2, 0, clip), changed.narrow(2, 0, clip));
        prop_assert_ne!(answer.narrow(2, clip, images), changed.narrow(2, clip, images));
        // Images do not see each other or the clip either: the last one is unchanged when all
        // others change.
        let before = normal(seed ^ 6, &[2, 3, f - 1, 4, 6]).to_kind(Kind::Float);
        let last = first.x.narrow(2, f - 1, 1);
        let x = Tensor::cat(&[&before, &last], 2);
        let changed = ask(&net, &Scene { x, ..first });
        prop_assert_eq!(answer.narrow(2, f - 1, 1), changed.narrow(2, f - 1, 1));
    }

    #[test]
    fn an_arrested_sample_is_its_frames_one_by_one(b in 1i64..3, f in 2i64..5, seed: u64) {
        let config = UNet3dConfig { mask_first_temporal: true, ..conditional() };
        for kind in KINDS {
            let (net, _) = build(&config, kind, seed);
            let whole = scene(&config, kind, seed, [b, f, 4, 6]);
            let all = vec![true; b as usize];
            let whole = Scene { frames: FrameMask::Focus(Tensor::from_slice(&all).to_device(device())), ..whole };
            let together = ask(&net, &whole);
            for i in 0..f {
                let alone = Scene {
                    x: whole.x.narrow(2, i, 1),
                    t: whole.t.shallow_clone(),
                    cond: whole.cond.shallow_clone(),
                    frames: FrameMask::All,
                };
                let error = relative(&ask(&net, &alone), &array(&together.narrow(2, i, 1)));
                prop_assert!(error <= same(kind), "{kind:?}, frame {i}: {error:e}");
            }
        }
    }

    #[test]
    fn a_null_row_does_not_depend_on_the_embedding_given(seed: u64) {
        let config = conditional();
        let (net, _) = build(&config, Kind::Float, seed);
        let given = scene(&config, Kind::Float, seed, [2, 3, 4, 6]);
        let mask = Tensor::from_slice(&[true, false]).to_device(device());
        let ask_with = |embedding: Tensor| {
            let cond = Cond::pooled(embedding).with_null(mask.shallow_clone());
            net.forward(&given.x, &given.t, &cond, &FrameMask::All, None).unwrap()
        };
        let own = given.cond.pooled.as_ref().unwrap();
        let (one, other) = (ask_with(own.shallow_clone()), ask_with(own * 3.0));
        prop_assert_eq!(one.get(0), other.get(0));
        prop_assert_ne!(one.get(1), other.get(1));
        // All rows null, expressed in different ways.
        let nulled = Scene { cond: given.cond.nulled(), ..given };
        let expected = array(&ask(&net, &nulled));
        let silent = Scene { cond: Cond::none(), ..nulled };
        prop_assert!(relative(&ask(&net, &silent), &expected) <= same(Kind::Float));
    }

    #[test]
    fn with_an_rms_norm_a_level_of_one_frame_moves_others_only_through_attention(
        f in 2i64..5, seed: u64,
    ) {
        let config = UNet3dConfig { mask_first_temporal: true, ..config() };
        let (net, _) = build(&config, Kind::Float, seed);
        let base = scene(&config, Kind::Float, seed, [1, f, 4, 4]);
        let t = levels(seed, &[1, f]).to_kind(Kind::Float);
        let mut own = vec![0f32; f as usize];
        own[0] = 100.0;
        let moved = &t + Tensor::from_slice(&own).to_device(device()).unsqueeze(0);
        let rest = |answer: &Tensor| answer.narrow(2, 1, f - 1);
        for (frames, linked) in
            [(FrameMask::All, true), (FrameMask::Focus(Tensor::from_slice(&[true]).to_device(device())), false)]
        {
            let ask_at = |t: &Tensor| net.forward(&base.x, t, &Cond::none(), &frames, None).unwrap();
            let (before, after) = (ask_at(&t), ask_at(&moved));
            prop_assert_eq!(rest(&before) != rest(&after), linked);
            prop_assert_ne!(before.narrow(2, 0, 1), after.narrow(2, 0, 1));
        }
    }
}

#[test]
fn the_gradient_of_a_clip_stops_at_the_images() {
    let config = conditional();
    let (net, _) = build(&config, Kind::Double, 1);
    let scene = scene(&config, Kind::Double, 2, [2, 5, 4, 6]);
    let scene = Scene { frames: FrameMask::ClipAndImages { clip: 2 }, ..scene };
    let x = scene.x.set_requires_grad(true);
    let scene = Scene { x: x.shallow_clone(), ..scene };
    let largest = |part: Tensor| part.abs().max().double_value(&[]);
    let gradient_of = |from: i64, count: i64| {
        let part = ask(&net, &scene).narrow(2, from, count);
        let projected = (&part * normal(3, &part.size())).sum(Kind::Double);
        Tensor::run_backward(&[projected], &[&x], false, false).remove(0)
    };
    let clip = gradient_of(0, 2);
    assert_eq!(largest(clip.narrow(2, 2, 3)), 0.0);
    assert!(largest(clip.narrow(2, 0, 1)) > 0.0 && largest(clip.narrow(2, 1, 1)) > 0.0);
    let image = gradient_of(3, 1);
    assert_eq!(largest(image.narrow(2, 0, 3)), 0.0);
    assert_eq!(largest(image.narrow(2, 4, 1)), 0.0);
    assert!(largest(image.narrow(2, 3, 1)) > 0.0);
}

/// Group norm's statistics span all frames: there the claims above cannot hold.
#[test]
fn a_group_norm_couples_the_frames_that_attention_does_not() {
    let config = UNet3dConfig { mask_first_temporal: true, ..group_norm() };
    let (net, _) = build(&config, Kind::Float, 4);
    let first = scene(&config, Kind::Float, 5, [1, 3, 4, 6]);
    let first = Scene { frames: FrameMask::ClipAndImages { clip: 2 }, ..first };
    let other = normal(6, &[1, 3, 1, 4, 6]).to_kind(Kind::Float) * 7.0;
    let changed = ask(&net, &with_frames(&first, 2, &other));
    assert_ne!(ask(&net, &first).narrow(2, 0, 2), changed.narrow(2, 0, 2));
}

/// The order of frames matters to temporal attention, but only through positions.
#[test]
fn frames_are_ordered_by_rotary_positions_and_the_relative_bias_alone() {
    let config = config();
    let (net, params) = build(&config, Kind::Double, 7);
    let scene = scene(&config, Kind::Double, 8, [1, 4, 4, 4]);
    let order = Tensor::from_slice(&[2i64, 0, 3, 1]).to_device(device());
    let difference = |net: &UNet3d| {
        let shuffled = scene.x.index_select(2, &order);
        let got = net.forward(&shuffled, &scene.t, &scene.cond, &scene.frames, None).unwrap();
        relative(&got, &array(&ask(net, &scene).index_select(2, &order)))
    };
    assert!(difference(&net) > 1e-3);
    // Without them the network is equivariant to permutations of its frames.
    let mut values = params.tensors();
    for (name, value) in &mut values {
        if name.ends_with("rotary_emb.freqs") || name.ends_with("attention_bias.weight") {
            *value = value.zeros_like();
        }
    }
    params.load(&values).unwrap();
    assert!(difference(&net) < 1e-13);
}

#[test]
fn the_input_may_have_any_strides_and_levels_any_number_kind() {
    let config = conditional();
    let (net, _) = build(&config, Kind::Float, 9);
    let scene = scene(&config, Kind::Float, 10, [2, 3, 4, 6]);
    let whole = Scene { t: Tensor::from_slice(&[3i64, 998]).to_device(device()), ..scene };
    let answer = ask(&net, &whole);
    assert!(answer.is_contiguous());
    let strided = whole.x.permute([4, 2, 0, 3, 1]).contiguous().permute([2, 4, 1, 3, 0]);
    assert!(!strided.is_contiguous());
    for kind in [Kind::Int, Kind::Float, Kind::Double] {
        let again = Scene {
            x: strided.shallow_clone(),
            t: whole.t.to_kind(kind),
            cond: whole.cond.shallow_clone(),
            frames: FrameMask::All,
        };
        assert!(relative(&ask(&net, &again), &array(&answer)) <= same(Kind::Float), "{kind:?}");
    }
}
