//! Recorded and replayed networks, emulated or, with `VD_TEST_DEVICE=cuda`, by CUDA: outputs and
//! gradients are those of the ordinary network.

#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "../../vd-tensor-ops/tests/oracle/mod.rs"]
mod oracle;
mod small;

use std::sync::Arc;

use oracle::draw::{normal, perturb};
use small::{Scene, build, conditional, config, everything, paper, scene, told};
use tch::{Kind, Tensor};
use vd_unet3d::ops::torch::Autocast;
use vd_unet3d::ops::torch::graphs::{Flaw, GraphState, StandIn, imitated};
use vd_unet3d::ops::torch::testing::device;
use vd_unet3d::ops::{Params, SeededNoise};
use vd_unet3d::{Backbone, Cond, FrameMask, Given, UNet3d, UNet3dConfig};

/// Runs `f` with graph recording on the test device, emulated or real.
fn here<R>(f: impl FnOnce() -> R) -> R {
    if device().is_cuda() { f() } else { imitated(StandIn::new(), f) }
}

/// Bitwise on the CPU; on CUDA sums may be computed in another order.
fn same(got: &Tensor, expected: &Tensor, autocast: Autocast) -> bool {
    let wide = |t: &Tensor| t.detach().to_kind(Kind::Double);
    let norm = |t: &Tensor| t.norm().double_value(&[]);
    let apart = norm(&(wide(got) - wide(expected)));
    let far = match (device().is_cuda(), autocast) {
        (false, _) => 0.0,
        (true, Autocast::Off) => 1e-4,
        (true, _) => 2e-2,
    };
    got.size() == expected.size() && apart <= far * norm(&wide(expected))
}

fn ask(net: &UNet3d, scene: &Scene) -> Tensor {
    let Scene { x, t, cond, frames } = scene;
    net.forward(x, t, cond, frames, None).unwrap()
}

/// The ordinary and the replayed network, with the same weights.
struct Twins {
    own: UNet3d,
    replayed: UNet3d,
    params: [Params; 2],
    config: UNet3dConfig,
}

impl Twins {
    fn new(config: &UNet3dConfig) -> Self {
        let ((own, first), (mut replayed, second)) =
            (build(config, Kind::Float, 3), build(config, Kind::Float, 3));
        replayed.set_graphs(true);
        Twins { own, replayed, params: [first, second], config: config.clone() }
    }

    fn set(&mut self, set: impl Fn(&mut UNet3d)) {
        set(&mut self.own);
        set(&mut self.replayed);
    }

    fn question(&self, seed: u64, size: [i64; 4]) -> Scene {
        let mut scene = scene(&self.config, Kind::Float, seed, size);
        if scene.cond.has_text() {
            scene.cond.null = Some(
                Tensor::from_slice(&[seed.is_multiple_of(2), seed.is_multiple_of(3)])
                    .to_device(device()),
            );
        }
        scene
    }

    /// Evaluates both without gradients, and compares.
    fn compare(&self, scene: &Scene) {
        let (own, replayed) = tch::no_grad(|| (ask(&self.own, scene), ask(&self.replayed, scene)));
        assert!(same(&replayed, &own, self.own.autocast()), "an answer differs");
    }

    fn state(&self) -> (usize, u64) {
        let GraphState { recorded, replayed, refused } = self.replayed.graph_state();
        assert_eq!(refused, None);
        (recorded, replayed)
    }
}

const SIZE: [i64; 4] = [2, 3, 8, 8];

/// A change of the inputs, depending on a seed.
type Change<'a> = dyn Fn(&mut Scene, u64) + 'a;

#[test]
fn answers_are_those_of_the_network_whatever_it_is_told() {
    here(|| {
        for config in [config(), conditional(), everything(), paper()] {
            let twins = Twins::new(&config);
            let side = config.spatial_multiple() * 2;
            for seed in 0..4 {
                twins.compare(&twins.question(seed, [2, 3, side, side]));
            }
            assert_eq!(twins.state(), (1, 3));
        }
    });
}

#[test]
fn an_answer_stays_when_the_next_one_comes_and_the_question_may_change() {
    here(|| {
        let twins = Twins::new(&conditional());
        let questions: Vec<_> = (0..4).map(|seed| twins.question(seed, SIZE)).collect();
        let answers: Vec<_> = questions
            .iter()
            .map(|scene| {
                tch::no_grad(|| {
                    let x = scene.x.detach_copy();
                    let answer =
                        ask(&twins.replayed, &Scene { x: x.shallow_clone(), ..part(scene) });
                    let _ = x.shallow_clone().fill_(f64::NAN);
                    answer
                })
            })
            .collect();
        for (scene, answer) in questions.iter().zip(&answers) {
            assert!(same(answer, &tch::no_grad(|| ask(&twins.own, scene)), Autocast::Off));
        }
    });
}

/// The same inputs.
fn part(scene: &Scene) -> Scene {
    Scene {
        x: scene.x.shallow_clone(),
        t: scene.t.shallow_clone(),
        cond: scene.cond.shallow_clone(),
        frames: scene.frames.shallow_clone(),
    }
}

#[test]
fn every_form_of_a_question_is_recorded_by_itself() {
    here(|| {
        let mut twins = Twins::new(&everything());
        let [b, f, h, w] = SIZE;
        let focus = |first: bool| {
            let focus = Tensor::from_slice(&[first, !first]).to_device(device());
            FrameMask::Focus(focus)
        };
        let forms: [&Change<'_>; 6] = [
            &|_, _| (),
            &|scene, _| scene.cond = Cond::none(),
            &|scene, seed| scene.frames = focus(seed % 2 == 0),
            &|scene, _| scene.frames = FrameMask::ClipAndImages { clip: 2 },
            &|scene, seed| {
                scene.cond = told(&everything(), Kind::Float, seed, SIZE, true);
                scene.t = normal(seed + 50, &[b, f]).abs() * 100.0;
            },
            &|scene, seed| {
                let low = normal(seed + 60, &[b, 2, f, h, w]);
                let null = Tensor::from_slice(&[seed % 2 == 0, true]).to_device(device());
                let low = Given { value: low, null: Some(null) };
                scene.cond = small::with_given(&scene.cond, "low", low);
            },
        ];
        for form in forms {
            twins.replayed.set_graphs(true);
            for seed in 0..4 {
                let mut scene = twins.question(seed, SIZE);
                form(&mut scene, seed);
                twins.compare(&scene);
            }
            assert_eq!(twins.state(), (1, 3));
        }
        for set in [
            &(|net: &mut UNet3d| net.set_autocast(Autocast::Bf16)) as &dyn Fn(&mut UNet3d),
            &|net: &mut UNet3d| net.set_recompute(1),
        ] {
            twins.set(set);
            (0..3).for_each(|seed| twins.compare(&twins.question(seed, SIZE)));
        }
        assert_eq!(twins.state().0, 3);
        (0..3).for_each(|seed| twins.compare(&twins.question(seed, [2, 4, 8, 8])));
        assert_eq!(twins.state().0, 4);
        // There is no room for more while these are in use, yet the outputs are right.
        (0..3).for_each(|seed| twins.compare(&twins.question(seed, [2, 5, 8, 8])));
        assert_eq!(twins.state().0, 4);
    });
}

/// The loss and its gradients with respect to the parameters.
fn gradients(net: &UNet3d, params: &Params, scene: &Scene) -> Vec<Tensor> {
    let leaves: Vec<&Tensor> = params.trainable().into_iter().map(|(_, t)| t).collect();
    let answer = ask(net, scene);
    let loss = (answer.square() * answer.cos()).mean(Kind::Float);
    let gradients = Tensor::run_backward(&[&loss], &leaves, false, false);
    let there = gradients.into_iter().zip(leaves);
    let there = there.map(|(grad, leaf)| if grad.defined() { grad } else { leaf.zeros_like() });
    std::iter::once(loss.detach()).chain(there.map(|grad| grad.detach())).collect()
}

/// Steps with momentum and two micro-batches each; both networks get the same inputs.
fn train(twins: &Twins, autocast: Autocast) {
    let nets = [&twins.own, &twins.replayed];
    for step in 0..4u64 {
        let mut all = Vec::new();
        for (net, params) in nets.into_iter().zip(&twins.params) {
            let parts: Vec<_> = (0..2)
                .map(|part| gradients(net, params, &twins.question(2 * step + part, SIZE)))
                .collect();
            tch::no_grad(|| {
                for (i, (_, leaf)) in params.trainable().into_iter().enumerate() {
                    let grad = &parts[0][i + 1] + &parts[1][i + 1];
                    let _ = leaf.shallow_clone().g_sub_(&(grad.sign() * 1e-3 + grad * 1e-2));
                }
            });
            all.push(parts);
        }
        let pairs = all[0].iter().flatten().zip(all[1].iter().flatten());
        for (i, (own, replayed)) in pairs.enumerate() {
            // On CUDA weights drift apart with their gradients, which the first step compares.
            let compared = !device().is_cuda() || step == 0 || i == 0;
            assert!(!compared || same(replayed, own, autocast), "step {step}: tensor {i}");
        }
    }
    assert_eq!(twins.state(), (1, 7));
}

#[test]
fn several_steps_of_training_have_the_gradients_of_the_network() {
    here(|| {
        for (config, levels) in [(config(), 0), (everything(), 0), (everything(), 1), (paper(), 99)]
        {
            let mut twins = Twins::new(&config);
            twins.set(|net| net.set_recompute(levels));
            train(&twins, Autocast::Off);
        }
    });
}

#[test]
fn several_steps_of_training_in_half_precision_have_them_too() {
    here(|| {
        for autocast in [Autocast::Bf16, Autocast::Fp16] {
            let mut twins = Twins::new(&conditional());
            twins.set(|net| net.set_autocast(autocast));
            train(&twins, autocast);
        }
    });
}

#[test]
fn weights_that_are_loaded_are_those_of_the_next_answer() {
    here(|| {
        for autocast in [Autocast::Off, Autocast::Bf16] {
            let mut twins = Twins::new(&conditional());
            twins.set(|net| net.set_autocast(autocast));
            for seed in 0..4 {
                twins.compare(&twins.question(seed, SIZE));
                twins.params.iter().for_each(|params| perturb(params, seed));
            }
            assert_eq!(twins.state(), (1, 3));
        }
    });
}

#[test]
fn gradients_of_the_video_and_dropout_are_left_to_the_network() {
    here(|| {
        let dropped = UNet3dConfig { dropout: 0.2, ..config() };
        let twins = Twins::new(&dropped);
        let scene = twins.question(1, SIZE);
        let drop = |net: &UNet3d| {
            let mut noise = SeededNoise::new(11, 0);
            net.forward(&scene.x, &scene.t, &scene.cond, &scene.frames, Some(&mut noise)).unwrap()
        };
        for _ in 0..3 {
            assert!(same(&drop(&twins.replayed), &drop(&twins.own), Autocast::Off));
        }
        assert_eq!(twins.state(), (0, 0));
        let x = scene.x.set_requires_grad(true);
        let scene = Scene { x, t: scene.t, cond: scene.cond, frames: scene.frames };
        let slope = |net: &UNet3d| {
            let loss = ask(net, &scene).square().sum(Kind::Float);
            Tensor::run_backward(&[&loss], &[&scene.x], false, false).remove(0)
        };
        for _ in 0..3 {
            assert!(same(&slope(&twins.replayed), &slope(&twins.own), Autocast::Off));
        }
        assert_eq!(twins.state(), (0, 0));
    });
}

#[test]
fn a_second_question_before_the_backward_of_the_first_is_answered_apart() {
    here(|| {
        let twins = Twins::new(&config());
        let scenes = [1, 2].map(|seed| twins.question(seed, SIZE));
        let both = |net: &UNet3d, params: &Params| {
            let leaves: Vec<&Tensor> = params.trainable().into_iter().map(|(_, t)| t).collect();
            let [a, b] = [&scenes[0], &scenes[1]].map(|scene| ask(net, scene));
            let loss = (a * b).mean(Kind::Float);
            Tensor::run_backward(&[&loss], &leaves, false, false)
        };
        for _ in 0..3 {
            let own = both(&twins.own, &twins.params[0]);
            let replayed = both(&twins.replayed, &twins.params[1]);
            assert!(own.iter().zip(&replayed).all(|(a, b)| same(b, a, Autocast::Off)));
        }
        assert!(twins.state().1 >= 2);
    });
}

#[test]
fn a_recorder_that_fails_changes_no_answer_and_is_asked_no_more() {
    let refusals = (0..2).flat_map(|n| [Flaw::Refuses(n), Flaw::Panics(n)]);
    for flaw in refusals.chain([Flaw::Idle, Flaw::Stops(0), Flaw::Stops(1)]) {
        let twins = Twins::new(&conditional());
        let recorder = StandIn::with(flaw);
        imitated(Arc::clone(&recorder) as _, || {
            for seed in 0..4 {
                let scene = twins.question(seed, SIZE);
                let [own, replayed] = [(&twins.own, 0), (&twins.replayed, 1)]
                    .map(|(net, i)| gradients(net, &twins.params[i], &scene));
                let mut pairs = own.iter().zip(&replayed);
                assert!(pairs.all(|(a, b)| same(b, a, Autocast::Off)), "{flaw:?}");
            }
        });
        if device().is_cuda() {
            return; // the emulated recorder is not used
        }
        let GraphState { recorded, replayed, refused } = twins.replayed.graph_state();
        assert_eq!((recorded, replayed, refused.is_some()), (0, 0, true), "{flaw:?}");
        assert!(recorder.recorded() <= 2, "{flaw:?}");
    }
}

#[test]
fn without_being_asked_for_nothing_is_recorded() {
    here(|| {
        let (net, _params) = build(&config(), Kind::Float, 3);
        let scene = scene(&config(), Kind::Float, 3, SIZE);
        (0..3).for_each(|_| drop(ask(&net, &scene)));
        assert_eq!(net.graph_state(), GraphState::default());
    });
}
