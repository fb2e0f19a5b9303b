//! What the gradient of reconstruction guidance reaches, and when it is computed.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod known;

use known::pairs::Correlated;
use known::{Mixing, Toy, cosine, doubles, even, largest, random, run};
use vd_diffusion::tch::{Kind, Tensor};
use vd_diffusion::{
    Backbone, Cond, Ddim, Denoiser, Diffusion, DiffusionConfig, Downscale, FrameMask, Known,
    Levels, Noise, NoiseLevel, Parameterization, Progress, Reconstruction, ReconstructionConfig,
    Result, Schedule, ScheduleConfig, SeededNoise, Spacing, unet3d,
};

const SIZE: [i64; 5] = [2, 2, 5, 4, 6];

fn frames() -> Known {
    Known::frames(random(1, &[2, 2, 2, 4, 6], Kind::Double) * 0.3, vec![4, 0])
}

fn smaller() -> Known {
    let x0 = random(2, &[2, 2, 5, 2, 3], Kind::Double) * 0.3;
    Known::smaller(x0, Downscale::Area { factor: 2 })
}

fn config(weight: f64, replace: bool) -> ReconstructionConfig {
    ReconstructionConfig { weight, replace, every: 1 }
}

/// A network with a parameter that requires a gradient.
#[derive(Debug)]
struct Trained {
    weight: Tensor,
}

impl Backbone for Trained {
    fn forward(
        &self,
        x: &Tensor,
        _: &Tensor,
        _: &Cond,
        _: &FrameMask,
        _: Option<&mut dyn Noise>,
    ) -> unet3d::Result<Tensor> {
        Ok((x * &self.weight + x.mean_dim(2, true, x.kind())).tanh())
    }
}

#[test]
fn parameters_get_no_gradient_and_states_keep_none() {
    let diffusion = Diffusion::new(&DiffusionConfig::default()).unwrap();
    let network = Trained { weight: doubles(&[0.4]).set_requires_grad(true) };
    let denoiser = diffusion.denoiser(&network, Cond::none(), FrameMask::All);
    let known = vec![frames(), smaller()];
    let guided = Reconstruction::new(denoiser, known, &SIZE, config(1.0, true)).unwrap();
    let grid = Spacing::UniformT.grid(diffusion.schedule(), 4).unwrap();
    let x = random(18, &SIZE, Kind::Double);
    let mut noise = SeededNoise::new(2, 0);
    let end = run(&Ddim { eta: 0.5 }, &guided, diffusion.schedule(), &grid, &x, &mut noise);
    assert!(!end.requires_grad());
    assert!(!network.weight.grad().defined());
    // Outside of sampling as well.
    let x0 = guided.denoise(&x, grid[1]).unwrap();
    assert!(!x0.requires_grad() && !network.weight.grad().defined());
}

#[test]
fn somebody_who_differentiates_gets_the_gradient_of_the_gradient() {
    let at = cosine().at(0.5);
    let guided = Reconstruction::new(Mixing, vec![frames()], &SIZE, config(1.5, false)).unwrap();
    let x = random(19, &SIZE, Kind::Double).set_requires_grad(true);
    let direction = random(20, &SIZE, Kind::Double);
    let value = |x: &Tensor| guided.denoise(x, at).unwrap().square().sum(Kind::Double);
    let slope = &Tensor::run_backward(&[value(&x)], &[&x], false, false)[0] * &direction;
    let slope = slope.sum(Kind::Double).double_value(&[]);
    let moved = |h: f64| value(&(x.detach() + &direction * h)).double_value(&[]);
    let finite = (moved(1e-5) - moved(-1e-5)) / 2e-5;
    assert!((slope - finite).abs() < 1e-6 * (1.0 + finite.abs()), "{slope} for {finite}");
}

#[test]
fn per_sample_levels_weigh_the_gradient_by_each_alpha() {
    let diffusion = v_diffusion();
    let toy = Toy::default();
    let denoiser = diffusion.denoiser(&toy, Cond::none(), FrameMask::All);
    let guided = Reconstruction::new(denoiser, vec![smaller()], &SIZE, config(2.0, false)).unwrap();
    let x = random(21, &SIZE, Kind::Double);
    let levels = [0.3, 0.8].map(|t| diffusion.schedule().at(t));
    let mixed = guided.denoise_levels(&x, &Levels::per_sample(levels.to_vec())).unwrap();
    for (k, at) in levels.into_iter().enumerate() {
        let whole = guided.denoise(&x, at).unwrap();
        assert!(largest(&(mixed.get(k as i64) - whole.get(k as i64))) < 1e-13);
    }
}

#[test]
fn the_gradient_is_taken_in_every_kth_step_of_a_run() {
    let known = || vec![Known::pixels(doubles(&[1.0, 0.0]).view([1, 2]), doubles(&[1.0, 0.0]))];
    let settings = ReconstructionConfig { weight: 1.0, replace: false, every: 3 };
    let guided = Reconstruction::new(Correlated(0.8), known(), &[2, 2], settings).unwrap();
    let x = random(17, &[2, 2], Kind::Double);
    for _ in 0..2 {
        guided.follow(Progress::Sampling { steps: 8 });
        let taken: Vec<bool> = even(7)
            .into_iter()
            .map(|at| {
                let pulled = |_| {
                    let inner = Correlated(0.8).denoise(&x, at).unwrap();
                    guided.denoise(&x, at).unwrap() != inner
                };
                // The same however often a step evaluates.
                let [first, second] = [0, 1].map(pulled);
                assert_eq!(first, second);
                guided.follow(Progress::Step);
                first
            })
            .collect();
        assert_eq!(taken, [true, false, false, true, false, false, true, false]);
    }
}

/// Returns its input.
#[derive(Debug)]
struct Clean;

impl Denoiser for Clean {
    fn denoise(&self, x: &Tensor, _: NoiseLevel) -> Result<Tensor> {
        Ok(x.shallow_clone())
    }
}

#[test]
fn where_the_input_is_returned_one_pull_leaves_a_known_share_of_the_miss() {
    let clean = NoiseLevel { t: 0.1, alpha: 1.0, sigma: 0.1 };
    let x = random(24, &SIZE, Kind::Double);
    let area = Downscale::Area { factor: 2 };
    for (weight, left) in [(1.0, 0.75), (4.0, 0.0), (6.0, -0.5)] {
        let known = smaller();
        let miss = area.apply(&x).unwrap() - &known.x0;
        let (x0, config) = (known.x0.shallow_clone(), config(weight, true));
        let guided = Reconstruction::new(Clean, vec![known], &SIZE, config).unwrap();
        let after = area.apply(&guided.denoise(&x, clean).unwrap()).unwrap() - x0;
        assert!(largest(&(after - miss * left)) < 1e-13);
    }
    let known = frames();
    let x0 = known.x0.shallow_clone();
    let guided = Reconstruction::new(Clean, vec![known], &SIZE, config(1.0, false)).unwrap();
    let got = guided.denoise(&x, clean).unwrap();
    assert!(largest(&(got.index_select(2, &Tensor::from_slice(&[4i64, 0])) - x0)) < 1e-13);
}

#[test]
fn every_term_pulls_with_a_weight_of_its_own() {
    let (x, at) = (random(25, &SIZE, Kind::Double), cosine().at(0.4));
    let guided = |known: Vec<Known>, w_r: f64| {
        let guided = Reconstruction::new(Mixing, known, &SIZE, config(w_r, false)).unwrap();
        guided.denoise(&x, at).unwrap()
    };
    let inner = Mixing.denoise(&x, at).unwrap();
    let pull = |known: Known| guided(vec![known], 1.0) - &inner;
    // Frames at 2 and a half-size copy at 4.
    let together = guided(vec![frames().weighted(2.0), smaller().weighted(4.0)], 1.5);
    let expected = &inner + (pull(frames()) * 2.0 + pull(smaller()) * 4.0) * 1.5;
    assert!(largest(&(together - expected)) < 1e-12);
    assert_eq!(guided(vec![frames().weighted(0.0)], 1.0), inner);
    for weight in [-1.0, f64::NAN, f64::INFINITY] {
        let known = vec![frames().weighted(weight)];
        let refused = Reconstruction::new(Mixing, known, &SIZE, config(1.0, true)).unwrap_err();
        assert!(refused.to_string().contains("known: weight"), "{refused}");
    }
    let idle = vec![frames(), smaller().weighted(0.0)];
    let refused = Reconstruction::new(Mixing, idle, &SIZE, config(1.0, true)).unwrap_err();
    assert!(refused.to_string().contains("acts only through the gradient"), "{refused}");
}

fn v_diffusion() -> Diffusion {
    let (schedule, parameterization) = (ScheduleConfig::cosine(), Parameterization::V);
    Diffusion::new(&DiffusionConfig { schedule, parameterization, ..Default::default() }).unwrap()
}
