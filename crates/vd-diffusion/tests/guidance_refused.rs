//! Shapes, sizes and numbers that guidance does not take, and those that look as if it might not.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod known;

use known::{Mixture, cosine, random};
use vd_diffusion::tch::{Kind, Tensor};
use vd_diffusion::{Autoguided, Denoiser, Levels, NoiseLevel, NoiseRange, Result, Schedule};

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
