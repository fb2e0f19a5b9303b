//! The learning rate as a function of the step.

mod written;

/// The schedule of the learning rate after the warm-up.
///
/// A falling rate reaches 0 at its own step, `lr_steps`, and not at the end of the run, so that a
/// run resumed with more steps continues as if it had had them from the start. In a config it is
/// `"constant"`, or a table such as `{ kind = "cosine", lr_steps = 10000 }`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LrSchedule {
    /// It stays constant.
    #[default]
    Constant,
    /// It falls to 0 along half a cosine.
    ///
    /// # Reference
    /// Loshchilov & Hutter 2017, eq. 5 without restarts, arXiv:1608.03983.
    Cosine {
        /// The step at which it reaches 0; more than the warm-up.
        lr_steps: u64,
    },
    /// It falls linearly to 0.
    Linear {
        /// The step at which it reaches 0; more than the warm-up.
        lr_steps: u64,
    },
}

impl LrSchedule {
    /// The step at which it reaches 0, if it falls.
    pub fn lr_steps(self) -> Option<u64> {
        match self {
            LrSchedule::Constant => None,
            LrSchedule::Cosine { lr_steps } | LrSchedule::Linear { lr_steps } => Some(lr_steps),
        }
    }
}

/// The learning rate as a function of the step alone.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LearningRate {
    /// The maximum rate.
    pub peak: f64,
    /// Its schedule after the warm-up.
    pub schedule: LrSchedule,
    /// Steps over which it rises from `peak / warmup` to `peak`.
    pub warmup: u64,
}

impl LearningRate {
    /// The rate of the step after `done` steps.
    ///
    /// During the warm-up it is `peak (done + 1) / warmup`. After it, with p = (done - warmup) /
    /// (lr_steps - warmup) clamped to [0, 1], it is `peak` times 1 (constant), (1 + cos(pi p)) / 2
    /// (cosine) or 1 - p (linear).
    pub fn at(&self, done: u64) -> f64 {
        if done < self.warmup {
            return self.peak * (done + 1) as f64 / self.warmup as f64;
        }
        let end = self.schedule.lr_steps().unwrap_or(0);
        let span = end.saturating_sub(self.warmup).max(1) as f64;
        let p = ((done - self.warmup) as f64 / span).min(1.0);
        self.peak
            * match self.schedule {
                LrSchedule::Constant => 1.0,
                LrSchedule::Cosine { .. } => 0.5 * (1.0 + (std::f64::consts::PI * p).cos()),
                LrSchedule::Linear { .. } => 1.0 - p,
            }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCHEDULES: [LrSchedule; 3] = [
        LrSchedule::Constant,
        LrSchedule::Cosine { lr_steps: 12 },
        LrSchedule::Linear { lr_steps: 12 },
    ];

    fn rate(schedule: LrSchedule) -> LearningRate {
        LearningRate { peak: 0.8, schedule, warmup: 4 }
    }

    #[test]
    fn warm_up_rises_in_equal_parts_and_reaches_the_peak_with_its_last_step() {
        for schedule in SCHEDULES {
            let got: Vec<_> = (0..5).map(|i| rate(schedule).at(i)).collect();
            for (got, expected) in got.iter().zip([0.2, 0.4, 0.6, 0.8, 0.8]) {
                assert!((got - expected).abs() < 1e-15, "{got} {expected}");
            }
        }
    }

    #[test]
    fn each_schedule_has_its_closed_form_after_the_warm_up() {
        let [constant, cosine, linear] = SCHEDULES.map(rate);
        assert_eq!(constant.at(1_000_000), 0.8);
        // p = 0, 1/4, 1/2, 3/4, 1 and beyond
        let half = 0.8 * 0.5;
        let root = std::f64::consts::FRAC_1_SQRT_2;
        let expected = [0.8, half * (1.0 + root), half, half * (1.0 - root), 0.0, 0.0];
        for (k, (c, l)) in expected.into_iter().zip([0.8, 0.6, 0.4, 0.2, 0.0, 0.0]).enumerate() {
            let done = 4 + 2 * k as u64;
            assert!((cosine.at(done) - c).abs() < 1e-15);
            assert!((linear.at(done) - l).abs() < 1e-15);
        }
    }

    #[test]
    fn the_last_step_of_a_falling_schedule_still_learns() {
        let [_, cosine, linear] = SCHEDULES.map(rate);
        assert!(linear.at(11) > 0.05);
        assert_eq!(LearningRate { warmup: 0, ..cosine }.at(0), 0.8);
    }
}
