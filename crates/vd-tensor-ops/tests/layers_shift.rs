//! Channels taken from neighbours in time and space.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod oracle;

use oracle::differences::check;
use oracle::draw::{cases, normal};
use oracle::{Video, array, relative, video};
use proptest::prelude::*;
use tch::{Kind, Tensor};
use vd_tensor_ops::FrameMask;
use vd_tensor_ops::layers::TokenShift;
use vd_tensor_ops::torch::testing::device;

/// Videos b f h w c, one frame and one pixel and fewer than eight channels among them.
fn videos() -> impl Strategy<Value = [i64; 5]> {
    (1i64..=3, 1i64..=5, 1i64..=4, 1i64..=4, 1i64..=26).prop_map(|(b, f, h, w, c)| [b, f, h, w, c])
}

/// The value at (b, f, row, column, channel), 0 where a place is before the first or after the last.
fn at(x: &Video, [b, f, row, column, channel]: [i64; 5]) -> f64 {
    let index = [b, f, row, column, channel].map(|i| usize::try_from(i).unwrap_or(usize::MAX));
    x.get(index).copied().unwrap_or(0.0)
}

/// Channel group k, an eighth of them, takes its values from `steps[k]`, a step along f, h and w.
fn shifted(x: &Video, steps: &[[i64; 3]], sees: &dyn Fn(usize, i64, i64) -> bool) -> Video {
    let each = x.dim().4 / 8;
    Video::from_shape_fn(x.dim(), |(b, f, row, column, channel)| {
        let group = channel.checked_div(each).filter(|group| *group < steps.len());
        let [df, dh, dw] = group.map_or([0, 0, 0], |group| steps[group]);
        let (f, other) = (f as i64, f as i64 + df);
        if !sees(b, f, other) {
            return 0.0;
        }
        at(x, [b as i64, other, row as i64 + dh, column as i64 + dw, channel as i64])
    })
}

const TIME: [[i64; 3]; 2] = [[-1, 0, 0], [1, 0, 0]];
const SPACE: [[i64; 3]; 6] = [[0; 3], [0; 3], [0, -1, 0], [0, 1, 0], [0, 0, -1], [0, 0, 1]];
const BOTH: [[i64; 3]; 6] = [[-1, 0, 0], [1, 0, 0], [0, -1, 0], [0, 1, 0], [0, 0, -1], [0, 0, 1]];

proptest! {
    #![proptest_config(cases(48))]

    #[test]
    fn a_shift_takes_an_eighth_of_the_channels_from_each_neighbour(
        [b, f, h, w, c] in videos(), seed: u64,
    ) {
        for kind in [Kind::Double, Kind::Float, Kind::BFloat16] {
            let x = normal(seed, &[b, f, h, w, c]).to_kind(kind);
            let (time, space) = (TokenShift::time(&x, None), TokenShift::space(&x));
            prop_assert_eq!([time.kind(), space.kind()], [kind; 2]);
            let always = |_, _, _| true;
            prop_assert_eq!(relative(&time, &shifted(&video(&x), &TIME, &always)), 0.0);
            prop_assert_eq!(relative(&space, &shifted(&video(&x), &SPACE, &always)), 0.0);
        }
    }

    #[test]
    fn both_shifts_move_six_eighths_once_each_in_either_order(
        [b, f, h, w, c] in videos(), seed: u64,
    ) {
        let x = normal(seed, &[b, f, h, w, c]);
        let expected = shifted(&video(&x), &BOTH, &|_, _, _| true);
        let time_first = TokenShift::space(&TokenShift::time(&x, None));
        let space_first = TokenShift::time(&TokenShift::space(&x), None);
        prop_assert_eq!(relative(&time_first, &expected), 0.0);
        prop_assert_eq!(relative(&space_first, &expected), 0.0);
    }

    #[test]
    fn frames_that_do_not_see_each_other_do_not_shift_into_each_other(
        [b, f, h, w, c] in videos(), seed: u64, arrested: bool,
    ) {
        let focus: Vec<bool> = (0..b).map(|k| seed >> k & 1 == 1).collect();
        let clip = 1 + (seed % f as u64) as i64;
        let mask = if arrested {
            FrameMask::Focus(Tensor::from_slice(&focus).to_device(device()))
        } else {
            FrameMask::ClipAndImages { clip }
        };
        let sees = |b: usize, i: i64, j: i64| {
            i == j || if arrested { !focus[b] } else { i.max(j) < clip }
        };
        let x = normal(seed, &[b, f, h, w, c]);
        let got = TokenShift::time(&x, mask.forbidden(f, device()).as_ref());
        prop_assert_eq!(relative(&got, &shifted(&video(&x), &TIME, &sees)), 0.0);
        if !arrested {
            // A clip beside images is the clip alone, and each image a clip of one frame.
            for (first, len) in std::iter::once((0, clip)).chain((clip..f).map(|i| (i, 1))) {
                let alone = TokenShift::time(&x.narrow(1, first, len), None);
                prop_assert_eq!(relative(&got.narrow(1, first, len), &array(&alone)), 0.0);
            }
        }
    }

    #[test]
    fn a_mask_of_any_form_hides_each_neighbour_by_itself(
        [b, f, h, w, c] in videos(), seed: u64, one_for_all: bool,
    ) {
        let x = normal(seed, &[b, f, h, w, c]);
        let rows = if one_for_all { 1 } else { b };
        let forbidden = normal(seed ^ 1, &[rows, 1, 1, f, f]).gt(0.0);
        let mask = video(&forbidden);
        let sees = |b: usize, i: i64, j: i64| {
            i == j || at(&mask, [b as i64 % rows, 0, 0, i, j]) == 0.0
        };
        let got = TokenShift::time(&x, Some(&forbidden));
        prop_assert_eq!(relative(&got, &shifted(&video(&x), &TIME, &sees)), 0.0);
    }

    #[test]
    fn what_is_hidden_does_not_leak_even_where_it_is_not_a_number(
        [b, f, h, w, c] in videos(), seed: u64,
    ) {
        let x = normal(seed, &[b, f + 1, h, w, c]);
        let mask = FrameMask::ClipAndImages { clip: f }.forbidden(f + 1, device());
        let last = Tensor::from_slice(&[f]).to_device(device());
        let broken = x.index_fill(1, &last, f64::NAN);
        let [whole, broken] = [x, broken].map(|x| TokenShift::time(&x, mask.as_ref()));
        prop_assert_eq!(whole.narrow(1, 0, f), broken.narrow(1, 0, f));
    }
}

#[test]
fn shifts_pass_gradients_on() {
    let x = normal(2, &[2, 3, 2, 3, 17]).set_requires_grad(true);
    let mask = FrameMask::Focus(Tensor::from_slice(&[true, false]).to_device(device()))
        .forbidden(3, device());
    let leaf = [("input".to_owned(), x.shallow_clone())];
    check("shifts", &leaf, 4, &|| TokenShift::space(&TokenShift::time(&x, mask.as_ref())).sin());
}
