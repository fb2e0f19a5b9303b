//! Long videos: their windows, and the order of their frames.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use proptest::prelude::*;
use vd_diffusion::tch::{Device, Kind, Tensor};
use vd_diffusion::{Error, GivenFrames, LongVideoPlan, Result, Window, draw_long};

fn autoregressive(window: usize, overlap: usize) -> LongVideoPlan {
    LongVideoPlan::Autoregressive { window, overlap }
}

fn sliding(window: usize, step: usize) -> LongVideoPlan {
    LongVideoPlan::Sliding { window, step }
}

fn hierarchical(window: usize, strides: &[usize], overlap: usize) -> LongVideoPlan {
    LongVideoPlan::Hierarchical { window, strides: strides.to_vec(), overlap }
}

/// Any valid plan.
fn plans() -> impl Strategy<Value = LongVideoPlan> {
    (2usize..12).prop_flat_map(|window| {
        let overlap = 1..window;
        let factors = prop::collection::vec(2usize..6, 0..3);
        prop_oneof![
            overlap.clone().prop_map(move |overlap| autoregressive(window, overlap)),
            (1..window).prop_map(move |step| sliding(window, step)),
            (overlap, factors).prop_map(move |(overlap, factors)| {
                let mut strides = vec![1];
                for factor in factors {
                    if factor <= window - overlap {
                        strides.insert(0, strides[0] * factor);
                    }
                }
                LongVideoPlan::Hierarchical { window, strides, overlap }
            }),
        ]
    })
}

/// A plan, a total and given frames.
fn videos() -> impl Strategy<Value = (LongVideoPlan, usize, Vec<usize>)> {
    (plans(), 1usize..70).prop_flat_map(|(plan, total)| {
        let none = Just(Vec::new());
        let first = (0..=total).prop_map(|n| (0..n).collect());
        let any = prop::collection::btree_set(0..total, 0..=total)
            .prop_map(|set| set.into_iter().collect());
        (Just(plan), Just(total), prop_oneof![none, first, any])
    })
}

proptest! {
    #[test]
    fn every_frame_is_kept_once_and_what_is_known_was_final_before(
        (plan, total, given) in videos(),
    ) {
        let mut done: BTreeSet<_> = given.iter().copied().collect();
        for window in plan.windows(total, &given).unwrap() {
            prop_assert_eq!(window.len(), plan.window());
            for pair in window.frames.windows(2) {
                prop_assert_eq!(pair[1] - pair[0], window.frame_skip);
            }
            let known: Vec<_> = window.frames.iter().map(|frame| done.contains(frame)).collect();
            prop_assert_eq!(&window.known, &known);
            let kept = window.kept_places();
            prop_assert!(!kept.is_empty());
            for place in kept {
                let frame = window.frames[place];
                prop_assert!(frame < total && done.insert(frame), "{frame} twice");
            }
        }
        prop_assert_eq!(done.len(), total);
    }

    #[test]
    fn windows_begin_with_their_overlap_and_the_last_ends_with_the_video(
        window in 2usize..12, share in 0.0f64..1.0, total in 1usize..70,
    ) {
        let overlap = 1 + ((window - 1) as f64 * share) as usize;
        let windows = autoregressive(window, overlap).windows(total, &[]).unwrap();
        prop_assert_eq!(&windows, &sliding(window, window - overlap).windows(total, &[]).unwrap());
        prop_assert_eq!(windows[0].known_places().len(), 0);
        prop_assert_eq!(windows[0].frames[0], 0);
        let last = windows.len() - 1;
        for (index, found) in windows.iter().enumerate().skip(1) {
            let known = found.known_places().len();
            prop_assert!(found.known[..known].iter().all(|known| *known));
            prop_assert!(known == overlap || (index == last && known > overlap));
        }
        let end = windows[last].frames[window - 1];
        prop_assert_eq!(end, (total - 1).max(window - 1));
    }

    #[test]
    fn a_frame_between_keyframes_is_drawn_in_sight_of_both(
        (plan, total, _) in videos(),
    ) {
        let LongVideoPlan::Hierarchical { strides, .. } = &plan else { return Ok(()) };
        for found in plan.windows(total, &[]).unwrap() {
            let level = strides.iter().position(|stride| *stride == found.frame_skip).unwrap();
            let Some(coarse) = level.checked_sub(1).map(|level| strides[level]) else { continue };
            for place in found.kept_places() {
                let before = found.frames[place] / coarse * coarse;
                prop_assert!(found.frames.contains(&before));
                let after = before + coarse;
                prop_assert!(after >= total || found.frames.contains(&after));
            }
        }
    }

    #[test]
    fn frames_go_out_once_in_their_order((plan, total, given) in videos()) {
        let number = |frames: &[usize]| {
            let numbers: Vec<_> = frames.iter().map(|frame| *frame as f64).collect();
            Tensor::from_slice(&numbers).view([1, 1, -1])
        };
        let video = number(&given);
        let given = (!given.is_empty()).then_some(GivenFrames { frames: given, video: &video });
        let mut draw = |window: &Window, known: Option<&Tensor>| -> Result<Tensor> {
            let places = window.known_places();
            let expected: Vec<_> = places.iter().map(|place| window.frames[*place]).collect();
            match known {
                None => assert_eq!(expected.len(), 0),
                Some(known) => assert_eq!(known, &number(&expected)),
            }
            // Known frames and those past the end are not taken from the clip.
            let kept = window.frames.iter().zip(&window.kept);
            let frames: Vec<_> = kept.map(|(frame, kept)| if *kept { *frame } else { 999 }).collect();
            Ok(number(&frames))
        };
        let mut next = 0;
        let mut out = |range: std::ops::Range<usize>, frames: Tensor| {
            assert_eq!(range.start, next);
            next = range.end;
            assert_eq!(frames, number(&range.collect::<Vec<_>>()));
            ControlFlow::Continue(())
        };
        let end = draw_long(&plan, total, given, &mut draw, &mut out).unwrap();
        prop_assert_eq!((end, next), (ControlFlow::Continue(()), total));
    }
}

#[test]
fn a_video_shorter_than_a_window_is_cut_out_of_one() {
    let windows = autoregressive(8, 2).windows(5, &[0]).unwrap();
    assert_eq!(windows.len(), 1);
    assert_eq!(windows[0].frames, [0, 1, 2, 3, 4, 5, 6, 7]);
    assert_eq!(windows[0].known_places(), [0]);
    assert_eq!(windows[0].kept_places(), [1, 2, 3, 4]);
    assert!(autoregressive(8, 2).windows(3, &[0, 1, 2]).unwrap().is_empty());
}

#[test]
fn keyframes_come_first_and_then_what_is_between() {
    let windows = hierarchical(4, &[3, 1], 1).windows(10, &[]).unwrap();
    let frames: Vec<_> = windows.iter().map(|window| window.frames.clone()).collect();
    assert_eq!(frames, [[0, 3, 6, 9], [0, 1, 2, 3], [3, 4, 5, 6], [6, 7, 8, 9]]);
    assert_eq!(windows[0].known_places().len(), 0);
    for between in &windows[1..] {
        assert_eq!(between.known, [true, false, false, true]);
    }
    // 5, 6 and 7 would not join up with 8: they are generated again together with it.
    let windows = hierarchical(8, &[4, 1], 1).windows(9, &[0, 4, 8]).unwrap();
    assert_eq!(windows[0].kept_places(), [1, 2, 3]);
    assert_eq!(windows[1].frames, [1, 2, 3, 4, 5, 6, 7, 8]);
    assert_eq!(windows[1].kept_places(), [4, 5, 6]);
}

#[test]
fn a_plan_is_written_as_a_table_and_takes_no_other_keys() {
    for plan in [autoregressive(8, 2), sliding(8, 3), hierarchical(8, &[4, 1], 2)] {
        let text = toml::to_string(&plan).unwrap();
        assert_eq!(toml::from_str::<LongVideoPlan>(&text).unwrap(), plan);
    }
    let read = |text| toml::from_str::<LongVideoPlan>(text).map_err(|e| e.to_string());
    let plan = read("kind = \"hierarchical\"\nwindow = 8\nstrides = [4, 1]\noverlap = 2").unwrap();
    assert_eq!(plan, hierarchical(8, &[4, 1], 2));
    let error = read("kind = \"sliding\"\nwindow = 8\nstep = 2\noverlap = 2").unwrap_err();
    assert!(error.contains("overlap"), "{error}");
}

#[test]
fn plans_and_totals_out_of_range_are_refused_by_what_is_wrong() {
    let cases = [
        (autoregressive(1, 1), 9, vec![], "window: expected at least 2"),
        (autoregressive(8, 0), 9, vec![], "overlap: expected from 1 to 7"),
        (autoregressive(8, 8), 9, vec![], "overlap: expected from 1 to 7"),
        (sliding(8, 0), 9, vec![], "step: expected from 1 to 7"),
        (sliding(8, 8), 9, vec![], "step: expected from 1 to 7"),
        (hierarchical(8, &[], 1), 9, vec![], "that end with 1, such as [4, 1], got []"),
        (hierarchical(8, &[4, 2], 1), 9, vec![], "that end with 1"),
        (hierarchical(8, &[4, 3, 1], 1), 9, vec![], "each of which divides the one before"),
        (hierarchical(8, &[1, 1], 1), 9, vec![], "decreasing distances"),
        (hierarchical(8, &[4, 0, 1], 1), 9, vec![], "decreasing distances"),
        (hierarchical(8, &[6, 1], 3), 9, vec![], "a factor of 5 (window - overlap)"),
        (hierarchical(8, &[4, 1], 8), 9, vec![], "overlap: expected from 1 to 7"),
        (autoregressive(8, 2), 0, vec![], "frames: expected at least 1, got 0"),
        (autoregressive(8, 2), 9, vec![9], "positions from 0 to 8, got 9"),
        (autoregressive(8, 2), 9, vec![3, 3], "increasing positions, each once, got 3 after 3"),
    ];
    for (plan, total, given, expected) in cases {
        let error = plan.windows(total, &given).unwrap_err().to_string();
        assert!(error.contains(expected), "{plan:?}: {error}");
    }
}

/// One call with a clip of this shape and given frames of that one.
fn refused(clip: &[i64], given: &[i64]) -> String {
    let zeros = |shape: &[i64]| Tensor::zeros(shape, (Kind::Float, Device::Cpu));
    let video = zeros(given);
    let given = Some(GivenFrames { frames: vec![0, 1], video: &video });
    let mut draw = |_: &Window, _: Option<&Tensor>| Ok(zeros(clip));
    let mut out = |_: std::ops::Range<usize>, _: Tensor| ControlFlow::Continue(());
    draw_long::<Error>(&autoregressive(4, 2), 9, given, &mut draw, &mut out)
        .unwrap_err()
        .to_string()
}

#[test]
fn clips_and_given_frames_of_another_shape_are_refused() {
    let error = refused(&[1, 3, 5, 2, 2], &[1, 3, 2, 2, 2]);
    assert!(error.contains("b c 4 ...") && error.contains("[1, 3, 5, 2, 2]"), "{error}");
    let error = refused(&[1, 1, 4, 2, 2], &[1, 3, 2, 2, 2]);
    assert!(error.contains("expected [1, 3, 1, 2, 2]"), "{error}");
    assert!(error.contains("got [1, 1, 1, 2, 2]"), "{error}");
    let error = refused(&[1, 3, 4, 2, 2], &[1, 3, 4, 2, 2]);
    assert!(error.contains("given frames") && error.contains("b c 2 ..."), "{error}");
    assert!(refused(&[4], &[1, 3, 2, 2, 2]).contains("got [4]"));
}

#[test]
fn whoever_takes_the_frames_may_break_off_and_whoever_draws_may_fail() {
    #[derive(Debug)]
    struct Mine(String);
    impl From<Error> for Mine {
        fn from(error: Error) -> Self {
            Mine(error.to_string())
        }
    }
    let clip = || Tensor::zeros([1, 1, 4], (Kind::Float, Device::Cpu));
    let mut drawn = 0;
    let mut draw = |_: &Window, _: Option<&Tensor>| {
        drawn += 1;
        Ok(clip())
    };
    let mut out = |range: std::ops::Range<usize>, _: Tensor| match range.end {
        0..6 => ControlFlow::Continue(()),
        _ => ControlFlow::Break(()),
    };
    let plan = autoregressive(4, 2);
    let end = draw_long::<Mine>(&plan, 100, None, &mut draw, &mut out).unwrap();
    assert_eq!((end, drawn), (ControlFlow::Break(()), 2));

    let mut draw = |_: &Window, _: Option<&Tensor>| Err(Mine("the disk is full".to_owned()));
    let error = draw_long(&plan, 100, None, &mut draw, &mut out).unwrap_err();
    assert_eq!(error.0, "the disk is full");
}
