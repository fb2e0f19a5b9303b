//! Which road a layer takes, and that both lead to the same place.

use std::sync::Arc;

use tch::{Device, Kind, Tensor};
use vd_tensor_ops::Params;
use vd_tensor_ops::kernels::cuda;
use vd_tensor_ops::kernels::{Precision, precision, with};
use vd_tensor_ops::layers::{
    ConvBlock, CrossAttention, HeadShape, LayerNorm, NormKind, ScaleShift, SpaceConv, SpaceDown,
    SpaceUp, SpatialAttention, SpatialLinearAttention, TemporalAttention, TemporalConv,
};
use vd_tensor_ops::torch::{Autocast, autocast, operators};

use crate::roads::{Noting, both, both_in, compare, of_gpu};
use crate::{device, draw, drawn, emulator, off};

#[test]
fn a_block_answers_and_learns_as_by_libtorchs_operations() {
    for norm in [NormKind::Rms, NormKind::Group { groups: 2 }] {
        for frames in [None, Some(1), Some(3)] {
            let mut inputs = vec![draw(1, &[2, 3, 4, 5, 16]), draw(2, &[2, 3, 4, 5, 16])];
            if let Some(f) = frames {
                inputs.extend([draw(3, &[2, f, 1, 1, 16]), draw(4, &[2, f, 1, 1, 16])]);
            }
            let done = both(11, &inputs, |params| {
                let block = ConvBlock::new(&mut params.root(), 16, 16, norm).unwrap();
                Box::new(move |t| {
                    let film = (t.len() > 2).then(|| ScaleShift {
                        scale: t[2].shallow_clone(),
                        shift: t[3].shallow_clone(),
                    });
                    block.forward(&[&t[0]], film.as_ref(), Some(&t[1]))
                })
            });
            compare(&done, 1e-4);
            let first =
                if norm == NormKind::Rms { "rms_forward_f32_1" } else { "group_sums_f32_1" };
            assert!(of_gpu(&done) || done.2.first().is_some_and(|k| k == first), "{:?}", done.2);
        }
    }
}

#[test]
fn attention_along_time_answers_and_learns_as_by_libtorchs_operations() {
    let inputs = [draw(5, &[2, 5, 3, 2, 16]), draw(6, &[2, 5, 5])];
    let marks = Tensor::from_slice(&[false, false, true, false, false]).view([1, 1, 1, 1, 5]);
    let marks = marks.expand([1, 1, 1, 5, 5], false).to_device(device());
    for forbidden in [None, Some(&marks)] {
        let forbidden = forbidden.map(Tensor::shallow_clone);
        let done = both(12, &inputs, |params| {
            let heads = HeadShape::new(2, 16).unwrap();
            let norm = LayerNorm::new(&mut params.root().sub("norm"), 16).unwrap();
            let attention = TemporalAttention::new(&mut params.root(), 16, heads).unwrap();
            let forbidden = forbidden.as_ref().map(Tensor::shallow_clone);
            Box::new(move |t| attention.residual(&norm, &t[0], Some(&t[1]), forbidden.as_ref()))
        });
        compare(&done, 1e-4);
        let norm = ["layer_forward_f32_1", "layer_backward_f32_1"];
        let both = [norm[0], "temporal_forward_f32_16", "temporal_backward_f32_16", norm[1]];
        assert!(of_gpu(&done) || done.2 == both, "{:?}", done.2);
    }
}

#[test]
fn linear_attention_answers_and_learns_as_by_libtorchs_operations() {
    let done = both(13, &[draw(8, &[2, 2, 5, 4, 16])], |params| {
        let heads = HeadShape::new(2, 16).unwrap();
        let norm = LayerNorm::new(&mut params.root().sub("norm"), 16).unwrap();
        let attention = SpatialLinearAttention::new(&mut params.root(), 16, heads).unwrap();
        Box::new(move |t| attention.residual(&t[0], &norm))
    });
    compare(&done, 1e-4);
    assert!(of_gpu(&done) || done.2[1] == "linear_sums_f32_16", "{:?}", done.2);
}

/// A layer's name, inputs, and how it is made.
type Case = (&'static str, Vec<Tensor>, Box<dyn Fn(&mut Params) -> Layer>);

/// Layers with what they are given, away from others in what they ask of libtorch.
fn layers() -> Vec<Case> {
    let video = |seed, f| draw(seed, &[2, f, 4, 5, 16]);
    let heads = || HeadShape::new(2, 16).unwrap();
    let film = || [draw(3, &[2, 1, 1, 1, 16]), draw(4, &[2, 1, 1, 1, 16])];
    let mut all: Vec<Case> = Vec::new();
    let inputs = [video(1, 3), video(2, 3), video(5, 3)].into_iter().chain(film()).collect();
    all.push((
        "block of two inputs",
        inputs,
        Box::new(|params| {
            let block = ConvBlock::new(&mut params.root(), 32, 16, NormKind::Rms).unwrap();
            Box::new(move |t| {
                let film = ScaleShift { scale: t[3].shallow_clone(), shift: t[4].shallow_clone() };
                block.forward(&[&t[0], &t[1]], Some(&film), Some(&t[2]))
            })
        }),
    ));
    all.push((
        "down and up",
        vec![draw(6, &[2, 3, 4, 6, 16])],
        Box::new(|params| {
            let down = SpaceDown::new(&mut params.root().sub("down"), 16).unwrap();
            let up = SpaceUp::new(&mut params.root().sub("up"), 16).unwrap();
            Box::new(move |t| up.forward(&down.forward(&t[0])))
        }),
    ));
    all.push((
        "convolution over time",
        vec![video(7, 5)],
        Box::new(|params| {
            let conv = TemporalConv::new(&mut params.root(), 16, 3).unwrap();
            Box::new(move |t| conv.forward(&t[0], None))
        }),
    ));
    for f in [4, 34] {
        let inputs = vec![video(8, f), draw(9, &[2, f, f])];
        all.push((
            "attention along time",
            inputs,
            Box::new(move |params| {
                let norm = LayerNorm::new(&mut params.root().sub("norm"), 16).unwrap();
                let attention = TemporalAttention::new(&mut params.root(), 16, heads()).unwrap();
                let marks = draw(10, &[2, 1, 1, f, f]).gt(0.8);
                let eye = Tensor::eye(f, (Kind::Bool, device())).logical_not();
                let marks = marks.logical_and(&eye);
                Box::new(move |t| attention.residual(&norm, &t[0], Some(&t[1]), Some(&marks)))
            }),
        ));
    }
    all.push((
        "linear attention",
        vec![video(11, 2)],
        Box::new(move |params| {
            let norm = LayerNorm::new(&mut params.root().sub("norm"), 16).unwrap();
            let attention = SpatialLinearAttention::new(&mut params.root(), 16, heads()).unwrap();
            Box::new(move |t| attention.residual(&t[0], &norm))
        }),
    ));
    all.push((
        "attention over space",
        vec![video(12, 2), draw(13, &[2, 20, 20])],
        Box::new(move |params| {
            let norm = LayerNorm::new(&mut params.root().sub("norm"), 16).unwrap();
            let attention = SpatialAttention::new(&mut params.root(), 16, heads()).unwrap();
            Box::new(move |t| attention.residual(&norm, &t[0], Some(&t[1])))
        }),
    ));
    all.push((
        "cross-attention",
        vec![video(14, 2), draw(15, &[2, 7, 12])],
        Box::new(move |params| {
            let norm = LayerNorm::new(&mut params.root().sub("norm"), 16).unwrap();
            let attention = CrossAttention::new(&mut params.root(), 16, 12, heads()).unwrap();
            // One sample has no token.
            let weight = Tensor::from_slice(&[1f32, 0.0]).view([2, 1])
                * Tensor::ones([1, 7], (Kind::Float, Device::Cpu));
            let weight = weight.to_device(device());
            Box::new(move |t| {
                let (inner, around) = norm.branch(&t[0]);
                around.plus(&attention.forward(&inner, &t[1], &weight))
            })
        }),
    ));
    all
}

type Layer = Box<dyn Fn(&[Tensor]) -> Tensor>;

#[test]
fn every_layer_answers_and_learns_in_f32_and_stays_in_the_half_that_it_is_given() {
    for (i, (name, inputs, build)) in layers().into_iter().enumerate() {
        for (cast, bound) in [(Autocast::Off, 1e-4), (Autocast::Bf16, 2e-2)] {
            let (want, got, _) = both_in(cast, 20 + i as u64, &inputs, &*build);
            assert_eq!(want.len(), got.len());
            for (k, (want, got)) in want.iter().zip(&got).enumerate() {
                let error = off(got, want);
                println!("{name}, {cast}, number {k}: {error:.1e}");
                assert!(error < bound, "{name}, {cast}: number {k} is off by {error:e}");
            }
        }
    }
}

#[test]
fn a_weight_is_cast_once_without_gradients_and_anew_when_it_has_changed() {
    let machine = || Arc::new(Noting::default());
    let mut params = Params::new(7, Kind::Float, device());
    let conv = SpaceConv::new(&mut params.root(), 16, 16, 3).unwrap();
    let x = draw(1, &[1, 2, 4, 4, 16]).to_kind(Kind::BFloat16);
    let forward = || {
        let here = || autocast(device(), Autocast::Bf16, || conv.forward(&x)).unwrap();
        if device() == Device::Cpu { cuda::imitated(machine(), here) } else { here() }
    };
    let casts = |f: &dyn Fn() -> Tensor| {
        let (y, all) = operators(f).unwrap();
        let casts =
            all.iter().filter(|op| op.name == "aten::copy_" && op.inputs[1].kind == Kind::Float);
        (y, casts.count())
    };
    let evaluated = || tch::no_grad(forward);
    let (first, again) = (casts(&evaluated), casts(&evaluated));
    assert_eq!((first.1, again.1), (2, 0), "weight and bias");
    assert!(first.0 == again.0);
    // A pass with gradients keeps nothing, and neither does one whose activations are made again.
    assert_eq!([casts(&forward).1, casts(&forward).1], [2, 2]);
    let passing = || tch::no_grad(|| vd_tensor_ops::kernels::passing(forward));
    assert_eq!([casts(&passing).1, casts(&passing).1], [2, 2]);
    let _ = casts(&evaluated);
    tch::no_grad(|| {
        for (_, param) in params.iter() {
            let _ = param.tensor.shallow_clone().g_mul_scalar_(2.0);
        }
    });
    let (changed, count) = casts(&evaluated);
    assert_eq!(count, 2);
    assert!(changed == first.0 * 2.0, "a weight that was changed");
}

#[test]
fn the_reference_other_kinds_and_broken_machines_take_libtorchs_operations() {
    if device() != Device::Cpu {
        return; // What stands in needs a compiler, which a machine with a GPU may not have.
    }
    let run = |precision: Precision, kind: Kind, c: i64, broken: bool| {
        let machine = Arc::new(Noting { broken, ..Noting::default() });
        let mut params = Params::new(7, kind, Device::Cpu);
        let block = ConvBlock::new(&mut params.root(), c, c, NormKind::Rms).unwrap();
        let x = drawn::draw(1, &[1, 2, 3, 3, c]).to_kind(kind);
        cuda::imitated(machine.clone(), || {
            let _ = with(precision, || block.forward(&[&x], None, None));
        });
        !machine.seen().is_empty()
    };
    for precision in [Precision::Exact, Precision::F32, Precision::Bf16] {
        assert!(run(precision, Kind::Float, 16, false));
        assert!(run(precision, Kind::BFloat16, 16, false));
    }
    assert!(!run(Precision::Reference, Kind::Float, 16, false));
    assert!(!run(Precision::F32, Kind::Double, 16, false));
    assert!(!run(Precision::F32, Kind::Float, 10, false));
    assert!(!run(Precision::F32, Kind::Float, 16, true));
}

#[test]
fn nothing_stands_in_for_a_gpu_once_the_test_is_over() {
    if device() != Device::Cpu {
        return;
    }
    let x = drawn::draw(1, &[1, 1, 2, 2, 16]);
    let gain = Tensor::ones([16], (Kind::Float, Device::Cpu));
    let finish =
        cuda::RmsFinish { bias: None, gain: &gain, factor: 1.0, film: None, residual: None };
    assert!(cuda::imitated(emulator::machine(), || cuda::rms_fits(&x, &finish).is_some()));
    assert!(cuda::rms_fits(&x, &finish).is_none());
    assert!(cuda::state(Device::Cpu).unwrap_err().to_string().contains("no GPU"));
}

#[test]
fn the_environment_may_choose_libtorchs_operations_for_all() {
    if std::env::var("VD_KERNELS").is_ok() {
        assert_eq!(precision(), Precision::Reference);
        assert_eq!(with(Precision::F32, precision), Precision::Reference);
        return;
    }
    assert_eq!(with(Precision::Exact, precision), Precision::Exact);
    let mut own = std::process::Command::new(std::env::current_exe().unwrap());
    own.args(["--exact", "layers::the_environment_may_choose_libtorchs_operations_for_all"]);
    let output = own.env("VD_KERNELS", "reference").output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
}
