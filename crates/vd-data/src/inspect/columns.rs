//! Statistics of the columns of a table.

use std::collections::{BTreeMap, BTreeSet};

use super::report::Column;
use crate::captions::Row;

/// The columns of some rows, by name.
pub(super) fn columns<'a>(rows: impl Iterator<Item = &'a Row>) -> Vec<Column> {
    let mut found = BTreeMap::<&str, Vec<&Row>>::new();
    for row in rows {
        for name in row.columns.keys() {
            found.entry(name).or_default().push(row);
        }
    }
    found.into_iter().map(|(name, rows)| column(name, &rows)).collect()
}

fn column(name: &str, rows: &[&Row]) -> Column {
    let numbers: Vec<f64> = rows.iter().filter_map(|row| row.number(name).ok()?).collect();
    let names: Vec<String> = rows.iter().filter_map(|row| row.name(name).ok()?).collect();
    let all = |n: usize| n == rows.len();
    let mean = numbers.iter().sum::<f64>() / numbers.len() as f64;
    let variance = numbers.iter().map(|n| (n - mean).powi(2)).sum::<f64>() / numbers.len() as f64;
    Column {
        name: name.to_owned(),
        clips: rows.len(),
        mean_std: all(numbers.len()).then(|| [mean, variance.sqrt()]),
        classes: all(names.len()).then(|| names.iter().collect::<BTreeSet<_>>().len()),
    }
}
