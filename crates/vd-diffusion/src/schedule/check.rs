//! What must hold of a schedule, probed at some times.

use super::Schedule;
use crate::{Error, Result};

/// How many times a schedule is probed at.
const PROBES: usize = 16;

/// Refuses a schedule that breaks the contract of [`Schedule`] at one of some times spread over it.
pub(crate) fn check_schedule(schedule: &dyn Schedule) -> Result<()> {
    let refuse = |t: f64, expected: &str, got: String| {
        Err(Error::value(format!("schedule {schedule:?} at t = {t}"), expected, got))
    };
    let times = match schedule.steps() {
        Some(0) => return Err(Error::value("steps of the schedule", "at least 1", 0)),
        // The entries of a table.
        Some(n) => (0..PROBES.min(n))
            .map(|k| ((n - 1) * k / PROBES.min(n).saturating_sub(1).max(1) + 1) as f64 / n as f64)
            .collect::<Vec<_>>(),
        None => (0..=PROBES).map(|k| k as f64 / PROBES as f64).collect(),
    };
    let mut before = f64::INFINITY;
    for t in times {
        let at = schedule.at(t);
        let number = |x: f64| x.is_finite() && x >= 0.0;
        if !number(at.alpha) || !number(at.sigma) || (at.alpha == 0.0 && at.sigma == 0.0) {
            return refuse(
                t,
                "alpha and sigma finite, from 0 on and not both 0",
                format!("{at:?}"),
            );
        }
        let log_snr = at.log_snr();
        if log_snr > before {
            let got = format!("{log_snr} after {before}");
            return refuse(t, "a log-SNR that falls as t rises", got);
        }
        if schedule.time_input(t).is_nan() {
            return refuse(t, "a time input that is a number", "NaN".to_owned());
        }
        before = log_snr;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::NoiseLevel;

    #[derive(Debug)]
    struct Broken(fn(f64) -> (f64, f64), Option<usize>);

    impl Schedule for Broken {
        fn at(&self, t: f64) -> NoiseLevel {
            let (alpha, sigma) = (self.0)(t);
            NoiseLevel { t, alpha, sigma }
        }

        fn time_input(&self, t: f64) -> f64 {
            t
        }

        fn t_at(&self, _log_snr: f64) -> f64 {
            0.5
        }

        fn steps(&self) -> Option<usize> {
            self.1
        }
    }

    #[test]
    fn schedules_that_break_their_contract_are_refused_with_the_time() {
        check_schedule(&*crate::ScheduleConfig::cosine().build().unwrap()).unwrap();
        check_schedule(&Broken(|t| (1.0 - t, t), None)).unwrap();
        for n in [1, 2, 5, 16, 17, 1000] {
            check_schedule(&Broken(|t| (1.0 - t, t), Some(n))).unwrap();
        }
        let refused = |of: Broken, part: &str| {
            let error = check_schedule(&of).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        };
        refused(Broken(|t| (t, 1.0 - t), None), "a log-SNR that falls as t rises");
        refused(Broken(|_| (f64::NAN, 1.0), None), "at t = 0: expected alpha and sigma finite");
        refused(Broken(|t| (1.0 - t, -t), None), "expected alpha and sigma finite");
        refused(Broken(|t| (1.0 - t, t), Some(0)), "steps of the schedule: expected at least 1");
    }
}
