//! Functions of tensors recorded by a stand-in, or by CUDA with `VD_TEST_DEVICE=cuda`.
#![allow(clippy::unwrap_used)]

use std::cell::Cell;
use std::sync::{Arc, Mutex};

use tch::{Device, Kind, Tensor};
use vd_torch::graphs::{
    Flaw, GraphState, Pool, Recorder, Recording, Recordings, StandIn, imitated, recording,
};
use vd_torch::testing::{device, tolerance};
use vd_torch::{Error, Result};

type Outcome = std::result::Result<Vec<Tensor>, Error>;

/// Deterministic values that are neither equal nor regular.
fn values(seed: f64, size: &[i64]) -> Tensor {
    let n: i64 = size.iter().product();
    let values: Vec<f32> = (0..n).map(|i| ((seed + 1.7 * i as f64).sin() * 1.3) as f32).collect();
    Tensor::from_slice(&values).view(size).to_device(device())
}

fn on_cuda() -> bool {
    device().is_cuda()
}

/// Runs `f` with what records on the device of the tests.
fn here<R>(f: impl FnOnce() -> R) -> R {
    if on_cuda() { f() } else { imitated(StandIn::new(), f) }
}

fn same(a: &Tensor, b: &Tensor) -> bool {
    let apart = (a - b).abs().max().double_value(&[]);
    apart <= if on_cuda() { tolerance(0.0) * b.abs().max().double_value(&[]) } else { 0.0 }
}

/// A weight, and a function of it that is not linear.
struct Layer {
    weight: Tensor,
    calls: Cell<usize>,
}

impl Layer {
    fn new() -> Self {
        Layer { weight: values(0.3, &[5, 5]).set_requires_grad(true), calls: Cell::new(0) }
    }

    fn f(&self, what: &f64, inputs: &[Tensor]) -> Outcome {
        self.calls.set(self.calls.get() + 1);
        Ok(vec![inputs[0].matmul(&self.weight).tanh() * *what + &inputs[1]])
    }

    fn ask(&self, of: &Recordings<f64>, what: f64, x: &Tensor, y: &Tensor) -> Option<Tensor> {
        let params = [self.weight.shallow_clone()];
        let answer = of.answer(what, &[x, y], &params, |what, inputs| self.f(what, inputs));
        answer.unwrap().map(|mut outputs| outputs.remove(0))
    }

    fn own(&self, what: f64, x: &Tensor, y: &Tensor) -> Tensor {
        self.f(&what, &[x.shallow_clone(), y.shallow_clone()]).unwrap().remove(0)
    }
}

#[test]
fn the_second_call_is_recorded_and_what_comes_is_its_own() {
    here(|| {
        let (layer, of) = (Layer::new(), Recordings::default());
        let ask = |seed| {
            let (x, y) = (values(seed, &[3, 5]), values(seed + 0.1, &[3, 5]));
            tch::no_grad(|| (layer.ask(&of, 2.0, &x, &y), layer.own(2.0, &x, &y)))
        };
        assert!(ask(1.0).0.is_none());
        let (second, own) = ask(2.0);
        let second = second.unwrap();
        assert!(same(&second, &own));
        let (third, other) = ask(3.0);
        assert!(same(&third.unwrap(), &other) && same(&second, &own) && !same(&own, &other));
        assert_eq!(of.state(), GraphState { recorded: 1, replayed: 2, refused: None });
        // Weights change in place.
        let _ = layer.weight.detach().fill_(0.25);
        let (fourth, own) = ask(2.0);
        assert!(same(&fourth.unwrap(), &own) && !same(&own, &second));
        of.clear();
        assert_eq!(of.state(), GraphState::default());
    });
}

#[test]
fn gradients_are_those_of_the_function_and_stay_when_it_is_replayed() {
    here(|| {
        let (layer, of) = (Layer::new(), Recordings::default());
        let ask = |seed: f64| {
            let (x, y) = (values(seed, &[3, 5]), values(seed + 0.1, &[3, 5]));
            let grad = |out: Tensor| {
                let loss = (out.square() * values(seed + 0.2, &[3, 5])).sum(Kind::Float);
                Tensor::run_backward(&[loss], &[&layer.weight], false, false).remove(0)
            };
            (layer.ask(&of, 0.5, &x, &y).map(grad), grad(layer.own(0.5, &x, &y)))
        };
        assert!(ask(1.0).0.is_none());
        let all: Vec<_> = (2..6).map(|seed| ask(seed.into())).collect();
        for (replayed, own) in &all {
            assert!(same(replayed.as_ref().unwrap(), own));
        }
        assert_eq!(of.state(), GraphState { recorded: 1, replayed: 4, refused: None });
        // With gradients and without are two recordings.
        let (x, y) = (values(1.0, &[3, 5]), values(2.0, &[3, 5]));
        for _ in 0..3 {
            tch::no_grad(|| layer.ask(&of, 0.5, &x, &y));
        }
        assert_eq!(of.state().recorded, 2);
    });
}

#[test]
fn gradients_come_in_the_same_memory_unless_somebody_has_the_last_ones() {
    here(|| {
        let (layer, of) = (Layer::new(), Recordings::default());
        let grad = |seed: f64| {
            let (x, y) = (values(seed, &[3, 5]), values(seed + 0.1, &[3, 5]));
            let out = layer.ask(&of, 0.5, &x, &y).unwrap_or_else(|| layer.own(0.5, &x, &y));
            Tensor::run_backward(&[out.square().sum(Kind::Float)], &[&layer.weight], false, false)
                .remove(0)
        };
        let place = |grad: &Tensor| grad.data_ptr() as usize;
        drop(grad(1.0));
        let first = place(&grad(2.0));
        let kept = grad(3.0);
        assert_eq!(place(&kept), first);
        let (values, other) = (kept.copy(), grad(4.0));
        assert!(place(&other) != first && kept == values && other != values);
        drop(kept);
        assert_eq!(place(&grad(5.0)), first);
    });
}

#[test]
fn while_a_backward_is_to_come_nothing_is_replayed() {
    here(|| {
        let (layer, of) = (Layer::new(), Recordings::default());
        let (x, y) = (values(1.0, &[3, 5]), values(2.0, &[3, 5]));
        let _ = layer.ask(&of, 1.0, &x, &y);
        let first = layer.ask(&of, 1.0, &x, &y).unwrap();
        assert!(layer.ask(&of, 1.0, &y, &x).is_none());
        assert!(tch::no_grad(|| layer.ask(&of, 1.0, &y, &x)).is_none());
        let grad = |out: Tensor| {
            Tensor::run_backward(&[out.square().sum(Kind::Float)], &[&layer.weight], false, false)
                .remove(0)
        };
        assert!(same(&grad(first), &grad(layer.own(1.0, &x, &y))));
        let next = layer.ask(&of, 1.0, &x, &y).unwrap();
        drop(next);
        assert!(layer.ask(&of, 1.0, &x, &y).is_some());
    });
}

#[test]
fn nothing_is_recorded_while_a_graph_of_the_weights_is_there() {
    here(|| {
        let (layer, of) = (Layer::new(), Recordings::default());
        let (x, y) = (values(1.0, &[3, 5]), values(2.0, &[3, 5]));
        let kept = layer.own(1.0, &x, &y);
        for _ in 0..3 {
            assert!(layer.ask(&of, 1.0, &x, &y).is_none());
        }
        drop(kept);
        assert!(layer.ask(&of, 1.0, &x, &y).is_some());
    });
}

#[test]
fn weights_that_change_before_the_backward_make_it_an_error() {
    here(|| {
        let (layer, of) = (Layer::new(), Recordings::default());
        let (x, y) = (values(1.0, &[3, 5]), values(2.0, &[3, 5]));
        let _ = layer.ask(&of, 1.0, &x, &y);
        let out = layer.ask(&of, 1.0, &x, &y).unwrap();
        let _ = layer.weight.detach().fill_(1.0);
        let refused =
            Tensor::f_run_backward(&[out.sum(Kind::Float)], &[&layer.weight], false, false);
        assert!(refused.unwrap_err().to_string().contains("modified by an inplace operation"));
    });
}

/// As CUDA's are, whose way back is another thread's.
#[test]
fn what_is_computed_again_on_the_way_back_is_known_to_be_recorded_on_any_thread() {
    here(|| {
        let (layer, of) = (Layer::new(), Recordings::default());
        let seen = Arc::new(Mutex::new(Vec::new()));
        let again = |inputs: &[Tensor]| {
            let (seen, weight) = (Arc::clone(&seen), layer.weight.shallow_clone());
            vd_torch::checkpoint(&[&inputs[0]], &[&layer.weight], move |inputs| {
                let elsewhere = std::thread::spawn(recording).join().unwrap();
                seen.lock().unwrap().push((recording(), elsewhere));
                Ok(vec![inputs[0].matmul(&weight).tanh()])
            })
        };
        let x = values(1.0, &[3, 5]);
        for _ in 0..3 {
            let params = [layer.weight.shallow_clone()];
            let answer = of.answer((), &[&x], &params, |(), inputs| again(inputs)).unwrap();
            if let Some(answer) = answer {
                let loss = answer[0].square().sum(Kind::Float);
                let _ = Tensor::run_backward(&[loss], &[&layer.weight], false, false);
            }
        }
        assert_eq!(of.state().replayed, 2);
        let seen = seen.lock().unwrap();
        assert!(seen.len() >= 4);
        for pass in seen.chunks(2) {
            assert!(pass[0].0 && pass[1] == (true, true), "{seen:?}");
        }
    });
}

#[test]
fn a_gradient_of_an_input_is_left_to_the_function() {
    here(|| {
        let (layer, of) = (Layer::new(), Recordings::default());
        let (x, y) = (values(1.0, &[3, 5]).set_requires_grad(true), values(2.0, &[3, 5]));
        for _ in 0..3 {
            assert!(layer.ask(&of, 1.0, &x, &y).is_none());
        }
        assert_eq!(of.state(), GraphState::default());
    });
}

#[test]
fn what_differs_is_recorded_by_itself_and_room_is_made_for_what_is_used() {
    here(|| {
        let (layer, of) = (Layer::new(), Recordings::default());
        let ask = |what: f64, b: i64| {
            let (x, y) = (values(what, &[b, 5]), values(what + 1.0, &[b, 5]));
            tch::no_grad(|| layer.ask(&of, what, &x, &y)).map(|out| {
                assert!(same(&out, &tch::no_grad(|| layer.own(what, &x, &y))));
            })
        };
        for (what, b) in [(1.0, 1), (1.0, 2), (2.0, 1), (2.0, 2)] {
            assert!(ask(what, b).is_none() && ask(what, b).is_some());
        }
        assert_eq!(of.state().recorded, 4);
        // A fifth runs as it is while the others are in use, and comes in when one is not.
        for _ in 0..70 {
            for (what, b) in [(1.0, 2), (2.0, 1), (2.0, 2)] {
                assert!(ask(what, b).is_some());
            }
        }
        assert!(ask(3.0, 1).is_none() && ask(3.0, 1).is_some() && of.state().recorded == 4);
        assert!(ask(4.0, 1).is_none() && ask(4.0, 1).is_none() && ask(1.0, 2).is_some());
        // Many that come once push nothing out.
        for what in 0..100 {
            assert!(ask(10.0 + f64::from(what), 1).is_none());
        }
        assert!(ask(2.0, 2).is_some());
    });
}

#[test]
fn the_dtype_of_autocast_is_part_of_what_is_recorded() {
    here(|| {
        let (layer, of) = (Layer::new(), Recordings::default());
        let (x, y) = (values(1.0, &[3, 5]), values(2.0, &[3, 5]));
        let ask = || tch::no_grad(|| (layer.ask(&of, 1.0, &x, &y), layer.own(1.0, &x, &y)));
        let half = || vd_torch::autocast(device(), vd_torch::Autocast::Bf16, ask).unwrap();
        for ask in [&ask as &dyn Fn() -> (Option<Tensor>, Tensor), &half] {
            assert!(ask().0.is_none());
            // Within one autocast, whose casts of weights are kept until its end.
            for fill in [0.3, 0.7] {
                let (out, own) = ask();
                assert!(same(&out.unwrap(), &own));
                let _ = layer.weight.detach().fill_(fill);
            }
        }
    });
}

/// Notes when memory is given back.
#[derive(Debug, Default)]
struct Clears(StandIn, Arc<Mutex<Vec<&'static str>>>);

impl Recorder for Clears {
    fn aside(&self, f: &mut dyn FnMut() -> Result<()>) -> Result<()> {
        self.0.aside(f)
    }

    fn clear(&self) -> Result<()> {
        self.1.lock().unwrap().push("clear");
        self.0.clear()
    }

    fn pool(&self) -> Result<Pool> {
        self.0.pool()
    }

    fn record(&self, pool: Pool, f: &mut dyn FnMut() -> Result<()>) -> Result<Box<dyn Recording>> {
        self.1.lock().unwrap().push("record");
        self.0.record(pool, f)
    }
}

#[test]
fn memory_is_given_back_before_each_time_that_a_function_runs_elsewhere() {
    if on_cuda() {
        return;
    }
    let recorder = Arc::new(Clears::default());
    let (noted, of) = (Arc::clone(&recorder.1), Recordings::default());
    imitated(recorder, || {
        let (weight, x) = (values(0.3, &[5, 5]), values(0.7, &[3, 5]));
        let f = |(): &(), inputs: &[Tensor]| -> Outcome {
            noted.lock().unwrap().push("run");
            Ok(vec![inputs[0].matmul(&weight)])
        };
        for _ in 0..2 {
            let params = [weight.shallow_clone()];
            let _ = tch::no_grad(|| of.answer((), &[&x], &params, f)).unwrap();
        }
    });
    let noted = noted.lock().unwrap();
    assert_eq!(noted[..5], ["clear", "run", "clear", "record", "run"]);
}

/// The answers of a function under a recorder that does something wrong, and what became of it.
fn under(flaw: Flaw, graph: bool) -> (Vec<Result<bool>>, GraphState, usize) {
    let (layer, of) = (Layer::new(), Recordings::default());
    let recorder = StandIn::with(flaw);
    let answers = imitated(recorder.clone(), || {
        let one = |seed: i32| {
            let (x, y) = (values(seed.into(), &[3, 5]), values(0.5, &[3, 5]));
            let ask = || {
                let params = [layer.weight.shallow_clone()];
                let answer = of.answer(1.0, &[&x, &y], &params, |k, inputs| layer.f(k, inputs))?;
                Ok(answer.is_some())
            };
            if graph { ask() } else { tch::no_grad(ask) }
        };
        (0..4).map(one).collect()
    });
    (answers, of.state(), recorder.recorded())
}

#[test]
fn what_cannot_be_recorded_is_given_up_once_and_for_all() {
    for (flaw, graph, asked, words) in [
        (Flaw::Refuses(0), false, 1, "capturing"),
        (Flaw::Refuses(1), true, 2, "capturing"),
        (Flaw::Panics(0), false, 1, "a stand-in that panics"),
        (Flaw::Panics(1), true, 2, "a stand-in that panics"),
        (Flaw::Idle, true, 2, "does not reproduce the recorded step"),
        (Flaw::Stops(0), true, 2, "illegal memory access"),
        (Flaw::Stops(1), true, 2, "illegal memory access"),
    ] {
        let (answers, state, recorded) = under(flaw, graph);
        assert!(answers.iter().all(|answer| matches!(answer, Ok(false))), "{flaw:?}");
        assert_eq!((state.recorded, state.replayed, recorded), (0, 0, asked), "{flaw:?}");
        assert!(state.refused.as_ref().unwrap().contains(words), "{flaw:?}: {state:?}");
    }
}

#[test]
fn a_replay_that_fails_later_is_an_error() {
    let (answers, state, _) = under(Flaw::Stops(3), false);
    let told: Vec<_> = answers.iter().map(|answer| answer.as_ref().ok().copied()).collect();
    assert_eq!(told, [Some(false), Some(true), Some(true), None]);
    assert_eq!((state.recorded, state.refused), (1, None));
}

/// Its answer is another one at each call: as of a function that reads a number on the host.
#[test]
fn a_function_that_is_not_the_same_twice_is_found_out() {
    let of = Recordings::default();
    let count = Cell::new(0.0);
    let x = values(1.0, &[4]);
    here(|| {
        let ask = || {
            let answer = of.answer((), &[&x], &[], |(), inputs: &[Tensor]| -> Outcome {
                count.set(count.get() + 1.0);
                Ok(vec![&inputs[0] * count.get()])
            });
            answer.unwrap().is_some()
        };
        // CUDA replays the number that it was recorded with, and a stand-in the next one.
        assert_eq!([ask(), ask(), ask()], [false; 3]);
    });
    let why = of.state().refused.unwrap();
    assert!(
        why.contains("does not reproduce the recorded step") && why.contains("output"),
        "{why}"
    );
}

#[test]
fn a_function_that_fails_where_it_is_recorded_fails_by_itself() {
    let of = Recordings::default();
    let x = values(1.0, &[4]);
    here(|| {
        for _ in 0..3 {
            let answer = of.answer((), &[&x], &[], |(), inputs: &[Tensor]| -> Outcome {
                Ok(vec![inputs[0].view([3, 3])])
            });
            assert!(answer.unwrap().is_none());
        }
    });
    let why = of.state().refused.unwrap();
    assert!(why.contains("invalid for input of size 4") && !why.contains('\n'), "{why}");
}

#[test]
fn the_cpu_records_nothing_by_itself() {
    let of = Recordings::default();
    let x = values(1.0, &[4]).to_device(Device::Cpu);
    for _ in 0..3 {
        let answer = of.answer((), &[&x], &[], |(), inputs: &[Tensor]| -> Outcome {
            Ok(vec![inputs[0].shallow_clone()])
        });
        assert!(answer.unwrap().is_none());
    }
    assert_eq!(of.state(), GraphState::default());
}
