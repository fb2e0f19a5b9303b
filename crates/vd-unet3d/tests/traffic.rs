//! Counts compared with the other count of operations, with parameters of networks, and with
//! results by hand.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeMap;

use tch::Kind;
use vd_unet3d::flops::{self, Shape};
use vd_unet3d::ops::Params;
use vd_unet3d::ops::layers::NormKind;
use vd_unet3d::traffic::{
    Floors, Layer, Pass, Rates, Sort, Widths, floors, forward, layers, training,
};
use vd_unet3d::{
    Axes, Preset, SignalConfig, Skips, TimePositions, TokensConfig, UNet3d, UNet3dConfig,
};

const SHAPE: Shape = Shape { b: 2, f: 5, h: 32, w: 48, tokens: 9 };

/// Every preset, and small networks with all options of a config.
fn configs() -> Vec<UNet3dConfig> {
    let mut all: Vec<_> = Preset::ALL.into_iter().map(Preset::config).collect();
    let tokens =
        |cross: Vec<Axes>, memory, pool| Some(TokensConfig { dim: 12, cross, memory, pool });
    let signals: BTreeMap<_, _> = [
        ("kind".to_owned(), SignalConfig::Class { classes: vec!["a".into(), "b".into()] }),
        ("at".to_owned(), SignalConfig::Scalar { mean: 0.0, std: 1.0 }),
        ("ecg".to_owned(), SignalConfig::Series { width: 5 }),
        ("low".to_owned(), SignalConfig::Video { channels: 2 }),
    ]
    .into();
    let small = || UNet3dConfig { dim: 8, dim_mults: vec![1, 2, 3], ..Default::default() };
    all.push(UNet3dConfig {
        init_dim: Some(6),
        out_dim: Some(5),
        cond_dim: Some(7),
        tokens: tokens(vec![Axes::Space, Axes::Time], 3, false),
        temporal_kernel: Some(3),
        spatial_bias: true,
        blocks: 3,
        signals: signals.clone(),
        ..small()
    });
    all.push(UNet3dConfig {
        tokens: tokens(vec![Axes::Time], 2, true),
        use_sparse_linear_attn: false,
        norm: NormKind::Group { groups: 2 },
        skip_before_temporal: true,
        ..small()
    });
    all.push(UNet3dConfig {
        dim: 16,
        dim_mults: vec![1, 2],
        attention_levels: Some(vec![1]),
        skips: Skips::Block,
        temporal_kernel: Some(3),
        use_sparse_linear_attn: true,
        time_positions: TimePositions::Shaw { distance: 4 },
        tokens: tokens(vec![Axes::Space], 0, true),
        signals,
        ..UNet3dConfig::paper_text_small()
    });
    all
}

#[test]
fn the_arithmetic_of_all_layers_is_that_of_the_network() {
    for config in configs() {
        let sum: u64 = layers(&config, SHAPE).iter().map(|layer| layer.flops).sum();
        assert_eq!(sum, flops::forward(&config, SHAPE), "{config:?}");
    }
}

#[test]
fn every_layer_has_the_parameters_that_the_network_has_under_its_name() {
    for config in configs() {
        let mut params = Params::sketch(Kind::Float);
        UNet3d::new(&config, &mut params.root()).unwrap();
        let layers = layers(&config, SHAPE);
        let mut left: BTreeMap<&str, u64> = BTreeMap::new();
        for layer in &layers {
            assert_eq!(left.insert(&layer.name, layer.parameters), None, "{} twice", layer.name);
        }
        for (name, tensor) in params.trainable() {
            let starts = left.keys().filter(|start| {
                name.strip_prefix(**start)
                    .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
            });
            let own = *starts.max_by_key(|start| start.len()).expect(name);
            let count = tensor.size().iter().product::<i64>().unsigned_abs();
            let rest = left[own].checked_sub(count);
            left.insert(own, rest.unwrap_or_else(|| panic!("{own} has less than {name}")));
        }
        assert!(left.values().all(|rest| *rest == 0), "{left:?} of {config:?}");
    }
}

/// A product of 10 rows of 3 to 4 with a residual, in bf16, by hand.
#[test]
fn bytes_are_those_of_every_tensor_that_a_kernel_touches() {
    let (x, y, w) = (30, 40, 12);
    let product = Layer {
        name: "p".to_owned(),
        sort: Sort::AttentionProduct,
        parameters: w,
        flops: 2 * 10 * 12,
        inputs: x,
        residual: y,
        outputs: y,
        added: x,
        leads_back: true,
    };
    let forward = product.forward(Widths::HALF);
    assert_eq!((forward.flops, forward.bytes), (2 * 10 * 12, 2 * (x + w + y + y)));
    let back: Vec<_> =
        product.backward(Widths::HALF).iter().map(|pass| (pass.flops, pass.bytes)).collect();
    let (of_weights, of_input) = (2 * (x + y) + 4 * w, 2 * (y + w + x + x));
    assert_eq!(back, [(240, of_weights), (240, of_input)]);
    let first = Layer { leads_back: false, ..product.clone() };
    assert_eq!(first.backward(Widths::F32).len(), 1);

    let norm = Layer {
        sort: Sort::Norm,
        parameters: 4,
        flops: 0,
        inputs: 40,
        added: 0,
        ..product.clone()
    };
    assert_eq!(norm.forward(Widths::F32).bytes, 4 * (3 * 40 + 4));
    let [back] = norm.backward(Widths::F32)[..] else { panic!("one kernel") };
    assert_eq!((back.flops, back.bytes), (0, 4 * (3 * 40 + 4 + 4)));

    let step = training(&[product, norm], Widths::HALF);
    assert_eq!(step.len(), 2 + 3 + 1);
    assert_eq!(step[5].bytes, (12 + 4) * (9 * 4 + 2));
}

#[test]
fn the_larger_floor_is_summed_kernel_by_kernel() {
    let pass = |flops, bytes| Pass { sort: Sort::Norm, flops, bytes };
    let rates = Rates { bytes: 10.0, flops: 100.0 };
    let all = floors(&[pass(1000, 10), pass(100, 50)], rates);
    assert_eq!(all, Floors { memory: 6.0, arithmetic: 11.0, larger: 15.0 });
}

#[test]
fn two_branches_of_guidance_read_the_weights_once() {
    let config = UNet3dConfig { dim: 16, ..Default::default() };
    let bytes = |b| -> u64 {
        let all = forward(&layers(&config, Shape { b, ..SHAPE }), Widths::F32);
        all.iter().map(|pass| pass.bytes).sum()
    };
    let parameters: u64 = layers(&config, SHAPE).iter().map(|layer| layer.parameters).sum();
    // All but weights and the bias of the scores, which the samples share.
    let shared = bytes(2) - (bytes(4) - bytes(2));
    assert!(shared >= 4 * parameters && shared < 4 * (parameters + 100_000), "{shared}");
}
