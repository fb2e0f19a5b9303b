//! A long video of exact windows has the distribution of the process from which they are sampled.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod known;

use std::ops::ControlFlow;

use known::unit;
use vd_diffusion::tch::{Device, Kind, Tensor};
use vd_diffusion::{Error, GivenFrames, LongVideoPlan, Window, draw_long};

fn autoregressive(window: usize, overlap: usize) -> LongVideoPlan {
    LongVideoPlan::Autoregressive { window, overlap }
}

fn sliding(window: usize, step: usize) -> LongVideoPlan {
    LongVideoPlan::Sliding { window, step }
}

fn hierarchical(window: usize, strides: &[usize], overlap: usize) -> LongVideoPlan {
    LongVideoPlan::Hierarchical { window, strides: strides.to_vec(), overlap }
}

/// Exact samples of a stationary AR(1) process of variance 1. A frame is represented by its vector
/// of coefficients on all independent draws so far, along c: inner products are exact covariances.
struct Process {
    rho: f64,
    drawn: i64,
}

const DRAWS: i64 = 400;

impl Process {
    /// Covariances between frames, f64.
    fn covariance(&self, rows: &[usize], columns: &[usize]) -> Tensor {
        let values: Vec<_> = rows
            .iter()
            .flat_map(|i| columns.iter().map(|j| self.rho.powi(i.abs_diff(*j) as i32)))
            .collect();
        Tensor::from_slice(&values).view([rows.len() as i64, columns.len() as i64])
    }

    /// Samples these frames given those.
    fn given(&mut self, wanted: &[usize], known: &[usize], values: Option<&Tensor>) -> Tensor {
        let mut spread = self.covariance(wanted, wanted);
        let mut mean = Tensor::zeros([DRAWS, wanted.len() as i64], (Kind::Double, Device::Cpu));
        if let Some(values) = values {
            let to_known = self.covariance(known, wanted);
            let gain = Tensor::linalg_solve(&self.covariance(known, known), &to_known, true); // known wanted
            mean = values.get(0).matmul(&gain);
            spread -= to_known.transpose(0, 1).matmul(&gain);
        }
        let fresh: Vec<_> = (0..wanted.len() as i64).map(|k| unit(DRAWS, self.drawn + k)).collect();
        self.drawn += wanted.len() as i64;
        assert!(self.drawn <= DRAWS);
        let fresh = Tensor::stack(&fresh, 1); // DRAWS wanted
        (mean + fresh.matmul(&spread.linalg_cholesky(false).transpose(0, 1))).unsqueeze(0)
    }

    /// The clip of a window, its known frames left at zero.
    fn draw(&mut self, window: &Window, known: Option<&Tensor>) -> Tensor {
        let (mut seen, mut wanted) = (Vec::new(), Vec::new());
        for (frame, known) in window.frames.iter().zip(&window.known) {
            if *known { seen.push(*frame) } else { wanted.push(*frame) }
        }
        let drawn = self.given(&wanted, &seen, known);
        let clip = Tensor::zeros([1, DRAWS, window.len() as i64], (Kind::Double, Device::Cpu));
        let unknown = window.known.iter().enumerate().filter(|(_, known)| !**known);
        for (k, (place, _)) in unknown.enumerate() {
            clip.narrow(2, place as i64, 1).copy_(&drawn.narrow(2, k as i64, 1));
        }
        clip
    }
}

/// The largest error of a covariance between any two frames.
fn error_of_covariance(plan: &LongVideoPlan, total: usize, given: Vec<usize>) -> f64 {
    let mut process = Process { rho: 0.8, drawn: 0 };
    let video = match given.len() {
        0 => Tensor::zeros([1, DRAWS, 0], (Kind::Double, Device::Cpu)),
        _ => process.given(&given, &[], None),
    };
    let mut draw = |window: &Window, known: Option<&Tensor>| Ok(process.draw(window, known));
    let mut frames = Vec::new();
    let mut out = |_: std::ops::Range<usize>, part: Tensor| {
        frames.push(part);
        ControlFlow::Continue(())
    };
    let given = (!given.is_empty()).then_some(GivenFrames { frames: given, video: &video });
    let end = draw_long::<Error>(plan, total, given, &mut draw, &mut out).unwrap();
    assert!(end.is_continue());
    let video = Tensor::cat(&frames, 2).get(0); // DRAWS total
    let all: Vec<_> = (0..total).collect();
    let exact = Process { rho: 0.8, drawn: 0 }.covariance(&all, &all);
    (video.transpose(0, 1).matmul(&video) - exact).abs().max().double_value(&[])
}

#[test]
fn exact_windows_make_an_exact_long_video_of_a_markov_process() {
    let first: Vec<usize> = (0..5).collect();
    let keyframes: Vec<usize> = (0..60).step_by(4).collect();
    let cases = [
        (autoregressive(8, 1), vec![]),
        (autoregressive(8, 3), first.clone()),
        (autoregressive(8, 7), vec![]),
        (autoregressive(8, 1), keyframes.clone()),
        (sliding(8, 5), vec![]),
        (sliding(8, 7), first.clone()),
        (hierarchical(8, &[7, 1], 1), vec![]),
        (hierarchical(8, &[12, 4, 1], 2), vec![]),
        (hierarchical(5, &[4, 1], 1), keyframes),
        (hierarchical(8, &[4, 2, 1], 3), first),
    ];
    for (plan, given) in cases {
        for total in [60, 61, 63] {
            // Rounding of f64 over about 60 solved systems with condition number below 100.
            let error = error_of_covariance(&plan, total, given.clone());
            assert!(error < 1e-12, "{plan:?}, {given:?} given, {total} frames: {error}");
        }
    }
}

#[test]
fn frames_past_the_end_leave_the_others_as_they_should_be() {
    let error = error_of_covariance(&hierarchical(8, &[4, 1], 1), 5, vec![0, 4]);
    assert!(error < 1e-12, "{error}");
    let error = error_of_covariance(&autoregressive(8, 2), 6, vec![0, 1, 2]);
    assert!(error < 1e-12, "{error}");
}
