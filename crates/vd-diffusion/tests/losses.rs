//! The training loss.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod known;

use known::{cosine, largest, random, values};
use vd_diffusion::Parameterization::{self, Edm, Epsilon, Flow, V, X0};
use vd_diffusion::tch::{Kind, Tensor};
use vd_diffusion::{
    Backbone, Cond, Denoiser, Diffusion, DiffusionConfig, FrameMask, LossKind, LossRequest, Noise,
    NoiseLevel, Schedule, ScheduleConfig, SeededNoise, unet3d,
};

/// Knows x0, derives alpha and sigma from its time input, and returns the target plus its own
/// error.
#[derive(Debug)]
struct Knowing {
    x0: Tensor,
    kind: Parameterization,
    error: Tensor,
}

impl Backbone for Knowing {
    fn forward(
        &self,
        x: &Tensor,
        t: &Tensor,
        _: &Cond,
        _: &FrameMask,
        _: Option<&mut dyn Noise>,
    ) -> unet3d::Result<Tensor> {
        let mut shape = vec![1; x.dim()];
        shape[0] = x.size()[0];
        if let [_, f] = t.size()[..] {
            shape[2] = f;
        }
        let of = |f: fn(f64) -> f64| {
            let values: Vec<f64> = values(t).into_iter().map(f).collect();
            Tensor::from_slice(&values).view(shape.as_slice()).to_kind(x.kind())
        };
        let alpha = of(|t| cosine().at(t / 1000.0).alpha);
        let sigma = of(|t| cosine().at(t / 1000.0).sigma);
        let spread =
            of(|t| cosine().at(t / 1000.0).sigma.hypot(0.5 * cosine().at(t / 1000.0).alpha));
        let x = if let Edm { .. } = self.kind { x * &spread } else { x.shallow_clone() };
        let eps = (x - &self.x0 * &alpha) / &sigma;
        let answer = match self.kind {
            Epsilon => eps,
            X0 => self.x0.shallow_clone(),
            V => alpha * eps - sigma * &self.x0,
            Flow => eps - &self.x0,
            Edm { .. } => (&self.x0 * 2.0 * sigma - alpha * eps * 0.5) / spread,
        };
        Ok(answer + &self.error)
    }
}

fn diffusion(parameterization: Parameterization, loss: LossKind) -> Diffusion {
    let schedule = ScheduleConfig::cosine();
    let config = DiffusionConfig { schedule, parameterization, loss, ..Default::default() };
    Diffusion::new(&config).unwrap()
}

const EDM: Parameterization = Edm { sigma_data: 0.5 };
const SIZE: [i64; 5] = [3, 2, 4, 2, 2];

fn knowing(kind: Parameterization, error: Tensor) -> Knowing {
    Knowing { x0: random(1, &SIZE, Kind::Double), kind, error }
}

fn distance(loss: LossKind, d: f64) -> f64 {
    match loss {
        LossKind::L1 => d.abs(),
        LossKind::L2 => d * d,
        LossKind::Huber { delta } if d.abs() <= delta => 0.5 * d * d,
        LossKind::Huber { delta } => delta * (d.abs() - 0.5 * delta),
    }
}

const LOSSES: [LossKind; 4] =
    [LossKind::L1, LossKind::L2, LossKind::Huber { delta: 1.0 }, LossKind::Huber { delta: 0.3 }];

#[test]
fn losses_are_the_mean_distance_from_the_target() {
    let error = random(2, &SIZE, Kind::Double);
    for kind in [Epsilon, X0, V, Flow, EDM] {
        for loss in LOSSES {
            let network = knowing(kind, error.shallow_clone());
            let got = diffusion(kind, loss)
                .loss(
                    &network,
                    &network.x0,
                    &Cond::none(),
                    LossRequest::default(),
                    &mut SeededNoise::new(3, 0),
                )
                .unwrap();
            let rows: Vec<f64> = (0..SIZE[0])
                .map(|i| {
                    let row = values(&error.get(i));
                    row.iter().map(|d| distance(loss, *d)).sum::<f64>() / row.len() as f64
                })
                .collect();
            for (got, expected) in values(&got.per_sample).iter().zip(&rows) {
                assert!((got - expected).abs() < 1e-9, "{kind:?} {loss:?}: {got} for {expected}");
            }
            let mean = rows.iter().sum::<f64>() / rows.len() as f64;
            assert!((got.mean.double_value(&[]) - mean).abs() < 1e-9);
            assert!(got.mean.size().is_empty() && got.t.size() == [3]);
        }
    }
}

#[test]
fn only_what_counts_is_counted() {
    let error = random(4, &SIZE, Kind::Double);
    let keep = Tensor::from_slice(&[true, true, false, true, false, false, true, false])
        .view([2, 1, 4, 1, 1]);
    let keep = Tensor::cat(&[&keep, &keep.narrow(0, 0, 1).zeros_like()], 0); // 3 1 4 1 1
    for kind in [Kind::Bool, Kind::Double, Kind::Int64] {
        let error = error.detach().set_requires_grad(true);
        let network = knowing(V, error.shallow_clone());
        let keep = keep.to_kind(kind);
        let request = LossRequest { keep: Some(&keep), ..Default::default() };
        let noise = &mut SeededNoise::new(5, 0);
        let got = diffusion(V, LossKind::L2)
            .loss(&network, &network.x0, &Cond::none(), request, noise)
            .unwrap();
        let weights = keep.to_kind(Kind::Double).expand(SIZE, false);
        let squares = error.detach().square() * &weights;
        let sum = |x: &Tensor| x.sum(Kind::Double).double_value(&[]);
        assert!((got.mean.double_value(&[]) - sum(&squares) / sum(&weights)).abs() < 1e-9);
        let own = |i| sum(&squares.get(i)) / sum(&weights.get(i));
        let rows = values(&got.per_sample);
        assert!((rows[0] - own(0)).abs() < 1e-9 && (rows[1] - own(1)).abs() < 1e-9);
        assert_eq!(rows[2], 0.0);
        assert!(got.mean.requires_grad() && !got.per_sample.requires_grad());
        got.mean.backward();
        let slope = error.grad();
        let expected = error.detach() * &weights * (2.0 / sum(&weights));
        assert!(largest(&(&slope - expected)) < 1e-9);
    }
}

#[test]
fn times_given_per_frame_noise_each_frame_by_itself() {
    let t = Tensor::from_slice(&[0.1, 0.9, 0.5, 0.3, 0.7, 1.0, 0.2, 0.4, 0.6, 0.8, 0.15, 0.25]);
    let t = t.view([3, 4]);
    for kind in [Epsilon, X0, V, Flow, EDM] {
        let network = knowing(kind, Tensor::from(0.0));
        let request = LossRequest { t: Some(&t), ..Default::default() };
        let noise = &mut SeededNoise::new(6, 0);
        let got = diffusion(kind, LossKind::L1)
            .loss(&network, &network.x0, &Cond::none(), request, noise)
            .unwrap();
        // Rounding, amplified by 1 / sigma at t = 0.1.
        assert!(got.mean.double_value(&[]) < 1e-12, "{kind:?}");
        assert_eq!(got.t, t);
    }
}

#[test]
fn equal_times_per_frame_are_a_time_per_sample() {
    let network = knowing(V, random(7, &SIZE, Kind::Double));
    let diffusion = diffusion(V, LossKind::Huber { delta: 0.5 });
    let t = Tensor::from_slice(&[0.3, 0.5, 0.8]);
    let loss = |t: &Tensor| {
        let request = LossRequest { t: Some(t), ..Default::default() };
        let noise = &mut SeededNoise::new(8, 0);
        diffusion.loss(&network, &network.x0, &Cond::none(), request, noise).unwrap().per_sample
    };
    let per_frame = t.unsqueeze(1).repeat([1, SIZE[2]]);
    assert!(largest(&(loss(&t) - loss(&per_frame))) < 1e-12);
}

#[test]
fn the_loss_is_reproducible_and_follows_kind() {
    let diffusion = diffusion(V, LossKind::L2);
    let toy = known::Toy::default();
    for kind in [Kind::Float, Kind::Double] {
        let x0 = random(9, &SIZE, kind);
        let loss = |seed| {
            let noise = &mut SeededNoise::new(seed, 0);
            diffusion.loss(&toy, &x0, &Cond::none(), LossRequest::default(), noise).unwrap()
        };
        let (a, b, c) = (loss(1), loss(1), loss(2));
        assert_eq!((a.mean.kind(), a.per_sample.kind()), (kind, kind));
        assert_eq!(a.mean, b.mean);
        assert_ne!(a.mean, c.mean);
        assert_eq!(a.t, b.t);
    }
}

#[test]
fn requests_that_do_not_fit_are_refused() {
    let diffusion = diffusion(V, LossKind::L2);
    let toy = known::Toy::default();
    let refused = |x0: &Tensor, keep: Option<&Tensor>, t: Option<&Tensor>| {
        let request = LossRequest { keep, t, ..Default::default() };
        let noise = &mut SeededNoise::new(1, 0);
        diffusion.loss(&toy, x0, &Cond::none(), request, noise).unwrap_err().to_string()
    };
    let x0 = random(10, &SIZE, Kind::Float);
    let nothing = x0.zeros_like();
    let narrow = random(11, &[2], Kind::Float);
    let times = |t: &[f64]| Tensor::from_slice(t);
    for (message, part) in [
        (refused(&x0.to_kind(Kind::Uint8), None, None), "x0: expected f32 or f64"),
        (refused(&x0.narrow(0, 0, 0), None, None), "at least one number"),
        (refused(&x0.narrow(2, 0, 0), None, None), "at least one number"),
        (refused(&x0, Some(&nothing), None), "at least one that counts"),
        (refused(&x0, Some(&narrow.view([2, 1, 1, 1, 1])), None), "broadcasts to [3, 2, 4, 2, 2]"),
        (refused(&x0, None, Some(&times(&[0.5, 0.5]))), "[2, ..]"),
        (refused(&x0, None, Some(&times(&[0.5, 0.5, 1.5]))), "from 0 to 1, got 1.5"),
        (refused(&x0, None, Some(&times(&[0.5; 9]).view([3, 3]))), "[3, c, 3, ..]"),
    ] {
        assert!(message.contains(part), "{message}");
    }
}

/// A weight, a percentage or a byte of an image is no mask, and a count of halves is no count.
#[test]
fn masks_of_other_numbers_than_0_and_1_are_refused() {
    let diffusion = diffusion(V, LossKind::L2);
    let x0 = random(12, &SIZE, Kind::Double);
    let t = Tensor::from_slice(&[0.0, 0.2, 0.5, 0.7]).repeat([SIZE[0], 1]);
    for odd in [0.5, 2.0, -1.0, 255.0, f64::NAN, f64::INFINITY] {
        for kind in [Kind::Float, Kind::Double, Kind::BFloat16, Kind::Int64] {
            if kind == Kind::Int64 && (odd == 0.5 || !odd.is_finite()) {
                continue;
            }
            // Also where a frame is clean, and where the sum equals that of a valid mask.
            for (frame, t) in [(0, Some(&t)), (1, Some(&t)), (2, None)] {
                let keep = Tensor::from_slice(&[1.0, 0.0, 1.0, 1.0]).view([1, 1, 4, 1, 1]);
                let _ = keep.select(2, frame).fill_(odd);
                let keep = keep.to_kind(kind);
                let request = LossRequest { keep: Some(&keep), t, ..Default::default() };
                let noise = &mut SeededNoise::new(1, 0);
                let loss =
                    diffusion.loss(&known::Toy::default(), &x0, &Cond::none(), request, noise);
                let message = loss.unwrap_err().to_string();
                assert!(message.contains("keep: expected") && message.contains("other numbers"));
            }
        }
    }
}

#[test]
fn a_network_that_answers_in_another_shape_is_refused() {
    #[derive(Debug)]
    struct Smaller;
    impl Backbone for Smaller {
        fn forward(
            &self,
            x: &Tensor,
            _: &Tensor,
            _: &Cond,
            _: &FrameMask,
            _: Option<&mut dyn Noise>,
        ) -> unet3d::Result<Tensor> {
            Ok(x.narrow(1, 0, 1))
        }
    }
    let x0 = random(12, &SIZE, Kind::Float);
    let noise = &mut SeededNoise::new(1, 0);
    let got = diffusion(V, LossKind::L2).loss(
        &Smaller,
        &x0,
        &Cond::none(),
        LossRequest::default(),
        noise,
    );
    assert!(got.unwrap_err().to_string().contains("output of the network"));
}

#[test]
fn epsilon_under_a_schedule_without_signal_is_refused() {
    let schedule = ScheduleConfig::betas(vec![0.5, 1.0]);
    let new = |parameterization| {
        let schedule = schedule.clone();
        Diffusion::new(&DiffusionConfig { schedule, parameterization, ..Default::default() })
    };
    assert!(new(Epsilon).unwrap_err().to_string().contains("predict v"));
    assert!(new(V).is_ok() && new(X0).is_ok() && new(Flow).is_ok());
    for delta in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        let loss = LossKind::Huber { delta };
        let message = Diffusion::new(&DiffusionConfig { loss, ..Default::default() }).unwrap_err();
        assert!(message.to_string().contains("loss huber: delta"), "{message}");
    }
}

#[test]
fn a_weight_of_the_callers_multiplies_the_loss_of_each_level() {
    let network = knowing(V, random(2, &SIZE, Kind::Double));
    let diffusion = diffusion(V, LossKind::L2);
    let t = random(3, &[SIZE[0], SIZE[2]], Kind::Double).sigmoid();
    let loss = |weight: Option<&dyn Fn(NoiseLevel) -> f64>| {
        let request = LossRequest { t: Some(&t), weight, ..Default::default() };
        diffusion.loss(&network, &network.x0, &Cond::none(), request, &mut SeededNoise::new(4, 0))
    };
    let weight = |at: NoiseLevel| 1.0 + at.sigma;
    let (plain, weighted) = (loss(None).unwrap(), loss(Some(&weight)).unwrap());
    let (plain, weighted) = (values(&plain.per_level), values(&weighted.per_level));
    for ((plain, weighted), t) in plain.iter().zip(&weighted).zip(values(&t)) {
        let expected = plain * weight(diffusion.schedule().at(t));
        assert!((weighted - expected).abs() < 1e-12, "{weighted} for {expected}");
    }
    let error = loss(Some(&|_| f64::NAN)).unwrap_err().to_string();
    assert!(error.contains("loss weight at") && error.contains("from 0 on"), "{error}");
}

#[test]
fn a_mask_of_frames_that_does_not_fit_is_refused_by_loss_and_denoisers() {
    let diffusion = diffusion(V, LossKind::L2);
    let network = knowing(V, random(2, &SIZE, Kind::Double));
    let square = || FrameMask::Focus(Tensor::from_slice(&[true, false, true, false]).view([2, 2]));
    for mask in [
        square(),
        FrameMask::Focus(Tensor::from_slice(&[true, false])),
        FrameMask::ClipAndImages { clip: -1 },
        FrameMask::ClipAndImages { clip: 9 },
    ] {
        let request = LossRequest { frames: Some(&mask), ..Default::default() };
        let noise = &mut SeededNoise::new(4, 0);
        let loss = diffusion.loss(&network, &network.x0, &Cond::none(), request, noise);
        let error = loss.unwrap_err().to_string();
        assert!(error.contains("expected"), "{error}");
        let denoiser = diffusion.denoiser(&network, Cond::none(), mask);
        let error = denoiser.denoise(&network.x0, diffusion.schedule().at(0.5)).unwrap_err();
        assert!(error.to_string().contains("expected"), "{error}");
    }
}
