//! Ancestral sampling as in video-diffusion-pytorch: all steps, same weights, same noise.
//!
//! golden/ancestral.py wrote the fixture and documents its content.
#![allow(clippy::unwrap_used)]

use serde_json::{Map, Value};
use tch::{Device, Kind, Tensor};
use vd_diffusion::{
    Ancestral, Cond, Diffusion, DiffusionConfig, FrameMask, Noise, ScheduleConfig, Spacing,
    Threshold, Thresholded, keep_going, sample,
};
use vd_unet3d::ops::Weights;
use vd_unet3d::ops::torch::testing::{device, folder};

#[path = "../../vd-unet3d/tests/common/mod.rs"]
mod common;

use common::case::{build, config, relative_l2, weights};
use common::generator::unit;

/// The Python script's description of the fixture.
#[derive(serde::Deserialize)]
struct Golden {
    network: Map<String, Value>,
    /// b c f h w
    size: [i64; 5],
    timesteps: usize,
}

/// The noise given to the package: call k is the stream "noise/k".
#[derive(Debug)]
struct Replay {
    calls: usize,
}

impl Noise for Replay {
    fn normal(&mut self, like: &Tensor) -> Tensor {
        let values = unit(&format!("noise/{}", self.calls), &like.size());
        self.calls += 1;
        values.to_device(like.device()).to_kind(like.kind())
    }

    fn uniform(&mut self, _: &Tensor) -> Tensor {
        unreachable!("sampling draws normal values only")
    }
}

fn check(name: &str, threshold: Threshold, scale: f64) {
    let path = folder(env!("CARGO_MANIFEST_DIR")).join("tests/golden/ancestral.safetensors");
    let file = Weights::read(&path, Device::Cpu).unwrap();
    let golden: Golden = serde_json::from_str(&file.metadata["golden"]).unwrap();
    let config = config("0.7.0", &golden.network);
    let (network, params) = build(&config, Kind::Float);
    params.load(&weights(&params, &file.tensors["rotary_frequencies"])).unwrap();

    let diffusion = Diffusion::new(&DiffusionConfig {
        schedule: ScheduleConfig::cosine_discrete(golden.timesteps),
        ..Default::default()
    })
    .unwrap();
    let schedule = diffusion.schedule();
    let cond = unit("input/cond", &[golden.size[0], config.cond_dim.unwrap()]);
    let cond = Cond::pooled(cond.to_device(device()));
    let guided = diffusion.guided(&network, cond, FrameMask::All, scale).unwrap();
    let denoiser = Thresholded::new(guided, threshold).unwrap();
    let grid = Spacing::UniformT.grid(schedule, golden.timesteps).unwrap();

    let mut noise = Replay { calls: 0 };
    let x = noise.normal(&Tensor::empty(golden.size, (Kind::Float, device())));
    let sampler = Ancestral { gamma: 0.0 };
    let x0 = sample(&sampler, &denoiser, schedule, &grid, x, &mut noise, &mut keep_going).unwrap();

    let video = ((x0 + 1.0) * 0.5).to_device(Device::Cpu); // the range in which the package returns it
    let expected = &file.tensors[name];
    let (l2, max) = (relative_l2(&video, expected), (video - expected).abs().max());
    let max = max.double_value(&[]);
    assert!(l2 <= 1e-4 && max <= 1e-4, "{name}: relative L2 {l2:e}, largest difference {max:e}");
}

#[test]
fn static_threshold_without_guidance() {
    check("static-1", Threshold::Static, 1.0);
}

#[test]
fn static_threshold_with_guidance() {
    check("static-2", Threshold::Static, 2.0);
}

#[test]
fn dynamic_threshold_without_guidance() {
    check("dynamic-1", Threshold::dynamic(), 1.0);
}

#[test]
fn dynamic_threshold_with_guidance() {
    check("dynamic-2", Threshold::dynamic(), 2.0);
}
