//! Differentiable functions in Rust: their values, gradients, lifetimes and threads.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use common::{Draw, difference};
use vd_torch::tch::{Device, Kind, Tensor, no_grad};
use vd_torch::{BoxError, Function, apply, grad};

const F64: (Kind, Device) = (Kind::Double, Device::Cpu);

type Grads = Result<Vec<Option<Tensor>>, BoxError>;

/// RMS norm over the last axis, times a weight.
struct Norm {
    eps: f64,
}

impl Function for Norm {
    fn backward(&self, saved: &[Tensor], grads: &[Option<Tensor>], needs: &[bool]) -> Grads {
        let [x, w] = saved else { return Err("two tensors were saved".into()) };
        let g = grads[0].as_ref().ok_or("the one output has no gradient")?;
        let r = (x.square().mean_dim(-1, true, None) + self.eps).rsqrt();
        let gw = needs[1].then(|| (g * x * &r).sum_dim_intlist([0i64].as_slice(), false, None));
        let gx = needs[0].then(|| {
            let gn = g * w;
            let along = (&gn * x).mean_dim(-1, true, None);
            &r * gn - r.pow_tensor_scalar(3) * x * along
        });
        Ok(vec![gx, gw])
    }
}

fn norm(x: &Tensor, w: &Tensor) -> Tensor {
    let eps = 1e-6;
    let made = apply(&[x, w], |saved| {
        saved.keep(x);
        saved.keep(w);
        Ok((vec![reference(x, w, eps)], Norm { eps }))
    });
    made.unwrap().remove(0)
}

fn reference(x: &Tensor, w: &Tensor, eps: f64) -> Tensor {
    x * (x.square().mean_dim(-1, true, None) + eps).rsqrt() * w
}

#[test]
fn value_and_gradients_equal_libtorchs_own() {
    let mut draw = Draw(1);
    for shape in [[4, 8], [1, 1], [7, 33]] {
        let (x, w, c) = (draw.leaf(&shape), draw.leaf(&shape[1..]), draw.normal(&shape));
        let (ours, theirs) = (norm(&x, &w), reference(&x, &w, 1e-6));
        assert!(ours.requires_grad());
        assert_eq!(difference(&ours, &theirs), 0.0);
        let a = Tensor::run_backward(&[(ours * &c).sum(Kind::Double)], &[&x, &w], false, false);
        let b = grad(&[&theirs], &[&c], &[&x, &w]).unwrap();
        for (a, b) in a.iter().zip(b) {
            // Two orders of some ten f64 operations on values of order 1.
            assert!(difference(a, &b.unwrap()) < 1e-11);
        }
    }
}

#[test]
fn gradients_equal_finite_differences() {
    let mut draw = Draw(2);
    let (x, w, c) = (draw.leaf(&[3, 5]), draw.leaf(&[5]), draw.normal(&[3, 5]));
    let value = |x: &Tensor, w: &Tensor| (norm(x, w) * &c).sum(Kind::Double);
    value(&x, &w).backward();
    let step = 1e-5;
    for (which, tensor) in [&x, &w].into_iter().enumerate() {
        let gradient = tensor.grad().flatten(0, -1);
        for i in 0..tensor.numel() as i64 {
            let at = |by: f64| {
                let moved = tensor.detach().copy();
                let _ = moved.view(-1).get(i).g_add_scalar_(by);
                let (x, w) = if which == 0 { (&moved, &w) } else { (&x, &moved) };
                value(&x.detach(), &w.detach()).double_value(&[])
            };
            let slope = (at(step) - at(-step)) / (2.0 * step);
            // Truncation and rounding are each about 1e-10 here.
            assert!((slope - gradient.double_value(&[i])).abs() < 1e-7, "{which} {i}");
        }
    }
}

/// Doubles and squares; counts its values that are alive, and records what was asked.
struct Pair {
    alive: Arc<AtomicUsize>,
    _kept: Tensor,
}

impl Pair {
    fn new(alive: &Arc<AtomicUsize>, output: &Tensor) -> Self {
        alive.fetch_add(1, Ordering::SeqCst);
        Self { alive: alive.clone(), _kept: output.shallow_clone() }
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        self.alive.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Function for Pair {
    fn backward(&self, saved: &[Tensor], grads: &[Option<Tensor>], needs: &[bool]) -> Grads {
        assert!(needs == [true] && grads.len() == 2 && !saved[0].requires_grad());
        let double = grads[0].as_ref().map(|g| g * 2.0);
        let square = grads[1].as_ref().map(|g| g * 2.0 * &saved[0]);
        Ok(vec![match (double, square) {
            (Some(a), Some(b)) => Some(a + b),
            (a, b) => a.or(b),
        }])
    }
    fn name(&self) -> &'static str {
        "pair"
    }
}

fn pair(x: &Tensor, alive: &Arc<AtomicUsize>) -> (Tensor, Tensor) {
    let mut made = apply(&[x], |saved| {
        let outputs = vec![x * 2.0, x.square()];
        saved.keep(x);
        saved.keep(&outputs[1].view(-1));
        let function = Pair::new(alive, &outputs[0]);
        Ok((outputs, function))
    })
    .unwrap();
    let second = made.remove(1);
    (made.remove(0), second)
}

#[test]
fn an_output_that_is_not_used_has_no_gradient() {
    let mut draw = Draw(3);
    let alive = Arc::default();
    for uses in [(true, false), (false, true), (true, true)] {
        let x = draw.leaf(&[6]);
        let (double, square) = pair(&x, &alive);
        let (mut total, mut expected) = (Tensor::zeros([6], F64), Tensor::zeros([6], F64));
        if uses.0 {
            total += double;
            expected += 2.0;
        }
        if uses.1 {
            total += square;
            expected += x.detach() * 2.0;
        }
        total.sum(Kind::Double).backward();
        assert!(difference(&x.grad(), &expected) < 1e-14, "{uses:?}");
    }
}

#[test]
fn only_the_inputs_that_require_gradients_get_them() {
    let mut draw = Draw(4);
    let (x, w) = (draw.leaf(&[4, 8]).detach(), draw.leaf(&[8]));
    norm(&x, &w).sum(Kind::Double).backward();
    let expected = grad(&[&reference(&x, &w, 1e-6)], &[&Tensor::ones([4, 8], F64)], &[&w]);
    assert!(!x.grad().defined());
    assert!(difference(&w.grad(), expected.unwrap()[0].as_ref().unwrap()) < 1e-12);
}

#[test]
fn what_was_kept_lives_as_long_as_the_graph_and_no_longer() {
    let mut draw = Draw(16);
    let alive = Arc::new(AtomicUsize::new(0));
    let count = || alive.load(Ordering::SeqCst);
    let x = draw.leaf(&[5]);

    let (a, b) = pair(&x, &alive);
    let sum = (a + b).sum(Kind::Double);
    let _ = Tensor::run_backward(&[&sum], &[&x], true, false);
    assert_eq!(count(), 1, "retained");
    sum.backward();
    assert_eq!(count(), 0, "the backward frees");
    let message = sum.f_backward().unwrap_err().to_string();
    assert!(message.contains("second time"), "{message}");

    let outputs = pair(&x, &alive);
    assert_eq!(count(), 1);
    drop(outputs);
    assert_eq!(count(), 0, "so does the end of the outputs, though both are kept");

    let outputs = no_grad(|| pair(&x, &alive));
    assert!(!outputs.0.requires_grad());
    assert_eq!(count(), 0, "without gradients nothing is kept");
    let outputs = pair(&x.detach(), &alive);
    assert!(!outputs.0.requires_grad());
    assert_eq!(count(), 0, "nor where no input requires them");
}

#[test]
fn a_change_of_a_kept_tensor_in_place_is_an_error() {
    let mut draw = Draw(17);
    let (alive, refused) = (Arc::default(), "modified by an inplace operation");
    let x = draw.leaf(&[5]);
    let (a, _) = pair(&x, &alive);
    let _ = no_grad(|| x.shallow_clone().g_add_scalar_(1.0));
    let message = a.sum(Kind::Double).f_backward().unwrap_err().to_string();
    assert!(message.contains(refused), "{message}");

    // The second output, of which a view was kept.
    let (a, mut b) = pair(&x, &alive);
    let _ = b.g_mul_scalar_(2.0);
    let message = (a + b).sum(Kind::Double).f_backward().unwrap_err().to_string();
    assert!(message.contains(refused), "{message}");

    // The first was not, so it may change.
    let (mut a, _) = pair(&x, &alive);
    let _ = a.g_mul_scalar_(3.0);
    a.sum(Kind::Double).backward();
    assert_eq!(difference(&x.grad(), &Tensor::full([5], 6.0, F64)), 0.0);
}

#[test]
fn graphs_of_one_thread_can_be_run_by_another() {
    let mut draw = Draw(5);
    let threads: Vec<_> = (0..4)
        .map(|_| {
            let (x, w) = (draw.leaf(&[16, 8]), draw.leaf(&[8]));
            let sum = norm(&norm(&x, &w), &w).sum(Kind::Double);
            std::thread::spawn(move || {
                sum.backward();
                let twice = reference(&reference(&x, &w, 1e-6), &w, 1e-6);
                let expected = grad(&[&twice], &[&Tensor::ones([16, 8], F64)], &[&w]).unwrap();
                assert!(difference(&w.grad(), expected[0].as_ref().unwrap()) < 1e-11);
            })
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
}

#[test]
fn a_second_derivative_is_refused_and_the_first_is_right() {
    let mut draw = Draw(6);
    let (x, w) = (draw.leaf(&[4, 8]), draw.leaf(&[8]));
    let sum = norm(&x, &w).sum(Kind::Double);
    let first = Tensor::run_backward(&[&sum], &[&x], true, true).remove(0);
    let expected = grad(&[&reference(&x, &w, 1e-6)], &[&Tensor::ones([4, 8], F64)], &[&x]);
    assert!(difference(&first, expected.unwrap()[0].as_ref().unwrap()) < 1e-12);
    assert!(first.requires_grad());
    let second = Tensor::f_run_backward(&[&first.square().sum(Kind::Double)], &[&x], false, false);
    let message = second.unwrap_err().to_string();
    assert!(message.contains("can be differentiated once only"), "{message}");
}
