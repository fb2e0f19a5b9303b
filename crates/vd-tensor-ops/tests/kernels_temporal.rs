//! The kernels of attention along time against libtorch in f64, over drawn shapes and masks, for
//! every set of instructions that the machine has.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod drawn;
mod temporal;

use std::sync::Arc;

use proptest::prelude::*;
use tch::{Device, Kind, Tensor};
use vd_tensor_ops::kernels::cpu::{Isa, temporal_fits};
use vd_tensor_ops::kernels::{Precision, with};
use vd_tensor_ops::layers::HeadShape;

use drawn::{draw, error};
use temporal::{Case, case};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn attention_along_time_is_that_of_libtorch(case in case(1..7)) {
        let drawn = case.draw();
        let expected = drawn.to(Kind::Double).plain();
        for isa in Isa::tested() {
            prop_assert!(temporal_fits(isa, case.size[4], drawn.shape));
            let got = drawn.fused(isa, &Arc::default());
            prop_assert!(error(&got, &expected) < 1e-5, "{isa}: {}", error(&got, &expected));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn its_gradients_are_those_of_libtorch(case in case(1..6)) {
        let drawn = case.draw();
        let grad = draw(case.seed ^ 8, &case.size);
        let expected = drawn.to(Kind::Double).plain_grads(&grad);
        // Where gradients of a softmax cancel, no f32 is near: there libtorch's own is the measure.
        let in_f32 = drawn.plain_grads_in(Kind::Float, &grad);
        for isa in Isa::tested() {
            let got = drawn.fused_grads(isa, &grad);
            for (i, (got, expected)) in got.iter().zip(&expected).enumerate() {
                let (error, libtorchs) = (error(got, expected), error(&in_f32[i], expected));
                let bound = f64::max(1e-5, 4.0 * libtorchs);
                prop_assert!(error < bound, "{isa}, input {i}: {error} with {libtorchs} of libtorch");
            }
        }
    }

    #[test]
    fn bf16_rounds_the_operands_of_projections_and_nothing_else(case in case(1..7)) {
        let drawn = case.draw();
        let (wide, x) = (drawn.to(Kind::Double), &drawn.leaves[0]);
        let bf16 = |t: &Tensor| t.to_kind(Kind::BFloat16).to_kind(Kind::Double);
        let rounded = wide.plain_with(bf16) - x;
        // A value that f32 takes across a tie comes out a whole step of bf16 away, and the softmax
        // may spread it over all frames of a site. Each such value is rounded the other way when all
        // are a little larger, or smaller: what these twins are off by is what an answer may be.
        let moved = [2e-6, -2e-6].map(|by| {
            let twin = wide.plain_with(|t| bf16(&(t * (1.0 + by)))) - x;
            error(&twin, &rounded)
        });
        let bound = 2e-5 + 2.0 * (moved[0] + moved[1]);
        for isa in Isa::tested() {
            let got = with(Precision::Bf16, || drawn.fused(isa, &Arc::default())) - x;
            let off = error(&got, &rounded);
            prop_assert!(off < bound, "{isa}: {off}, at most {bound}");
        }
    }
}

/// A case by hand.
fn of(size: [i64; 5], heads: i64, dim: i64) -> Case {
    Case { size, heads, dim, pairs: dim / 2, mask: 0, shaw: false, seed: 20 }
}

#[test]
fn more_frames_than_a_block_of_queries_are_taken() {
    for shaw in [false, true] {
        let drawn = Case { shaw, ..of([1, 71, 2, 5, 16], 2, 8) }.draw();
        let expected = drawn.to(Kind::Double).plain();
        for isa in Isa::tested() {
            assert!(error(&drawn.fused(isa, &Arc::default()), &expected) < 1e-5);
        }
    }
}

#[test]
fn frames_that_see_nothing_are_not_numbers_and_the_others_are_as_ever() {
    let mut drawn = of([1, 5, 3, 3, 16], 2, 8).draw();
    let none = Tensor::zeros([1, 1, 1, 5, 5], (Kind::Bool, Device::Cpu));
    let _ = none.select(3, 2).fill_(1);
    drawn.forbidden = Some(none);
    let expected = drawn.to(Kind::Double).plain();
    let finite = |x: &Tensor| x.isfinite().all_dims([2i64, 3, 4].as_slice(), false);
    for isa in Isa::tested() {
        let got = drawn.fused(isa, &Arc::default());
        assert_eq!(finite(&got), finite(&expected));
        assert_eq!(finite(&got).select(1, 2).int64_value(&[0]), 0);
        let seen = |x: &Tensor| x.narrow(1, 3, 2);
        assert!(error(&seen(&got), &seen(&expected)) < 1e-5);
    }
}

#[test]
fn changed_weights_are_packed_again() {
    let (mut drawn, cache) = (of([1, 3, 4, 4, 16], 2, 8).draw(), Arc::default());
    for changed in [1, 2, 3, 3] {
        let expected = drawn.to(Kind::Double).plain();
        assert!(error(&drawn.fused(Isa::current(), &cache), &expected) < 1e-5);
        drawn.leaves[changed] *= 1.5;
    }
}

#[test]
fn threads_that_share_a_unit_change_no_bit() {
    // 4 x 4 sites are one unit or two, of which there are less than threads.
    let drawn = of([1, 5, 4, 4, 32], 4, 8).draw();
    let before = vd_tensor_ops::torch::threads();
    let run = |threads: usize| {
        vd_tensor_ops::torch::set_threads(threads);
        drawn.fused(Isa::current(), &Arc::default())
    };
    let all = [1, 2, 3, 5].map(run);
    vd_tensor_ops::torch::set_threads(before);
    assert!(all.iter().all(|got| got.equal(&all[0])));
}

#[test]
fn gradients_by_threads_that_share_a_unit_are_right_and_the_same_on_every_call() {
    for (size, shaw) in [([1, 5, 4, 4, 32], false), ([3, 4, 5, 5, 32], true)] {
        let drawn = Case { shaw, ..of(size, 4, 8) }.draw();
        let grad = draw(21, &size);
        let expected = drawn.to(Kind::Double).plain_grads(&grad);
        let before = vd_tensor_ops::torch::threads();
        for threads in [2, 3, 5] {
            vd_tensor_ops::torch::set_threads(threads);
            let [first, again] = [0, 1].map(|_| drawn.fused_grads(Isa::current(), &grad));
            for ((first, again), expected) in first.iter().zip(&again).zip(&expected) {
                assert!(first.equal(again) && error(first, expected) < 1e-5);
            }
        }
        vd_tensor_ops::torch::set_threads(before);
    }
}

#[test]
fn odd_heads_and_channels_that_are_no_whole_vectors_are_refused() {
    assert!(!temporal_fits(Isa::Portable, 6, HeadShape { heads: 2, dim: 8 }));
    assert!(!temporal_fits(Isa::Portable, 16, HeadShape { heads: 2, dim: 7 }));
}
