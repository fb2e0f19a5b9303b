//! What may be known of a clip, and frames that are held at their own noise level.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod known;

use std::cell::RefCell;

use known::{Correlated, Toy, TwoSteps, cosine, doubles, even, largest, random, run, values};
use vd_diffusion::tch::{Kind, Tensor, no_grad};
use vd_diffusion::{
    Ancestral, Autoguided, Backbone, Cond, ContextFrames, Ddim, Denoiser, Diffusion,
    DiffusionConfig, Downscale, FrameMask, GuidanceConfig, Known, Levels, Noise, NoiseLevel,
    NoiseRange, Parameterization, Reconstruction, ReconstructionConfig, Result, Sampler, Schedule,
    ScheduleConfig, SeededNoise, Signal, Threshold, Thresholded, unet3d,
};

const SIZE: [i64; 5] = [2, 2, 5, 4, 6];

/// Mixes every number of a sample with every other, unlike any clip that is in it.
#[derive(Debug)]
struct Mixing;

impl Denoiser for Mixing {
    fn denoise(&self, x: &Tensor, at: NoiseLevel) -> Result<Tensor> {
        let mean = x.mean_dim([1i64, 2, 3, 4].as_slice(), true, Kind::Double);
        Ok((x * at.alpha + mean * 3.0 + x.roll([1], [2]) * 0.5 + x.roll([1], [4]) * 0.3).tanh())
    }
}

/// What each term sees of a clip, written out; a mask of 1 where all is known.
fn terms() -> Vec<(Known, fn(&Tensor) -> Tensor)> {
    let of = |seed, shape: &[i64]| random(seed, shape, Kind::Double) * 0.3;
    let mask = random(9, &[2, 1, 5, 4, 6], Kind::Double).gt(0.2);
    let area = Downscale::Area { factor: 2 };
    fn pooled(x: &Tensor) -> Tensor {
        // Strided sums: four corners of each square.
        let corner = |i: i64, j: i64| x.slice(3, i, None, 2).slice(4, j, None, 2);
        (corner(0, 0) + corner(0, 1) + corner(1, 0) + corner(1, 1)) * 0.25
    }
    vec![
        (Known::frames(of(1, &[2, 2, 2, 4, 6]), vec![4, 0]), |x| {
            Tensor::stack(&[x.select(2, 4), x.select(2, 0)], 2)
        }),
        (Known::every(of(2, &[1, 2, 3, 4, 6]), 2), |x| {
            Tensor::stack(&[x.select(2, 0), x.select(2, 2), x.select(2, 4)], 2)
        }),
        (Known::smaller(of(3, &[2, 2, 5, 2, 3]), area), pooled),
        (Known::smaller(of(4, &[2, 2, 5, 2, 3]), Downscale::Bilinear { factor: 2 }), pooled),
        (Known { down: area, ..Known::every(of(5, &[2, 2, 2, 2, 3]), 4) }, |x| {
            pooled(&Tensor::stack(&[x.select(2, 0), x.select(2, 4)], 2))
        }),
        (Known::pixels(of(6, &SIZE), mask), |x| x.shallow_clone()),
    ]
}

fn copied(known: &Known) -> Known {
    Known {
        x0: known.x0.shallow_clone(),
        frames: known.frames.clone(),
        down: known.down,
        mask: known.mask.as_ref().map(Tensor::shallow_clone),
    }
}

fn config(weight: f64, replace: bool) -> ReconstructionConfig {
    ReconstructionConfig { weight, replace, every: 1 }
}

#[test]
fn the_gradient_is_that_of_the_sum_of_squares_through_the_denoiser() {
    let at = cosine().at(0.5);
    let x = random(11, &SIZE, Kind::Double);
    let direction = random(12, &SIZE, Kind::Double);
    let x0 = Mixing.denoise(&x, at).unwrap();
    let mut total = 0.0;
    let slope = |known: &Known, see: &dyn Fn(&Tensor) -> Tensor| {
        let miss = |h: f64| {
            let x0 = Mixing.denoise(&(&x + &direction * h), at).unwrap();
            let off = see(&x0) - &known.x0;
            let off = known.mask.as_ref().map_or(off.shallow_clone(), |mask| &off * mask);
            off.square().sum(Kind::Double).double_value(&[])
        };
        // Central differences: h^2 of truncation, 1e-13 / h of rounding.
        (miss(1e-5) - miss(-1e-5)) / 2e-5
    };
    let moved = |known: Vec<Known>| {
        let guided = Reconstruction::new(Mixing, known, &SIZE, config(3.0, false)).unwrap();
        let x0_guided = no_grad(|| guided.denoise(&x, at).unwrap());
        assert!(!x0_guided.requires_grad());
        ((x0_guided - &x0) * &direction).sum(Kind::Double).double_value(&[])
    };
    for (known, see) in terms() {
        let expected = -0.5 * 3.0 * at.alpha * slope(&known, &see);
        let got = moved(vec![copied(&known)]);
        assert!((got - expected).abs() < 1e-6 * expected.abs().max(1.0), "{got} for {expected}");
        total += expected;
    }
    // Terms add up.
    let got = moved(terms().into_iter().map(|(known, _)| known).collect());
    assert!((got - total).abs() < 1e-6 * total.abs(), "{got} for {total}");
}

#[test]
fn replacement_draws_what_is_known_and_leaves_the_rest() {
    let at = cosine().at(0.4);
    let x = random(13, &SIZE, Kind::Double);
    let clip = random(14, &SIZE, Kind::Double);
    let mut terms = terms();
    terms.push((Known::pixels(clip.shallow_clone(), Tensor::from(1.0)), |x| x.shallow_clone()));
    for (known, see) in terms {
        let term = copied(&known);
        let guided = Reconstruction::new(Mixing, vec![term], &SIZE, config(1.0, true)).unwrap();
        let drawn = SeededNoise::new(5, 0).normal(&x);
        let got = guided.constrain(x.shallow_clone(), at, &mut SeededNoise::new(5, 0)).unwrap();
        if known.down != Downscale::None {
            assert_eq!(got, x, "a smaller copy replaces nothing");
            continue;
        }
        let mask = known.mask.unwrap_or(Tensor::from(1.0)).to_kind(Kind::Double);
        let expected = (&known.x0 * at.alpha + see(&drawn) * at.sigma) * &mask;
        assert!(largest(&(see(&got) * &mask - expected)) < 1e-14);
        let known_numbers = (see(&x.ones_like()) * &mask).sum(Kind::Double).double_value(&[]);
        let same = got.eq_tensor(&x).sum(Kind::Double).double_value(&[]);
        assert_eq!(same, SIZE.iter().product::<i64>() as f64 - known_numbers);
        // No noise at a clean level: what is known comes out as it is, and nothing is drawn.
        let clean = NoiseLevel { t: 0.0, alpha: 1.0, sigma: 0.0 };
        let end = guided.constrain(x.shallow_clone(), clean, &mut known::Probe::default()).unwrap();
        assert_eq!(see(&end) * &mask, (&known.x0 * &mask).expand_as(&see(&end)));
    }
}

#[test]
fn where_two_terms_tell_the_same_number_the_last_replaces() {
    let shape = [1i64, 1, 3, 2, 2];
    let frames = |value: f64, at: Vec<i64>| {
        Known::frames(
            Tensor::full(
                [1, 1, at.len() as i64, 2, 2],
                value,
                (Kind::Double, vd_diffusion::tch::Device::Cpu),
            ),
            at,
        )
    };
    let known = vec![frames(0.25, vec![0, 1]), frames(0.75, vec![1])];
    let guided = Reconstruction::new(Mixing, known, &shape, config(0.0, true)).unwrap();
    let x0 = guided.denoise(&random(15, &shape, Kind::Double), cosine().at(0.4)).unwrap();
    assert_eq!(values(&x0.slice(2, 0, 2, 1)), [0.25, 0.25, 0.25, 0.25, 0.75, 0.75, 0.75, 0.75]);
}

#[test]
fn without_weight_and_replacement_it_is_the_inner_denoiser() {
    let (x, at) = (random(16, &SIZE, Kind::Double), cosine().at(0.3));
    let known = terms().into_iter().map(|(known, _)| known).collect();
    let off = Reconstruction::new(Mixing, known, &SIZE, config(0.0, false)).unwrap();
    assert_eq!(off.denoise(&x, at).unwrap(), Mixing.denoise(&x, at).unwrap());
    let mut noise = SeededNoise::new(1, 0);
    assert_eq!(off.constrain(x.shallow_clone(), at, &mut noise).unwrap(), x);
}

#[test]
fn the_gradient_is_taken_at_every_kth_level_of_a_run() {
    let known = || vec![Known::pixels(doubles(&[1.0, 0.0]).view([1, 2]), doubles(&[1.0, 0.0]))];
    let settings = ReconstructionConfig { weight: 1.0, replace: false, every: 3 };
    let guided = Reconstruction::new(Correlated(0.8), known(), &[2, 2], settings).unwrap();
    let x = random(17, &[2, 2], Kind::Double);
    for _ in 0..2 {
        let taken: Vec<bool> = even(7)
            .into_iter()
            .map(|at| {
                let x = guided.constrain(x.shallow_clone(), at, &mut SeededNoise::new(1, 0));
                let x = x.unwrap();
                let pulled = |_| {
                    let inner = Correlated(0.8).denoise(&x, at).unwrap();
                    guided.denoise(&x, at).unwrap() != inner
                };
                // The same at a level that is asked for twice.
                let [first, second] = [0, 1].map(pulled);
                assert_eq!(first, second);
                first
            })
            .collect();
        assert_eq!(taken, [true, false, false, true, false, false, true, false]);
    }
}

/// A network with a parameter, which wants a gradient.
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
    let known = terms().into_iter().map(|(known, _)| known).collect();
    let guided = Reconstruction::new(denoiser, known, &SIZE, config(1.0, true)).unwrap();
    let grid = vd_diffusion::Spacing::UniformT.grid(diffusion.schedule(), 4).unwrap();
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
    let (known, _) = terms().remove(0);
    let guided = Reconstruction::new(Mixing, vec![known], &SIZE, config(1.5, false)).unwrap();
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
    let denoiser = || diffusion.denoiser(&toy, Cond::none(), FrameMask::All);
    let (known, _) = terms().remove(2);
    let guided = |known| Reconstruction::new(denoiser(), vec![known], &SIZE, config(2.0, false));
    let guided = guided(known).unwrap();
    let x = random(21, &SIZE, Kind::Double);
    let levels = [0.3, 0.8].map(|t| diffusion.schedule().at(t));
    let mixed = guided.denoise_levels(&x, &Levels::per_sample(levels.to_vec())).unwrap();
    for (k, at) in levels.into_iter().enumerate() {
        let whole = guided.denoise(&x, at).unwrap();
        assert!(largest(&(mixed.get(k as i64) - whole.get(k as i64))) < 1e-13);
    }
}

fn v_diffusion() -> Diffusion {
    let (schedule, parameterization) = (ScheduleConfig::cosine(), Parameterization::V);
    Diffusion::new(&DiffusionConfig { schedule, parameterization, ..Default::default() }).unwrap()
}

#[test]
fn all_wrappers_stand_around_each_other_under_every_sampler() {
    let diffusion = v_diffusion();
    let (toy, guide) = (Toy::conditional(), Toy::default());
    let cond = || Cond::pooled(random(22, &[2, 5], Kind::Double));
    let clip = random(23, &SIZE, Kind::Double) * 0.3;
    let grid = known::even(5);
    let samplers: [&dyn Sampler; 4] = [
        &Ancestral { gamma: 0.3 },
        &Ddim { eta: 0.0 },
        &TwoSteps,
        &known::Corrected(Ddim { eta: 1.0 }),
    ];
    for (rule, sampler) in
        GuidanceConfig::all().into_iter().flat_map(|rule| samplers.map(|sampler| (rule, sampler)))
    {
        let signals = vec![Signal { cond: cond(), scale: 2.0 }];
        let guided = diffusion.guided_by(&toy, signals, FrameMask::All, &rule).unwrap();
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
        let x = run(sampler, &denoiser, diffusion.schedule(), &grid, &x, &mut noise);
        // The last level of the paper's schedule has a noise of 4.5e-5.
        assert!(largest(&(x.select(2, 4) - clip.select(2, 4))) < 5e-4, "{sampler:?}, {rule:?}");
        assert!(largest(&(x.select(2, 0) - clip.select(2, 0))) < 1e-8);
        assert!(largest(&x) < 10.0);
    }
}

/// Remembers what it was asked.
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
        let grid = vd_diffusion::Spacing::UniformT.grid(&known::Flow, 4).unwrap();
        let end =
            run(&Ddim { eta: 0.0 }, &held, &known::Flow, &grid, &x, &mut SeededNoise::new(5, 0));
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
fn what_does_not_fit_is_refused_before_sampling_begins() {
    let of = |shape: &[i64]| Tensor::zeros(shape, (Kind::Double, vd_diffusion::tch::Device::Cpu));
    let whole = || of(&SIZE);
    let area = |factor| Downscale::Area { factor };
    let nan = whole() + f64::NAN;
    let mixed = vec![
        Known::pixels(whole(), of(&[1])),
        Known::pixels(whole().to_kind(Kind::Float), of(&[1])),
    ];
    for (known, settings, part) in [
        (vec![], config(1.0, true), "at least one term"),
        (
            vec![Known::pixels(whole(), of(&[3]))],
            config(1.0, true),
            "broadcasts to [2, 2, 5, 4, 6]",
        ),
        (vec![Known::pixels(whole(), of(&[1]) + 0.5)], config(1.0, true), "only 0 and 1"),
        (
            vec![Known::pixels(of(&[2, 2, 5, 4, 5]), of(&[1]))],
            config(1.0, true),
            "shape [2, 2, 5, 4, 6]",
        ),
        (
            vec![Known::pixels(whole().to_kind(Kind::Uint8), of(&[1]))],
            config(1.0, true),
            "f32 or f64",
        ),
        (vec![Known::pixels(nan, of(&[1]) + 1.0)], config(1.0, true), "finite"),
        (mixed, config(1.0, true), "Double"),
        (vec![Known::frames(of(&[2, 2, 1, 4, 6]), vec![5])], config(1.0, true), "from 0 to 4"),
        (vec![Known::frames(of(&[2, 2, 2, 4, 6]), vec![1, 1])], config(1.0, true), "each once"),
        (vec![Known::frames(of(&[2, 2, 0, 4, 6]), vec![])], config(1.0, true), "at least one"),
        (
            vec![Known::frames(of(&[2, 2, 1, 4, 6]), vec![0, 1])],
            config(1.0, true),
            "[2, 2, 2, 4, 6]",
        ),
        (vec![Known::every(whole(), 0)], config(1.0, true), "stride"),
        (vec![Known::smaller(whole(), area(4))], config(1.0, true), "divided by 4"),
        (vec![Known::smaller(whole(), area(0))], config(1.0, true), "at least 1, got 0"),
        (
            vec![Known::smaller(of(&[2, 2, 5, 2, 3]), area(2))],
            config(0.0, true),
            "replaces nothing",
        ),
        (vec![Known::every(whole(), 1)], config(-1.0, true), "weight"),
        (vec![Known::every(whole(), 1)], config(f64::NAN, true), "weight"),
        (
            vec![Known::every(whole(), 1)],
            ReconstructionConfig { every: 0, ..config(1.0, true) },
            "every",
        ),
    ] {
        let refused = Reconstruction::new(Mixing, known, &SIZE, settings).unwrap_err().to_string();
        assert!(refused.contains(part), "{part}: {refused}");
    }
    let guided =
        Reconstruction::new(Mixing, vec![Known::every(whole(), 1)], &SIZE, config(1.0, true));
    let other = of(&[2, 2, 5, 4, 4]);
    let mut noise = SeededNoise::new(1, 0);
    let refused = guided.unwrap().constrain(other, cosine().at(1.0), &mut noise).unwrap_err();
    assert!(refused.to_string().contains("state: expected shape [2, 2, 5, 4, 6]"), "{refused}");
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

#[test]
fn settings_read_and_write() {
    let read: ReconstructionConfig = toml::from_str("weight = 9.0\nreplace = false").unwrap();
    assert_eq!(read, ReconstructionConfig { weight: 9.0, replace: false, every: 1 });
    assert_eq!(
        toml::from_str::<ReconstructionConfig>(&toml::to_string(&read).unwrap()).unwrap(),
        read
    );
    #[derive(Debug, PartialEq, serde::Serialize, serde::Deserialize)]
    struct Down {
        down: Downscale,
    }
    for (text, down) in [
        ("down = \"none\"", Downscale::None),
        ("down = \"bilinear\"", Downscale::Bilinear { factor: 2 }),
        ("down = { kind = \"area\", factor = 4 }", Downscale::Area { factor: 4 }),
    ] {
        assert_eq!(toml::from_str::<Down>(text).unwrap(), Down { down });
    }
}
