//! A Brownian path between two times where it is known.

/// The path at one time.
#[derive(Debug, Clone)]
pub(super) struct Place {
    pub(super) time: f64,
    pub(super) leaf: Leaf,
    /// For every number of every sample, row by row.
    pub(super) values: Vec<f64>,
}

/// A stretch of the clock that is not bisected.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Leaf {
    pub(super) low: f64,
    pub(super) high: f64,
}

impl Leaf {
    /// Where a time lies, as a share of the way from low to high.
    fn share(self, time: f64) -> f64 {
        if self.high.is_finite() { (time - self.low) / (self.high - self.low) } else { 0.0 }
    }

    /// The variance of the path at a time given the path at both ends.
    fn bridge_variance(self, time: f64) -> f64 {
        ((time - self.low) * (1.0 - self.share(time))).max(0.0)
    }
}

/// The path at a time within a stretch whose ends are known, written to an empty buffer; the high
/// end may be empty where the stretch never ends.
pub(super) fn bridge(
    leaf: Leaf,
    time: f64,
    [low, high]: [&[f64]; 2],
    unit: &[f32],
    mut out: Vec<f64>,
) -> Vec<f64> {
    let (share, spread) = (leaf.share(time), leaf.bridge_variance(time).sqrt());
    let steps = low.iter().zip(unit).map(|(low, unit)| (low, spread * f64::from(*unit)));
    if high.is_empty() {
        out.extend(steps.map(|(low, step)| low + step));
    } else {
        out.extend(steps.zip(high).map(|((low, step), high)| low + share * (high - low) + step));
    }
    out
}

/// The variance of the difference of two places, as they are drawn.
pub(super) fn variance_between(a: &Place, b: &Place) -> f64 {
    let apart = (b.time - a.time).abs();
    if a.leaf != b.leaf {
        return apart;
    }
    let bridges = a.leaf.bridge_variance(a.time) + a.leaf.bridge_variance(b.time);
    if a.leaf.high.is_finite() {
        apart * apart / (a.leaf.high - a.leaf.low) + bridges
    } else {
        bridges
    }
}
