//! Recomputed activations: the same gradients, from a second run of the function.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use common::Draw;
use vd_torch::tch::{Device, Kind, Tensor, no_grad};
use vd_torch::{Autocast, Result, autocast, checkpoint};

/// A block with a convolution, a norm, and a second output.
fn block(x: &Tensor, scale: &Tensor, params: &[Tensor]) -> Vec<Tensor> {
    let y = x.conv2d(&params[0], Some(&params[1]), [1, 1], [1, 1], [1, 1], 1);
    let y = y.group_norm(2, None::<&Tensor>, None::<&Tensor>, 1e-5, false) * scale;
    vec![y.silu() + x, y.exp().mean(Kind::Float)]
}

struct Case {
    x: Tensor,
    scale: Tensor,
    params: Vec<Tensor>,
}

fn case(seed: u64, needs: [bool; 4]) -> Case {
    let mut draw = Draw(seed);
    let mut random = |shape: &[i64]| draw.normal(shape).to_kind(Kind::Float);
    let x = random(&[2, 4, 6, 5]).set_requires_grad(needs[0]);
    let scale = random(&[2, 4, 1, 1]).set_requires_grad(needs[1]);
    let params = vec![
        random(&[4, 4, 3, 3]).set_requires_grad(needs[2]),
        random(&[4]).set_requires_grad(needs[3]),
    ];
    Case { x, scale, params }
}

fn recomputed(case: &Case) -> Result<Vec<Tensor>> {
    let held: Vec<_> = case.params.iter().map(Tensor::shallow_clone).collect();
    let params: Vec<_> = case.params.iter().collect();
    checkpoint(&[&case.x, &case.scale], &params, move |i| Ok(block(&i[0], &i[1], &held)))
}

fn gradients(case: &Case) -> Vec<Option<Vec<f32>>> {
    let leaves = [&case.x, &case.scale, &case.params[0], &case.params[1]];
    let read = |t: &Tensor| Vec::<f32>::try_from(t.grad().flatten(0, -1)).unwrap();
    leaves.into_iter().map(|t| t.grad().defined().then(|| read(t))).collect()
}

#[test]
fn values_and_gradients_equal_those_without_it_bit_for_bit() {
    let all = [true; 4];
    let needs =
        [all, [false, true, true, true], [false, false, true, true], [true, false, false, false]];
    for (seed, needs) in needs.into_iter().enumerate() {
        for uses in [(true, true), (true, false), (false, true)] {
            let run = |again: bool| {
                let case = case(seed as u64, needs);
                let outputs = if again {
                    recomputed(&case).unwrap()
                } else {
                    block(&case.x, &case.scale, &case.params)
                };
                let mut loss = Tensor::from(0f32);
                if uses.0 {
                    loss += (&outputs[0] * outputs[0].sin()).mean(Kind::Float);
                }
                if uses.1 {
                    loss += &outputs[1] * 0.3;
                }
                loss.backward();
                (loss.double_value(&[]), gradients(&case))
            };
            let (plain, again) = (run(false), run(true));
            assert_eq!(plain, again, "{needs:?} {uses:?}");
            assert_eq!(plain.1.iter().map(Option::is_some).collect::<Vec<_>>(), needs);
        }
    }
}

#[test]
fn what_was_cast_at_the_first_time_is_cast_at_the_second() {
    for cast in [Autocast::Bf16, Autocast::Fp16] {
        let run = |again: bool| {
            let case = case(6, [true; 4]);
            let outputs = autocast(Device::Cpu, cast, || match again {
                true => recomputed(&case).unwrap(),
                false => block(&case.x, &case.scale, &case.params),
            });
            // outside, as a backward should be
            let outputs = outputs.unwrap();
            outputs[0].to_kind(Kind::Float).square().mean(Kind::Float).backward();
            (outputs[0].to_kind(Kind::Double).sum(Kind::Double).double_value(&[]), gradients(&case))
        };
        assert_eq!(run(false), run(true), "{cast}");
    }
}

#[test]
fn one_inside_another_equals_none() {
    let run = |nested: bool| {
        let case = case(7, [true; 4]);
        let params: Vec<_> = case.params.iter().collect();
        let held: Vec<_> = case.params.iter().map(Tensor::shallow_clone).collect();
        let y = if nested {
            checkpoint(&[&case.x, &case.scale], &params, move |i| {
                let inner = Case {
                    x: i[0].shallow_clone(),
                    scale: i[1].shallow_clone(),
                    params: held.iter().map(Tensor::shallow_clone).collect(),
                };
                recomputed(&inner)
            })
            .unwrap()
        } else {
            block(&case.x, &case.scale, &case.params)
        };
        y[0].square().mean(Kind::Float).backward();
        gradients(&case)
    };
    assert_eq!(run(false), run(true));
}

#[test]
fn the_function_runs_again_only_for_a_backward_and_keeps_nothing_between() {
    let runs = Arc::new(AtomicUsize::new(0));
    let x = Draw(9).normal(&[8]).to_kind(Kind::Float).set_requires_grad(true);
    let call = |x: &Tensor| {
        let count = runs.clone();
        let f = move |i: &[Tensor]| {
            let y = i[0].sin();
            // Both runs make a graph, so that they are the same; one without a backward makes none.
            assert_eq!(y.requires_grad(), count.fetch_add(1, Ordering::SeqCst) < 2);
            Ok(vec![y])
        };
        checkpoint(&[x], &[], f).unwrap().remove(0)
    };
    let y = call(&x);
    assert_eq!((runs.load(Ordering::SeqCst), Arc::strong_count(&runs)), (1, 2));
    y.sum(Kind::Float).backward();
    assert_eq!((runs.load(Ordering::SeqCst), Arc::strong_count(&runs)), (2, 1));
    let _ = no_grad(|| call(&x));
    assert_eq!((runs.load(Ordering::SeqCst), Arc::strong_count(&runs)), (3, 1));
}

#[test]
fn a_weight_that_changed_in_between_is_an_error() {
    let case = case(8, [true; 4]);
    let y = recomputed(&case).unwrap();
    let _ = no_grad(|| case.params[0].shallow_clone().g_mul_scalar_(0.5));
    let message = y[0].sum(Kind::Float).f_backward().unwrap_err().to_string();
    assert!(message.contains("modified by an inplace operation"), "{message}");
}

#[test]
fn an_error_of_the_second_run_reaches_the_caller() {
    let runs = AtomicUsize::new(0);
    let x = Draw(10).normal(&[3]).to_kind(Kind::Float).set_requires_grad(true);
    let f = move |i: &[Tensor]| match runs.fetch_add(1, Ordering::SeqCst) {
        0 => Ok(vec![i[0].exp()]),
        _ => Ok(vec![i[0].f_view([4])?]),
    };
    let y = checkpoint(&[&x], &[], f).unwrap().remove(0);
    let message = y.sum(Kind::Float).f_backward().unwrap_err().to_string();
    assert!(message.contains("backward of checkpoint") && message.contains("size 3"), "{message}");
}
