//! The sampling loop and its guarantees.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod known;

use std::cell::RefCell;
use std::ops::ControlFlow;

use known::{Basis, Flow, Mixture, NoNoise, Toy, cosine, even, largest, random, run, values};
use vd_diffusion::tch::{Kind, Tensor};
use vd_diffusion::{
    Ancestral, Cond, CosineDiscrete, Ddim, Denoiser, Diffusion, DiffusionConfig, Error, FrameMask,
    Interval, Noise, NoiseLevel, Result, Sampler, Schedule, SeededNoise, Spacing, Step, StepTaken,
    Threshold, Thresholded, sample, start,
};
use vd_unet3d::ops::torch::testing::device;

fn toy_samples(sampler: &dyn Sampler, kind: Kind, first: u64, b: i64) -> Tensor {
    let diffusion = Diffusion::new(&DiffusionConfig::default()).unwrap();
    let toy = Toy::default();
    let denoiser = diffusion.denoiser(&toy, Cond::none(), FrameMask::All);
    let denoiser = Thresholded::new(denoiser, Threshold::dynamic()).unwrap();
    let grid = Spacing::UniformT.grid(diffusion.schedule(), 12).unwrap();
    let mut noise = SeededNoise::new(11, first);
    let x = start(&Tensor::empty([b, 3, 2, 4, 5], (kind, device())), grid[0], &mut noise);
    run(sampler, &denoiser, diffusion.schedule(), &grid, &x, &mut noise)
}

#[test]
fn a_sample_does_not_depend_on_its_batch() {
    for sampler in [&Ancestral { gamma: 0.3 } as &dyn Sampler, &Ddim { eta: 0.4 }] {
        for kind in [Kind::Float, Kind::Double] {
            let whole = toy_samples(sampler, kind, 0, 4);
            let tail = toy_samples(sampler, kind, 2, 2);
            assert_eq!(whole.kind(), kind);
            assert_eq!(whole.narrow(0, 2, 2), tail);
            assert_ne!(whole.get(0), whole.get(1));
        }
    }
}

#[test]
fn ddim_with_eta_zero_is_deterministic() {
    let x = random(1, &[3, 4], Kind::Double);
    let end = || run(&Ddim { eta: 0.0 }, &Mixture, &cosine(), &even(16), &x, &mut NoNoise);
    assert_eq!(end(), end());
}

/// Records the sections of the path for which noise was requested.
#[derive(Debug)]
struct Stretches(Vec<(f64, f64)>);

impl Noise for Stretches {
    fn normal(&mut self, like: &Tensor) -> Tensor {
        like.ones_like()
    }
    fn uniform(&mut self, like: &Tensor) -> Tensor {
        like.ones_like()
    }
    fn between(&mut self, from_snr: f64, to_snr: f64, like: &Tensor) -> Tensor {
        self.0.push((from_snr, to_snr));
        like.ones_like()
    }
}

#[test]
fn noise_is_asked_for_by_the_snrs_of_the_interval() {
    let x = random(2, &[2], Kind::Double);
    let grid = Spacing::UniformT.grid(&Flow, 4).unwrap();
    for sampler in [&Ancestral { gamma: 0.5 } as &dyn Sampler, &Ddim { eta: 1.0 }] {
        let mut noise = Stretches(Vec::new());
        let _ = run(sampler, &Mixture, &Flow, &grid, &x, &mut noise);
        // None on the last step, to clean.
        let snr = |i: usize| grid[i].snr();
        assert_eq!(noise.0, [(0.0, snr(1)), (snr(1), snr(2)), (snr(2), snr(3))]);
    }
}

#[test]
fn on_step_sees_every_step_and_may_stop() {
    let x = random(4, &[2], Kind::Double);
    let mut seen = Vec::new();
    let mut stop_at_third = |taken: &StepTaken<'_>| {
        seen.push((taken.index, taken.of, [taken.from, taken.to], taken.step.x0.size()));
        if taken.index == 2 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    let end = sample(
        &Ddim { eta: 0.0 },
        &Mixture,
        &cosine(),
        &even(8),
        x,
        &mut NoNoise,
        &mut stop_at_third,
    );
    assert!(matches!(end, Err(Error::Cancelled { steps: 3 })), "{end:?}");
    let levels = even(8);
    let expected = [0, 1, 2].map(|i| (i, 8, [levels[i], levels[i + 1]], vec![2]));
    assert_eq!(seen, expected);
}

/// Crosses the grid, returns to its first level, and crosses it again.
#[derive(Debug)]
struct Twice {
    /// Per step: its index, the number of steps, and the number of past states available.
    steps: RefCell<Vec<(usize, usize, usize)>>,
}

impl Sampler for Twice {
    fn plan(&self, grid: Vec<NoiseLevel>) -> Vec<NoiseLevel> {
        [&grid[..], &grid[..]].concat()
    }
    fn step(&self, x: &Tensor, over: &Interval<'_>, noise: &mut dyn Noise) -> Result<Step> {
        self.steps.borrow_mut().push((over.index, over.of, over.past.newest(9).count()));
        Ddim { eta: 0.0 }.step(x, over, noise)
    }
}

/// Records the states passed to `constrain`, and their times.
#[derive(Debug)]
struct Constrained(RefCell<Vec<(f64, Vec<f64>)>>);

impl Denoiser for Constrained {
    fn denoise(&self, x: &Tensor, at: NoiseLevel) -> Result<Tensor> {
        Mixture.denoise(x, at)
    }
    fn constrain(&self, x: Tensor, at: NoiseLevel, _: &mut dyn Noise) -> Result<Tensor> {
        self.0.borrow_mut().push((at.t, values(&x)));
        Ok(x)
    }
}

#[test]
fn a_planned_rise_is_a_jump_and_no_step() {
    let schedule = cosine();
    let grid: Vec<_> = [0.9, 0.7, 0.5].map(|t| schedule.at(t)).to_vec();
    let sampler = Twice { steps: RefCell::default() };
    let inner = Constrained(RefCell::default());
    // Wrappers and references forward the constraint.
    let denoiser = Thresholded::new(&inner, Threshold::None).unwrap();
    let mut indices = Vec::new();
    let mut count = |taken: &StepTaken<'_>| {
        indices.push((taken.index, taken.of));
        ControlFlow::Continue(())
    };
    let x = random(5, &[3], Kind::Double);
    // The only draw is that of the jump: it affects the second value.
    let mut noise = Basis { drawn: 1 };
    let end = sample(&sampler, &denoiser, &schedule, &grid, x, &mut noise, &mut count).unwrap();
    assert_eq!(indices, [(0, 4), (1, 4), (2, 4), (3, 4)]);
    assert_eq!(sampler.steps.into_inner(), [(0, 4, 0), (1, 4, 1), (2, 4, 0), (3, 4, 1)]);

    let states = inner.0.into_inner();
    let times: Vec<f64> = states.iter().map(|(t, _)| *t).collect();
    assert_eq!(times, [0.9, 0.7, 0.5, 0.9, 0.7, 0.5]);
    assert_eq!(states[5].1, values(&end));
    let (from, to) = (grid[2], grid[0]);
    let added = -(to.log_snr() - from.log_snr()).exp_m1() * to.sigma.powi(2);
    for (k, (low, high)) in states[2].1.iter().zip(&states[3].1).enumerate() {
        let expected = low * to.alpha / from.alpha + if k == 1 { added.sqrt() } else { 0.0 };
        assert!((high - expected).abs() < 1e-14, "{high} for {expected}");
    }
}

#[test]
fn the_history_keeps_the_last_four_states() {
    #[derive(Debug)]
    struct Counting(RefCell<Vec<usize>>);
    impl Sampler for Counting {
        fn step(&self, x: &Tensor, over: &Interval<'_>, noise: &mut dyn Noise) -> Result<Step> {
            self.0.borrow_mut().push(over.past.newest(9).count());
            if let Some(last) = over.past.newest(1).next() {
                assert!(last.at.t > over.from.t, "the newest comes first");
            }
            Ddim { eta: 0.0 }.step(x, over, noise)
        }
    }
    let sampler = Counting(RefCell::default());
    let x = random(6, &[2], Kind::Double);
    // The first level of the straight line has no finite log-SNR, and is omitted.
    let grid = Spacing::UniformT.grid(&Flow, 7).unwrap();
    let _ = run(&sampler, &Mixture, &Flow, &grid, &x, &mut NoNoise);
    assert_eq!(sampler.0.into_inner(), [0, 0, 1, 2, 3, 4, 4]);
}

/// Keeps a graph if gradients are enabled.
#[derive(Debug)]
struct Graph(Tensor);

impl Denoiser for Graph {
    fn denoise(&self, x: &Tensor, _: NoiseLevel) -> Result<Tensor> {
        Ok(x * &self.0)
    }
}

#[test]
fn sampling_turns_gradients_off_and_on_again() {
    let graph = Graph(random(7, &[1], Kind::Double).set_requires_grad(true));
    let x = random(8, &[3], Kind::Double);
    let mut noise = Basis { drawn: 0 };
    let end = run(&Ddim { eta: 0.0 }, &graph, &cosine(), &even(3), &x, &mut noise);
    assert!(!end.requires_grad());
    let at = cosine().at(0.5);
    assert!(graph.denoise(&x, at).unwrap().requires_grad(), "a denoiser alone keeps them on");
}

#[test]
fn a_network_that_knows_the_data_is_sampled_exactly() {
    /// Knows a data set of one point.
    #[derive(Debug)]
    struct Point(Tensor);
    impl Denoiser for Point {
        fn denoise(&self, x: &Tensor, _: NoiseLevel) -> Result<Tensor> {
            Ok(self.0.expand_as(x))
        }
    }
    let point = Point(random(10, &[1, 3, 2], Kind::Float));
    let table = CosineDiscrete::new(30).unwrap();
    for sampler in [&Ancestral { gamma: 0.0 } as &dyn Sampler, &Ddim { eta: 0.5 }] {
        let grid = Spacing::UniformT.grid(&table, 7).unwrap();
        let x = random(11, &[4, 3, 2], Kind::Float);
        let end = run(sampler, &point, &table, &grid, &x, &mut SeededNoise::new(3, 0));
        assert!(largest(&(end - &point.0)) < 1e-6);
    }
}

/// Plans levels of its own, whatever the grid.
#[derive(Debug)]
struct Planned(Vec<NoiseLevel>);

impl Sampler for Planned {
    fn plan(&self, _grid: Vec<NoiseLevel>) -> Vec<NoiseLevel> {
        self.0.clone()
    }
    fn step(&self, x: &Tensor, over: &Interval<'_>, noise: &mut dyn Noise) -> Result<Step> {
        Ddim { eta: 0.0 }.step(x, over, noise)
    }
}

#[test]
fn a_plan_with_a_level_that_is_no_number_or_that_never_falls_is_refused() {
    let grid = even(4);
    let refused = |plan: Vec<NoiseLevel>, part: &str| {
        let x = random(6, &[2], Kind::Double);
        let noise = &mut SeededNoise::new(1, 0);
        let sampler = Planned(plan);
        let end = sample(&sampler, &Mixture, &cosine(), &grid, x, noise, &mut |_| {
            ControlFlow::Continue(())
        });
        let error = end.unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
    };
    let bad = |alpha: f64, t: f64| {
        let mut plan = even(4);
        plan[2] = NoiseLevel { t, alpha, ..plan[2] };
        plan
    };
    refused(bad(f64::NAN, 0.5), "at place 2");
    refused(bad(-0.5, 0.5), "at place 2");
    refused(bad(0.5, 1.5), "at place 2");
    refused(Vec::new(), "planned 0 levels");
    refused(vec![grid[0]], "planned 1 levels");
    refused(even(4).into_iter().rev().collect(), "none with less noise");
}
