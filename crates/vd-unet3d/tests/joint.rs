//! A clip and the images after it: neither changes a bit of the other, in values or gradients.

#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "../../vd-tensor-ops/tests/oracle/mod.rs"]
mod oracle;
mod small;
mod together;

use std::collections::BTreeMap;

use oracle::draw::{cases, normal};
use oracle::{array, relative};
use proptest::prelude::*;
use small::{Scene, ask, bits, build, conditional, mixes, with_cond};
use tch::{Kind, Tensor};
use together::{in_frames, jointly};
use vd_unet3d::ops::Params;
use vd_unet3d::ops::kernels::Precision;
use vd_unet3d::ops::layers::NormKind;
use vd_unet3d::ops::torch::testing::device;
use vd_unet3d::{Cond, FrameMask, Tokens, UNet3d, UNet3dConfig};

/// Tolerance for two orders of the same sums through the whole network in f64: measured below
/// 1e-14.
const SAME: f64 = 1e-13;

/// The output for some frames, and the gradients of a loss over these: of the video and of all
/// parameters.
struct Seen {
    answer: Tensor,
    video: Tensor,
    params: BTreeMap<String, Tensor>,
}

fn seen(net: &UNet3d, params: &Params, scene: &Scene, (from, n): (i64, i64)) -> Seen {
    let x = scene.x.detach().set_requires_grad(true);
    let again = Scene {
        x: x.shallow_clone(),
        t: scene.t.shallow_clone(),
        cond: scene.cond.shallow_clone(),
        frames: scene.frames.shallow_clone(),
    };
    let answer = ask(net, &again).narrow(2, from, n);
    let weight = normal(7, &answer.size()).to_kind(answer.kind());
    let trainable = params.trainable();
    let mut of: Vec<&Tensor> = trainable.iter().map(|(_, tensor)| *tensor).collect();
    of.push(&x);
    let loss = (&answer * weight).sum(Kind::Float);
    let mut grads = Tensor::run_backward(&[loss], &of, false, false);
    let video = grads.pop().unwrap();
    let grads = trainable.iter().zip(grads).filter(|(_, grad)| grad.defined());
    let params = grads.map(|((name, _), grad)| ((*name).to_owned(), grad)).collect();
    Seen { answer: answer.detach(), video, params }
}

/// Lists where two results are not bitwise equal.
fn apart(a: &Seen, b: &Seen) -> Option<String> {
    if a.answer != b.answer {
        return Some("the answer".to_owned());
    }
    if a.video != b.video {
        return Some("the gradient of the video".to_owned());
    }
    assert!(a.params.keys().eq(b.params.keys()));
    let differs = a.params.iter().find(|(name, grad)| **grad != b.params[*name]);
    differs.map(|(name, _)| format!("the gradient of {name}"))
}

const ROADS: [Precision; 4] =
    [Precision::F32, Precision::Reference, Precision::Exact, Precision::Bf16];

/// Both directions: changes of one or all images, and of the clip, including their conditioning.
fn check(config: &UNet3dConfig, seed: u64, size: [i64; 4], clip: i64) -> Option<String> {
    let f = size[1];
    let (mut net, params) = build(config, Kind::Float, seed);
    let one = jointly(config, Kind::Float, seed, size, clip);
    let other = jointly(config, Kind::Float, seed ^ 0xA5, size, clip);
    let which = |of: std::ops::Range<i64>| (0..f).map(|i| of.contains(&i)).collect::<Vec<_>>();
    let cases = [
        // the changed frames, and those that must not be affected: first frame and number
        (which(f - 1..f), (0, f - 1)),
        (which(clip..f), (0, clip)),
        (which(0..1), (clip, f - clip)),
        (which(0..clip), (clip, f - clip)),
        (which(0..f - 1), (f - 1, 1)),
    ];
    for precision in ROADS {
        net.set_precision(precision);
        for (changed, untouched) in &cases {
            let before = seen(&net, &params, &one, *untouched);
            let after = seen(&net, &params, &in_frames(&one, &other, changed), *untouched);
            if let Some(what) = apart(&before, &after) {
                return Some(format!("{precision}, {changed:?} moves {what} of {untouched:?}"));
            }
        }
    }
    None
}

proptest! {
    #![proptest_config(cases(3))]

    #[test]
    fn no_image_moves_a_bit_of_the_clip_nor_of_another_image_and_no_clip_one_of_its_images(
        config in mixes(), seed: u64, clip in 1i64..4, images in 1i64..3, b in 1i64..3,
    ) {
        prop_assert_eq!(check(&config, seed, [b, clip + images, 4, 6], clip), None);
    }

    #[test]
    fn grouped_texts_are_texts_of_which_each_frame_counts_its_own(
        config in mixes(), seed: u64, clip in 1i64..3, images in 1i64..3,
    ) {
        prop_assume!(config.tokens.is_some());
        let (net, _) = build(&config, Kind::Double, seed);
        let size = [2, clip + images, 4, 6];
        let grouped = jointly(&config, Kind::Double, seed, size, clip);
        let expected = array(&ask(&net, &grouped));
        // All texts concatenated, with weights that are 0 for those of other frames.
        let mut cond = grouped.cond.shallow_clone();
        let (tokens, group) = (cond.tokens.take().unwrap(), cond.group.take().unwrap());
        let texts = tokens.values.size()[1];
        let own = group.unsqueeze(-1).eq_tensor(&Tensor::arange(texts, (Kind::Int64, device())));
        let weight = tokens.weight.unsqueeze(2) * own.unsqueeze(-1).to_kind(Kind::Float);
        let tokens = Tokens { values: tokens.values.flatten(1, 2), weight: weight.flatten(2, 3) };
        let row = with_cond(&grouped, cond.with_tokens(tokens));
        prop_assert!(relative(&ask(&net, &row), &expected) <= SAME);
    }

    #[test]
    fn a_clip_and_its_images_are_what_each_is_alone(
        config in mixes(), seed: u64, clip in 1i64..4, images in 1i64..3,
    ) {
        let (net, _) = build(&config, Kind::Double, seed);
        let f = clip + images;
        let whole = jointly(&config, Kind::Double, seed, [2, f, 4, 6], clip);
        let together = ask(&net, &whole);
        let parts = std::iter::once((0, clip)).chain((clip..f).map(|i| (i, 1)));
        for (from, n) in parts {
            let mut cond = whole.cond.shallow_clone();
            let some = |x: Tensor| x.narrow(1, from, n);
            cond.pooled = cond.pooled.map(some);
            cond.null = cond.null.map(some);
            cond.group = cond.group.map(some);
            if let Some(tokens) = &mut cond.tokens {
                tokens.weight = tokens.weight.narrow(1, from, n);
            }
            for given in cond.signals.values_mut() {
                let axis = if given.value.dim() == 5 { 2 } else { 1 };
                given.value = given.value.narrow(axis, from, n);
                given.null = given.null.take().map(some);
            }
            let (x, t) = (whole.x.narrow(2, from, n), whole.t.narrow(1, from, n));
            let alone = ask(&net, &Scene { x, t, cond, frames: FrameMask::All });
            let error = relative(&alone, &array(&together.narrow(2, from, n)));
            prop_assert!(error <= SAME, "{from}: {error:e}");
        }
    }
}

/// Enough channels, positions and frames for every kernel's widest variant.
#[test]
fn frames_of_kernels_of_all_widths_stay_apart() {
    let config = UNet3dConfig {
        dim: 32,
        dim_mults: vec![1, 2],
        attn_dim_head: 32,
        attn_heads: 4,
        init_kernel_size: 7,
        ..conditional()
    };
    assert_eq!(check(&config, 3, [1, 5, 8, 12], 3), None);
}

/// Group norm's statistics span all frames: there the same claim must fail.
#[test]
fn a_group_norm_couples_a_clip_and_its_images() {
    let norm = NormKind::Group { groups: 4 };
    let config = UNet3dConfig { norm, ..conditional() };
    assert!(config.coupling().unwrap().contains("norm"));
    assert_eq!(conditional().coupling(), None);
    let (net, params) = build(&config, Kind::Float, 4);
    let [one, other] = [5, 6].map(|seed| jointly(&config, Kind::Float, seed, [1, 4, 4, 6], 2));
    let changed = in_frames(&one, &other, &[false, false, false, true]);
    let [before, after] = [&one, &changed].map(|scene| seen(&net, &params, scene, (0, 2)));
    assert_eq!(apart(&before, &after).as_deref(), Some("the answer"));
    // Compares the gradients too, even if the outputs were equal.
    assert_ne!(before.video.narrow(2, 0, 2), after.video.narrow(2, 0, 2));
    assert!(before.params.iter().any(|(name, grad)| *grad != after.params[name]));
}

#[test]
fn a_mask_of_nulls_and_groups_that_do_not_fit_are_refused() {
    let config = small::everything();
    let (net, _) = build(&config, Kind::Float, 1);
    let right = jointly(&config, Kind::Float, 2, [2, 4, 4, 6], 2);
    assert_eq!(ask(&net, &right).size(), right.x.size());
    let refused = |change: &dyn Fn(&mut Cond)| {
        let mut cond = right.cond.shallow_clone();
        change(&mut cond);
        let scene = with_cond(&right, cond);
        let answer = vd_unet3d::Backbone::forward(
            &net,
            &scene.x,
            &scene.t,
            &scene.cond,
            &scene.frames,
            None,
        );
        answer.unwrap_err().to_string()
    };
    let group =
        |values: &[i64], shape: &[i64]| Tensor::from_slice(values).to_device(device()).view(shape);
    for (change, parts) in [
        (group(&[0; 6], &[2, 3]), "Int64 of shape [2, 4]"),
        (group(&[3; 8], &[2, 4]), "texts from 0 to 2, got 3"),
        (group(&[-1; 8], &[2, 4]), "texts from 0 to 2, got -1"),
        (group(&[0; 8], &[2, 4]).to_kind(Kind::Float), "got Float"),
    ] {
        let message = refused(&|cond| cond.group = Some(change.shallow_clone()));
        assert!(message.contains(parts) && message.contains("group"), "{message}");
    }
    let message = refused(&|cond| cond.group = None);
    assert!(message.contains("shape [2, l, 6]"), "{message}");
    let message = refused(&|cond| {
        let tokens = cond.tokens.as_mut().unwrap();
        tokens.weight = tokens.weight.select(1, 0);
    });
    assert!(message.contains("shape [2, 4, 3] for one row per frame"), "{message}");
    let message = refused(&|cond| cond.null = Some(bits(6, 1).view([2, 3])));
    assert!(message.contains("[2], or [2, 4] for one per frame"), "{message}");
}
