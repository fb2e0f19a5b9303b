//! The layers that look at the tokens of a text, against their naive twins in f64, and what the
//! weights of tokens mean.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod oracle;

use ndarray::Array3;
use oracle::attention::Heads;
use oracle::build::{EXACT, KINDS, build, tolerance};
use oracle::draw::{cases, normal, uniform};
use oracle::text::{self, Sizes, Text};
use oracle::{array, relative, video};
use proptest::prelude::*;
use tch::{Kind, Tensor};
use vd_tensor_ops::layers::{AttentionPool, CrossAttention, HeadShape, MemoryProjection};
use vd_tensor_ops::torch::testing::device;
use vd_tensor_ops::{Params, Result, Scope};

/// Videos b f h w c, one frame and one pixel among them.
fn videos() -> impl Strategy<Value = [i64; 5]> {
    (1i64..=3, 1i64..=4, 1i64..=3, 1i64..=3, 1i64..=7).prop_map(|(b, f, h, w, c)| [b, f, h, w, c])
}

/// Number of tokens, their width, heads and their width.
fn texts() -> impl Strategy<Value = (i64, i64, i64, i64)> {
    (1i64..=5, 1i64..=6, 1i64..=3, prop::sample::select(vec![1i64, 2, 6, 9]))
}

/// Weights from 1 to 3, a third of them 0: some rows have none left.
fn weights(seed: u64, b: i64, f: i64, l: i64, per_frame: bool) -> Tensor {
    let shape = if per_frame { vec![b, f, l] } else { vec![b, l] };
    let w = uniform(seed ^ 0xBEEF, &shape, 0.0, 3.0);
    w.masked_fill(&w.lt(1.0), 0.0).to_kind(Kind::Float)
}

/// b f l, whether given for frames or not.
fn of_frames(weight: &Tensor, f: i64) -> Array3<f64> {
    let each = if weight.dim() == 3 {
        weight.shallow_clone()
    } else {
        weight.unsqueeze(1).expand([-1, f, -1], false)
    };
    array(&each).into_dimensionality().unwrap()
}

fn text_of(tokens: &Tensor, weight: &Tensor, f: i64) -> Text {
    Text { tokens: array(tokens).into_dimensionality().unwrap(), weight: of_frames(weight, f) }
}

proptest! {
    #![proptest_config(cases(32))]

    #[test]
    fn cross_attention_blends_the_values_of_tokens_by_their_weights(
        [b, f, h, w, c] in videos(), (l, width, heads, dim) in texts(), per_frame: bool, seed: u64,
    ) {
        let weight = weights(seed, b, f, l, per_frame);
        for kind in KINDS {
            let shape = HeadShape::new(heads, dim).unwrap();
            let (layer, own) = build(kind, seed, |s| CrossAttention::new(s, c, width, shape));
            let x = normal(seed, &[b, f, h, w, c]).to_kind(kind);
            let tokens = normal(seed ^ 1, &[b, l, width]).to_kind(kind);
            let names = ["to_q.weight", "to_kv.weight", "to_out.weight"];
            let [to_q, to_kv, to_out] = names.map(|name| own.matrix(name));
            let mut sizes = Sizes::default();
            let heads = Heads { heads: heads as usize, dim: dim as usize };
            let text = text_of(&tokens, &weight, f);
            let expected =
                text::cross(&video(&x), &text, [&to_q, &to_kv, &to_out], heads, &mut sizes);
            let allowed = tolerance(kind, c + width + 2 * dim + l + shape.inner(), sizes.largest);
            let error = relative(&layer.forward(&x, &tokens, &weight), &expected);
            prop_assert!(error <= allowed, "{kind:?}: {error:e} > {allowed:e}");
        }
    }

    #[test]
    fn learned_queries_pool_the_tokens(
        (b, f) in (1i64..=3, 1i64..=4), (l, width, heads, dim) in texts(),
        (count, out) in (1i64..=4, 4i64..=8), per_frame: bool, seed: u64,
    ) {
        let weight = weights(seed, b, f, l, per_frame);
        let frames = if per_frame { f } else { 1 };
        for kind in KINDS {
            let shape = HeadShape::new(heads, dim).unwrap();
            let (pool, of_pool) = build(kind, seed, |s| AttentionPool::new(s, width, out, shape));
            let (memory, of_memory) =
                build(kind, seed, |s| MemoryProjection::new(s, count, width, out, shape));
            let tokens = normal(seed ^ 1, &[b, l, width]).to_kind(kind);
            let pooled = pool.forward(&tokens, &weight);
            let recalled = memory.forward(&tokens, &weight);
            let shape_of = |middle: &[i64]| {
                let frames = if per_frame { vec![f] } else { vec![] };
                [vec![b], frames, middle.to_vec(), vec![out]].concat()
            };
            prop_assert_eq!(pooled.size(), shape_of(&[]));
            prop_assert_eq!(recalled.size(), shape_of(&[count]));
            for (got, own) in [(pooled, of_pool), (recalled, of_memory)] {
                let mut sizes = Sizes::default();
                let heads = Heads { heads: heads as usize, dim: dim as usize };
                let expected = text::pool(
                    &text_of(&tokens, &weight, frames),
                    (&own.matrix("queries"), &own.matrix("to_kv.weight")),
                    (&own.matrix("to_out.weight"), &own.row("to_out.bias")),
                    heads,
                    &mut sizes,
                );
                let terms = width + 2 * dim + l + shape.inner();
                let allowed = tolerance(kind, terms, sizes.largest);
                let error = relative(&got.view([b, frames, -1, out]), &expected);
                prop_assert!(error <= allowed, "{kind:?}: {error:e} > {allowed:e}");
            }
        }
    }

    #[test]
    fn a_weight_says_how_often_a_token_is_there_and_order_does_not_count(
        [b, f, h, w, c] in videos(), (l, width, heads, dim) in texts(), seed: u64,
    ) {
        for ask in layers(seed, c, width, HeadShape::new(heads, dim).unwrap()) {
            let x = normal(seed, &[b, f, h, w, c]);
            let tokens = normal(seed ^ 1, &[b, l, width]);
            let drawn = uniform(seed ^ 2, &[b, l], 0.5, 3.0);
            let with = |more: &Tensor, weight: f64| {
                Tensor::cat(&[drawn.shallow_clone(), more.full_like(weight)], 1)
            };
            let last = drawn.narrow(1, 0, 1);
            let longer = Tensor::cat(&[tokens.shallow_clone(), normal(seed ^ 3, &[b, 1, width])], 1);
            // Twice the weight is the token twice.
            let doubled = ask(&x, &longer, &with(&last, 2.0));
            let twice = Tensor::cat(&[longer.shallow_clone(), longer.narrow(1, l, 1)], 1);
            let both = Tensor::cat(&[with(&last, 1.0), last.ones_like()], 1);
            prop_assert!(relative(&ask(&x, &twice, &both), &array(&doubled)) <= EXACT);
            // Weight 0 is the token gone, however large it is.
            let gone = ask(&x, &(&longer * 1e3).slice_scatter(&tokens, 1, 0, l, 1), &with(&last, 0.0));
            prop_assert!(relative(&gone, &array(&ask(&x, &tokens, &drawn))) <= EXACT);
            // A common factor of all weights does not count, nor does their kind.
            let scaled = ask(&x, &tokens, &(&drawn * 7.0));
            prop_assert!(relative(&scaled, &array(&ask(&x, &tokens, &drawn))) <= EXACT);
            // Tokens and weights in another order.
            let order = |t: &Tensor| t.flip([1]).roll([1], [1]);
            let turned = ask(&x, &order(&longer), &order(&with(&last, 2.0)));
            prop_assert!(relative(&turned, &array(&doubled)) <= EXACT);
            // The same weights written out for each frame.
            let each = drawn.unsqueeze(1).expand([-1, f, -1], false);
            let frames = ask(&x, &tokens, &each);
            let same = ask(&x, &tokens, &drawn);
            let same = if frames.dim() == same.dim() { same } else { same.unsqueeze(1) };
            prop_assert!(relative(&frames, &array(&same.expand_as(&frames))) <= EXACT);
        }
    }
}

type Ask = Box<dyn Fn(&Tensor, &Tensor, &Tensor) -> Tensor>;

/// Every layer that asks tokens: video, tokens and weights to an answer.
fn layers(seed: u64, c: i64, width: i64, shape: HeadShape) -> [Ask; 3] {
    fn of<L: 'static>(
        seed: u64,
        new: impl Fn(&mut Scope) -> Result<L>,
        ask: fn(&L, &Tensor, &Tensor, &Tensor) -> Tensor,
    ) -> Ask {
        let (layer, _) = build(Kind::Double, seed, new);
        Box::new(move |x, tokens, weight| ask(&layer, x, tokens, weight))
    }
    [
        of(seed, |s| CrossAttention::new(s, c, width, shape), |l, x, t, w| l.forward(x, t, w)),
        of(seed, |s| AttentionPool::new(s, width, 4, shape), |l, _, t, w| l.forward(t, w)),
        of(seed, |s| MemoryProjection::new(s, 3, width, 4, shape), |l, _, t, w| l.forward(t, w)),
    ]
}

#[test]
fn a_text_of_which_nothing_is_there_gives_0_and_finite_gradients() {
    let shape = HeadShape::new(2, 6).unwrap();
    for kind in [Kind::Double, Kind::Float, Kind::BFloat16] {
        let (layer, _) = build(kind, 5, |s| CrossAttention::new(s, 4, 3, shape));
        let leaf = |seed, shape: &[i64]| normal(seed, shape).to_kind(kind).set_requires_grad(true);
        let (x, tokens) = (leaf(6, &[2, 3, 2, 2, 4]), leaf(7, &[2, 5, 3]));
        // The first sample has nothing in its second frame, the second nothing at all.
        let weight = weights(8, 2, 3, 5, true).clamp_min(0.5);
        let weight = weight.select(0, 0).index_fill(
            0,
            &Tensor::from_slice(&[1i64]).to_device(device()),
            0.0,
        );
        let weight = Tensor::stack(&[weight.shallow_clone(), weight.zeros_like()], 0);
        let weight = weight.set_requires_grad(true);
        let out = layer.forward(&x, &tokens, &weight);
        let largest = |t: Tensor| t.abs().max().double_value(&[]);
        assert_eq!(largest(out.select(0, 1)), 0.0);
        assert_eq!(largest(out.select(0, 0).select(0, 1)), 0.0);
        assert!(largest(out.select(0, 0).select(0, 0)) > 0.0);
        let sum = (&out * normal(9, &out.size())).sum(Kind::Double);
        for gradient in Tensor::run_backward(&[sum], &[&x, &tokens, &weight], false, false) {
            assert!(bool::try_from(gradient.isfinite().all()).unwrap(), "{kind:?}");
            assert_eq!(largest(gradient.select(0, 1)), 0.0);
        }
        // No tokens at all are the same as tokens that are not there.
        for shape in [&[2, 0][..], &[2, 3, 0]] {
            let none = Tensor::zeros(shape, (Kind::Float, device()));
            let out = layer.forward(&x, &tokens.narrow(1, 0, 0), &none);
            assert_eq!((out.size(), largest(out)), (x.size(), 0.0));
        }
    }
    let (pool, own) = build(Kind::Double, 5, |s| AttentionPool::new(s, 3, 4, shape));
    let tokens = normal(7, &[2, 5, 3]);
    let nothing = pool.forward(&tokens, &Tensor::zeros([2, 5], (Kind::Float, device())));
    let bias = own.row("to_out.bias");
    assert_eq!(relative(&nothing.get(0), &bias), 0.0);
}

#[test]
fn a_network_that_gains_cross_attention_starts_as_it_was() {
    oracle::draw::one_thread();
    let mut params = Params::new(3, Kind::Float, device());
    let shape = HeadShape::new(2, 4).unwrap();
    let layer = CrossAttention::new(&mut params.root(), 5, 6, shape).unwrap();
    let [x, tokens] = [&[2, 3, 2, 2, 5][..], &[2, 4, 6]].map(|s| normal(4, s).to_kind(Kind::Float));
    let out = layer.forward(&x, &tokens, &weights(5, 2, 3, 4, false).clamp_min(1.0));
    assert_eq!(out.abs().max().double_value(&[]), 0.0);
    // It can leave its start: the output projection has a slope.
    let sum = (out * normal(6, &x.size())).sum(Kind::Float);
    let to_out = &params.get("to_out.weight").unwrap().tensor;
    let slope = Tensor::run_backward(&[sum], &[to_out], false, false).remove(0);
    assert!(slope.abs().max().double_value(&[]) > 0.0);
}

#[test]
fn tokens_that_fade_into_others_along_time_give_each_end_its_own() {
    let shape = HeadShape::new(2, 6).unwrap();
    for (i, ask) in layers(11, 4, 3, shape).iter().enumerate() {
        let x = normal(12, &[2, 3, 2, 2, 4]);
        let [a, b] = [13, 14].map(|seed| normal(seed, &[2, 4, 3]));
        let share = Tensor::from_slice(&[0.0, 0.4, 1.0])
            .to_device(device())
            .view([1, 3, 1])
            .expand([2, 3, 4], false);
        let weight = Tensor::cat(&[share.ones_like() - &share, share], 2);
        let faded = ask(&x, &Tensor::cat(&[&a, &b], 1), &weight);
        for (frame, tokens) in [(0, &a), (2, &b)] {
            let alone = ask(&x, tokens, &Tensor::ones([2, 3, 4], (Kind::Double, device())));
            let error = relative(&faded.select(1, frame), &array(&alone.select(1, frame)));
            assert!(error <= EXACT, "layer {i}, frame {frame}: {error:e}");
        }
    }
}
