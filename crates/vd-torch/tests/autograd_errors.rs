//! Differentiable functions in Rust: what their backward may get wrong, and which outputs they have.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::{Draw, difference};
use vd_torch::tch::{Device, Kind, Tensor};
use vd_torch::{BoxError, Function, apply};

const F64: (Kind, Device) = (Kind::Double, Device::Cpu);

type Grads = Result<Vec<Option<Tensor>>, BoxError>;

type Answer = fn() -> Grads;

/// A backward that does not look at anything.
struct Broken(Answer);

impl Function for Broken {
    fn backward(&self, _: &[Tensor], _: &[Option<Tensor>], _: &[bool]) -> Grads {
        (self.0)()
    }
    fn name(&self) -> &'static str {
        "broken"
    }
}

#[test]
fn what_goes_wrong_in_a_backward_is_an_error_with_its_message() {
    let mut draw = Draw(12);
    let panics = || -> Grads { panic!("no {}", "luck") };
    let libtorch = || -> Grads { Ok(vec![Some(Tensor::ones([5], F64).f_view([7])?)]) };
    let cases: [(Answer, &str); 5] = [
        (|| Err("no such kernel".into()), "backward of broken: no such kernel"),
        (panics, "backward of broken: no luck"),
        (libtorch, "invalid for input of size 5"),
        (|| Ok(vec![]), "expected 1 gradients, one for each input, got 0"),
        (|| Ok(vec![Some(Tensor::ones([9], F64))]), "invalid gradient at index 0"),
    ];
    for (f, expected) in cases {
        let x = draw.leaf(&[5]);
        let y = apply(&[&x], |_| Ok((vec![&x * 1.0], Broken(f)))).unwrap().remove(0);
        let message = y.sum(Kind::Double).f_backward().unwrap_err().to_string();
        assert!(message.contains(expected), "{message}");
    }
}

#[test]
fn integer_outputs_have_no_gradient_and_views_of_inputs_are_refused() {
    let mut draw = Draw(13);
    let x = draw.leaf(&[5]);
    let silent = || Broken(|| Ok(vec![Some(Tensor::ones([5], F64))]));
    let made = apply(&[&x], |_| Ok((vec![x.argsort(0, false), &x * 1.0], silent()))).unwrap();
    assert!(!made[0].requires_grad() && made[1].requires_grad());
    made[1].sum(Kind::Double).backward();
    assert_eq!(difference(&x.grad(), &Tensor::ones([5], F64)), 0.0);

    let message = apply(&[&x], |_| Ok((vec![x.view([5, 1])], silent()))).unwrap_err().to_string();
    assert!(message.contains("shares memory with input 0"), "{message}");
    let other = draw.leaf(&[5]);
    let message = apply(&[&x], |_| Ok((vec![other], silent()))).unwrap_err().to_string();
    assert!(message.contains("in a graph already"), "{message}");
}

#[test]
fn chunks_of_one_buffer_can_be_outputs_and_change_in_place() {
    let mut draw = Draw(14);
    let x = draw.leaf(&[6]);
    let f = || Broken(|| Ok(vec![Some(Tensor::ones([6], F64))]));
    let made = apply(&[&x], |_| Ok(((&x * 1.0).chunk(2, 0), f()))).unwrap();
    let (mut a, b) = (made[0].shallow_clone(), made[1].shallow_clone());
    let _ = a.g_mul_scalar_(2.0);
    (a + b).sum(Kind::Double).backward();
    assert_eq!(difference(&x.grad(), &Tensor::ones([6], F64)), 0.0);
}
