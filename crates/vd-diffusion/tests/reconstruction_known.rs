//! The known parts of a clip: gradient and replacement for every kind.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod known;

use known::{Mixing, cosine, largest, random, values};
use vd_diffusion::tch::{Device, Kind, Tensor, no_grad};
use vd_diffusion::{
    Denoiser, Downscale, Known, Noise, NoiseLevel, Reconstruction, ReconstructionConfig, Schedule,
    SeededNoise,
};

const SIZE: [i64; 5] = [2, 2, 5, 4, 6];

/// A term's view of a clip.
type See = fn(&Tensor) -> Tensor;

/// Each term's view of a clip, written out; a mask of 1 if everything is known.
fn terms() -> Vec<(Known, See)> {
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
        weight: known.weight,
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
        // Central differences: truncation of h^2, rounding of 1e-13 / h.
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
    // Terms are additive.
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
        // No noise at a clean level: known values are returned exactly, and no noise is drawn.
        let clean = NoiseLevel { t: 0.0, alpha: 1.0, sigma: 0.0 };
        let end = guided
            .constrain(x.shallow_clone(), clean, &mut known::pairs::Probe::default())
            .unwrap();
        assert_eq!(see(&end) * &mask, (&known.x0 * &mask).expand_as(&see(&end)));
    }
}

#[test]
fn where_two_terms_tell_the_same_number_the_last_replaces() {
    let shape = [1i64, 1, 3, 2, 2];
    let frames = |value: f64, at: Vec<i64>| {
        Known::frames(
            Tensor::full([1, 1, at.len() as i64, 2, 2], value, (Kind::Double, Device::Cpu)),
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
fn what_does_not_fit_is_refused_before_sampling_begins() {
    let of = |shape: &[i64]| Tensor::zeros(shape, (Kind::Double, Device::Cpu));
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
        (vec![Known::smaller(whole(), area(4))], config(1.0, true), "h and w divisible by 4"),
        (vec![Known::smaller(whole(), area(0))], config(1.0, true), "at least 1, got 0"),
        (
            vec![Known::smaller(of(&[2, 2, 5, 2, 3]), area(2))],
            config(0.0, true),
            "acts only through the gradient",
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
    let guided = guided.unwrap();
    for state in [other, whole().to_kind(Kind::Float)] {
        let refused = guided.constrain(state, cosine().at(1.0), &mut noise).unwrap_err();
        let part = "state: expected shape [2, 2, 5, 4, 6], Double";
        assert!(refused.to_string().contains(part), "{refused}");
    }
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
