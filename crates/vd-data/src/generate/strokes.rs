//! Digits as strokes of a pen.

/// A straight line from one point to another.
pub(super) type Segment = [[f64; 2]; 2];

/// The strokes of a digit as straight lines.
pub(super) fn segments(digit: usize) -> Vec<Segment> {
    STROKES[digit].iter().flat_map(Stroke::segments).collect()
}

/// The distance from a point to the nearest stroke.
pub(super) fn distance(strokes: &[Segment], at: [f64; 2]) -> f64 {
    strokes.iter().map(|&[from, to]| to_segment(at, from, to)).fold(f64::INFINITY, f64::min)
}

/// A piece of a digit, in a box of x in [-0.25, 0.25] and y in [-0.5, 0.5], y down.
#[derive(Debug, Clone, Copy)]
enum Stroke {
    /// From one point to another.
    Line([f64; 2], [f64; 2]),
    /// Part of an ellipse: centre, semi-axes, first and last angle in degrees (0 right, 90 down).
    Arc([f64; 2], [f64; 2], [f64; 2]),
}

use Stroke::{Arc, Line};

const STROKES: [&[Stroke]; 10] = [
    &[Arc([0.0, 0.0], [0.25, 0.5], [0.0, 360.0])],
    &[Line([0.03, -0.5], [0.03, 0.5]), Line([0.03, -0.5], [-0.17, -0.3])],
    &[
        Arc([0.0, -0.25], [0.25, 0.25], [180.0, 380.0]),
        Line([0.235, -0.165], [-0.25, 0.5]),
        Line([-0.25, 0.5], [0.25, 0.5]),
    ],
    &[
        Arc([-0.02, -0.26], [0.24, 0.24], [200.0, 450.0]),
        Arc([-0.02, 0.24], [0.27, 0.26], [-90.0, 160.0]),
    ],
    &[
        Line([0.1, -0.5], [-0.25, 0.18]),
        Line([-0.25, 0.18], [0.25, 0.18]),
        Line([0.1, -0.5], [0.1, 0.5]),
    ],
    &[
        Line([0.22, -0.5], [-0.2, -0.5]),
        Line([-0.2, -0.5], [-0.22, -0.08]),
        Arc([-0.02, 0.18], [0.27, 0.32], [-135.0, 150.0]),
    ],
    &[Arc([0.0, 0.2], [0.25, 0.3], [0.0, 360.0]), Arc([0.25, 0.15], [0.5, 0.65], [180.0, 265.0])],
    &[Line([-0.25, -0.5], [0.25, -0.5]), Line([0.25, -0.5], [-0.08, 0.5])],
    &[Arc([0.0, -0.26], [0.21, 0.24], [0.0, 360.0]), Arc([0.0, 0.24], [0.25, 0.26], [0.0, 360.0])],
    &[Arc([0.0, -0.2], [0.25, 0.3], [0.0, 360.0]), Arc([-0.25, -0.15], [0.5, 0.65], [0.0, 85.0])],
];

impl Stroke {
    fn segments(&self) -> Vec<Segment> {
        match *self {
            Line(from, to) => vec![[from, to]],
            Arc(middle, axes, [first, last]) => {
                // chords of at most 15 degrees are within 0.005 of the arc, less than a pixel for
                // heights up to 200
                let pieces = ((last - first) / 15.0).ceil().max(1.0);
                let point = |k: usize| {
                    let angle = (first + (last - first) * k as f64 / pieces).to_radians();
                    [middle[0] + axes[0] * angle.cos(), middle[1] + axes[1] * angle.sin()]
                };
                (0..pieces as usize).map(|k| [point(k), point(k + 1)]).collect()
            }
        }
    }
}

fn to_segment(at: [f64; 2], from: [f64; 2], to: [f64; 2]) -> f64 {
    let along = [to[0] - from[0], to[1] - from[1]];
    let off = [at[0] - from[0], at[1] - from[1]];
    let length2 = along[0] * along[0] + along[1] * along[1];
    let part = ((off[0] * along[0] + off[1] * along[1]) / length2.max(1e-12)).clamp(0.0, 1.0);
    (off[0] - part * along[0]).hypot(off[1] - part * along[1])
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn strokes_stay_in_their_box(digit in 0usize..10, x in -0.5f64..0.5, y in -0.8f64..0.8) {
            // outside the box by d, no stroke is nearer than d
            let out = (x.abs() - 0.3).max(y.abs() - 0.51).max(0.0);
            prop_assert!(distance(&segments(digit), [x, y]) >= out - 1e-9);
        }
    }
}
