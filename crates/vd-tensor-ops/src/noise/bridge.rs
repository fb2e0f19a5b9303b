//! Brownian bridge: a path between two times at which it is known.

/// The path at one time.
#[derive(Debug, Clone)]
pub(super) struct Place {
    pub(super) time: f64,
    pub(super) leaf: Leaf,
    /// The values for every number of every sample, row by row.
    pub(super) values: Vec<f64>,
}

/// A leaf: an interval of the clock that is not bisected further.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Leaf {
    pub(super) low: f64,
    pub(super) high: f64,
}

impl Leaf {
    /// The position of a time in the interval, as a fraction from low to high.
    fn share(self, time: f64) -> f64 {
        if self.high.is_finite() { (time - self.low) / (self.high - self.low) } else { 0.0 }
    }

    /// The variance of the path at a time given the path at both ends.
    fn bridge_variance(self, time: f64) -> f64 {
        ((time - self.low) * (1.0 - self.share(time))).max(0.0)
    }
}

/// The path at a time in an interval with known ends, written to an empty buffer; `high` may be
/// empty if the interval is unbounded.
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

/// The variance of the difference between two sampled places.
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
