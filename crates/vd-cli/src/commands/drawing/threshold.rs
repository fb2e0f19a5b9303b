//! What keeps clips in the range of the data.

use anyhow::Result;
use vd_data::Normaliser;
use vd_diffusion::{Ranges, Threshold};

use crate::model::Model;

/// The rule that was asked for, else the static one wherever the range of the data is known; and the
/// ranges of its channels, where they are not [-1, 1] for all.
pub(super) fn of(asked: Option<Threshold>, model: &Model) -> Result<(Threshold, Option<Ranges>)> {
    let normaliser = model.normaliser.as_ref().filter(|normaliser| !normaliser.is_within());
    let Some(normaliser) = normaliser else { return Ok((asked.unwrap_or_default(), None)) };
    let limits = match asked {
        None => normaliser.limits(),
        Some(Threshold::Static) => Some(as_asked(normaliser)),
        Some(_) => None,
    };
    if let Some(rule @ Threshold::Dynamic { .. }) = asked {
        warn(rule);
    }
    let usual = if limits.is_some() { Threshold::Static } else { Threshold::None };
    Ok((asked.unwrap_or(usual), limits.map(Ranges::new).transpose()?))
}

/// The range of each channel, [-1, 1] where it is not known.
fn as_asked(normaliser: &Normaliser) -> Vec<[f64; 2]> {
    let ranges = normaliser.ranges();
    if ranges.contains(&None) {
        warn(Threshold::Static);
    }
    ranges.into_iter().map(|range| range.unwrap_or([-1.0, 1.0])).collect()
}

fn warn(rule: Threshold) {
    tracing::warn!(
        "--threshold {}: part of this model's training data lies beyond the [-1, 1] of this threshold \
         (data.normalise), and such values cannot be drawn",
        rule.name()
    );
}
