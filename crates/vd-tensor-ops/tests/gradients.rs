//! Gradients of every layer, with respect to its input and every parameter, against central
//! differences in f64.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod oracle;

use oracle::differences::{check, leaves};
use oracle::draw::{cases, normal, perturb};
use oracle::zoo::zoo;
use proptest::prelude::*;
use tch::{Kind, Tensor};
use vd_tensor_ops::video;

proptest! {
    #![proptest_config(cases(4))]

    #[test]
    fn gradients_of_every_layer_are_the_slopes_of_its_values(
        // Two channels may be nearly equal, where layer norm turns too sharply for differences.
        b in 1i64..3, f in 2i64..5, h in 2i64..4, w in 2i64..5, half in 2i64..4, seed: u64,
    ) {
        for animal in zoo(seed, 2 * half) {
            let x = normal(seed ^ 2, &[b, f, h, w, 2 * half]).set_requires_grad(true);
            let leaves = leaves(&animal.params, &x);
            check(animal.name, &leaves, seed ^ 3, &|| (animal.forward)(&x));
        }
    }
}

#[test]
fn what_a_layer_shares_with_others_has_the_gradient_of_all_uses() {
    // Layers hold handles on the parameters: a second use adds to the same gradient.
    for animal in zoo(5, 4) {
        if !animal.keeps_its_shape() {
            continue;
        }
        let x = normal(6, &[2, 3, 2, 2, 4]).set_requires_grad(true);
        let leaves = leaves(&animal.params, &x);
        let twice = || (animal.forward)(&((animal.forward)(&x) + &x));
        check(animal.name, &leaves, 7, &twice);
    }
}

#[test]
fn layouts_pass_gradients_on() {
    let x = normal(2, &[2, 5, 3, 2, 9]).set_requires_grad(true);
    let leaf = [("input".to_owned(), x.shallow_clone())];
    check("layouts", &leaf, 4, &|| {
        let there = video::to_channels_last(&x);
        &there * video::to_channels_first(&there).permute([0, 2, 3, 4, 1])
    });
}

#[test]
fn a_position_that_no_query_sees_has_no_gradient() {
    let all = zoo(8, 4);
    let clip = all.iter().find(|a| a.name.ends_with("clip and images")).unwrap();
    perturb(&clip.params, 9);
    let x = normal(10, &[1, 5, 2, 2, 4]).set_requires_grad(true);
    let clip_only = (clip.forward)(&x).narrow(1, 0, 2);
    let projected = (&clip_only * normal(11, &clip_only.size())).sum(Kind::Double);
    let gradient = Tensor::run_backward(&[projected], &[&x], false, false).remove(0);
    let largest = |part: Tensor| part.abs().max().double_value(&[]);
    assert_eq!(largest(gradient.narrow(1, 2, 3)), 0.0);
    assert!(largest(gradient.narrow(1, 0, 2)) > 0.0);
}
