//! The operations of a network on a GPU in bf16, counted without a GPU: libtorch's operators run on
//! this CPU, kernels are recorded and not run. A change of these numbers changes the cost of a
//! step.
#![allow(clippy::unwrap_used, clippy::expect_used)]
#![allow(clippy::print_stdout, reason = "the counts")]

#[path = "../../vd-tensor-ops/tests/counted/mod.rs"]
mod counted;

use std::collections::BTreeMap;
use std::sync::Arc;

use counted::{Counts, counted};
use tch::{Device, Kind, Tensor};
use vd_unet3d::ops::Params;
use vd_unet3d::ops::kernels::cuda::{Dry, imitated};
use vd_unet3d::ops::torch::{Autocast, Operand};
use vd_unet3d::{Backbone, Cond, FrameMask, UNet3d, UNet3dConfig};

/// Samples and frames, whose product divides the size of activations and of nothing else.
const SIZE: [i64; 2] = [3, 5];

fn large(t: &Operand) -> bool {
    let n = t.len();
    n % (SIZE[0] * SIZE[1]) == 0 && n >= 16 * SIZE[0] * SIZE[1]
}

/// The network of video-diffusion-pytorch 0.7: 19 residual blocks, 18 of them with an embedding, 8
/// linear spatial attentions and a full one, 10 temporal attentions.
struct Network {
    net: UNet3d,
    params: Params,
    x: Tensor,
    t: Tensor,
}

impl Network {
    fn new() -> Self {
        let config = UNet3dConfig { dim: 32, ..UNet3dConfig::video_diffusion_pytorch_0_7() };
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

    /// The operations of `f`.
    fn asked(&self, what: &str, f: impl FnOnce()) -> Asked {
        for (_, param) in self.params.iter() {
            // As an optimiser leaves them: the first gradient is stored without addition.
            param.tensor.shallow_clone().zero_grad();
        }
        let machine = Arc::new(Dry::default());
        let ((), counts) = imitated(machine.clone(), || counted(large, f));
        let mut kernels = BTreeMap::new();
        for kernel in machine.take() {
            let name = kernel.split('_').take_while(|part| !["bf16", "32"].contains(part));
            *kernels.entry(name.collect::<Vec<_>>().join("_")).or_default() += 1;
        }
        println!("{what}\n{counts}{kernels:?}");
        Asked { counts, kernels }
    }
}

struct Asked {
    counts: Counts,
    kernels: BTreeMap<String, usize>,
}

impl Asked {
    /// All classes except those of small tensors.
    fn is(&self, classes: &[(&str, usize)]) {
        let got = self.counts.0.iter().filter(|(class, _)| !class.starts_with("small"));
        let got: BTreeMap<&str, usize> = got.map(|(k, (n, _))| (k.as_str(), *n)).collect();
        assert_eq!(got, classes.iter().copied().collect());
    }

    fn runs(&self, kernels: &[(&str, usize)]) {
        let got: BTreeMap<&str, usize> =
            self.kernels.iter().map(|(k, n)| (k.as_str(), *n)).collect();
        assert_eq!(got, kernels.iter().copied().collect());
    }
}

const FORWARD: [(&str, usize); 6] = [
    ("layer_forward", 19),
    ("linear_fold", 8),
    ("linear_forward", 8),
    ("linear_sums", 8),
    ("rms_forward", 38),
    ("temporal_forward", 10),
];

/// Matmuls, sums with the residuals of attentions, inputs concatenated with skips; the casts and
/// permutes are those of the two ends.
const PASS: [(&str, usize); 7] = [
    ("attention", 1),
    ("convolution", 45),
    ("large add", 19),
    ("large cast", 2),
    ("large cat", 5),
    ("large permute", 2),
    ("product", 67),
];

#[test]
fn activations_stay_in_half_and_in_place_from_the_first_convolution_to_the_last() {
    let of = Network::new();
    let evaluated = || tch::no_grad(|| drop(of.forward()));
    let first = of.asked("first evaluation", evaluated);
    let again = of.asked("evaluation", evaluated);
    again.is(&PASS);
    again.runs(&FORWARD);
    // Weights are cast only the first time.
    assert_eq!(first.counts.of("small cast") - again.counts.of("small cast"), 156);
    assert!(again.counts.all("small") <= 33, "{}", again.counts);
    let with_graph = of.asked("forward", || drop(of.forward()));
    with_graph.is(&PASS);
    with_graph.runs(&FORWARD);
}

#[test]
fn a_step_casts_each_weight_and_each_gradient_of_one_once() {
    let mut of = Network::new();
    let step = of.asked("step", || of.forward().mean(Kind::Float).backward());
    let back = [
        ("layer_backward", 19),
        ("linear_backward", 8),
        ("linear_backward_sums", 8),
        ("rms_backward", 38),
        ("rms_fold", 38),
        ("temporal_backward", 10),
    ];
    step.runs(&[&FORWARD[..], &back].concat());
    let is = |asked: &Asked, classes: [(&str, usize); 5]| {
        for (class, n) in classes {
            assert_eq!(asked.counts.of(class), n, "{class} of\n{}", asked.counts);
        }
    };
    let ways = [("convolution backward", 45), ("attention backward", 1)];
    is(&step, [("convolution", 45), ("product", 200), ("small cast", 317), ways[0], ways[1]]);

    of.net.set_recompute(99);
    let again = of.asked("step that computes all again", || {
        of.forward().mean(Kind::Float).backward();
    });
    let twice = [
        ("layer_forward", 37),
        ("linear_fold", 16),
        ("linear_forward", 16),
        ("linear_sums", 16),
        ("rms_forward", 76),
        ("temporal_forward", 19),
    ];
    again.runs(&[&twice[..], &back].concat());
    is(&again, [("convolution", 83), ("product", 263), ("small cast", 453), ways[0], ways[1]]);
}
