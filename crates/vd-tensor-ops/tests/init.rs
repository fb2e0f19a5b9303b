//! Parameters start as PyTorch starts them: bounds, moments and the whole distribution.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod oracle;

use std::collections::BTreeMap;

use oracle::array;
use tch::{Device, Kind, Tensor};
use vd_tensor_ops::layers::{
    AttentionPool, CrossAttention, GroupNorm, HeadShape, LayerNorm, Linear, MemoryHeads,
    MemoryProjection, RelativeBias, RmsNorm, Rotary, SpaceConv, SpaceDown, SpaceUp,
    SpatialAttention, SpatialLinearAttention, TemporalAttention,
};
use vd_tensor_ops::{Params, Result, Scope};

fn start<L>(new: impl Fn(&mut Scope) -> Result<L>) -> BTreeMap<String, Tensor> {
    let mut params = Params::new(20_220_407, Kind::Float, Device::Cpu);
    new(&mut params.root()).unwrap();
    params.tensors()
}

/// Sorted.
fn values(t: &Tensor) -> Vec<f64> {
    let mut values: Vec<f64> = array(t).iter().copied().collect();
    values.sort_by(f64::total_cmp);
    values
}

/// The moments 1 to 4 within five standard errors, sqrt(Var(x^p) / n).
fn moments_hold(name: &str, sorted: &[f64], expected: [f64; 4], variances: [f64; 4]) {
    let n = sorted.len() as f64;
    for (p, (expected, variance)) in (1..).zip(expected.into_iter().zip(variances)) {
        let moment = sorted.iter().map(|v| v.powi(p)).sum::<f64>() / n;
        let allowed = 5.0 * (variance / n).sqrt();
        assert!((moment - expected).abs() <= allowed, "{name}: moment {p} is {moment:e}");
    }
}

/// Kolmogorov and Smirnov: the largest gap of the distribution functions is below 2.3 / sqrt(n) in
/// all but one of twenty thousand draws.
fn distribution_holds(name: &str, sorted: &[f64], below: impl Fn(f64) -> f64) {
    let n = sorted.len() as f64;
    let gap = sorted.iter().enumerate().fold(0.0, |most: f64, (i, v)| {
        most.max((below(*v) - i as f64 / n).abs()).max(((i + 1) as f64 / n - below(*v)).abs())
    });
    assert!(gap * n.sqrt() <= 2.3, "{name}: gap {gap} of {n} values");
}

/// Uniform within 1 / sqrt(fan_in).
fn uniform(name: &str, t: &Tensor, fan_in: i64) {
    let (sorted, bound) = (values(t), 1.0 / (fan_in as f64).sqrt());
    let n = sorted.len() as f64;
    let largest = sorted[0].abs().max(sorted[sorted.len() - 1].abs());
    assert!(largest <= bound * (1.0 + 2.0 * oracle::U32), "{name}: {largest} beyond {bound}");
    if n < 1000.0 {
        return;
    }
    // All n values miss the outer 20 / n of the range once in e^20.
    assert!(largest >= bound * (1.0 - 20.0 / n), "{name}: {largest} falls short of {bound}");
    let b = |p| bound.powi(p);
    let expected = [0.0, b(2) / 3.0, 0.0, b(4) / 5.0];
    let variances = [b(2) / 3.0, b(4) * 4.0 / 45.0, b(6) / 7.0, b(8) * 16.0 / 225.0];
    moments_hold(name, &sorted, expected, variances);
    distribution_holds(name, &sorted, |v| (v / bound + 1.0) / 2.0);
    neighbours_are_independent(name, t);
}

/// The correlation of neighbours, of rows and of channels, is that of independent values.
fn neighbours_are_independent(name: &str, t: &Tensor) {
    let flat: Vec<f64> = array(t).iter().copied().collect();
    let variance = flat.iter().map(|v| v * v).sum::<f64>() / flat.len() as f64;
    let row: i64 = t.size()[1..].iter().product();
    for lag in [1, row as usize] {
        let pairs = flat.iter().zip(&flat[lag..]);
        let n = (flat.len() - lag) as f64;
        let correlation = pairs.map(|(a, b)| a * b).sum::<f64>() / n / variance;
        assert!(correlation.abs() <= 5.0 / n.sqrt(), "{name}: {correlation} at lag {lag}");
    }
}

/// Every parameter named with its shape; no other.
fn shapes(got: &BTreeMap<String, Tensor>, expected: &[(&str, &[i64])]) {
    let got: Vec<_> = got.iter().map(|(name, t)| (name.as_str(), t.size())).collect();
    let expected: Vec<_> = expected.iter().map(|(name, shape)| (*name, shape.to_vec())).collect();
    assert_eq!(got, expected);
}

#[test]
fn linear_layers_start_within_the_root_of_their_inputs() {
    let p = start(|s| Linear::new(s, 90, 1200));
    shapes(&p, &[("bias", &[1200]), ("weight", &[1200, 90])]);
    uniform("weight", &p["weight"], 90);
    uniform("bias", &p["bias"], 90);

    let p = start(|s| Linear::without_bias(s, 70, 300));
    shapes(&p, &[("weight", &[300, 70])]);
    uniform("weight", &p["weight"], 70);

    let p = start(|s| Linear::pointwise(s, 80, 1100, 3, true));
    shapes(&p, &[("bias", &[1100]), ("weight", &[1100, 80, 1, 1, 1])]);
    uniform("weight", &p["weight"], 80);
    uniform("bias", &p["bias"], 80);
}

#[test]
fn convolutions_count_the_kernel_in_their_inputs() {
    for kernel in [1, 3, 7] {
        let p = start(|s| SpaceConv::new(s, 12, 1000, kernel));
        shapes(&p, &[("bias", &[1000]), ("weight", &[1000, 12, 1, kernel, kernel])]);
        uniform("weight", &p["weight"], 12 * kernel * kernel);
        uniform("bias", &p["bias"], 12 * kernel * kernel);
    }
}

/// `torch.nn.ConvTranspose3d` stores in out 1 k k and takes its inputs from the second axis.
#[test]
fn resampling_counts_sixteen_cells_of_every_channel() {
    let (down, up) = (start(|s| SpaceDown::new(s, 40)), start(|s| SpaceUp::new(s, 40)));
    for p in [down, up] {
        shapes(&p, &[("bias", &[40]), ("weight", &[40, 40, 1, 4, 4])]);
        uniform("weight", &p["weight"], p["weight"].size()[1] * 16);
        uniform("bias", &p["bias"], 40 * 16);
    }
}

#[test]
fn attentions_start_as_their_projections() {
    let shape = HeadShape::new(4, 40).unwrap();
    let p = start(|s| TemporalAttention::new(s, 48, shape));
    let freqs: &[i64] = &[16];
    shapes(
        &p,
        &[
            ("rotary_emb.freqs", freqs),
            ("to_out.weight", &[48, 160]),
            ("to_qkv.weight", &[480, 48]),
        ],
    );
    uniform("temporal to_qkv", &p["to_qkv.weight"], 48);
    uniform("temporal to_out", &p["to_out.weight"], 160);

    let p = start(|s| SpatialAttention::new(s, 48, shape));
    shapes(&p, &[("to_out.weight", &[48, 160]), ("to_qkv.weight", &[480, 48])]);
    uniform("spatial to_qkv", &p["to_qkv.weight"], 48);
    uniform("spatial to_out", &p["to_out.weight"], 160);

    let p = start(|s| SpatialLinearAttention::new(s, 48, shape));
    let bias: &[i64] = &[48];
    shapes(
        &p,
        &[
            ("to_out.bias", bias),
            ("to_out.weight", &[48, 160, 1, 1]),
            ("to_qkv.weight", &[480, 48, 1, 1]),
        ],
    );
    uniform("linear to_qkv", &p["to_qkv.weight"], 48);
    uniform("linear to_out", &p["to_out.weight"], 160);
    uniform("linear to_out.bias", &p["to_out.bias"], 160);
}

#[test]
fn layers_that_look_at_a_text_start_as_their_projections() {
    let shape = HeadShape::new(5, 32).unwrap();
    let p = start(|s| CrossAttention::new(s, 48, 40, shape));
    shapes(
        &p,
        &[("to_kv.weight", &[320, 40]), ("to_out.weight", &[48, 160]), ("to_q.weight", &[160, 48])],
    );
    uniform("cross to_q", &p["to_q.weight"], 48);
    uniform("cross to_kv", &p["to_kv.weight"], 40);
    assert!(array(&p["to_out.weight"]).iter().all(|v| *v == 0.0));

    let pool = start(|s| AttentionPool::new(s, 40, 30, shape));
    let memory = start(|s| MemoryProjection::new(s, 25, 40, 30, shape));
    for (p, count) in [(&pool, 1), (&memory, 25)] {
        let expected: [(&str, &[i64]); 4] = [
            ("queries", &[count, 160]),
            ("to_kv.weight", &[320, 40]),
            ("to_out.bias", &[30]),
            ("to_out.weight", &[30, 160]),
        ];
        shapes(p, &expected);
        uniform("pool to_kv", &p["to_kv.weight"], 40);
        uniform("pool to_out", &p["to_out.weight"], 160);
    }
    normal("queries", &memory["queries"]);

    let p = start(|s| MemoryHeads::new(s, 30, shape));
    shapes(&p, &[("to_k.weight", &[160, 30]), ("to_v.weight", &[160, 30])]);
    uniform("memory to_k", &p["to_k.weight"], 30);
    uniform("memory to_v", &p["to_v.weight"], 30);
}

/// Standard normal.
fn normal(name: &str, t: &Tensor) {
    let sorted = values(t);
    moments_hold(name, &sorted, [0.0, 1.0, 0.0, 3.0], [1.0, 2.0, 15.0, 96.0]);
    distribution_holds(name, &sorted, |v| (1.0 + oracle::position::erf(v / 2f64.sqrt())) / 2.0);
    neighbours_are_independent(name, t);
}

#[test]
fn the_relative_bias_starts_standard_normal() {
    let p = start(|s| RelativeBias::new(s, 2000, 32));
    shapes(&p, &[("relative_attention_bias.weight", &[32, 2000])]);
    normal("table", &p["relative_attention_bias.weight"]);
}

#[test]
fn norms_start_at_gain_one_and_bias_zero() {
    let is = |t: &Tensor, value: f64| array(t).iter().all(|v| *v == value);
    let p = start(|s| RmsNorm::new(s, 6));
    shapes(&p, &[("gamma", &[6, 1, 1, 1])]);
    assert!(is(&p["gamma"], 1.0));
    let p = start(|s| LayerNorm::new(s, 6));
    shapes(&p, &[("gamma", &[1, 6, 1, 1, 1])]);
    assert!(is(&p["gamma"], 1.0));
    let p = start(|s| GroupNorm::new(s, 6, 3));
    shapes(&p, &[("bias", &[6]), ("weight", &[6])]);
    assert!(is(&p["weight"], 1.0) && is(&p["bias"], 0.0));
}

#[test]
fn only_rotary_frequencies_are_not_trained() {
    let mut params = Params::new(0, Kind::Float, Device::Cpu);
    let shape = HeadShape::new(2, 8).unwrap();
    TemporalAttention::new(&mut params.root().sub("a"), 4, shape).unwrap();
    Linear::new(&mut params.root().sub("b"), 4, 4).unwrap();
    let untrained: Vec<_> =
        params.iter().filter(|(_, p)| !p.trainable).map(|(name, _)| name.to_owned()).collect();
    assert_eq!(untrained, ["a.rotary_emb.freqs"]);
    for (name, p) in params.iter() {
        assert_eq!(p.tensor.requires_grad(), p.trainable, "{name}");
    }
    // As many as half of the features that turn, and never more than 16.
    for (dim, expected) in [(2, 1), (8, 4), (32, 16), (33, 16), (64, 16)] {
        let shape = HeadShape::new(1, dim).unwrap();
        let p = start(|s| TemporalAttention::new(s, 4, shape));
        assert_eq!(p["rotary_emb.freqs"].numel(), expected, "head width {dim}");
    }
}

#[test]
fn sizes_that_make_no_layer_are_refused() {
    fn message<L: std::fmt::Debug>(new: impl Fn(&mut Scope) -> Result<L>) -> String {
        let mut params = Params::new(0, Kind::Float, Device::Cpu);
        new(&mut params.root()).unwrap_err().to_string()
    }
    let odd_head = HeadShape::new(2, 5).unwrap();
    let cases = [
        (message(|_| HeadShape::new(0, 8)), "0 heads of 8"),
        (message(|_| HeadShape::new(2, 0)), "2 heads of 0"),
        (message(|s| Linear::new(s, 0, 3)), "[3, 0]"),
        (message(|s| SpaceConv::new(s, 2, 3, 4)), "odd number"),
        (message(|s| SpaceConv::new(s, 2, 3, -1)), "got -1"),
        (message(|s| SpaceDown::new(s, 0)), "[0, 0, 1, 4, 4]"),
        (message(|s| SpaceUp::new(s, -2)), "at least 1"),
        (message(|s| GroupNorm::new(s, 6, 4)), "divisor of the 6 channels"),
        (message(|s| GroupNorm::new(s, 6, 0)), "got 0"),
        (message(|s| Rotary::new(s, 3)), "even number"),
        (message(|s| TemporalAttention::new(s, 4, odd_head)), "got 5"),
        (message(|s| RelativeBias::new(s, 0, 32)), "[32, 0]"),
        (message(|s| CrossAttention::new(s, 4, 0, odd_head)), "[20, 0]"),
        (message(|s| AttentionPool::new(s, 3, 0, odd_head)), "[0, 10]"),
        (message(|s| MemoryProjection::new(s, 0, 3, 4, odd_head)), "[0, 10]"),
        (message(|s| MemoryHeads::new(s, 0, odd_head)), "[10, 0]"),
    ];
    for (message, part) in cases {
        assert!(message.contains(part), "{message:?} lacks {part:?}");
    }
    for width in [0, 2, 7] {
        let refused = vd_tensor_ops::layers::SinusoidalEmbedding::new(width).unwrap_err();
        assert!(refused.to_string().contains(&format!("got {width}")), "{refused}");
    }
}

#[test]
fn a_layer_starts_the_same_in_every_kind() {
    let start = |kind| {
        let mut params = Params::new(5, kind, Device::Cpu);
        SpaceConv::new(&mut params.root(), 3, 4, 3).unwrap();
        params.tensors()
    };
    let (single, double) = (start(Kind::Float), start(Kind::Double));
    for (name, t) in &single {
        assert_eq!(array(t), array(&double[name]), "{name}");
    }
}
