//! Shapes, sizes and numbers that guidance does not take, and those that look as if it might not.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod known;

use known::{Gaussian, Mixture, cosine, doubles, largest, random};
use vd_diffusion::tch::{Kind, Tensor};
use vd_diffusion::{
    Autoguided, Denoiser, GuidanceConfig, Guided, Levels, NoiseLevel, NoiseRange, Parameterization,
    Result, Schedule,
};

/// Answers with one number a sample.
#[derive(Debug)]
struct Means;

impl Denoiser for Means {
    fn denoise(&self, x: &Tensor, _: NoiseLevel) -> Result<Tensor> {
        Ok(x.mean_dim(1, true, Kind::Double))
    }
}

#[test]
fn a_guide_whose_answer_would_broadcast_is_refused() {
    let (x, at) = (random(1, &[2, 3], Kind::Double), cosine().at(0.5));
    let refused = |denoiser: &dyn Denoiser| {
        let levels = Levels::per_sample(vec![at; 2]);
        [denoiser.denoise(&x, at), denoiser.denoise_levels(&x, &levels)]
            .map(|answer| answer.unwrap_err().to_string())
    };
    let all = NoiseRange::default();
    for message in refused(&Autoguided::new(Mixture, Means, 2.0, all).unwrap()) {
        assert!(message.contains("guide") && message.contains("got [2, 1]"), "{message}");
    }
    for message in refused(&Autoguided::new(Means, Mixture, 2.0, all).unwrap()) {
        assert!(message.contains("main") && message.contains("got [2, 1]"), "{message}");
    }
}

#[test]
fn samples_of_one_number_are_guided_each_by_itself() {
    let (x, at) = (random(2, &[4], Kind::Double), cosine().at(0.6));
    let other = Gaussian { mean: doubles(&[0.4]), std: 0.3 };
    let (signals, within) = (Default::default(), NoiseRange::default());
    for rule in [
        GuidanceConfig::ClassifierFree { rescale: 0.7, signals, within },
        GuidanceConfig::CfgZeroStar { zero_init: 0, within },
        GuidanceConfig::Apg { eta: 0.3, norm_threshold: 0.05, momentum: 0.0, within },
    ] {
        let space = Parameterization::V;
        let guided = Guided::around(Mixture, &other, 3.0, &rule, space).unwrap();
        let together = guided.denoise(&x, at).unwrap();
        // The same numbers as samples of a rank that was never in doubt.
        let column = guided.denoise(&x.view([4, 1]), at).unwrap();
        assert!(largest(&(column.view([4]) - &together)) < 1e-14, "{rule:?}");
        for k in 0..4 {
            let alone = guided.denoise(&x.narrow(0, k, 1), at).unwrap();
            assert!(largest(&(alone - together.narrow(0, k, 1))) < 1e-14, "{rule:?}, {k}");
        }
    }
}
