//! Medians, ratios and shares of what was measured.

use super::json::Json;
use super::worker::Side;

/// Operations of forward and backward, in those of a forward pass: the products of a layer have two
/// more of their size in its backward pass.
const FORWARD_AND_BACKWARD: f64 = 3.0;

/// How far a side is from the answer, in relative L2.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Errors {
    pub(super) output: f64,
    /// In training: of all gradients together, and of the worst.
    pub(super) gradients: Option<[f64; 2]>,
}

/// What one side did.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Measured {
    pub(super) side: Side,
    pub(super) errors: Errors,
    /// One for each turn.
    pub(super) milliseconds: Vec<f64>,
    /// KiB in memory once loaded, and at most from then on.
    pub(super) memory: [f64; 2],
}

/// What one shape came to; this project's side is the first.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Outcome {
    pub(super) shape: &'static str,
    /// Of one forward pass, by the direct algorithm.
    pub(super) flops: f64,
    pub(super) train: bool,
    /// Operations per second that the cores were measured to do at most; 0 where they were not.
    pub(super) peak: f64,
    pub(super) sides: Vec<Measured>,
}

/// The middle of the values, or the mean of the two in the middle; NaN of none.
pub(super) fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let at = |i: usize| sorted.get(i).copied().unwrap_or(f64::NAN);
    let half = sorted.len() / 2;
    if sorted.len() % 2 == 1 { at(half) } else { (at(half.wrapping_sub(1)) + at(half)) / 2.0 }
}

/// How many times as long as ours another side took, turn by turn.
pub(super) fn ratios(ours: &[f64], other: &[f64]) -> Vec<f64> {
    ours.iter().zip(other).map(|(ours, other)| other / ours).collect()
}

fn least(values: &[f64]) -> f64 {
    values.iter().copied().fold(f64::NAN, f64::min)
}

impl Outcome {
    /// Turn by turn; of this project's own side, all are 1.
    pub(super) fn ratios(&self, side: &Measured) -> Vec<f64> {
        let ours = self.sides.first().map_or(&[][..], |ours| &ours.milliseconds);
        ratios(ours, &side.milliseconds)
    }

    /// The share of the cores' limit that a side reaches, in operations of the direct algorithm:
    /// an algorithm that does fewer can pass 1. None where the limit is not known.
    pub(super) fn share(&self, side: &Measured) -> Option<f64> {
        let passes = if self.train { FORWARD_AND_BACKWARD } else { 1.0 };
        let rate = passes * self.flops / (median(&side.milliseconds) * 1e-3);
        (self.peak > 0.0).then(|| rate / self.peak)
    }

    pub(super) fn json(&self) -> Json {
        Json::Object(vec![
            ("shape", Json::text(self.shape)),
            ("forward_flops", Json::Number(self.flops)),
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
            ("ms", Json::numbers(&side.milliseconds)),
            ("ratios_to_ours", Json::numbers(&ratios)),
        ])
    }

    /// Rows of the table, one for each side.
    pub(super) fn rows(&self) -> String {
        self.sides.iter().map(|side| self.row(side)).collect()
    }

    fn row(&self, side: &Measured) -> String {
        let mut ratios = self.ratios(side);
        let middle = median(&ratios);
        ratios.sort_by(f64::total_cmp);
        let (low, high) = (ratios.first().unwrap_or(&middle), ratios.last().unwrap_or(&middle));
        let share = self.share(side).map_or("-".to_owned(), |share| format!("{share:.2}"));
        let [loaded, peak] = side.memory.map(|kib| kib / 1024.0);
        let gradients = side.errors.gradients;
        let gradients = gradients.map_or(String::new(), |[all, worst]| {
            format!(", gradients {all:.1e} (worst {worst:.1e})")
        });
        format!(
            "| {} | {} | {:.1} | {:.1} | {middle:.2} ({low:.2} to {high:.2}) | {share} | \
             {peak:.0} ({loaded:.0}) | {:.1e}{gradients} |\n",
            self.shape,
            side.side.name(),
            median(&side.milliseconds),
            least(&side.milliseconds),
            side.errors.output,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_are_those_of_odd_even_and_no_values() {
        assert_eq!(median(&[3.0, 1.0, 100.0]), 3.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 100.0]), 3.0);
        assert!(median(&[]).is_nan());
    }

    fn measured(side: Side, milliseconds: &[f64]) -> Measured {
        let errors = Errors { output: 1.5e-6, gradients: None };
        Measured { side, errors, milliseconds: milliseconds.to_vec(), memory: [1024.0, 4096.0] }
    }

    fn outcome(train: bool) -> Outcome {
        // The machine slows down by half in the second turn, for both.
        let sides = vec![
            measured(Side::Ours, &[10.0, 20.0, 10.0]),
            measured(Side::Eager, &[30.0, 80.0, 50.0]),
        ];
        Outcome { shape: "b1f5s32", flops: 2e9, train, peak: 4e11, sides }
    }

    #[test]
    fn ratios_are_of_turns_and_their_median_is_no_ratio_of_medians() {
        // 3, 4 and 5; the medians are 50 and 10.
        let outcome = outcome(false);
        assert_eq!(outcome.ratios(&outcome.sides[1]), [3.0, 4.0, 5.0]);
        assert_eq!(outcome.ratios(&outcome.sides[0]), [1.0; 3]);
        assert!(outcome.rows().contains("| 4.00 (3.00 to 5.00) |"), "{}", outcome.rows());
    }

    #[test]
    fn the_share_counts_three_passes_in_training() {
        // 2e9 operations in 10 ms are 2e11 a second.
        let ours = |train| outcome(train).share(&outcome(train).sides[0]);
        assert_eq!(ours(false), Some(0.5));
        assert_eq!(ours(true), Some(1.5));
        assert_eq!(Outcome { peak: 0.0, ..outcome(false) }.share(&outcome(false).sides[0]), None);
    }

    #[test]
    fn the_file_and_the_table_hold_every_side() {
        let outcome = outcome(false);
        let json = outcome.json().to_string();
        for part in [
            "\"shape\": \"b1f5s32\"",
            "\"side\": \"peer\"",
            "\"ratios_to_ours\": [3, 4, 5]",
            "\"median_of_ratios_to_ours\": 4",
            "\"share_of_fma_peak\": 0.5",
            "\"peak_kib\": 4096",
            "\"gradients_error\": null",
        ] {
            assert!(json.contains(part), "{part} in {json}");
        }
        let columns: Vec<usize> = outcome.rows().lines().map(|l| l.matches('|').count()).collect();
        assert_eq!(columns, [9, 9]);
    }
}
