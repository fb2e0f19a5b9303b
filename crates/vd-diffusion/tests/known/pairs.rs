//! Pairs of correlated values, and noise to determine the distribution of a sampler's results.

use std::sync::Mutex;

use vd_diffusion::tch::{Device, Kind, Tensor};
use vd_diffusion::{Denoiser, Noise, NoiseLevel, Result};

use super::{doubles, random};

/// Pairs of values along the last axis, each N(0, 1), with this correlation.
#[derive(Debug)]
pub(crate) struct Correlated(pub(crate) f64);

impl Correlated {
    /// Coefficients of a value of x0-hat with respect to the same value of `x`, and to the other
    /// one.
    pub(crate) fn gains(&self, at: NoiseLevel) -> (f64, f64) {
        // Along (1, 1) the variance is 1 + rho, along (1, -1) it is 1 - rho.
        let gain = |v: f64| at.alpha * v / (at.alpha.powi(2) * v + at.sigma.powi(2));
        let (sum, difference) = (0.5 * gain(1.0 + self.0), 0.5 * gain(1.0 - self.0));
        (sum + difference, sum - difference)
    }
}

impl Denoiser for Correlated {
    fn denoise(&self, x: &Tensor, at: NoiseLevel) -> Result<Tensor> {
        let (same, other) = self.gains(at);
        Ok(x.matmul(&doubles(&[same, other, other, same]).view([2, 2])))
    }
}

/// Noise for a batch of probes: row 0 gets zeros, and every other row a 1 in one place of one draw,
/// so that an affine sampler's rows are its exact mean and its coefficients.
#[derive(Debug, Default)]
pub(crate) struct Probe {
    pub(crate) drawn: i64,
}

impl Probe {
    /// A draw of `rows` pairs.
    pub(crate) fn draw(&mut self, rows: i64) -> Tensor {
        let draw = Tensor::zeros([rows, 2], (Kind::Double, Device::Cpu));
        for i in 0..2 {
            let _ = draw.get(1 + 2 * self.drawn + i).get(i).fill_(1.0);
        }
        self.drawn += 1;
        draw
    }
}

impl Noise for Probe {
    fn normal(&mut self, like: &Tensor) -> Tensor {
        self.draw(like.size()[0])
    }
    fn uniform(&mut self, like: &Tensor) -> Tensor {
        like.zeros_like()
    }
}

/// The draws so far, shared by all users; drawing is most of the work of some tests.
pub(crate) type Draws = Mutex<Vec<Tensor>>;

/// Pairs of f64 that are drawn once, and can be replayed from the first.
#[derive(Debug)]
pub(crate) struct Recorded {
    drawn: &'static Draws,
    pairs: i64,
    next: usize,
}

impl Recorded {
    pub(crate) fn new(drawn: &'static Draws, pairs: i64) -> Recorded {
        Recorded { drawn, pairs, next: 0 }
    }

    pub(crate) fn rewind(&mut self) {
        self.next = 0;
    }

    pub(crate) fn draw(&mut self) -> Tensor {
        let mut drawn = self.drawn.lock().unwrap();
        if self.next == drawn.len() {
            // One stream for all: separate streams for so many pairs take longer than the values.
            let flat = random(1000 + self.next as u64, &[1, 2 * self.pairs], Kind::Double);
            drawn.push(flat.view([self.pairs, 2]));
        }
        self.next += 1;
        drawn[self.next - 1].shallow_clone()
    }
}

impl Noise for Recorded {
    fn normal(&mut self, like: &Tensor) -> Tensor {
        assert_eq!(like.size(), [self.pairs, 2]);
        self.draw()
    }
    fn uniform(&mut self, like: &Tensor) -> Tensor {
        like.zeros_like()
    }
}
