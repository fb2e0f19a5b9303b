//! vd-torch alone: the available device, and AdamW steps over whole lists of tensors.
#![allow(clippy::print_stdout, reason = "a program for a terminal")]

use vd_torch::tch::{Device, Kind, Tensor};
use vd_torch::{AdamWState, AdamWStep, DeviceChoice, fused_adamw};

fn main() -> Result<(), vd_torch::Error> {
    let device = DeviceChoice::Auto.resolve()?;
    println!("libtorch {} on {device:?}: {:?}", vd_torch::version(), vd_torch::cuda_status()?);

    // Finds the minimum of (p - 3)^2, starting from 0.
    let p = [Tensor::zeros([1], (Kind::Float, Device::Cpu))];
    let (m, v) = ([p[0].zeros_like()], [p[0].zeros_like()]);
    let step = AdamWStep { lr: 0.1, beta1: 0.9, beta2: 0.999, eps: 1e-8, weight_decay: 0.0 };
    for i in 1..=200 {
        let grads = [2.0 * (&p[0] - 3.0)];
        let steps = [Tensor::from(i as f32)];
        let state =
            AdamWState { params: &p, grads: &grads, exp_avgs: &m, exp_avg_sqs: &v, steps: &steps };
        fused_adamw(&step, state)?;
    }
    println!("the bottom of (p - 3)^2 is at {:.3}", p[0].double_value(&[0]));
    Ok(())
}
