//! The discrete cosine schedule of improved DDPM.

use std::f64::consts::FRAC_PI_2;

use super::tables::check_steps;
use super::{BetaTable, Schedule};
use crate::{NoiseLevel, Result};

/// The cosine table of N steps with s = 0.008 and betas clipped at 0.9999: the schedule of
/// `video-diffusion-pytorch`.
///
/// The paper and diffusers clip at 0.999: for that table, pass these betas to [`BetaTable::new`],
/// with none larger than 0.999. Only the last entries differ.
///
/// # Reference
/// Nichol & Dhariwal 2021, equation 17 (except for the clip, 0.999 in section 3.2),
/// arXiv:2102.09672.
#[derive(Debug, Clone, PartialEq)]
pub struct CosineDiscrete {
    table: BetaTable,
}

impl CosineDiscrete {
    /// Shift that keeps the first beta from being too small.
    const S: f64 = 0.008;
    /// Keeps the last alpha above 0.
    const LARGEST_BETA: f64 = 0.9999;

    /// The table with this many steps.
    ///
    /// # Range
    /// `steps` from 1 to 1,000,000.
    ///
    /// # Errors
    /// Steps outside that range.
    pub fn new(steps: usize) -> Result<Self> {
        check_steps("cosine-discrete", steps)?;
        let alpha_bar = |i: usize| {
            let t = i as f64 / steps as f64;
            (FRAC_PI_2 * (t + Self::S) / (1.0 + Self::S)).cos().powi(2)
        };
        let beta =
            |i: usize| (1.0 - alpha_bar(i + 1) / alpha_bar(i)).clamp(0.0, Self::LARGEST_BETA);
        let betas: Vec<f64> = (0..steps).map(beta).collect();
        Ok(CosineDiscrete { table: BetaTable::new(&betas)? })
    }

    /// The clipped betas, one per entry.
    pub fn betas(&self) -> &[f64] {
        self.table.betas()
    }
}

impl Schedule for CosineDiscrete {
    fn at(&self, t: f64) -> NoiseLevel {
        self.table.at(t)
    }

    fn time_input(&self, t: f64) -> f64 {
        self.table.time_input(t)
    }

    fn t_at(&self, log_snr: f64) -> f64 {
        self.table.t_at(log_snr)
    }

    fn steps(&self) -> Option<usize> {
        self.table.steps()
    }
}
