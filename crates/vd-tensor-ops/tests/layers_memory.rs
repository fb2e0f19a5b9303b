//! Keys and values beside those of a video, in every attention, against naive twins in f64.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod oracle;

use oracle::attention::{Heads, Sight};
use oracle::build::{EXACT, KINDS, build, tolerance};
use oracle::draw::{cases, normal};
use oracle::text::{self, Sizes};
use oracle::{array, position, relative, video};
use proptest::prelude::*;
use tch::{Kind, Tensor};
use vd_tensor_ops::layers::{
    HeadShape, Memory, MemoryHeads, RelativeBias, RelativeBias2d, SpatialAttention,
    SpatialLinearAttention, TemporalAttention,
};
use vd_tensor_ops::torch::testing::device;
use vd_tensor_ops::{FrameMask, Params};

/// Distance from which on all places are equally far.
const FAR: i64 = 32;

/// Videos b f h w c, one frame and one pixel among them.
fn videos() -> impl Strategy<Value = [i64; 5]> {
    (1i64..=3, 1i64..=4, 1i64..=3, 1i64..=3, 1i64..=7).prop_map(|(b, f, h, w, c)| [b, f, h, w, c])
}

/// Heads and an even width, and how many memory tokens, for each frame or for all.
fn memories() -> impl Strategy<Value = (HeadShape, i64, bool)> {
    (1i64..=3, prop::sample::select(vec![2i64, 6, 34]), 1i64..=4, any::<bool>())
        .prop_map(|(heads, dim, m, per_frame)| (HeadShape { heads, dim }, m, per_frame))
}

/// A memory and its twin.
fn recall(
    (seed, kind): (u64, Kind),
    (b, f): (i64, i64),
    (shape, m, per_frame): (HeadShape, i64, bool),
) -> (Memory, text::Memory) {
    let size = [vec![b], if per_frame { vec![f] } else { vec![] }, vec![m, shape.heads, shape.dim]];
    let [keys, values] = [21, 22].map(|k| normal(seed ^ k, &size.concat()).to_kind(kind));
    let twin = |t: &Tensor| {
        let each = if per_frame { t.shallow_clone() } else { t.unsqueeze(1) };
        video(&each.expand([b, f, m, shape.heads, shape.dim], false))
    };
    let twins = text::Memory { keys: twin(&keys), values: twin(&values) };
    (Memory { keys, values }, twins)
}

fn heads(shape: HeadShape) -> Heads {
    Heads { heads: shape.heads as usize, dim: shape.dim as usize }
}

proptest! {
    #![proptest_config(cases(24))]

    #[test]
    fn temporal_attention_sees_the_memory_from_everywhere_in_a_clip(
        [b, f, h, w, c] in videos(), (shape, m, per_frame) in memories(), variant in 0..3,
        seed: u64,
    ) {
        let focus: Vec<bool> = (0..b).map(|k| seed >> k & 1 == 1).collect();
        let clip = 1 + (seed % f as u64) as usize;
        let (mask, sees): (_, Sight) = match variant {
            0 => (FrameMask::All, Box::new(|_, _, _| true)),
            1 => {
                let mask = FrameMask::Focus(Tensor::from_slice(&focus).to_device(device()));
                (mask, Box::new(move |b, i, j| !focus[b] || i == j))
            }
            _ => {
                let mask = FrameMask::ClipAndImages { clip: clip as i64 };
                (mask, Box::new(move |_, i, j| i == j || i.max(j) < clip))
            }
        };
        for kind in KINDS {
            let ((layer, bias), own) = build(kind, seed, |s| {
                let layer = TemporalAttention::new(&mut s.sub("a"), c, shape)?;
                Ok((layer, RelativeBias::new(&mut s.sub("b"), shape.heads, FAR)?))
            });
            let x = normal(seed, &[b, f, h, w, c]).to_kind(kind);
            let (memory, twin) = recall((seed, kind), (b, f), (shape, m, per_frame));
            let forbidden = mask.forbidden(f, device());
            let bias = bias.forward(f);
            let got = layer.forward_with(&x, Some(&bias), forbidden.as_ref(), Some(&memory));

            let table = own.matrix("b.relative_attention_bias.weight");
            let mut sizes = Sizes::default();
            let expected = text::temporal(
                &video(&x),
                (
                    &own.matrix("a.to_qkv.weight"),
                    &own.matrix("a.to_out.weight"),
                    &own.row("a.rotary_emb.freqs"),
                ),
                (&position::relative_bias(&table, f as usize, FAR as u128), &sees),
                &twin,
                heads(shape),
                &mut sizes,
            );
            let allowed = tolerance(kind, c + shape.dim + f + m + shape.inner(), sizes.largest);
            let error = relative(&got, &expected);
            prop_assert!(error <= allowed, "{kind:?}: {error:e} > {allowed:e}");
            let plain = layer.forward_with(&x, Some(&bias), forbidden.as_ref(), None);
            prop_assert_eq!(plain, layer.forward(&x, Some(&bias), forbidden.as_ref()));
        }
    }

    #[test]
    fn spatial_attention_adds_a_bias_by_distance_and_sees_the_memory(
        [b, f, h, w, c] in videos(), (shape, m, per_frame) in memories(),
        (biased, recalls) in (any::<bool>(), any::<bool>()), seed: u64,
    ) {
        for kind in KINDS {
            let ((layer, bias), own) = build(kind, seed, |s| {
                let layer = SpatialAttention::new(&mut s.sub("a"), c, shape)?;
                Ok((layer, RelativeBias2d::new(&mut s.sub("b"), shape.heads, FAR)?))
            });
            let x = normal(seed, &[b, f, h, w, c]).to_kind(kind);
            let (memory, twin) = recall((seed, kind), (b, f), (shape, m, per_frame));
            let bias = biased.then(|| bias.forward(h, w));
            let got = layer.forward_with(&x, bias.as_ref(), recalls.then_some(&memory));

            let table = |axis| own.matrix(&format!("b.{axis}.relative_attention_bias.weight"));
            let tables = [&table("height"), &table("width")];
            let size = (h as usize, w as usize);
            let table = position::relative_bias_2d(tables, size, FAR as u128);
            let mut sizes = Sizes::default();
            let expected = text::spatial(
                &video(&x),
                [&own.matrix("a.to_qkv.weight"), &own.matrix("a.to_out.weight")],
                biased.then_some(&table),
                recalls.then_some(&twin),
                heads(shape),
                &mut sizes,
            );
            let allowed = tolerance(kind, c + shape.dim + h * w + m + shape.inner(), sizes.largest);
            let error = relative(&got, &expected);
            prop_assert!(error <= allowed, "{kind:?}: {error:e} > {allowed:e}");
            prop_assert_eq!(layer.forward_with(&x, None, None), layer.forward(&x));
        }
    }

    #[test]
    fn linear_attention_normalises_keys_over_memory_and_positions(
        [b, f, h, w, c] in videos(), (shape, m, per_frame) in memories(), seed: u64,
    ) {
        for kind in KINDS {
            let (layer, own) = build(kind, seed, |s| SpatialLinearAttention::new(s, c, shape));
            let x = normal(seed, &[b, f, h, w, c]).to_kind(kind);
            let (memory, twin) = recall((seed, kind), (b, f), (shape, m, per_frame));
            let to_qkv = own.matrix("to_qkv.weight");
            let out = (&own.matrix("to_out.weight"), &own.row("to_out.bias"));
            let expected = text::linear_attention(&video(&x), &to_qkv, out, &twin, heads(shape));
            let qkv = oracle::dense::linear(&array(&x), &to_qkv, None);
            let features = qkv.iter().chain(twin.keys.iter());
            let largest = features.fold(0.0, |most: f64, v| most.max(v.abs()));
            let allowed = tolerance(kind, c + shape.dim + h * w + m + shape.inner(), largest);
            let error = relative(&layer.forward_with(&x, Some(&memory)), &expected);
            prop_assert!(error <= allowed, "{kind:?}: {error:e} > {allowed:e}");
            prop_assert_eq!(layer.forward_with(&x, None), layer.forward(&x));
        }
    }

    #[test]
    fn the_bias_over_space_is_a_sum_of_two_tables_looked_up_by_distance(
        (h, w) in (1i64..12, 1i64..12), heads in 1i64..4, far in 9i64..129, seed: u64,
    ) {
        let (layer, own) = build(Kind::Double, seed, |s| RelativeBias2d::new(s, heads, far));
        let table = |axis| own.matrix(&format!("{axis}.relative_attention_bias.weight"));
        let tables = [&table("height"), &table("width")];
        let expected = position::relative_bias_2d(tables, (h as usize, w as usize), far as u128);
        prop_assert_eq!(relative(&layer.forward(h, w), &expected), 0.0);
    }

    #[test]
    fn an_image_beside_a_clip_is_what_it_is_alone_with_its_memory(
        [b, f, h, w, c] in videos(), (shape, m, _) in memories(), images in 1i64..3, seed: u64,
    ) {
        let (layer, _) = build(Kind::Double, seed, |s| TemporalAttention::new(s, c, shape));
        let x = normal(seed, &[b, f + images, h, w, c]);
        let (memory, _) = recall((seed, Kind::Double), (b, f + images), (shape, m, true));
        // Every frame is as far from itself as from any other frame it may not see.
        let bias = normal(seed ^ 5, &[shape.heads, f, f]);
        let bias = bias.constant_pad_nd([0, images, 0, images]);
        let mask = FrameMask::ClipAndImages { clip: f }.forbidden(f + images, device());
        let all = layer.forward_with(&x, Some(&bias), mask.as_ref(), Some(&memory));
        for (first, len) in [(0, f), (f, 1), (f + images - 1, 1)] {
            let part = |t: &Tensor| t.narrow(1, first, len);
            let part_memory = Memory { keys: part(&memory.keys), values: part(&memory.values) };
            let bias = bias.narrow(1, first, len).narrow(2, first, len);
            let alone = layer.forward_with(&part(&x), Some(&bias), None, Some(&part_memory));
            let error = relative(&part(&all), &array(&alone));
            // A turn by a larger angle rounds more.
            prop_assert!(error <= 10.0 * EXACT, "frames from {first}: {error:e}");
        }
    }

    #[test]
    fn each_attention_projects_the_memory_tokens_into_its_heads(
        (b, f) in (1i64..4, 1i64..4), (shape, m, per_frame) in memories(), width in 1i64..6,
        seed: u64,
    ) {
        let (layer, own) = build(Kind::Double, seed, |s| MemoryHeads::new(s, width, shape));
        let size = if per_frame { vec![b, f, m, width] } else { vec![b, m, width] };
        let tokens = normal(seed, &size);
        let memory = layer.forward(&tokens);
        for (got, name) in [(&memory.keys, "to_k.weight"), (&memory.values, "to_v.weight")] {
            let expected = oracle::dense::linear(&array(&tokens), &own.matrix(name), None);
            prop_assert_eq!(&got.size()[size.len() - 1..], &[shape.heads, shape.dim]);
            prop_assert!(relative(&got.flatten(-2, -1), &expected) <= EXACT);
        }
    }
}

#[test]
fn bias_tables_over_space_without_a_logarithmic_range_are_refused() {
    let mut params = Params::new(0, Kind::Float, device());
    let message = RelativeBias2d::new(&mut params.root(), 1, 8).unwrap_err().to_string();
    assert!(message.contains("more than 8"), "{message}");
    // One pixel: the buckets of distance 0 of both tables.
    let (layer, own) = build(Kind::Double, 1, |s| RelativeBias2d::new(s, 3, FAR));
    let table = |axis| own.matrix(&format!("{axis}.relative_attention_bias.weight"));
    let expected = &table("height").row(0) + &table("width").row(0);
    assert_eq!(relative(&layer.forward(1, 1).view([3]), &expected), 0.0);
}
