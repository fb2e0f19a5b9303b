//! Invalid inputs give an error that names the input, the expected and the given value; none of
//! them panics.

#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "../../vd-tensor-ops/tests/oracle/mod.rs"]
mod oracle;
mod small;

use oracle::draw::normal;
use small::{Scene, build, conditional, config, everything, levels, scene};
use tch::{Device, Kind, Tensor};
use vd_unet3d::ops::Params;
use vd_unet3d::ops::layers::NormKind;
use vd_unet3d::{
    Axes, Backbone, Cond, FrameMask, Given, Tokens, TokensConfig, UNet3d, UNet3dConfig,
};

/// The error message of a network of `config` for an input.
fn refusal(config: &UNet3dConfig, change: impl Fn(Scene) -> Scene) -> String {
    let (net, _) = build(config, Kind::Float, 1);
    let right = scene(config, Kind::Float, 2, [2, 3, 4, 6]);
    let _ = net.forward(&right.x, &right.t, &right.cond, &right.frames, None).unwrap();
    let wrong = change(right);
    let outcome = net.forward(&wrong.x, &wrong.t, &wrong.cond, &wrong.frames, None);
    outcome.unwrap_err().to_string()
}

fn has(message: &str, parts: &[&str]) {
    for part in parts {
        assert!(message.contains(part), "{message:?} lacks {part:?}");
    }
}

fn floats(shape: &[i64]) -> Tensor {
    normal(3, shape).to_kind(Kind::Float)
}

#[test]
fn videos_that_do_not_fit_are_refused_with_their_shape() {
    let with = |x: Tensor| refusal(&config(), |right| Scene { x: x.shallow_clone(), ..right });
    let shape = "b 3 f h w with h and w multiples of 2";
    has(&with(floats(&[2, 4, 3, 4, 6])), &["video", shape, "[2, 4, 3, 4, 6]"]);
    has(&with(floats(&[2, 3, 3, 5, 6])), &["video", shape, "[2, 3, 3, 5, 6]"]);
    has(&with(floats(&[2, 3, 3, 4, 7])), &["video", shape, "[2, 3, 3, 4, 7]"]);
    // Channels last, as decoders return it.
    has(&with(floats(&[2, 3, 4, 6, 3])), &["video", shape]);
    has(&with(floats(&[2, 3, 4, 6])), &["video", "five axes, b c f h w", "[2, 3, 4, 6]"]);
    has(&with(floats(&[])), &["video", "five axes", "[]"]);
    for axis in [0, 2, 3, 4] {
        let mut size = [2, 3, 3, 4, 6];
        size[axis] = 0;
        has(&with(floats(&size)), &["video", &format!("{size:?}")]);
    }
}

#[test]
fn videos_of_bytes_are_refused_rather_than_taken_for_values() {
    for kind in [Kind::Uint8, Kind::Int64, Kind::Bool, Kind::ComplexFloat] {
        let message = refusal(&config(), |right| Scene { x: right.x.to_kind(kind), ..right });
        has(&message, &["video", "floating-point", &format!("{kind:?}")]);
    }
}

#[test]
fn videos_of_any_precision_are_taken() {
    let (net, _) = build(&config(), Kind::Float, 1);
    let right = scene(&config(), Kind::Float, 2, [2, 3, 4, 6]);
    for kind in [Kind::Half, Kind::BFloat16, Kind::Double] {
        let x = right.x.to_kind(kind);
        let answer = net.forward(&x, &right.t, &right.cond, &right.frames, None).unwrap();
        assert_eq!(answer.kind(), Kind::Float);
    }
}

#[test]
fn noise_levels_are_one_per_sample_or_one_per_frame() {
    let with = |t: Tensor| refusal(&config(), |right| Scene { t: t.shallow_clone(), ..right });
    let shape = "shape [2], or [2, 3] for one noise level per frame";
    for size in [&[] as &[i64], &[1], &[3], &[2, 1], &[3, 2], &[2, 3, 1], &[0]] {
        has(&with(levels(4, size)), &["noise levels", shape, &format!("{size:?}")]);
    }
    for kind in [Kind::Bool, Kind::ComplexDouble] {
        has(&with(levels(4, &[2]).to_kind(kind)), &["noise levels", &format!("{kind:?}")]);
    }
}

#[test]
fn conditioning_is_for_conditional_networks_and_of_their_width() {
    let give = |pooled: Tensor| {
        move |right: Scene| Scene { cond: Cond::pooled(pooled.shallow_clone()), ..right }
    };
    has(&refusal(&config(), give(floats(&[2, 5]))), &["conditioning", "no cond_dim"]);
    let shape = "shape [2, 5], or [2, 3, 5] for one per frame";
    for size in [&[] as &[i64], &[2], &[5], &[2, 4], &[3, 5], &[2, 2, 5], &[2, 3, 4], &[2, 3, 5, 1]]
    {
        let message = refusal(&conditional(), give(floats(size)));
        has(&message, &["conditioning embedding", shape, &format!("{size:?}")]);
    }
    for kind in [Kind::Int64, Kind::ComplexFloat] {
        let message = refusal(&conditional(), give(floats(&[2, 5]).to_kind(kind)));
        has(&message, &["conditioning embedding", "floating-point", &format!("{kind:?}")]);
    }
}

#[test]
fn null_masks_are_bools_one_per_sample() {
    let with = |null: Tensor| {
        refusal(&conditional(), |right| {
            let cond = right.cond.with_null(null.shallow_clone());
            Scene { cond, ..right }
        })
    };
    let name = ["null mask", "bool of shape [2]"];
    has(&with(Tensor::from_slice(&[1i64, 0])), &[name[0], name[1], "Int64"]);
    has(&with(Tensor::from_slice(&[1f32, 0.0])), &[name[0], name[1], "Float"]);
    has(&with(Tensor::from_slice(&[true])), &[name[0], name[1], "[1]"]);
    has(&with(Tensor::from_slice(&[true, false, true])), &[name[0], name[1], "[3]"]);
    has(&with(Tensor::from_slice(&[true, false]).unsqueeze(1)), &[name[0], name[1], "[2, 1]"]);
    // Also if no embedding is given.
    let message = refusal(&conditional(), |right| Scene {
        cond: Cond { pooled: None, null: Some(Tensor::from_slice(&[true])), ..Cond::none() },
        ..right
    });
    has(&message, &name);
}

/// The error message of a network with all options if one signal is `value`.
fn signal(name: &str, value: Tensor, null: Option<Tensor>) -> String {
    refusal(&everything(), |right| {
        let value = value.shallow_clone();
        let given = Given { value, null: null.as_ref().map(Tensor::shallow_clone) };
        Scene { cond: small::with_given(&right.cond, name, given), ..right }
    })
}

#[test]
fn signals_that_are_unknown_are_refused_with_the_known_ones() {
    has(&signal("rain", floats(&[2]), None), &["signal `rain`", "`low`", "`speed`", "`weather`"]);
    let message = refusal(&config(), |right| Scene {
        cond: Cond::none().with_signal("rain", floats(&[2])),
        ..right
    });
    has(&message, &["signal `rain`", "this network takes no signals"]);
}

#[test]
fn signals_are_of_their_kind_and_shape() {
    let whole = |values: &[i64]| Tensor::from_slice(values);
    let per_frame = "shape [2], or [2, 3] for one per frame";
    for (name, value, expected, got) in [
        ("weather", whole(&[0]), per_frame, "[1]"),
        ("weather", whole(&[0; 4]).view([2, 2]), per_frame, "[2, 2]"),
        ("weather", floats(&[2]), "class numbers, Int64", "Float"),
        ("weather", whole(&[0, 3]), "classes from 0 to 2", "3"),
        ("weather", whole(&[0, 1, 2, 0, -1, 0]).view([2, 3]), "classes from 0 to 2", "-1"),
        ("speed", floats(&[2, 1]), per_frame, "[2, 1]"),
        ("speed", floats(&[2]).to_kind(Kind::Bool), "floating-point", "Bool"),
        ("path", floats(&[2, 4]), "shape [2, 3], or [2, 3, 3] for one per frame", "[2, 4]"),
        ("path", floats(&[2, 2, 3]), "[2, 3, 3]", "[2, 2, 3]"),
        ("path", whole(&[0; 6]).view([2, 3]), "floating-point", "Int64"),
        ("low", floats(&[2, 3, 3, 4, 6]), "shape [2, 2, 3, 4, 6]", "[2, 3, 3, 4, 6]"),
        ("low", floats(&[2, 2, 3, 2, 3]), "shape [2, 2, 3, 4, 6]", "[2, 2, 3, 2, 3]"),
        ("low", floats(&[]), "shape [2, 2, 3, 4, 6]", "[]"),
        ("low", floats(&[2, 2, 3, 4, 6]).to_kind(Kind::Uint8), "floating-point", "Uint8"),
    ] {
        has(&signal(name, value, None), &[&format!("signal `{name}`"), expected, got]);
    }
    for null in [Tensor::from_slice(&[true]), Tensor::from_slice(&[1i64, 0])] {
        let message = signal("speed", floats(&[2]), Some(null));
        has(&message, &["null mask of signal `speed`", "bool of shape [2]"]);
    }
}

#[test]
fn tokens_fit_and_come_with_weights() {
    let with = |values: Tensor, weight: Tensor| {
        refusal(&everything(), |right| {
            let (values, weight) = (values.shallow_clone(), weight.shallow_clone());
            Scene { cond: right.cond.with_tokens(Tokens { values, weight }), ..right }
        })
    };
    let ones = |shape: &[i64]| Tensor::ones(shape, (Kind::Float, Device::Cpu));
    for size in [&[2i64, 4, 5] as &[i64], &[3, 4, 6], &[2, 0, 6], &[2, 6], &[]] {
        let message = with(floats(size), ones(&[2, 4]));
        has(&message, &["tokens", "shape [2, l, 6]", &format!("{size:?}")]);
    }
    for size in [&[2i64, 3] as &[i64], &[4], &[2, 4, 4], &[2, 4, 1]] {
        let message = with(floats(&[2, 4, 6]), ones(size));
        has(&message, &["weights of the tokens", "[2, 4], or [2, 3, 4]", &format!("{size:?}")]);
    }
    let right = floats(&[2, 4, 6]);
    has(&with(right.to_kind(Kind::Int64), ones(&[2, 4])), &["tokens", "floating-point", "Int64"]);
    has(&with(right.shallow_clone(), ones(&[2, 4]).to_kind(Kind::Bool)), &["weights", "Bool"]);
    has(&with(right, ones(&[2, 4]) * -0.5), &["weights of the tokens", "at least 0", "-0.5"]);
}

#[test]
fn a_text_has_what_the_network_looks_at() {
    let without = |config: &UNet3dConfig, tokens: bool| {
        refusal(config, |right| {
            let mut cond = right.cond;
            if tokens {
                cond.pooled = None;
            } else {
                cond.tokens = None;
            }
            Scene { cond, ..right }
        })
    };
    let tokens = TokensConfig { dim: 6, cross: vec![Axes::Time], memory: 0, pool: false };
    let both = UNet3dConfig { tokens: Some(tokens), ..conditional() };
    has(&without(&both, false), &["conditioning", "tokens of width 6", "an embedding without"]);
    has(&without(&both, true), &["conditioning", "embedding of width 5", "tokens without"]);
    let (net, _) = build(&everything(), Kind::Float, 1);
    // A network that pools the embedding itself ignores a given one.
    let mut right = scene(&everything(), Kind::Float, 2, [2, 3, 4, 6]);
    let answer = small::ask(&net, &right);
    for other in [None, Some(floats(&[7]))] {
        right.cond.pooled = other;
        assert_eq!(small::ask(&net, &right), answer);
    }
    let (net, _) = build(&conditional(), Kind::Float, 1);
    let mut right = scene(&conditional(), Kind::Float, 2, [2, 3, 4, 6]);
    let answer = small::ask(&net, &right);
    let (values, weight) = (floats(&[2, 9, 8]), floats(&[2, 9]).abs());
    right.cond = right.cond.with_tokens(Tokens { values, weight });
    assert_eq!(small::ask(&net, &right), answer);
    // A network that takes only signals refuses a text in either form, and needs none.
    let deaf = UNet3dConfig { cond_dim: None, tokens: None, ..everything() };
    for pooled in [true, false] {
        let message = refusal(&deaf, |right| {
            let text = scene(&everything(), Kind::Float, 2, [2, 3, 4, 6]).cond;
            let mut cond = right.cond;
            (cond.pooled, cond.tokens) =
                if pooled { (text.pooled, None) } else { (None, text.tokens) };
            Scene { cond, ..right }
        });
        has(&message, &["conditioning", "it takes no text"]);
    }
}

#[test]
fn frame_masks_fit_samples_and_frames() {
    let with = |frames: FrameMask| {
        refusal(&config(), |right| Scene { frames: frames.shallow_clone(), ..right })
    };
    let focus = |mask: Tensor| with(FrameMask::Focus(mask));
    has(&focus(Tensor::from_slice(&[true])), &["focus mask", "bool [2], one per sample", "[1]"]);
    has(&focus(Tensor::from_slice(&[true; 3])), &["focus mask", "[3]"]);
    has(&focus(Tensor::from_slice(&[1u8, 0])), &["focus mask", "Uint8"]);
    has(&focus(Tensor::from_slice(&[true, false]).unsqueeze(0)), &["focus mask", "[1, 2]"]);
    for clip in [-1, 0, 4] {
        let message = with(FrameMask::ClipAndImages { clip });
        has(&message, &["frames of the clip", "1 to 3", &format!("got {clip}")]);
    }
}

#[test]
fn configs_that_make_no_network_are_refused_by_field() {
    let base = config;
    let cases = [
        ("dim", UNet3dConfig { dim: 6 + 1, ..base() }),
        ("dim", UNet3dConfig { dim: -8, ..base() }),
        ("init_dim", UNet3dConfig { init_dim: Some(0), ..base() }),
        ("init_kernel_size", UNet3dConfig { init_kernel_size: 0, ..base() }),
        ("dim_mults", UNet3dConfig { dim_mults: vec![], ..base() }),
        ("dim_mults", UNet3dConfig { dim_mults: vec![1; 17], ..base() }),
        ("out_dim", UNet3dConfig { out_dim: Some(-1), ..base() }),
        ("attn_heads", UNet3dConfig { attn_heads: 0, ..base() }),
        ("attn_dim_head", UNet3dConfig { attn_dim_head: 3, ..base() }),
        ("norm", UNet3dConfig { norm: NormKind::Group { groups: 3 }, ..base() }),
        ("norm", UNet3dConfig { norm: NormKind::Group { groups: 0 }, ..base() }),
        (
            "norm",
            UNet3dConfig { norm: NormKind::Group { groups: 8 }, init_dim: Some(12), ..base() },
        ),
    ];
    for (field, config) in cases {
        let mut params = Params::new(0, Kind::Float, Device::Cpu);
        let message = UNet3d::new(&config, &mut params.root()).unwrap_err().to_string();
        has(&message, &[&format!("`{field}` of the network's config"), "expected"]);
        assert_eq!(params.count(), 0, "{field}: parameters were declared");
    }
}

#[test]
fn a_network_is_declared_once_in_a_scope() {
    let mut params = Params::new(0, Kind::Float, Device::Cpu);
    UNet3d::new(&config(), &mut params.root().sub("model")).unwrap();
    let again = UNet3d::new(&config(), &mut params.root().sub("model")).unwrap_err();
    has(&again.to_string(), &["model.", "declared twice"]);
    UNet3d::new(&config(), &mut params.root().sub("ema")).unwrap();
}
