//! Properties of all samplers.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod known;

use known::{
    Basis, Flow, Gaussian, Mixture, NoNoise, cosine, even, largest, random, run, unit, values,
};
use vd_diffusion::tch::{Device, Kind, Tensor};
use vd_diffusion::{
    Denoiser, DpmPp2m, DpmPp3m, Error, Noise, NoiseLevel, Result, Sampler, SamplerConfig, Schedule,
    ScheduleConfig, SeededNoise, Spacing, keep_going, sample, start,
};

/// Every schedule, with all its possible spacings, and a grid of n steps for each.
fn processes(n: usize) -> Vec<(String, Box<dyn Schedule>, Vec<NoiseLevel>)> {
    let mut schedules = ScheduleConfig::all();
    let terminal = "{\"kind\": \"scaled-linear\", \"zero_terminal_snr\": true}";
    schedules.push(serde_json::from_str(terminal).unwrap());
    schedules.push(ScheduleConfig::Flow { shift: 3.0 });
    schedules.push(ScheduleConfig::cosine().shifted(-2.0));
    let mut processes = Vec::new();
    for schedule in schedules {
        for spacing in Spacing::all() {
            let name = format!("{schedule:?}, {spacing:?}");
            let schedule = schedule.build().unwrap();
            let grid = spacing.grid(schedule.as_ref(), n).unwrap();
            processes.push((name, schedule, grid));
        }
    }
    processes
}

#[test]
fn every_sampler_runs_on_every_schedule_and_spacing_at_few_steps() {
    for n in [1, 2, 3, 5] {
        for (name, schedule, grid) in processes(n) {
            for config in SamplerConfig::all() {
                let sampler = config.build().unwrap();
                let mut noise = SeededNoise::new(n as u64, 0);
                let like = Tensor::empty([2, 3, 4], (Kind::Float, Device::Cpu));
                let density = Gaussian { mean: like.full_like(0.3), std: 0.5 };
                let x = start(&like, grid[0], &mut noise);
                let end = run(sampler.as_ref(), &density, schedule.as_ref(), &grid, &x, &mut noise);
                // The data are within 2 of .3; rules that hold eps-hat over two or three long steps
                // amplify its errors. DDPM's large variance is that of the removed noise, which in
                // a long step is many times the remaining one.
                let far = largest(&(&end - 0.3));
                let kind = config.facts().name;
                let most = if kind == "ddpm-large" { 400.0 } else { 6.0 };
                assert!(far < most, "{kind} on {name} at {n} steps: off by {far}");
                assert_eq!((end.size(), end.kind()), (like.size(), Kind::Float));
            }
        }
    }
}

#[test]
fn a_sample_of_every_sampler_does_not_depend_on_its_batch() {
    let grid = even(6);
    for config in SamplerConfig::all() {
        let sampler = config.build().unwrap();
        let draw = |first: u64, b: i64| {
            let mut noise = SeededNoise::new(5, first);
            let x = noise.normal(&Tensor::empty([b, 3, 2], (Kind::Double, Device::Cpu)));
            run(sampler.as_ref(), &Mixture, &cosine(), &grid, &x, &mut noise)
        };
        assert_eq!(draw(0, 4).narrow(0, 2, 2), draw(2, 2), "{config:?}");
    }
}

/// Counts its evaluations.
#[derive(Debug, Default)]
struct Counted(std::cell::Cell<usize>);

impl Denoiser for Counted {
    fn denoise(&self, x: &Tensor, at: NoiseLevel) -> Result<Tensor> {
        self.0.set(self.0.get() + 1);
        Mixture.denoise(x, at)
    }
}

#[test]
fn the_table_says_who_draws_and_how_often_the_network_is_asked() {
    let n = 20;
    for config in SamplerConfig::all() {
        let (facts, sampler) = (config.facts(), config.build().unwrap());
        let counted = Counted::default();
        let x = random(3, &[4], Kind::Double);
        let mut drawn = Basis { drawn: 0 };
        let noise: &mut dyn Noise = if facts.deterministic { &mut NoNoise } else { &mut drawn };
        // Wide enough for the draws of all steps.
        let x = Tensor::zeros([60], (Kind::Double, Device::Cpu)).slice_scatter(&x, 0, 0, 4, 1);
        let _ = run(sampler.as_ref(), &counted, &cosine(), &even(n), &x, noise);
        assert_eq!(facts.deterministic, drawn.drawn == 0, "{}", facts.name);
        // The first step of PNDM evaluates at both its ends.
        let more = usize::from(facts.name == "pndm");
        let plan = sampler.plan(even(n));
        let taken = plan.windows(2).filter(|pair| pair[1].log_snr() > pair[0].log_snr()).count();
        assert_eq!(counted.0.get(), facts.nfe * taken + more, "{}", facts.name);
        // Only a restart takes more steps than the grid has: those of its band are repeated once.
        let ratio = |at: &NoiseLevel| at.sigma / at.alpha;
        let band = even(n).iter().filter(|at| (0.05..=2.0).contains(&ratio(at))).count();
        let again = if facts.name == "restart" { band - 1 } else { 0 };
        assert_eq!(taken, n + again, "{}", facts.name);
    }
}

/// Returns a non-finite value below a time.
#[derive(Debug)]
struct Broken(f64);

impl Denoiser for Broken {
    fn denoise(&self, x: &Tensor, at: NoiseLevel) -> Result<Tensor> {
        let x0 = Mixture.denoise(x, at)?;
        // One value of one sample is enough.
        if at.t < self.0 {
            let _ = x0.view([-1]).get(1).fill_(f64::INFINITY);
        }
        Ok(x0)
    }
}

#[test]
fn a_state_that_is_not_finite_is_refused_with_its_step_and_level() {
    let grid = Spacing::UniformT.grid(&Flow, 10).unwrap();
    for kind in [Kind::Float, Kind::Double] {
        let x = random(1, &[2, 3], kind);
        let end = sample(
            &DpmPp2m::new(0.0),
            &Broken(0.65),
            &Flow,
            &grid,
            x,
            &mut NoNoise,
            &mut keep_going,
        );
        // Steps start at 1, .9, .8, .7 and .6: the fifth is the first to get infinity.
        let Err(Error::NotFinite { steps: 5, of: 10, at }) = end else { panic!("{end:?}") };
        assert_eq!(at, grid[5]);
        let x = random(1, &[2, 3], kind);
        let _ = x.get(1).get(0).fill_(f64::NAN);
        let end =
            sample(&DpmPp2m::new(0.0), &Mixture, &Flow, &grid, x, &mut NoNoise, &mut keep_going);
        let message = end.unwrap_err().to_string();
        assert!(message.contains("after 0 of 10 steps, at t = 1 (alpha = 0"), "{message}");
    }
}

/// Returns the k-th unit vector at its k-th evaluation, whatever its input.
#[derive(Debug, Default)]
struct Told(std::cell::Cell<i64>);

impl Denoiser for Told {
    fn denoise(&self, x: &Tensor, _: NoiseLevel) -> Result<Tensor> {
        self.0.set(self.0.get() + 1);
        Ok(unit(x.size()[0], self.0.get()))
    }
}

#[test]
fn an_x0_hat_that_does_not_change_is_held_by_every_sampler() {
    // Every rule is then one exact step: alpha x0 plus the remaining noise.
    for (name, schedule, grid) in processes(7) {
        for config in SamplerConfig::all() {
            let facts = config.facts();
            if !facts.deterministic {
                continue;
            }
            let known = random(2, &[3], Kind::Double);
            #[derive(Debug)]
            struct Point(Tensor);
            impl Denoiser for Point {
                fn denoise(&self, _: &Tensor, _: NoiseLevel) -> Result<Tensor> {
                    Ok(self.0.shallow_clone())
                }
            }
            let (from, to) = (grid[0], *grid.last().unwrap());
            let eps = random(3, &[3], Kind::Double);
            let x = &known * from.alpha + &eps * from.sigma;
            let expected = &known * to.alpha + &eps * to.sigma;
            let point = Point(known.shallow_clone());
            let sampler = config.build().unwrap();
            let end = run(sampler.as_ref(), &point, schedule.as_ref(), &grid, &x, &mut NoNoise);
            // Rounding, amplified where sigma / alpha falls from 2e4.
            let off = largest(&(end - expected));
            assert!(off < 1e-9, "{} on {name}: {off}", facts.name);
        }
    }
}

#[test]
fn the_published_third_order_keeps_half_of_the_second_difference() {
    // Coefficients of the three x0-hat in the fourth step, from the two forms: their difference is
    // a multiple of the second difference.
    let grid = even(9);
    let weights = |sampler: &dyn Sampler| {
        let told = Told::default();
        let x = unit(12, 0);
        let mut third = Vec::new();
        let mut look = |taken: &vd_diffusion::StepTaken<'_>| {
            if taken.index == 3 {
                third = values(&taken.step.x);
                return std::ops::ControlFlow::Break(());
            }
            std::ops::ControlFlow::Continue(())
        };
        let _ = sample(sampler, &told, &cosine(), &grid, x, &mut NoNoise, &mut look);
        third
    };
    let whole = weights(&DpmPp3m::new(0.0));
    let half = weights(&DpmPp3m { second_difference: 0.5, ..DpmPp3m::new(0.0) });
    let none = weights(&DpmPp3m { second_difference: 0.0, ..DpmPp3m::new(0.0) });
    for ((whole, half), none) in whole.iter().zip(&half).zip(&none) {
        assert!((whole + none - 2.0 * half).abs() < 1e-13);
    }
    assert!((whole[4] - half[4]).abs() > 1e-3, "the forms differ: {whole:?} {half:?}");
}
