//! One point of the noising process.

use tch::Tensor;

/// Amounts of signal and noise at a time: x_t = alpha x0 + sigma eps.
///
/// `alpha` is the square root of the DDPM papers' alpha-bar. Processes that are variance-preserving
/// (alpha^2 + sigma^2 = 1), variance-exploding (alpha = 1) or flow-matching (alpha + sigma = 1) all
/// have this form.
///
/// # Range
/// `t` in [0, 1], 0 is clean; `alpha` and `sigma` finite and not negative, not both 0.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct NoiseLevel {
    /// Time: 0 is clean, 1 is noise.
    pub t: f64,
    /// Factor of the clean tensor.
    pub alpha: f64,
    /// Standard deviation of the noise.
    pub sigma: f64,
}

impl NoiseLevel {
    /// The variance-preserving level of a log-SNR: alpha^2 = sigmoid(log_snr).
    pub fn variance_preserving(t: f64, log_snr: f64) -> NoiseLevel {
        let sigmoid = |l: f64| 1.0 / (1.0 + (-l).exp());
        NoiseLevel { t, alpha: sigmoid(log_snr).sqrt(), sigma: sigmoid(-log_snr).sqrt() }
    }

    /// log(alpha^2 / sigma^2): minus infinity at alpha = 0, infinity at sigma = 0.
    pub fn log_snr(self) -> f64 {
        2.0 * self.half_log_snr()
    }

    /// log(alpha / sigma), the clock of the DPM-Solver papers.
    pub fn half_log_snr(self) -> f64 {
        (self.alpha / self.sigma).ln()
    }

    /// alpha^2 / sigma^2, the clock of [`Noise::between`](crate::Noise::between).
    pub fn snr(self) -> f64 {
        (self.alpha / self.sigma).powi(2)
    }

    /// The eps-hat that corresponds to an x0-hat.
    ///
    /// # Range
    /// Needs sigma > 0.
    pub fn eps(self, x: &Tensor, x0: &Tensor) -> Tensor {
        (x - x0 * self.alpha) * (1.0 / self.sigma)
    }

    /// The level with the same alpha after noise of this variance was removed; it is not on the
    /// schedule.
    pub fn without(self, variance: f64) -> NoiseLevel {
        let sigma = (self.sigma * self.sigma - variance).max(0.0).sqrt();
        NoiseLevel { sigma, ..self }
    }

    /// The variance of x at this level given x at a cleaner one: the noise added by the forward
    /// process.
    ///
    /// # Reference
    /// Ho et al. 2022, section 2, arXiv:2204.03458: sigma_(t|s)^2.
    pub fn variance_given(self, cleaner: NoiseLevel) -> f64 {
        // 1 - exp(log-SNR - cleaner log-SNR), factored so that neither end of the range needs a
        // logarithm and only 1 - q cancels.
        let q = self.signal_kept(cleaner);
        (self.sigma * self.sigma * (1.0 - q) * (1.0 + q)).max(0.0)
    }

    /// The variance of x at a cleaner level given x at this one and x0: DDPM's "small" variance.
    ///
    /// # Reference
    /// Ho et al. 2020, equation 7, arXiv:2006.11239.
    pub fn posterior_variance(self, cleaner: NoiseLevel) -> f64 {
        let q = self.signal_kept(cleaner);
        (cleaner.sigma * cleaner.sigma * (1.0 - q) * (1.0 + q)).max(0.0)
    }

    /// The square root of the ratio of the SNRs; in [0, 1] for a cleaner level.
    fn signal_kept(self, cleaner: NoiseLevel) -> f64 {
        (self.alpha / cleaner.alpha) * (cleaner.sigma / self.sigma)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_three_clocks_agree() {
        let at = NoiseLevel { t: 0.3, alpha: 0.8, sigma: 0.25 };
        assert!((at.log_snr() - at.snr().ln()).abs() < 1e-14);
        assert!((at.log_snr() - 2.0 * at.half_log_snr()).abs() < 1e-14);
    }

    #[test]
    fn the_ends_of_the_range_are_finite_where_they_can_be() {
        let noise = NoiseLevel { t: 1.0, alpha: 0.0, sigma: 1.0 };
        let clean = NoiseLevel { t: 0.0, alpha: 1.0, sigma: 0.0 };
        assert_eq!(noise.log_snr(), f64::NEG_INFINITY);
        assert_eq!(clean.log_snr(), f64::INFINITY);
        assert_eq!(noise.snr(), 0.0);
        assert_eq!(noise.variance_given(clean), 1.0);
        assert_eq!(noise.posterior_variance(clean), 0.0);
    }

    #[test]
    fn a_log_snr_comes_back_from_its_level() {
        for log_snr in [-20.0, -3.7, 0.0, 0.2, 11.0, 20.0] {
            let at = NoiseLevel::variance_preserving(0.5, log_snr);
            assert!((at.log_snr() - log_snr).abs() < 1e-12 * (1.0 + log_snr.abs()));
            assert!((at.alpha.hypot(at.sigma) - 1.0).abs() < 1e-15);
        }
    }
}
