//! Networks on a GPU whose recordings use converted weights cached by the layers: on the CPU with
//! an emulated GPU that runs the kernels' own source, or with `VD_TEST_DEVICE=cuda`.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "../../vd-tensor-ops/tests/kernels_cuda/emulator.rs"]
mod emulator;
#[path = "../../vd-tensor-ops/tests/oracle/mod.rs"]
mod oracle;
mod small;

use std::sync::{Mutex, PoisonError};

use oracle::draw::perturb;
use small::{Scene, build, config, scene};
use tch::{Kind, Tensor};
use vd_unet3d::ops::Params;
use vd_unet3d::ops::kernels::cuda;
use vd_unet3d::ops::torch::graphs::{GraphState, StandIn, imitated};
use vd_unet3d::ops::torch::testing::device;
use vd_unet3d::ops::torch::{Autocast, operators};
use vd_unet3d::{Backbone, UNet3d, UNet3dConfig};

/// Runs `f` with kernels and recording on the test device, exclusively among the tests: while one
/// records a backward pass, no other thread may read the cached weights.
fn here<R>(f: impl FnOnce() -> R) -> R {
    static ONE: Mutex<()> = Mutex::new(());
    let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    if device().is_cuda() {
        return f();
    }
    cuda::imitated(emulator::machine(), || imitated(StandIn::new(), f))
}

/// Samples (a number that divides the size of activations, but of no weight), frames, height,
/// width.
const SIZE: [i64; 4] = [5, 3, 4, 4];

/// Operations observed in a call.
#[derive(Debug, Clone, Copy)]
struct Seen {
    /// Copies of weights in another dtype or layout.
    casts: usize,
    /// Cosines, of positions and of times.
    cosines: usize,
}

fn seen<R>(f: impl FnOnce() -> R) -> (R, Seen) {
    let (result, all) = operators(f).unwrap();
    let casts = all.iter().filter(|op| {
        op.name == "aten::copy_"
            && op.inputs[0].len() % SIZE[0] != 0
            && (op.inputs[0].kind, &op.inputs[0].stride)
                != (op.inputs[1].kind, &op.inputs[1].stride)
    });
    let cosines = all.iter().filter(|op| op.name == "aten::cos");
    (result, Seen { casts: casts.count(), cosines: cosines.count() })
}

fn forward(net: &UNet3d, Scene { x, t, cond, frames }: &Scene) -> Tensor {
    net.forward(x, t, cond, frames, None).unwrap()
}

/// A network with recording, and the same one without.
struct Twins {
    nets: [UNet3d; 2],
    params: [Params; 2],
    config: UNet3dConfig,
}

impl Twins {
    fn new(autocast: Autocast) -> Self {
        // Heads that the kernels support.
        let config = UNet3dConfig { attn_dim_head: 16, ..config() };
        let [(mut net, params), (mut own, others)] =
            [(); 2].map(|()| build(&config, Kind::Float, 3));
        net.set_graphs(true);
        [&mut net, &mut own].into_iter().for_each(|net| net.set_autocast(autocast));
        Twins { nets: [net, own], params: [params, others], config }
    }

    fn scene(&self, seed: u64, size: [i64; 4]) -> Scene {
        scene(&self.config, Kind::Float, seed, size)
    }

    /// Evaluates the recorded network without gradients, and returns the observed operations. Its
    /// output equals that of the other, in which a pass with gradients clears the cached weights.
    fn asked(&self, scene: &Scene) -> Seen {
        let [net, own] = &self.nets;
        let (answer, seen) = seen(|| tch::no_grad(|| forward(net, scene)));
        let _ = forward(own, scene);
        let expected = tch::no_grad(|| forward(own, scene));
        let apart = (&answer - &expected).norm().double_value(&[]);
        let far = match (device().is_cuda(), net.autocast()) {
            (false, _) => 0.0,
            (true, Autocast::Off) => 1e-4,
            (true, _) => 2e-2,
        };
        assert!(apart <= far * expected.norm().double_value(&[]), "an answer is off by {apart:e}");
        seen
    }

    /// The operations of a pass with all weights cached, and the number of casts of a pass with
    /// none cached.
    fn own(&self, scene: &Scene) -> (Seen, usize) {
        let _ = forward(&self.nets[1], scene);
        let ask = || seen(|| tch::no_grad(|| forward(&self.nets[1], scene))).1;
        let (first, again) = (ask(), ask());
        (again, first.casts - again.casts)
    }

    fn change(&self, seed: u64) {
        self.params.iter().for_each(|params| perturb(params, seed));
    }

    fn state(&self) -> (usize, u64) {
        let GraphState { recorded, replayed, refused } = self.nets[0].graph_state();
        assert_eq!(refused, None);
        (recorded, replayed)
    }
}

/// Checks that a call made this many passes, plus casts of weights. Replays on a GPU are not
/// visible.
fn took(got: Seen, (passes, pass): (usize, Seen), casts: usize) {
    if !device().is_cuda() {
        assert_eq!(got.casts, passes * pass.casts + casts);
        assert_eq!(got.cosines, passes * pass.cosines, "positions are turned anew");
    }
}

/// Direct, in the recording, in the replay for comparison, and in the one for the output.
const RECORDED: usize = 4;

#[test]
fn a_replay_casts_no_weight_and_the_next_one_after_a_change_each_weight_once() {
    here(|| {
        for autocast in Autocast::ALL {
            let twins = Twins::new(autocast);
            let scene = twins.scene(1, SIZE);
            let (pass, casts) = twins.own(&scene);
            assert!(casts >= 20, "{casts}");
            assert_eq!(twins.asked(&scene).casts, pass.casts + casts, "{autocast}");
            took(twins.asked(&scene), (RECORDED, pass), 0);
            for seed in 0..2 {
                took(twins.asked(&twins.scene(seed, SIZE)), (1, pass), 0);
                twins.change(seed);
                took(twins.asked(&twins.scene(seed, SIZE)), (1, pass), casts);
            }
            assert_eq!(twins.state(), (1, 5));
        }
    });
}

#[test]
fn weights_that_change_between_all_calls_are_cast_once_for_each() {
    here(|| {
        let twins = Twins::new(Autocast::Bf16);
        let scene = twins.scene(1, SIZE);
        let (pass, casts) = twins.own(&scene);
        twins.asked(&scene);
        for seed in 0..3 {
            twins.change(seed);
            let passes = if seed == 0 { RECORDED } else { 1 };
            took(twins.asked(&scene), (passes, pass), casts);
        }
        assert_eq!(twins.state(), (1, 3));
    });
}

#[test]
fn recordings_of_other_shapes_and_the_network_by_itself_share_what_is_kept() {
    here(|| {
        let twins = Twins::new(Autocast::Bf16);
        let scenes = [SIZE, [5, 6, 4, 4], [10, 3, 4, 4]].map(|size| twins.scene(1, size));
        let (pass, casts) = twins.own(&scenes[0]);
        twins.asked(&scenes[0]);
        took(twins.asked(&scenes[0]), (RECORDED, pass), 0);
        for scene in &scenes[1..] {
            // Another number of frames has other rotary angles.
            assert_eq!(twins.asked(scene).casts, pass.casts);
            took(twins.asked(scene), (RECORDED, pass), 0);
        }
        for (seed, first) in [2, 0].into_iter().enumerate() {
            twins.change(seed as u64);
            took(twins.asked(&scenes[first]), (1, pass), casts);
            scenes.iter().for_each(|scene| took(twins.asked(scene), (1, pass), 0));
        }
        assert_eq!(twins.state().0, 3);
    });
}

#[test]
fn two_dtypes_of_autocast_by_turns_find_their_own() {
    here(|| {
        let mut twins = Twins::new(Autocast::Bf16);
        let scene = twins.scene(1, SIZE);
        for seed in 0..2 {
            for autocast in [Autocast::Bf16, Autocast::Fp16] {
                twins.nets.iter_mut().for_each(|net| net.set_autocast(autocast));
                if seed == 0 {
                    twins.asked(&scene);
                    twins.asked(&scene);
                }
                let (pass, casts) = twins.own(&scene);
                took(twins.asked(&scene), (1, pass), if seed == 0 { 0 } else { casts });
                took(twins.asked(&scene), (1, pass), 0);
            }
            twins.change(seed);
        }
        assert_eq!(twins.state().0, 2);
    });
}

#[test]
fn steps_of_training_between_evaluations_leave_them_right() {
    here(|| {
        let twins = Twins::new(Autocast::Bf16);
        let scene = twins.scene(1, SIZE);
        let (pass, casts) = twins.own(&scene);
        let train = |seed| {
            let scene = twins.scene(seed, SIZE);
            for (net, params) in twins.nets.iter().zip(&twins.params) {
                let leaves: Vec<&Tensor> = params.trainable().into_iter().map(|(_, t)| t).collect();
                let loss = forward(net, &scene).square().mean(Kind::Float);
                let gradients = Tensor::run_backward(&[&loss], &leaves, false, false);
                for (leaf, gradient) in leaves.iter().zip(gradients).filter(|(_, g)| g.defined()) {
                    let step = gradient.sign() * 1e-2;
                    let _ = tch::no_grad(|| leaf.shallow_clone().g_sub_(&step));
                }
            }
        };
        twins.asked(&scene);
        twins.asked(&scene);
        for seed in 0..3 {
            train(seed);
            if !device().is_cuda() {
                took(twins.asked(&scene), (1, pass), casts);
                took(twins.asked(&scene), (1, pass), 0);
            }
        }
        let (recorded, _) = twins.state();
        assert_eq!(recorded, 2);
    });
}
