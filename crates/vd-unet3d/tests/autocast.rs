//! Networks whose matmuls and convolutions compute in half precision.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "../../vd-tensor-ops/tests/oracle/mod.rs"]
mod oracle;
mod small;

use small::{Scene, build, everything, paper, scene};
use tch::{Kind, Tensor};
use vd_unet3d::ops::kernels::Precision;
use vd_unet3d::ops::torch::Autocast;
use vd_unet3d::{Backbone, FrameMask, UNet3d};

/// The output, and the gradients of its mean square.
fn pass(net: &UNet3d, scene: &Scene, leaves: &[&Tensor]) -> Vec<Tensor> {
    let Scene { x, t, cond, frames } = scene;
    let answer = net.forward(x, t, cond, frames, None).unwrap();
    let loss = answer.square().mean(Kind::Float);
    let mut all = Tensor::run_backward(&[&loss], leaves, false, false);
    all.push(answer.detach());
    all.retain(Tensor::defined);
    all
}

/// |got - exact| / |exact| over all values together.
fn error(got: &[Tensor], exact: &[Tensor]) -> f64 {
    let length = |t: &Tensor| t.to_kind(Kind::Double).square().sum(Kind::Double).double_value(&[]);
    let difference = got.iter().zip(exact).map(|(a, b)| length(&(a - b))).sum::<f64>();
    (difference / exact.iter().map(length).sum::<f64>()).sqrt()
}

#[test]
fn answers_and_gradients_are_in_f32_near_those_of_f32_and_recomputed_to_the_last_bit() {
    for (seed, config) in [(1, everything()), (2, paper())] {
        let (mut net, params) = build(&config, Kind::Float, seed);
        net.set_precision(Precision::Reference);
        let mut scene = scene(&config, Kind::Float, seed, [2, 3, 8, 8]);
        scene.frames = FrameMask::All;
        let leaves: Vec<&Tensor> = params.trainable().into_iter().map(|(_, t)| t).collect();
        let exact = pass(&net, &scene, &leaves);
        // An operand is rounded by at most 2^-9 or 2^-12, in tens of layers. Measured: 1.7e-2 and
        // 6.3e-3 in bf16, 1.7e-3 and 7.8e-4 in fp16.
        for (cast, bound) in [(Autocast::Bf16, 5e-2), (Autocast::Fp16, 5e-3)] {
            net.set_autocast(cast);
            let got = pass(&net, &scene, &leaves);
            assert!(got.iter().all(|t| t.kind() == Kind::Float));
            let error = error(&got, &exact);
            assert!((1e-6..bound).contains(&error), "{cast}: {error:e}");
            for levels in [1, 99] {
                net.set_recompute(levels);
                assert!(pass(&net, &scene, &leaves) == got, "{cast}, {levels} levels");
            }
            net.set_recompute(0);
        }
        net.set_autocast(Autocast::Off);
        assert!(pass(&net, &scene, &leaves) == exact);
    }
}
