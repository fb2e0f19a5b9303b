//! Nested wrappers, and frames held at their own noise level.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod known;

use std::cell::RefCell;

use known::{Flow, Mixing, Toy, cosine, even, largest, random, run};
use vd_diffusion::tch::{Device, Kind, Tensor};
use vd_diffusion::{
    Autoguided, Cond, ContextFrames, Ddim, Denoiser, Diffusion, DiffusionConfig, Downscale,
    FrameMask, GuidanceConfig, Known, Levels, Noise, NoiseLevel, NoiseRange, Parameterization,
    Reconstruction, ReconstructionConfig, Result, SamplerConfig, Schedule, ScheduleConfig,
    SeededNoise, Signal, Spacing, Threshold, Thresholded,
};

const SIZE: [i64; 5] = [2, 2, 5, 4, 6];

fn config(weight: f64, replace: bool) -> ReconstructionConfig {
    ReconstructionConfig { weight, replace, every: 1 }
}

fn v_diffusion() -> Diffusion {
    let (schedule, parameterization) = (ScheduleConfig::cosine(), Parameterization::V);
    Diffusion::new(&DiffusionConfig { schedule, parameterization, ..Default::default() }).unwrap()
}

#[test]
fn all_wrappers_stand_around_each_other_under_every_sampler() {
    // `sample` refuses non-finite values; the known frames are returned unchanged.
    let diffusion = v_diffusion();
    let (toy, guide) = (Toy::conditional(), Toy::default());
    let cond = || Cond::pooled(random(22, &[2, 5], Kind::Double));
    let clip = random(23, &SIZE, Kind::Double) * 0.3;
    let grid = even(5);
    let rules = GuidanceConfig::all();
    let all =
        rules.iter().flat_map(|rule| SamplerConfig::all().into_iter().map(move |s| (rule, s)));
    for (rule, sampler) in all {
        let signals = vec![Signal { cond: cond(), scale: 2.0 }];
        let guided = diffusion.guided_by(&toy, signals, FrameMask::All, rule).unwrap();
        let weak = diffusion.denoiser(&guide, Cond::none(), FrameMask::All);
        let both = Autoguided::new(guided, weak, 1.5, NoiseRange::default()).unwrap();
        let mut noise = SeededNoise::new(3, 0);
        let context = clip.narrow(2, 0, 1);
        let slightly = diffusion.schedule().at(0.1);
        let held = ContextFrames::new(both, context, vec![0], &SIZE, slightly, &mut noise).unwrap();
        let ranged = Thresholded::new(held, Threshold::dynamic()).unwrap();
        let known = vec![
            Known::frames(clip.narrow(2, 4, 1), vec![4]),
            Known::smaller(
                Downscale::Area { factor: 2 }.apply(&clip).unwrap(),
                Downscale::Area { factor: 2 },
            ),
        ];
        let denoiser: Box<dyn Denoiser> =
            Box::new(Reconstruction::new(ranged, known, &SIZE, config(1.0, true)).unwrap());
        let x = random(24, &SIZE, Kind::Double);
        let x =
            run(&*sampler.build().unwrap(), &denoiser, diffusion.schedule(), &grid, &x, &mut noise);
        // The last level of the paper's schedule has noise of 4.5e-5.
        assert!(largest(&(x.select(2, 4) - clip.select(2, 4))) < 5e-4, "{sampler:?}, {rule:?}");
        assert!(largest(&(x.select(2, 0) - clip.select(2, 0))) < 1e-8);
    }
}

/// Records its inputs.
#[derive(Debug, Default)]
struct Asked(RefCell<Vec<(Tensor, Levels)>>);

impl Denoiser for Asked {
    fn denoise(&self, x: &Tensor, at: NoiseLevel) -> Result<Tensor> {
        self.denoise_levels(x, &Levels::from(at))
    }
    fn denoise_levels(&self, x: &Tensor, at: &Levels) -> Result<Tensor> {
        self.0.borrow_mut().push((x.copy(), at.clone()));
        Ok(x * 0.5)
    }
}

#[test]
fn context_frames_are_shown_at_their_own_level_in_every_step() {
    let clip = random(25, &[1, 2, 2, 4, 6], Kind::Double);
    for t in [0.0, 0.2] {
        let own = NoiseLevel { t, alpha: 1.0 - t, sigma: t };
        let asked = Asked::default();
        let frames = vec![1i64, 3];
        let held = ContextFrames::new(
            &asked,
            clip.shallow_clone(),
            frames.clone(),
            &SIZE,
            own,
            &mut SeededNoise::new(4, 0),
        )
        .unwrap();
        let x = random(26, &SIZE, Kind::Double);
        let grid = Spacing::UniformT.grid(&Flow, 4).unwrap();
        let end = run(&Ddim { eta: 0.0 }, &held, &Flow, &grid, &x, &mut SeededNoise::new(5, 0));
        let index = Tensor::from_slice(&frames);
        assert_eq!(end.index_select(2, &index), clip.expand([2, 2, 2, 4, 6], false));
        let drawn = SeededNoise::new(4, 0).normal(&clip.expand([2, 2, 2, 4, 6], false));
        let shown = &clip * own.alpha + drawn * own.sigma;
        let asked = asked.0.borrow();
        assert_eq!(asked.len(), 4);
        for ((seen, levels), at) in asked.iter().zip(&grid) {
            assert!(largest(&(seen.index_select(2, &index) - &shown)) < 1e-15);
            let row = [*at, own, *at, own, *at];
            assert_eq!(levels.values(), [row, row].concat());
        }
    }
}

#[test]
fn a_denoiser_of_one_level_refuses_others_but_takes_equal_ones() {
    let at = cosine().at(0.5);
    let x = random(27, &SIZE, Kind::Double);
    let equal = Levels::per_frame(2, vec![at; 5]);
    assert_eq!(Mixing.denoise_levels(&x, &equal).unwrap(), Mixing.denoise(&x, at).unwrap());
    let other = Levels::per_sample(vec![at, cosine().at(0.2)]);
    let message = (&&Mixing).denoise_levels(&x, &other).unwrap_err().to_string();
    assert!(message.contains("one noise level for the whole batch"), "{message}");
}

#[test]
fn context_that_does_not_fit_is_refused() {
    let of = |shape: &[i64]| Tensor::zeros(shape, (Kind::Double, Device::Cpu));
    let mut noise = SeededNoise::new(1, 0);
    let mut held = |frames: Vec<i64>, shape: &[i64], at| {
        let n = frames.len() as i64;
        let frames =
            ContextFrames::new(Mixing, of(&[2, 2, n, 4, 6]), frames, shape, at, &mut noise);
        frames.unwrap_err().to_string()
    };
    let clean = NoiseLevel { t: 0.0, alpha: 1.0, sigma: 0.0 };
    assert!(held(vec![7], &SIZE, clean).contains("from 0 to 4"));
    assert!(held(vec![0], &[2, 2], clean).contains("b c f"));
    let noise_only = NoiseLevel { t: 1.0, alpha: 0.0, sigma: 1.0 };
    assert!(held(vec![0], &SIZE, noise_only).contains("alpha > 0"));
}
