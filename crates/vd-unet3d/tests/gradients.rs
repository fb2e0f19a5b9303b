//! The gradient of the whole network, with respect to its input, its conditioning and every
//! parameter, against central differences in f64.

#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "../../vd-tensor-ops/tests/oracle/mod.rs"]
mod oracle;
mod small;

use oracle::differences::{check, check_together, leaves};
use small::{ask, build, conditional, levels, scene};
use tch::{Kind, Tensor};
use vd_unet3d::ops::layers::NormKind;
use vd_unet3d::{Backbone, FrameMask, UNet3dConfig};

fn gradients_hold(config: &UNet3dConfig, seed: u64) {
    let (net, params) = build(config, Kind::Double, seed);
    let mut scene = scene(config, Kind::Double, seed, [2, 3, 4, 4]);
    scene.t = levels(seed, &[2, 3]);
    scene.frames = FrameMask::Focus(Tensor::from_slice(&[true, false]));
    // One row null, so that both the embedding given and the null embedding take part.
    let pooled = scene.cond.pooled.as_ref().unwrap().set_requires_grad(true);
    scene.cond.pooled = Some(pooled.shallow_clone());
    scene.cond.null = Some(Tensor::from_slice(&[false, true]));
    let x = scene.x.set_requires_grad(true);
    scene.x = x.shallow_clone();
    let mut leaves = leaves(&params, &x);
    leaves.push(("conditioning".to_owned(), pooled));
    // All together; then what enters the network, each by itself.
    check_together("network", &leaves, (seed, 3), &|| ask(&net, &scene));
    let inputs = leaves.split_off(params.trainable().len());
    check("network", &inputs, seed, &|| ask(&net, &scene));
}

#[test]
fn gradients_of_the_network_are_the_slopes_of_its_values() {
    let base = UNet3dConfig { init_dim: Some(4), out_dim: Some(2), ..conditional() };
    gradients_hold(&base, 1);
    let norm = NormKind::Group { groups: 2 };
    gradients_hold(&UNet3dConfig { norm, skip_before_temporal: true, ..base }, 2);
}

#[test]
fn every_parameter_gets_a_gradient() {
    let config = conditional();
    let (net, params) = build(&config, Kind::Double, 3);
    let mut scene = scene(&config, Kind::Double, 4, [2, 3, 4, 4]);
    scene.cond.null = Some(Tensor::from_slice(&[false, true]));
    net.forward(&scene.x, &scene.t, &scene.cond, &scene.frames, None)
        .unwrap()
        .square()
        .sum(Kind::Double)
        .backward();
    for (name, parameter) in params.iter() {
        let gradient = parameter.tensor.grad();
        assert_eq!(gradient.defined(), parameter.trainable, "{name}");
        if parameter.trainable {
            assert!(gradient.abs().max().double_value(&[]) > 0.0, "{name}");
        }
    }
}
