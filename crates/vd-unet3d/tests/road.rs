//! What the networks ask of a GPU, counted without one: libtorch's operators are those of this CPU,
//! kernels are noted and not run.
#![allow(clippy::unwrap_used, clippy::expect_used)]
#![allow(clippy::print_stdout, reason = "the counts")]

#[path = "../../vd-tensor-ops/tests/counted/mod.rs"]
mod counted;

use std::collections::BTreeMap;
use std::sync::Arc;

use counted::{Counts, counted};
use tch::{Device, Kind, Tensor};
use vd_unet3d::ops::kernels::cuda::{Dry, imitated};
use vd_unet3d::ops::torch::{Autocast, Operand};
use vd_unet3d::ops::{FrameMask, Params};
use vd_unet3d::{Backbone, Cond, UNet3d, UNet3dConfig};

/// Samples and frames, whose product divides the entries of activations and of nothing else.
const SIZE: [i64; 2] = [3, 5];

fn large(t: &Operand) -> bool {
    let n = t.len();
    n % (SIZE[0] * SIZE[1]) == 0 && n >= 16 * SIZE[0] * SIZE[1]
}

struct Network {
    net: UNet3d,
    params: Params,
    x: Tensor,
    t: Tensor,
}

impl Network {
    fn new() -> Self {
        let config = UNet3dConfig { dim: 64, ..UNet3dConfig::video_diffusion_pytorch_0_7() };
        let mut params = Params::new(1, Kind::Float, Device::Cpu);
        let mut net = UNet3d::new(&config, &mut params.root()).unwrap();
        net.set_autocast(Autocast::Bf16);
        let [b, f] = SIZE;
        let x = Tensor::zeros([b, config.channels, f, 16, 16], (Kind::Float, Device::Cpu)) + 0.5;
        let t = Tensor::from_slice(&[3i64, 500, 998]);
        Network { net, params, x, t }
    }

    fn forward(&self) -> Tensor {
        self.net.forward(&self.x, &self.t, &Cond::default(), &FrameMask::All, None).unwrap()
    }

    /// What `f` asks for, kernels by their names without kinds and sizes.
    fn counted(&self, f: impl FnOnce()) -> (Counts, BTreeMap<String, usize>) {
        let machine = Arc::new(Dry::default());
        let ((), counts) = imitated(machine.clone(), || counted(large, f));
        let mut kernels = BTreeMap::new();
        for kernel in machine.take() {
            let name: Vec<&str> =
                kernel.split('_').take_while(|part| !part.contains("16")).collect();
            *kernels.entry(name.join("_")).or_default() += 1;
        }
        (counts, kernels)
    }
}

#[test]
fn table() {
    let mut of = Network::new();
    let evaluation = || tch::no_grad(|| drop(of.forward()));
    imitated(Arc::new(Dry::default()), evaluation);
    let (counts, kernels) = of.counted(evaluation);
    println!("evaluation\n{counts}{kernels:#?}");
    let step = || of.forward().mean(Kind::Float).backward();
    let (counts, kernels) = of.counted(|| drop(of.forward()));
    println!("forward\n{counts}{kernels:#?}");
    let (counts, kernels) = of.counted(step);
    println!("forward and backward\n{counts}{kernels:#?}");
    for (_, param) in of.params.iter() {
        let mut tensor = param.tensor.shallow_clone();
        tensor.zero_grad();
    }
    of.net.set_recompute(99);
    let step = || of.forward().mean(Kind::Float).backward();
    let (counts, kernels) = of.counted(step);
    println!("with all computed again\n{counts}{kernels:#?}");
}
