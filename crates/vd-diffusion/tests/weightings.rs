//! How much an error counts at each noise level.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod known;

use known::{cosine, values};
use vd_diffusion::Parameterization::{self, Edm, Epsilon, Flow, V, X0};
use vd_diffusion::Weighting::{self, MinSnr, P2, Sigmoid, Snr, TruncatedSnr, Uniform};
use vd_diffusion::tch::{Kind, Tensor};
use vd_diffusion::{
    Backbone, Cond, CosineDiscrete, Diffusion, DiffusionConfig, FrameMask, Levels, LossKind,
    LossRequest, Noise, NoiseLevel, Schedule, SeededNoise, TimeSampling,
};

const EDM: Parameterization = Edm { sigma_data: 0.5 };

fn near(got: f64, expected: f64) -> bool {
    (got - expected).abs() <= 1e-12 * expected.abs()
}

/// The papers' formulas for eps, x0 and v, for a variance-preserving schedule.
#[test]
fn weights_are_those_of_the_papers() {
    let gamma = 5.0;
    for log_snr in [-19.0f64, -6.3, -1.0, 0.0, 0.4, 1.6, 1.7, 8.0, 19.0] {
        let at = NoiseLevel::variance_preserving(0.5, log_snr);
        let s = log_snr.exp();
        let min = s.min(gamma);
        let sigmoid = |l: f64| 1.0 / (1.0 + (-l).exp());
        // (weighting, of eps, of x0, of v)
        let table = [
            (Snr, 1.0, s, s / (s + 1.0)),
            (TruncatedSnr, s.max(1.0) / s, s.max(1.0), s.max(1.0) / (s + 1.0)),
            (MinSnr { gamma }, min / s, min, min / (s + 1.0)),
            (P2 { k: 1.0, gamma: 1.0 }, 1.0 / (1.0 + s), s / (1.0 + s), s / (1.0 + s).powi(2)),
            (P2 { k: 0.5, gamma: 0.0 }, 1.0, s, s / (1.0 + s)),
            (
                Sigmoid { bias: -1.0 },
                sigmoid(-1.0 - log_snr),
                s * sigmoid(-1.0 - log_snr),
                s * sigmoid(-1.0 - log_snr) / (s + 1.0),
            ),
        ];
        for (weighting, eps, x0, v) in table {
            for (kind, expected) in [(Epsilon, eps), (X0, x0), (V, v)] {
                let got = weighting.of_output(kind, at);
                assert!(near(got, expected), "{weighting:?} {kind:?} {log_snr}: {got} {expected}");
                assert!(near(weighting.of_x0(kind, at), x0));
            }
        }
    }
}

/// (sigma^2 + data^2) / (sigma data)^2 for x0; multiplied by c_out^2 it is 1.
#[test]
fn the_edm_weight_is_one_on_the_edm_output() {
    for data in [0.5, 1.3] {
        let weighting = Weighting::Edm { sigma_data: data };
        for sigma in [0.002, 0.1, 1.0, 80.0] {
            let at = NoiseLevel { t: 0.5, alpha: 1.0, sigma };
            let expected = (sigma * sigma + data * data) / (sigma * data).powi(2);
            assert!(near(weighting.of_output(X0, at), expected));
            assert!(near(weighting.of_output(Edm { sigma_data: data }, at), 1.0));
        }
        let flow = NoiseLevel { t: 0.25, alpha: 0.75, sigma: 0.25 };
        assert!(near(weighting.of_output(Edm { sigma_data: data }, flow), 1.0));
    }
}

/// The error of the velocity is (alpha + sigma) / sigma times that of x0-hat.
#[test]
fn the_flow_velocity_is_weighted_by_its_slope() {
    for t in [0.01, 0.3, 0.9, 1.0] {
        let at = NoiseLevel { t, alpha: 1.0 - t, sigma: t };
        let min = MinSnr { gamma: 5.0 }.of_output(Flow, at);
        let expected = ((1.0 - t) / t).powi(2).min(5.0) * t * t;
        assert!((min - expected).abs() < 1e-14, "{t}: {min} for {expected}");
    }
}

#[test]
fn weights_are_finite_without_signal() {
    let noise = NoiseLevel { t: 1.0, alpha: 0.0, sigma: 1.0 };
    for weighting in [
        Uniform,
        Snr,
        TruncatedSnr,
        MinSnr { gamma: 5.0 },
        P2 { k: 1.0, gamma: 1.0 },
        Weighting::Edm { sigma_data: 0.5 },
        Sigmoid { bias: 2.0 },
    ] {
        for kind in [X0, V, Flow, EDM] {
            assert!(weighting.of_output(kind, noise).is_finite(), "{weighting:?} {kind:?}");
        }
    }
    assert_eq!(TruncatedSnr.of_output(X0, noise), 1.0);
}

fn config(parameterization: Parameterization, weighting: Weighting) -> DiffusionConfig {
    DiffusionConfig { parameterization, weighting, ..Default::default() }
}

fn loss(diffusion: &Diffusion, kind: Kind, t: Option<&Tensor>) -> vd_diffusion::Loss {
    let x0 = known::random(1, &[4, 2, 3, 2, 2], kind);
    let request = LossRequest { t, ..Default::default() };
    let noise = &mut SeededNoise::new(2, 0);
    diffusion.loss(&known::Toy::default(), &x0, &Cond::none(), request, noise).unwrap()
}

/// The mean of the unweighted distances, bit for bit, computed from the public parts.
#[test]
fn the_default_is_the_plain_mean_of_squares() {
    for kind in [Epsilon, X0, V, Flow] {
        let diffusion = Diffusion::new(&config(kind, Uniform)).unwrap();
        let got = loss(&diffusion, Kind::Float, None);
        let x0 = known::random(1, &[4, 2, 3, 2, 2], Kind::Float);
        let noise = &mut SeededNoise::new(2, 0);
        let t = TimeSampling::Uniform.draw(diffusion.schedule(), 4, noise).unwrap();
        let (at, eps) = (Levels::at_times(diffusion.schedule(), &t).unwrap(), noise.normal(&x0));
        let told = (&t * 1000.0 - 1.0).round().to_kind(Kind::Float);
        let (x, all) = (at.noised(&x0, &eps).unwrap(), &FrameMask::All);
        let out = known::Toy::default().forward(&x, &told, &Cond::none(), all, None).unwrap();
        let squares = (out - kind.target(&x0, &eps, &at).unwrap()).square();
        assert_eq!(got.mean, squares.mean(Kind::Float), "{kind:?}");
        assert_eq!(got.per_sample, squares.view([4, -1]).mean_dim(1, false, Kind::Float));
        assert_eq!((got.t, got.per_level), (t, got.per_sample));
    }
}

/// The default, and a process built without a weighting, bit for bit.
#[test]
fn uniform_weights_change_nothing() {
    for kind in [Epsilon, X0, V, Flow] {
        let bare = Diffusion::with_schedule(
            Box::new(CosineDiscrete::new(1000).unwrap()),
            kind,
            LossKind::L2,
            TimeSampling::Uniform,
        );
        let bare = loss(&bare.unwrap(), Kind::Float, None);
        let uniform = loss(&Diffusion::new(&config(kind, Uniform)).unwrap(), Kind::Float, None);
        assert_eq!(bare.mean, uniform.mean);
        assert_eq!(bare.per_sample, uniform.per_sample);
    }
}

#[test]
fn the_loss_of_a_sample_is_multiplied_by_the_weight_of_its_level() {
    let t = Tensor::from_slice(&[0.05, 0.3, 0.6, 0.95]);
    let schedule = CosineDiscrete::new(1000).unwrap();
    for kind in [Epsilon, X0, V, Flow, EDM] {
        let plain = loss(&Diffusion::new(&config(kind, Uniform)).unwrap(), Kind::Double, Some(&t));
        for weighting in [Snr, MinSnr { gamma: 2.0 }, Sigmoid { bias: 1.0 }] {
            let diffusion = Diffusion::new(&config(kind, weighting)).unwrap();
            let got = loss(&diffusion, Kind::Double, Some(&t));
            let rows = values(&got.per_sample);
            for ((got, own), t) in rows.iter().zip(values(&plain.per_sample)).zip(values(&t)) {
                assert!(near(*got, own * weighting.of_output(kind, schedule.at(t))), "{kind:?}");
            }
            let mean = rows.iter().sum::<f64>() / rows.len() as f64;
            assert!(near(got.mean.double_value(&[]), mean));
        }
    }
}

/// An error of x0-hat costs the same, whatever the network predicts.
#[test]
fn one_weighting_is_one_loss_under_every_parameterization() {
    for t in [0.1, 0.5, 0.9] {
        let at = cosine().at(t);
        for weighting in [Snr, TruncatedSnr, MinSnr { gamma: 5.0 }, Sigmoid { bias: 0.0 }] {
            for kind in [Epsilon, X0, V, Flow, EDM] {
                // An error of 0.3 in x0-hat, as an error of the network.
                let error = 0.3 / kind.x0_per_output(at);
                let cost = weighting.of_output(kind, at) * error * error;
                assert!(near(cost, weighting.of_output(X0, at) * 0.09), "{weighting:?} {kind:?}");
            }
        }
    }
}

#[test]
fn settings_out_of_range_are_refused() {
    for (weighting, part) in [
        (MinSnr { gamma: 0.0 }, "weighting min-snr: gamma"),
        (P2 { k: 0.0, gamma: 1.0 }, "weighting p2: k"),
        (P2 { k: 1.0, gamma: -1.0 }, "weighting p2: gamma"),
        (Weighting::Edm { sigma_data: f64::NAN }, "weighting edm: sigma_data"),
        (Sigmoid { bias: f64::INFINITY }, "weighting sigmoid: bias"),
    ] {
        let message = Diffusion::new(&config(V, weighting)).unwrap_err().to_string();
        assert!(message.contains(part), "{message}");
    }
    let message = Diffusion::new(&config(Edm { sigma_data: -1.0 }, Uniform)).unwrap_err();
    assert!(message.to_string().contains("parameterization edm: sigma_data"), "{message}");
}
