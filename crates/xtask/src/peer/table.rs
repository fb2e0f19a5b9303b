//! The measurements as tables in Markdown.

use super::summary::{Measured, Outcome, Overall, least, median};

/// Every side of every shape and run: medians over its turns.
pub(super) fn turns(outcomes: &[Outcome]) -> String {
    let mut text = head(&[
        "shape",
        "run",
        "side",
        "median ms",
        "least ms",
        "times ours: median (least to most)",
        "of FMA peak",
        "MiB above the loaded program",
        "ours takes of it",
        "minor faults a turn",
        "error",
        "machine (load before, during)",
    ]);
    for outcome in outcomes {
        text.extend(outcome.sides.iter().map(|side| row(outcome, side)));
    }
    text
}

/// Every side of every shape: medians over the runs.
pub(super) fn runs(all: &[Overall]) -> String {
    let mut text = head(&[
        "shape",
        "side",
        "times ours: median of runs (each)",
        "ours takes of its memory",
        "machine",
    ]);
    for one in all {
        let each: Vec<String> = one.ratios.iter().map(|ratio| format!("{ratio:.2}")).collect();
        text += &format!(
            "| {} | {} | {:.2} ({}) | {:.2} | {} |\n",
            one.shape,
            one.side.name(),
            median(&one.ratios),
            each.join(", "),
            median(&one.memory),
            if one.idle { "idle" } else { "NOT idle" },
        );
    }
    text
}

fn head(columns: &[&str]) -> String {
    format!("| {} |\n|{}\n", columns.join(" | "), "---|".repeat(columns.len()))
}

fn row(outcome: &Outcome, side: &Measured) -> String {
    let mut ratios = outcome.ratios(side);
    let middle = median(&ratios);
    ratios.sort_by(f64::total_cmp);
    let (low, high) = (ratios.first().unwrap_or(&middle), ratios.last().unwrap_or(&middle));
    let share = outcome.share(side).map_or("-".to_owned(), |share| format!("{share:.2}"));
    let gradients = side
        .errors
        .gradients
        .map_or(String::new(), |[all, worst]| format!(", gradients {all:.1e} (worst {worst:.1e})"));
    let [before, during] = outcome.busy.load;
    format!(
        "| {} | {} | {} | {:.1} | {:.1} | {middle:.2} ({low:.2} to {high:.2}) | {share} | {:.0} | \
         {:.2} | {:.0} | {:.1e}{gradients} | {} ({before:.2}, {during:.2}) |\n",
        outcome.shape,
        outcome.run,
        side.side.name(),
        median(&side.milliseconds),
        least(&side.milliseconds),
        side.above() / 1024.0,
        outcome.memory_of(side),
        median(&side.faults),
        side.errors.output,
        outcome.busy.words(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peer::summary::tests::outcome;

    #[test]
    fn every_row_has_the_columns_of_its_head() {
        let outcomes = [outcome(false), Outcome { run: 2, ..outcome(true) }];
        let widths = |text: &str| -> Vec<usize> {
            text.lines().map(|line| line.matches('|').count()).collect()
        };
        let table = turns(&outcomes);
        assert_eq!(widths(&table), [13; 6], "{table}");
        assert!(table.contains("| 4.00 (3.00 to 5.00) | 0.10 | 4 | 0.50 | 8 |"), "{table}");
        let table = runs(&Overall::of(&outcomes));
        assert_eq!(widths(&table), [6; 4], "{table}");
        assert!(table.contains("| peer | 4.00 (4.00, 4.00) | 0.50 | idle |"), "{table}");
    }
}
