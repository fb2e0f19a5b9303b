//! What is kept of weights, read by recordings: by a stand-in's, or by CUDA's with
//! `VD_TEST_DEVICE=cuda`.
#![allow(clippy::unwrap_used)]

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tch::{Kind, Tensor};
use vd_torch::graphs::{Form, Kept, Recordings, StandIn, imitated};
use vd_torch::testing::{device, tolerance};
use vd_torch::{Error, Result};

/// Deterministic values that are neither equal nor regular.
fn values(seed: f64, size: &[i64]) -> Tensor {
    let n: i64 = size.iter().product();
    let values: Vec<f32> = (0..n).map(|i| ((seed + 1.7 * i as f64).sin() * 1.3) as f32).collect();
    Tensor::from_slice(&values).view(size).to_device(device())
}

/// Runs `f` with what records on the device of the tests, and no other test meanwhile: while one of
/// them records a way back, no thread reads what is kept.
fn here<R>(f: impl FnOnce() -> R) -> R {
    static ONE: Mutex<()> = Mutex::new(());
    let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    if device().is_cuda() { f() } else { imitated(StandIn::new(), f) }
}

fn same(a: &Tensor, b: &Tensor) -> bool {
    let apart = (a - b).abs().max().double_value(&[]);
    apart <= tolerance(0.0) * b.abs().max().double_value(&[])
}

/// Three times a weight, in some dtype; it counts how often it is written.
#[derive(Debug, Clone)]
struct Thrice {
    kind: Kind,
    written: Arc<AtomicUsize>,
    fails: Arc<AtomicBool>,
}

impl PartialEq for Thrice {
    fn eq(&self, other: &Self) -> bool {
        self.kind == other.kind
    }
}

impl Form for Thrice {
    fn room(&self, of: &Tensor) -> Tensor {
        Tensor::empty(of.size(), (self.kind, of.device()))
    }

    fn write(&self, of: &Tensor, room: &mut Tensor) {
        assert!(!self.fails.load(Ordering::Relaxed), "a form that fails");
        self.written.fetch_add(1, Ordering::Relaxed);
        room.copy_(&(of * 3.0));
    }
}

/// A product with what is kept of a weight.
struct Layer {
    weight: Tensor,
    kept: Kept<Thrice>,
    form: Thrice,
    stores: Cell<bool>,
    /// Where what was read lay.
    seen: RefCell<BTreeSet<usize>>,
    of: Recordings<Kind>,
}

impl Layer {
    fn new() -> Self {
        let (written, fails) = (Arc::default(), Arc::default());
        Layer {
            weight: values(0.3, &[5, 5]),
            kept: Kept::default(),
            form: Thrice { kind: Kind::Float, written, fails },
            stores: Cell::new(true),
            seen: RefCell::default(),
            of: Recordings::default(),
        }
    }

    fn f(&self, kind: Kind, x: &Tensor) -> Tensor {
        let form = Thrice { kind, ..self.form.clone() };
        let weight = self.kept.get(form, &self.weight, self.stores.get());
        self.seen.borrow_mut().insert(weight.data_ptr() as usize);
        x.to_kind(kind).matmul(&weight).tanh().to_kind(Kind::Float)
    }

    /// By a recording, if there is one or will be.
    fn try_ask(&self, kind: Kind, b: i64) -> Result<(bool, Tensor)> {
        let x = values(b as f64, &[b, 5]);
        let params = [self.weight.shallow_clone()];
        let answer = self.of.answer(kind, &[&x], &params, |kind, inputs| {
            Ok::<_, Error>(vec![self.f(*kind, &inputs[0])])
        })?;
        let answer = answer.map(|mut outputs| outputs.remove(0));
        Ok((answer.is_some(), answer.unwrap_or_else(|| self.f(kind, &x))))
    }

    /// The same, told by nothing that is kept whether it is right; and how often what is kept was
    /// written for it.
    fn ask(&self, kind: Kind, b: i64) -> (bool, usize) {
        let before = self.written();
        let (replayed, answer) = tch::no_grad(|| self.try_ask(kind, b)).unwrap();
        let weight = (&self.weight * 3.0).to_kind(kind);
        let own = values(b as f64, &[b, 5]).to_kind(kind).matmul(&weight).tanh();
        assert!(same(&answer, &own.to_kind(Kind::Float)), "{kind:?}, {b} rows");
        (replayed, self.written() - before)
    }

    fn written(&self) -> usize {
        self.form.written.load(Ordering::Relaxed)
    }

    fn change(&self) {
        let more = values(self.written() as f64, &[5, 5]);
        let _ = tch::no_grad(|| self.weight.shallow_clone().g_add_(&more));
    }
}

const F32: Kind = Kind::Float;

#[test]
fn one_copy_serves_all_recordings_and_the_layer_and_is_written_when_the_weight_has_changed() {
    here(|| {
        let layer = Layer::new();
        assert_eq!(layer.ask(F32, 2), (false, 1));
        assert_eq!([2, 2, 3, 3, 3].map(|b| layer.ask(F32, b).1), [0; 5]);
        assert_eq!(layer.of.state().recorded, 2);
        for _ in 0..3 {
            layer.change();
            // The first that asks has it written, a recording or the layer itself.
            assert_eq!(layer.ask(F32, 3), (true, 1));
            assert_eq!([layer.ask(F32, 2), layer.ask(F32, 3)], [(true, 0); 2]);
            layer.change();
            assert_eq!(layer.ask(F32, 4).1, 1);
            assert_eq!([layer.ask(F32, 2), layer.ask(F32, 3)], [(true, 0); 2]);
        }
        assert_eq!(layer.of.state().recorded, 3);
        assert_eq!(layer.seen.borrow().len(), 1, "a second copy");
    });
}

#[test]
fn a_weight_that_changes_before_it_is_recorded_is_read_as_it_is_then() {
    here(|| {
        let layer = Layer::new();
        assert_eq!(layer.ask(F32, 2), (false, 1));
        layer.change();
        assert_eq!([layer.ask(F32, 2), layer.ask(F32, 2)], [(true, 1), (true, 0)]);
        assert_eq!(layer.seen.borrow().len(), 1);
    });
}

#[test]
fn each_dtype_that_is_recorded_is_kept_until_no_recording_reads_it() {
    here(|| {
        let layer = Layer::new();
        let both = |b| [Kind::Float, Kind::Double].map(|kind| layer.ask(kind, b));
        assert_eq!(layer.ask(Kind::Float, 2), (false, 1));
        assert_eq!(layer.ask(Kind::Float, 2), (true, 0));
        assert_eq!(
            [layer.ask(Kind::Double, 2), layer.ask(Kind::Double, 2)],
            [(false, 1), (true, 0)]
        );
        assert_eq!(both(2), [(true, 0); 2]);
        layer.change();
        assert_eq!(both(2), [(true, 1); 2]);
        // A layer that is asked in both by turns finds both, as long as they are recorded.
        assert_eq!([both(3), both(3)], [[(false, 0); 2], [(true, 0); 2]]);
        assert_eq!(layer.seen.borrow().len(), 2);
        layer.of.clear();
        assert_eq!(both(4), [(false, 0), (false, 1)]);
    });
}

#[test]
fn a_pass_that_forgets_what_is_kept_leaves_what_is_recorded() {
    here(|| {
        let layer = Layer::new();
        assert_eq!(layer.ask(F32, 2), (false, 1));
        layer.kept.forget();
        assert_eq!(layer.ask(F32, 3), (false, 1));
        assert_eq!(layer.ask(F32, 3), (true, 0));
        for _ in 0..2 {
            layer.kept.forget();
            layer.change();
            assert_eq!([layer.ask(F32, 3), layer.ask(F32, 3)], [(true, 1), (true, 0)]);
        }
        assert_eq!(layer.ask(F32, 4), (false, 0));
        layer.of.clear();
        layer.kept.forget();
        assert_eq!(layer.ask(F32, 4), (false, 1));
    });
}

#[test]
fn nothing_is_kept_of_what_a_recording_makes_and_it_makes_it_at_each_replay() {
    here(|| {
        let layer = Layer::new();
        layer.stores.set(false);
        assert_eq!([layer.ask(F32, 2), layer.ask(F32, 3)], [(false, 1), (false, 1)]);
        layer.stores.set(true);
        assert!(layer.ask(F32, 2).0);
        layer.change();
        assert!(layer.ask(F32, 2).0);
        // Made and kept outside, where it is not there yet.
        assert_eq!([layer.ask(F32, 4).1, layer.ask(F32, 5).1], [1, 0]);
        // It is not what that recording reads, which goes on by itself.
        layer.change();
        assert!(layer.ask(F32, 2).0 && layer.ask(F32, 2).0);
        assert_eq!([layer.ask(F32, 5), layer.ask(F32, 5)], [(true, 1), (true, 0)]);
    });
}

#[test]
fn what_is_not_to_be_stored_is_read_while_it_is_fresh_and_goes_when_it_is_not() {
    here(|| {
        let layer = Layer::new();
        let x = values(2.0, &[2, 5]);
        let ask = |stores| {
            let before = layer.written();
            layer.stores.set(stores);
            let own = x.matmul(&(&layer.weight * 3.0)).tanh();
            assert!(same(&layer.f(F32, &x), &own));
            layer.written() - before
        };
        assert_eq!([ask(true), ask(false), ask(false)], [1, 0, 0]);
        layer.change();
        assert_eq!([ask(false), ask(false), ask(true), ask(true)], [1, 1, 1, 0]);
        layer.change();
        assert_eq!([ask(true), ask(false)], [1, 0]);
    });
}

#[test]
fn a_recording_with_a_way_back_reads_nothing_that_is_kept() {
    here(|| {
        let (layer, of) = (Layer::new(), Recordings::default());
        let gain = values(0.9, &[5]).set_requires_grad(true);
        let x = values(0.7, &[3, 5]);
        let _ = layer.ask(F32, 3);
        let kept = layer.seen.take();
        let f = |x: &Tensor| layer.f(F32, x) * &gain;
        let grad = |out: Tensor| {
            let loss = out.square().sum(Kind::Float);
            Tensor::run_backward(&[loss], &[&gain], false, false).remove(0)
        };
        for call in 0..4 {
            let params = [gain.shallow_clone(), layer.weight.shallow_clone()];
            let answer = of.answer((), &[&x], &params, |(), inputs| {
                let out = f(&inputs[0]);
                Ok::<_, Error>(vec![out])
            });
            let answer = answer.unwrap().map(|mut outputs| outputs.remove(0));
            assert_eq!(answer.is_some(), call > 0);
            if let Some(answer) = answer {
                let own = (x.matmul(&(&layer.weight * 3.0))).tanh() * &gain;
                assert!(same(&answer.detach(), &own.detach()) && same(&grad(answer), &grad(own)));
            }
            layer.change();
        }
        assert!(layer.seen.borrow().is_disjoint(&kept), "what is kept was recorded");
        assert_eq!([layer.ask(F32, 3).1, layer.ask(F32, 3).1], [1, 0]);
    });
}

#[test]
fn a_graph_of_what_has_been_written_again_has_no_gradient_that_is_wrong() {
    here(|| {
        let layer = Layer::new();
        let x = values(0.7, &[3, 5]).set_requires_grad(true);
        let slope = |change: bool| {
            let loss = layer.f(F32, &x).sum(Kind::Float);
            if change {
                layer.change();
                let _ = layer.ask(F32, 2);
            }
            Tensor::f_run_backward(&[loss], &[&x], false, false)
        };
        let said = slope(true).unwrap_err().to_string();
        assert!(said.contains("modified by an inplace operation"), "{said}");
        let own = (x.matmul(&(&layer.weight * 3.0))).tanh().sum(Kind::Float);
        let own = Tensor::run_backward(&[own], &[&x], false, false).remove(0);
        assert!(same(&slope(false).unwrap()[0], &own));
    });
}

#[test]
fn a_form_that_cannot_be_written_makes_a_replay_an_error_and_the_next_one_is_right() {
    here(|| {
        let layer = Layer::new();
        assert_eq!([layer.ask(F32, 2).0, layer.ask(F32, 2).0], [false, true]);
        layer.change();
        layer.form.fails.store(true, Ordering::Relaxed);
        for _ in 0..2 {
            let said = tch::no_grad(|| layer.try_ask(F32, 2)).unwrap_err().to_string();
            assert!(said.contains("a form that fails"), "{said}");
        }
        layer.form.fails.store(false, Ordering::Relaxed);
        assert_eq!([layer.ask(F32, 2), layer.ask(F32, 2)], [(true, 1), (true, 0)]);
    });
}
