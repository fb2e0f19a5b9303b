//! The end of a step, computed by a device alone, recorded and not; on the CPU with an emulated
//! GPU.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;
#[path = "../../vd-tensor-ops/tests/kernels_cuda/emulator.rs"]
mod emulator;

use std::sync::Arc;

use common::{files, run, step_dir, tiny};
use tch::{Kind, Tensor};
use vd_tensor_ops::kernels::cuda::{self, Went};
use vd_tensor_ops::{Init, Noise, Params, SeededNoise};
use vd_torch::graphs::{Flaw, StandIn, imitated};
use vd_torch::testing;
use vd_train::{AdamW, DeviceStep, Resume, Share};

/// Runs `f` with the kernel machine of the tests' device, and a recorder for it.
fn here<R>(recorder: Arc<StandIn>, f: impl FnOnce() -> R) -> R {
    if testing::device().is_cuda() {
        return f();
    }
    imitated(recorder, || cuda::imitated(emulator::machine(), f))
}

/// Two optimisers and everything that they change.
struct Model {
    params: [Params; 2],
    average: Params,
    optimizers: [AdamW; 2],
    grads: Vec<Tensor>,
}

impl Model {
    fn new() -> Self {
        let params = |sizes: &[&[i64]]| {
            let mut params = Params::new(3, Kind::Float, testing::device());
            for (k, size) in sizes.iter().enumerate() {
                let _ = params.root().param(format!("p{k}"), size, Init::Normal).unwrap();
            }
            params
        };
        let own: [&[i64]; 3] = [&[5, 300], &[7], &[33]];
        let (of, beside, average) = (params(&own), params(&[&[2, 3]]), params(&own));
        let optimizers = [(&of, 0.01), (&beside, 0.0)];
        let optimizers = optimizers.map(|(of, decay)| AdamW::new(of, [0.9, 0.99], decay));
        let all = optimizers.iter().flat_map(AdamW::params);
        let grads = all.map(|p| p.detach().zeros_like()).collect();
        Model { params: [of, beside], average, optimizers, grads }
    }

    /// Everything that steps change.
    fn state(&self) -> Vec<Tensor> {
        let [one, two] = &self.optimizers;
        let params = self.params.iter().chain([&self.average]).map(Params::tensors);
        let states = [one.state(), two.state()].into_iter();
        params.chain(states).flat_map(|state| state.into_values().map(|t| t.copy())).collect()
    }

    /// Makes step `k`, with its own gradients and rates, and returns its result.
    fn step(&mut self, device_step: &mut DeviceStep, k: u64) -> vd_train::Result<Went> {
        let mut noise = SeededNoise::new(k, 0);
        for grad in &mut self.grads {
            let values = noise.normal(grad);
            grad.copy_(&values);
        }
        let loss = Tensor::from(0.5 + k as f64).to_device(testing::device());
        self.step_with(device_step, k, &loss)
    }

    fn step_with(
        &mut self,
        device_step: &mut DeviceStep,
        k: u64,
        loss: &Tensor,
    ) -> vd_train::Result<Went> {
        let [one, two] = &mut self.optimizers;
        let on = DeviceStep::machine(&[(one, Some(&self.average)), (two, None)], &self.grads);
        let on = on.unwrap().expect("a machine");
        let lr = 1e-3 * (k + 1) as f64;
        let follow = Some((&self.average, 0.9 - 0.01 * k as f64));
        let mut shares = [
            Share { optimizer: one, lr, follow },
            Share { optimizer: two, lr: lr * 0.3, follow: None },
        ];
        let report = device_step.step(&on, (loss, &self.grads), 0.7, &mut shares)?;
        let report: Vec<f64> = Vec::try_from(report.to_device(tch::Device::Cpu)).unwrap();
        assert!(report[0] != 0.0 || report[1] == loss.double_value(&[]), "{report:?}");
        Ok(Went::of(report[0]))
    }
}

fn begin(graphs: bool) -> DeviceStep {
    DeviceStep::new((2, 4), testing::device(), graphs).unwrap()
}

/// The state after `steps` steps without graphs.
fn plain(steps: u64) -> Vec<Tensor> {
    here(StandIn::new(), || {
        let (mut model, mut device_step) = (Model::new(), begin(false));
        for k in 0..steps {
            assert_eq!(model.step(&mut device_step, k).unwrap(), Went::Well);
        }
        assert_eq!((device_step.replayed(), device_step.refused()), (0, None));
        model.state()
    })
}

#[test]
fn replayed_steps_change_what_others_do_to_the_bit() {
    let recorder = StandIn::new();
    let (state, replayed, refused) = here(recorder.clone(), || {
        let (mut model, mut device_step) = (Model::new(), begin(true));
        let version = model.optimizers[0].params()[0].internal_version();
        for k in 0..6 {
            assert_eq!(model.step(&mut device_step, k).unwrap(), Went::Well);
        }
        // Autograd is notified that saved weights have changed.
        assert!(model.optimizers[0].params()[0].internal_version() >= version + 6);
        (model.state(), device_step.replayed(), device_step.refused().map(str::to_owned))
    });
    assert_eq!((replayed, refused), (5, None));
    assert_eq!(state, plain(6));
    if !testing::device().is_cuda() {
        // One of the replays was the check of its report.
        assert_eq!((recorder.recorded(), recorder.replayed()), (1, 6));
    }
}

#[test]
fn a_bad_step_stops_those_behind_it_when_they_are_replayed_too() {
    here(StandIn::new(), || {
        let (mut model, mut device_step) = (Model::new(), begin(true));
        for k in 0..3 {
            model.step(&mut device_step, k).unwrap();
        }
        let counted = |model: &Model| model.optimizers[0].state()["step"].int64_value(&[0]);
        let (before, count) = (model.state(), counted(&model));
        let no_number = Tensor::from(f64::NAN).to_device(testing::device());
        assert_eq!(model.step_with(&mut device_step, 3, &no_number).unwrap(), Went::Badly);
        assert_eq!(model.step(&mut device_step, 4).unwrap(), Went::Halted);
        assert_eq!((counted(&model), device_step.replayed()), (count + 2, 4));
        for (now, then) in model.state().iter().zip(&before) {
            // Except the step counts, which their owner reverts.
            assert!(now == then || now.kind() == Kind::Int64);
        }
    });
}

#[test]
fn a_bad_step_that_is_the_first_to_be_recorded_is_bad_and_no_failure() {
    here(StandIn::new(), || {
        let (mut model, mut device_step) = (Model::new(), begin(true));
        model.step(&mut device_step, 0).unwrap();
        let no_number = Tensor::from(f64::NAN).to_device(testing::device());
        assert_eq!(model.step_with(&mut device_step, 1, &no_number).unwrap(), Went::Badly);
        assert_eq!((device_step.replayed(), device_step.refused()), (1, None));
    });
}

#[test]
fn what_lies_elsewhere_is_recorded_anew_a_few_times() {
    let recorder = StandIn::new();
    let states = here(recorder.clone(), || {
        let (mut models, mut device_step) = ([Model::new(), Model::new()], begin(true));
        for k in 0..6 {
            for model in &mut models {
                for step in [3 * k, 3 * k + 1, 3 * k + 2] {
                    model.step(&mut device_step, step).unwrap();
                }
            }
        }
        assert_eq!(device_step.refused(), None);
        models.map(|model| model.state())
    });
    let expected = plain(18);
    assert!(states.iter().all(|state| *state == expected));
    if !testing::device().is_cuda() {
        assert_eq!(recorder.recorded(), 4);
    }
}

#[test]
fn another_optimiser_of_the_same_weights_has_moments_of_its_own() {
    let recorder = StandIn::new();
    here(recorder.clone(), || {
        let (mut model, mut device_step) = (Model::new(), begin(true));
        for k in 0..3 {
            model.step(&mut device_step, k).unwrap();
        }
        let fresh = |of: &Params, decay| AdamW::new(of, [0.9, 0.99], decay);
        let fresh = [fresh(&model.params[0], 0.01), fresh(&model.params[1], 0.0)];
        // Kept alive, so that the new moments get other addresses.
        let _before = std::mem::replace(&mut model.optimizers, fresh);
        model.step(&mut device_step, 3).unwrap();
        assert_eq!(device_step.replayed(), 2);
        model.step(&mut device_step, 4).unwrap();
        assert_eq!((device_step.replayed(), device_step.refused()), (3, None));
    });
    if !testing::device().is_cuda() {
        assert_eq!(recorder.recorded(), 2);
    }
}

#[test]
fn what_cannot_be_recorded_is_launched_as_ever() {
    if testing::device().is_cuda() {
        return;
    }
    for (flaw, why) in [
        (Flaw::Refuses(0), "stream is capturing"),
        (Flaw::Panics(0), "a stand-in that panics"),
        (Flaw::Idle, "does not reproduce the step's own results"),
        (Flaw::Stops(0), "illegal memory access"),
    ] {
        let state = here(StandIn::with(flaw), || {
            let (mut model, mut device_step) = (Model::new(), begin(true));
            for k in 0..4 {
                assert_eq!(model.step(&mut device_step, k).unwrap(), Went::Well);
            }
            let refused = device_step.refused().expect("a refusal");
            assert!(refused.contains(why), "{refused}");
            assert_eq!(device_step.replayed(), 0);
            model.state()
        });
        assert_eq!(state, plain(4), "{flaw:?}");
    }
    let error = here(StandIn::with(Flaw::Stops(2)), || {
        let (mut model, mut device_step) = (Model::new(), begin(true));
        let steps: vd_train::Result<Vec<_>> =
            (0..4).map(|k| model.step(&mut device_step, k)).collect();
        steps.unwrap_err().to_string()
    });
    assert!(error.contains("illegal memory access"), "{error}");
}

#[test]
fn runs_that_replay_all_of_a_step_leave_the_bytes_of_those_that_do_not() {
    if testing::device().is_cuda() {
        return; // where sums are taken in another order from run to run
    }
    let dir = tempfile::tempdir().unwrap();
    let [own, replayed] = ["own", "replayed"].map(|name| dir.path().join(name));
    let recorders = [(&own, false), (&replayed, true)].map(|(out, graphs)| {
        let mut config = tiny(out);
        config.train.graphs = graphs;
        config.train.steps = 7;
        config.train.clip = 0.5;
        config.train.uncertainty = 3;
        let recorder = StandIn::new();
        here(recorder.clone(), || run(&config, Resume::No).unwrap());
        recorder
    });
    let [none, some] = recorders.map(|recorder| (recorder.recorded(), recorder.replayed()));
    assert_eq!(none, (0, 0));
    // Forward, backward and the end of a step, each compared once with its recording. Of 14
    // micro-batches the first is not recorded; from step 3 on the gradients keep their
    // addresses.
    assert_eq!(some, (3, 2 * 13 + 2 + 4 + 1));
    let mut others = files(&step_dir(&replayed, 7));
    for (file, bytes) in files(&step_dir(&own, 7)).iter().filter(|(f, _)| *f != "config.toml") {
        assert!(others.remove(file).as_ref() == Some(bytes), "{file}");
    }
}
