//! Medians, ratios and fractions of the measurements, as values and as JSON.

use super::json::Json;
use super::machine::Busy;
use super::worker::Side;

/// Operations of forward and backward relative to those of a forward pass: each matrix product of a
/// layer has two of the same size in its backward pass.
const FORWARD_AND_BACKWARD: f64 = 3.0;

/// The errors of a side relative to the reference output, in relative L2.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Errors {
    pub(super) output: f64,
    /// In training: of all gradients together, and the largest of a single one.
    pub(super) gradients: Option<[f64; 2]>,
}

/// The measurements of one side.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Measured {
    pub(super) side: Side,
    pub(super) errors: Errors,
    /// One per turn.
    pub(super) milliseconds: Vec<f64>,
    /// Minor page faults, one number per turn.
    pub(super) faults: Vec<f64>,
    /// KiB of memory after loading, and the peak from then on.
    pub(super) memory: [f64; 2],
}

impl Measured {
    /// KiB that evaluations take in addition to the loaded program, which includes weights and
    /// inputs.
    pub(super) fn above(&self) -> f64 {
        self.memory[1] - self.memory[0]
    }
}

/// The results for one shape in one run; this project's side is the first.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Outcome {
    pub(super) shape: &'static str,
    /// From 1.
    pub(super) run: usize,
    /// Of one forward pass, by the direct algorithm.
    pub(super) flops: f64,
    pub(super) train: bool,
    /// The measured peak of the cores in operations per second; 0 if it was not measured.
    pub(super) peak: f64,
    pub(super) busy: Busy,
    pub(super) sides: Vec<Measured>,
}

/// The median, for an even count the mean of the two middle values; NaN for no values.
pub(super) fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let at = |i: usize| sorted.get(i).copied().unwrap_or(f64::NAN);
    let half = sorted.len() / 2;
    if sorted.len() % 2 == 1 { at(half) } else { (at(half.wrapping_sub(1)) + at(half)) / 2.0 }
}

/// The time of another side divided by ours, turn by turn.
pub(super) fn ratios(ours: &[f64], other: &[f64]) -> Vec<f64> {
    ours.iter().zip(other).map(|(ours, other)| other / ours).collect()
}

/// The minimum; NaN for no values.
pub(super) fn least(values: &[f64]) -> f64 {
    values.iter().copied().fold(f64::NAN, f64::min)
}

impl Outcome {
    /// The ratios turn by turn; 1 for this project's own side.
    pub(super) fn ratios(&self, side: &Measured) -> Vec<f64> {
        let ours = self.sides.first().map_or(&[][..], |ours| &ours.milliseconds);
        ratios(ours, &side.milliseconds)
    }

    /// The fraction of the cores' peak that a side reaches, in operations of the direct algorithm:
    /// an algorithm that needs fewer can exceed 1. `None` if the peak is not known.
    pub(super) fn share(&self, side: &Measured) -> Option<f64> {
        let passes = if self.train { FORWARD_AND_BACKWARD } else { 1.0 };
        let rate = passes * self.flops / (median(&side.milliseconds) * 1e-3);
        (self.peak > 0.0).then(|| rate / self.peak)
    }

    /// This project's memory above the loaded program, relative to that of another side.
    pub(super) fn memory_of(&self, side: &Measured) -> f64 {
        self.sides.first().map_or(f64::NAN, Measured::above) / side.above()
    }

    pub(super) fn json(&self) -> Json {
        Json::Object(vec![
            ("shape", Json::text(self.shape)),
            ("run", Json::count(self.run)),
            ("forward_flops", Json::Number(self.flops)),
            ("machine", self.busy.json()),
            ("sides", Json::List(self.sides.iter().map(|side| self.side_json(side)).collect())),
        ])
    }

    fn side_json(&self, side: &Measured) -> Json {
        let [loaded, peak] = side.memory;
        let ratios = self.ratios(side);
        let [all, worst] =
            side.errors.gradients.map_or([Json::Null, Json::Null], |both| both.map(Json::Number));
        Json::Object(vec![
            ("side", Json::text(side.side.name())),
            ("output_error", Json::Number(side.errors.output)),
            ("gradients_error", all),
            ("worst_gradient_error", worst),
            ("median_ms", Json::Number(median(&side.milliseconds))),
            ("least_ms", Json::Number(least(&side.milliseconds))),
            ("median_of_ratios_to_ours", Json::Number(median(&ratios))),
            ("share_of_fma_peak", self.share(side).map_or(Json::Null, Json::Number)),
            ("loaded_kib", Json::Number(loaded)),
            ("peak_kib", Json::Number(peak)),
            ("peak_above_loaded_kib", Json::Number(side.above())),
            ("memory_of_ours_to_it", Json::Number(self.memory_of(side))),
            ("median_minor_faults", Json::Number(median(&side.faults))),
            ("ms", Json::numbers(&side.milliseconds)),
            ("ratios_to_ours", Json::numbers(&ratios)),
            ("minor_faults", Json::numbers(&side.faults)),
        ])
    }
}

/// One side of one shape over all runs.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Overall {
    pub(super) shape: &'static str,
    pub(super) side: Side,
    /// The median of the ratios to ours, for each run.
    pub(super) ratios: Vec<f64>,
    /// This project's memory relative to that of the side, for each run.
    pub(super) memory: Vec<f64>,
    /// Whether the machine was idle otherwise in every run.
    pub(super) idle: bool,
}

impl Overall {
    /// Every side of every shape, in the order of their first run.
    pub(super) fn of(outcomes: &[Outcome]) -> Vec<Overall> {
        let mut all: Vec<Overall> = Vec::new();
        for outcome in outcomes {
            for measured in &outcome.sides {
                let (shape, side) = (outcome.shape, measured.side);
                let place = all.iter().position(|one| (one.shape, one.side) == (shape, side));
                let place = place.unwrap_or_else(|| {
                    let (ratios, memory) = (Vec::new(), Vec::new());
                    all.push(Overall { shape, side, ratios, memory, idle: true });
                    all.len() - 1
                });
                all[place].ratios.push(median(&outcome.ratios(measured)));
                all[place].memory.push(outcome.memory_of(measured));
                all[place].idle &= outcome.busy.is_idle();
            }
        }
        all
    }

    pub(super) fn json(&self) -> Json {
        Json::Object(vec![
            ("shape", Json::text(self.shape)),
            ("side", Json::text(self.side.name())),
            ("median_of_ratios_to_ours", Json::Number(median(&self.ratios))),
            ("memory_of_ours_to_it", Json::Number(median(&self.memory))),
            ("idle", Json::Bool(self.idle)),
            ("ratios_of_runs", Json::numbers(&self.ratios)),
        ])
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    #[test]
    fn medians_are_those_of_odd_even_and_no_values() {
        assert_eq!(median(&[3.0, 1.0, 100.0]), 3.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 100.0]), 3.0);
        assert!(median(&[]).is_nan());
    }

    fn measured(side: Side, milliseconds: &[f64], peak: f64) -> Measured {
        let (errors, memory) = (Errors { output: 1.5e-6, gradients: None }, [1024.0, peak]);
        let (milliseconds, faults) = (milliseconds.to_vec(), vec![7.0, 9.0, 8.0]);
        Measured { side, errors, milliseconds, faults, memory }
    }

    pub(in crate::peer) fn outcome(train: bool) -> Outcome {
        // The machine slows down by half in the second turn, for both.
        let sides = vec![
            measured(Side::Ours, &[10.0, 20.0, 10.0], 3072.0),
            measured(Side::Eager, &[30.0, 80.0, 50.0], 5120.0),
        ];
        let busy = Busy { load: [0.1, 2.0], others: 0.01, waiting: 0.0 };
        Outcome { shape: "b1f5s32", run: 1, flops: 2e9, train, peak: 4e11, busy, sides }
    }

    #[test]
    fn ratios_are_of_turns_and_their_median_is_no_ratio_of_medians() {
        // 3, 4 and 5; the medians are 50 and 10.
        let outcome = outcome(false);
        assert_eq!(outcome.ratios(&outcome.sides[1]), [3.0, 4.0, 5.0]);
        assert_eq!(outcome.ratios(&outcome.sides[0]), [1.0; 3]);
    }

    #[test]
    fn the_share_counts_three_passes_in_training() {
        // 2e9 operations in 10 ms are 2e11 per second.
        let ours = |train| outcome(train).share(&outcome(train).sides[0]);
        assert_eq!(ours(false), Some(0.5));
        assert_eq!(ours(true), Some(1.5));
        assert_eq!(Outcome { peak: 0.0, ..outcome(false) }.share(&outcome(false).sides[0]), None);
    }

    #[test]
    fn memory_is_compared_above_the_loaded_programs() {
        let outcome = outcome(true);
        assert_eq!(outcome.memory_of(&outcome.sides[1]), 0.5);
        assert_eq!(outcome.memory_of(&outcome.sides[0]), 1.0);
    }

    #[test]
    fn runs_are_gathered_by_shape_and_side_and_all_have_to_be_idle() {
        let other = Outcome { shape: "small", ..outcome(false) };
        let mut again = Outcome { run: 2, ..outcome(false) };
        again.busy.others = 1.0;
        again.sides[1].milliseconds = vec![100.0, 200.0, 100.0];
        let all = Overall::of(&[outcome(false), other, again]);
        let named: Vec<_> = all.iter().map(|one| (one.shape, one.side, one.idle)).collect();
        let (ours, peer) = (Side::Ours, Side::Eager);
        assert_eq!(named[..2], [("b1f5s32", ours, false), ("b1f5s32", peer, false)]);
        assert_eq!(named[2..], [("small", ours, true), ("small", peer, true)]);
        assert_eq!(all[1].ratios, [4.0, 10.0]);
        assert!(all[1].json().to_string().contains("\"median_of_ratios_to_ours\": 7"));
    }

    #[test]
    fn the_file_holds_every_side() {
        let json = outcome(false).json().to_string();
        for part in [
            "\"shape\": \"b1f5s32\"",
            "\"idle\": true",
            "\"side\": \"peer\"",
            "\"ratios_to_ours\": [3, 4, 5]",
            "\"median_of_ratios_to_ours\": 4",
            "\"share_of_fma_peak\": 0.5",
            "\"peak_above_loaded_kib\": 4096",
            "\"memory_of_ours_to_it\": 0.5",
            "\"median_minor_faults\": 8",
            "\"gradients_error\": null",
        ] {
            assert!(json.contains(part), "{part} in {json}");
        }
    }
}
