//! A discrete schedule from a list of betas.

use super::Schedule;
use crate::{Error, NoiseLevel, Result};

/// A variance-preserving table: x at entry i is sqrt(1 - beta_i) times x at the previous entry,
/// plus noise of variance beta_i.
///
/// Entry i of N is t = (i + 1) / N, and the network's time input is N t - 1 = i. Between entries,
/// log-SNR is linear in t. t = 0 is clean; between it and the first entry sigma / alpha is
/// proportional to t, and before a last entry without signal alpha / sigma is proportional to 1 -
/// t.
#[derive(Debug, Clone, PartialEq)]
pub struct BetaTable {
    betas: Vec<f64>,
    entries: Vec<NoiseLevel>,
    log_snr: Vec<f64>,
}

impl BetaTable {
    /// The table of these betas.
    ///
    /// # Range
    /// Each beta is greater than 0 and less than 1; the last of several may be 1 (no signal at t =
    /// 1).
    ///
    /// # Errors
    /// No betas, or a beta outside that range.
    pub fn new(betas: &[f64]) -> Result<Self> {
        if betas.is_empty() {
            return Err(Error::value("schedule betas: values", "at least one beta", "none"));
        }
        let n = betas.len();
        // sigma^2 is computed along with alpha^2: 1 - alpha^2 would lose precision at the first
        // entries.
        let (mut signal, mut variance) = (1.0f64, 0.0f64);
        let mut entries = Vec::with_capacity(n);
        for (i, &beta) in betas.iter().enumerate() {
            let last = i > 0 && i + 1 == n;
            if !(beta > 0.0 && (beta < 1.0 || last && beta == 1.0)) {
                let what = format!("schedule betas: values[{i}] of {n}");
                let expected = "more than 0 and less than 1 (the last may be 1)";
                return Err(Error::value(what, expected, beta));
            }
            signal *= 1.0 - beta;
            variance = variance * (1.0 - beta) + beta;
            let t = (i + 1) as f64 / n as f64;
            entries.push(NoiseLevel { t, alpha: signal.sqrt(), sigma: variance.sqrt() });
        }
        let log_snr: Vec<f64> = entries.iter().map(|entry| entry.log_snr()).collect();
        if let Some(i) = log_snr.windows(2).position(|pair| pair[0] <= pair[1]) {
            let what = format!("schedule betas: values[{}] of {n}", i + 1);
            return Err(Error::value(what, "enough noise to lower the log-SNR", betas[i + 1]));
        }
        Ok(BetaTable { betas: betas.to_vec(), entries, log_snr })
    }

    /// The betas that define the table.
    pub fn betas(&self) -> &[f64] {
        &self.betas
    }

    /// The square roots of alpha-bar, one per entry.
    pub(super) fn alphas(&self) -> Vec<f64> {
        self.entries.iter().map(|entry| entry.alpha).collect()
    }

    /// Time in entries: 0 is clean, 1 the first entry. Undoes the rounding of i / N * N.
    fn position(&self, t: f64) -> f64 {
        let p = t.clamp(0.0, 1.0) * self.entries.len() as f64;
        if (p - p.round()).abs() < 1e-9 { p.round() } else { p }
    }

    /// log-SNR at a fractional position, between the entries below and above.
    fn between(&self, p: f64) -> f64 {
        let n = self.entries.len();
        let above = p.ceil() as usize;
        if above == 1 {
            return self.log_snr[0] - 2.0 * p.ln();
        }
        let (high, low) = (self.log_snr[above - 2], self.log_snr[above - 1]);
        if low == f64::NEG_INFINITY {
            return high + 2.0 * (n as f64 - p).ln();
        }
        high + (low - high) * (p - (above - 1) as f64)
    }
}

impl Schedule for BetaTable {
    fn at(&self, t: f64) -> NoiseLevel {
        let t = t.clamp(0.0, 1.0);
        let p = self.position(t);
        if p == 0.0 {
            return NoiseLevel { t, alpha: 1.0, sigma: 0.0 };
        }
        if p.fract() == 0.0 {
            return NoiseLevel { t, ..self.entries[p as usize - 1] };
        }
        if p.is_nan() {
            return NoiseLevel { t, alpha: f64::NAN, sigma: f64::NAN };
        }
        NoiseLevel::variance_preserving(t, self.between(p))
    }

    fn time_input(&self, t: f64) -> f64 {
        self.position(t) - 1.0
    }

    fn t_at(&self, log_snr: f64) -> f64 {
        let n = self.entries.len();
        // Number of entries with at least this log-SNR.
        let below = self.log_snr.partition_point(|entry| *entry >= log_snr);
        let p = if log_snr.is_nan() {
            log_snr
        } else if below == n {
            n as f64
        } else if below == 0 {
            (0.5 * (self.log_snr[0] - log_snr)).exp()
        } else {
            let (high, low) = (self.log_snr[below - 1], self.log_snr[below]);
            if low == f64::NEG_INFINITY {
                n as f64 - (0.5 * (log_snr - high)).exp()
            } else {
                below as f64 + (high - log_snr) / (high - low)
            }
        };
        (p / n as f64).clamp(0.0, 1.0)
    }

    fn steps(&self) -> Option<usize> {
        Some(self.entries.len())
    }
}

/// Betas of a file that stores them in f32: each becomes the shortest decimal that rounds to it.
///
/// A last beta of 0.9999 leaves a ten-thousandth of the signal's variance; read as its f32 value,
/// 0.99989998..., that variance would be off by 1.7e-4 of itself.
pub fn betas_from_f32(values: &[f32]) -> Vec<f64> {
    values.iter().map(|v| v.to_string().parse().unwrap_or(f64::from(*v))).collect()
}
