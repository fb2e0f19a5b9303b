//! Digits that move in straight lines and bounce off the edges.

use serde::{Deserialize, Serialize};

use super::Generator;
use super::canvas::Canvas;
use crate::clip::check_shape;
use crate::random::{Purpose, Stream};
use crate::{Clip, Error, Result};

/// Which moving digits are drawn.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DigitsConfig {
    /// How many digits move in one clip, 1 to 4.
    pub digits: usize,
    /// The height of a digit as a part of the frame's shorter side, [0.1, 0.9].
    pub height: f64,
    /// How far a digit moves in a clip: smallest and largest part of the frame's shorter side.
    pub travel: [f64; 2],
    /// How long a clip lasts, in seconds; the rate follows from it and the number of frames.
    pub seconds: f64,
}

impl Default for DigitsConfig {
    fn default() -> Self {
        Self { digits: 2, height: 0.42, travel: [0.5, 1.1], seconds: 1.6 }
    }
}

impl DigitsConfig {
    /// Checks every number against its range.
    ///
    /// # Errors
    /// Names the first that is outside.
    pub fn validate(&self) -> Result<()> {
        if !(1..=4).contains(&self.digits) {
            return Err(Error::config("data.source.digits", "1 to 4", self.digits));
        }
        if !(0.1..=0.9).contains(&self.height) {
            return Err(Error::config("data.source.height", "0.1 to 0.9", self.height));
        }
        let [least, most] = self.travel;
        if !(least >= 0.0 && most >= least && most <= 100.0) {
            let expected = "[smallest, largest], 0 to 100";
            let got = format!("{:?}", self.travel);
            return Err(Error::config("data.source.travel", expected, got));
        }
        if !(self.seconds > 0.0 && self.seconds <= 3600.0) {
            let key = "data.source.seconds";
            return Err(Error::config(key, "above 0, at most 3600", self.seconds));
        }
        Ok(())
    }
}

/// A digit on its way; lengths are parts of the shorter side.
#[derive(Debug, Clone)]
struct Moving {
    digit: usize,
    strokes: Vec<Segment>,
    /// Its middle at the start, within the room that it has.
    from: [f64; 2],
    /// How far it would get without edges.
    way: [f64; 2],
}

impl Generator for DigitsConfig {
    fn clip(
        &self,
        seed: u64,
        index: u64,
        frames: usize,
        size: [usize; 2],
        channels: usize,
    ) -> Result<(Clip, String)> {
        self.validate()?;
        check_shape(frames, size, channels)?;
        let [h, w] = size;
        let mut stream = Stream::new(Purpose::Digits, seed, 0, index);
        let unit = h.min(w) as f64;
        // what is left of the frame to a digit's middle
        let own = [self.height * WIDTH, self.height];
        let room = [w as f64 / unit - own[0], h as f64 / unit - own[1]];
        let moving: Vec<Moving> = (0..self.digits)
            .map(|_| {
                let digit = stream.below(10);
                let angle = stream.between(0.0, std::f64::consts::TAU);
                let travel = stream.between(self.travel[0], self.travel[1]);
                Moving {
                    digit,
                    strokes: segments(digit),
                    from: room.map(|side| stream.between(0.0, side)),
                    way: [travel * angle.cos(), travel * angle.sin()],
                }
            })
            .collect();
        let mut bytes = Vec::with_capacity(frames * h * w * channels);
        for frame in 0..frames {
            let time = frame as f64 / frames as f64;
            let mut canvas = Canvas::new(h, w, |_| [0.0; 3]);
            for one in &moving {
                let middle = [0, 1].map(|axis| {
                    let free = one.from[axis] + time * one.way[axis];
                    bounced(free, room[axis]) + 0.5 * own[axis]
                });
                draw(&mut canvas, &one.strokes, middle, self.height, unit);
            }
            canvas.finish(channels, &mut bytes);
        }
        let fps = frames as f64 / self.seconds;
        let clip = Clip::new(bytes, [frames, h, w, channels], fps)?;
        Ok((clip, caption(&moving)))
    }
}

/// The place after reflections at 0 and `side`.
fn bounced(free: f64, side: f64) -> f64 {
    if side <= 0.0 {
        return 0.5 * side;
    }
    let folded = free.rem_euclid(2.0 * side);
    if folded > side { 2.0 * side - folded } else { folded }
}

fn caption(moving: &[Moving]) -> String {
    let names: Vec<String> = moving.iter().map(|one| one.digit.to_string()).collect();
    match names.split_last() {
        Some((last, [])) => format!("the digit {last}"),
        Some((last, rest)) => format!("the digits {} and {last}", rest.join(", ")),
        None => String::new(),
    }
}

/// The width of a digit as a part of its height.
const WIDTH: f64 = 0.62;

/// Lights the pixels near the strokes of a digit.
fn draw(canvas: &mut Canvas, strokes: &[Segment], middle: [f64; 2], height: f64, unit: f64) {
    // half the width of a pen stroke in pixels
    let pen = (0.075 * height * unit).max(0.6);
    // in frames of a few pixels a digit is no more than a dot
    let scale = (height * unit - 2.0 * pen).max(0.1);
    let range = |axis: usize, side: usize| {
        let half = 0.5 * height * unit + 1.0;
        let first = (middle[axis] * unit - half).max(0.0) as usize;
        let end = ((middle[axis] * unit + half).max(0.0).ceil() as usize).min(side);
        first..end
    };
    for y in range(1, canvas.h) {
        for x in range(0, canvas.w) {
            // the pixel's middle in the digit's own box
            let here = [
                (x as f64 + 0.5 - middle[0] * unit) / scale,
                (y as f64 + 0.5 - middle[1] * unit) / scale,
            ];
            let away = distance(strokes, here) * scale;
            // one pixel wide edge: the part of the pixel that the pen covers
            let light = (pen + 0.5 - away).clamp(0.0, 1.0);
            for value in &mut canvas.light[y * canvas.w + x] {
                *value = value.max(light);
            }
        }
    }
}

/// A straight line from one point to another.
type Segment = [[f64; 2]; 2];

/// The strokes of a digit as straight lines.
fn segments(digit: usize) -> Vec<Segment> {
    STROKES[digit].iter().flat_map(Stroke::segments).collect()
}

/// The distance from a point to the nearest stroke.
fn distance(strokes: &[Segment], at: [f64; 2]) -> f64 {
    strokes.iter().map(|&[from, to]| to_segment(at, from, to)).fold(f64::INFINITY, f64::min)
}

/// A piece of a digit, in a box of x in [-0.25, 0.25] and y in [-0.5, 0.5], y down.
#[derive(Debug, Clone, Copy)]
enum Stroke {
    /// From one point to another.
    Line([f64; 2], [f64; 2]),
    /// Part of an ellipse: middle, half axes, first and last angle in degrees (0 right, 90 down).
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
                // chords of at most 15 degrees are within 0.005 of the arc, below a pixel up to 200 pixels of height
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
        fn a_bounce_stays_inside_and_is_continuous(free in -5.0f64..5.0, side in 0.01f64..2.0) {
            let at = bounced(free, side);
            prop_assert!((0.0..=side).contains(&at));
            let next = bounced(free + 1e-4, side);
            prop_assert!((at - next).abs() < 1.01e-4);
        }

        #[test]
        fn strokes_stay_in_their_box(digit in 0usize..10, x in -0.5f64..0.5, y in -0.8f64..0.8) {
            // outside the box by d, no stroke is nearer than d
            let out = (x.abs() - 0.3).max(y.abs() - 0.51).max(0.0);
            prop_assert!(distance(&segments(digit), [x, y]) >= out - 1e-9);
        }
    }

    #[test]
    fn captions_name_every_digit() {
        let moving = |digits: &[usize]| -> Vec<Moving> {
            digits
                .iter()
                .map(|&digit| Moving { digit, strokes: Vec::new(), from: [0.0; 2], way: [0.0; 2] })
                .collect()
        };
        assert_eq!(caption(&moving(&[3])), "the digit 3");
        assert_eq!(caption(&moving(&[3, 7])), "the digits 3 and 7");
        assert_eq!(caption(&moving(&[3, 7, 1])), "the digits 3, 7 and 1");
    }
}
