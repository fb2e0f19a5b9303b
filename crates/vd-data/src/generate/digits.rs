//! Digits that move in straight lines and bounce off the edges.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::Generator;
use super::canvas::Canvas;
use super::strokes::{Segment, distance, segments};
use crate::clip::check_shape;
use crate::random::{Purpose, Stream};
use crate::{Clip, Error, Result};

/// Settings of the moving digits.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DigitsConfig {
    /// How many digits move in one clip, 1 to 4.
    pub digits: usize,
    /// The height of a digit relative to the frame's shorter side, [0.1, 0.9].
    pub height: f64,
    /// How far a digit moves in a clip, minimum and maximum, relative to the frame's shorter side.
    pub travel: [f64; 2],
    /// The duration of a clip in seconds; the rate follows from it and the number of frames.
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
    /// Names the first one that is outside.
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

/// A moving digit; lengths are relative to the shorter side.
#[derive(Debug, Clone)]
struct Moving {
    digit: usize,
    strokes: Vec<Segment>,
    /// Its centre at the start, within the available room.
    from: [f64; 2],
    /// How far it would move without edges.
    way: [f64; 2],
}

impl DigitsConfig {
    /// Draws some of the `frames` frames of a clip.
    fn drawn(
        &self,
        (seed, index): (u64, u64),
        (which, frames): (Range<usize>, usize),
        size: [usize; 2],
        channels: usize,
    ) -> Result<(Clip, String)> {
        self.validate()?;
        check_shape(frames, size, channels)?;
        let [h, w] = size;
        let mut stream = Stream::new(Purpose::Digits, seed, 0, index);
        let unit = h.min(w) as f64;
        // the room that is left for the digit's centre
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
        let count = which.len();
        let mut bytes = Vec::with_capacity(count * h * w * channels);
        for frame in which {
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
        let clip = Clip::new(bytes, [count, h, w, channels], fps)?;
        Ok((clip, caption(&moving)))
    }
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
        self.drawn((seed, index), (0..frames, frames), size, channels)
    }

    fn frame(
        &self,
        seed: u64,
        index: u64,
        (frame, frames): (usize, usize),
        size: [usize; 2],
        channels: usize,
    ) -> Result<(Clip, String)> {
        self.drawn((seed, index), (frame..frame + 1, frames), size, channels)
    }
}

/// The position after reflections at 0 and `side`.
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

/// The width of a digit relative to its height.
const WIDTH: f64 = 0.62;

/// Lights the pixels near the strokes of a digit.
fn draw(canvas: &mut Canvas, strokes: &[Segment], middle: [f64; 2], height: f64, unit: f64) {
    // half the width of a pen stroke in pixels
    let pen = (0.075 * height * unit).max(0.6);
    // in frames of a few pixels a digit shrinks to a dot
    let scale = (height * unit - 2.0 * pen).max(0.1);
    let range = |axis: usize, side: usize| {
        let half = 0.5 * height * unit + 1.0;
        let first = (middle[axis] * unit - half).max(0.0) as usize;
        let end = ((middle[axis] * unit + half).max(0.0).ceil() as usize).min(side);
        first..end
    };
    for y in range(1, canvas.h) {
        for x in range(0, canvas.w) {
            // the pixel's centre in the digit's own box
            let here = [
                (x as f64 + 0.5 - middle[0] * unit) / scale,
                (y as f64 + 0.5 - middle[1] * unit) / scale,
            ];
            let away = distance(strokes, here) * scale;
            // antialiasing over one pixel: the fraction of the pixel that the pen covers
            let light = (pen + 0.5 - away).clamp(0.0, 1.0);
            for value in &mut canvas.light[y * canvas.w + x] {
                *value = value.max(light);
            }
        }
    }
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
