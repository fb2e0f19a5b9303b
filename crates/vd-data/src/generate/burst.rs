//! One burst: a rocket climbs, its sparks spread, fall and fade.

use std::f64::consts::TAU;

use super::canvas::{Canvas, Glow};
use crate::Colour;
use crate::random::Stream;

/// One burst; lengths are relative to the shorter side, times to the length of the clip.
#[derive(Debug, Clone)]
pub(super) struct Burst {
    pub(super) colour: Colour,
    /// x to the right, y down, from the top left corner.
    pub(super) centre: [f64; 2],
    pub(super) radius: f64,
    /// The times at which the rocket appears, the burst starts, and the last spark goes out.
    pub(super) times: [f64; 3],
    /// The horizontal start position of the rocket.
    pub(super) ground: f64,
    pub(super) sparks: Vec<Spark>,
}

/// One spark: its direction, projected onto the picture, and its brightness.
#[derive(Debug, Clone, Copy)]
pub(super) struct Spark {
    along: [f64; 2],
    light: f64,
}

/// A shell of sparks as seen by a camera: most at the rim, as many as can be told apart at this
/// size, and some inside.
pub(super) fn sparks(stream: &mut Stream, radius_in_pixels: f64) -> Vec<Spark> {
    let rim = (TAU * radius_in_pixels / 4.4).clamp(8.0, 26.0) as usize;
    // with few pixels they would only fill the ring
    let inner = if radius_in_pixels < 7.0 { 0 } else { rim / 3 };
    let mut sparks = Vec::with_capacity(rim + inner);
    for (count, low, high) in [(rim, 0.9, 1.06), (inner, 0.35, 0.7)] {
        let turn = stream.unit();
        for k in 0..count {
            let angle = TAU * (k as f64 + turn + stream.between(-0.14, 0.14)) / count as f64;
            let speed = stream.between(low, high);
            sparks.push(Spark {
                along: [speed * angle.cos(), speed * angle.sin()],
                light: stream.between(0.75, 1.25),
            });
        }
    }
    sparks
}

impl Burst {
    /// Adds the burst's light at `time`, a fraction of the clip.
    pub(super) fn draw(&self, canvas: &mut Canvas, time: f64) {
        let [begin, open, end] = self.times;
        if time < begin || time > end {
            return;
        }
        let unit = canvas.h.min(canvas.w) as f64;
        let mut glow = Glow::new(canvas.h, canvas.w);
        // how white the light is, in addition to its colour
        let mut white = 0.0;
        if time < open {
            self.rocket(&mut glow, (time - begin) / (open - begin), unit);
        } else {
            let age = (time - open) / (end - open);
            white = 0.5 * (-age / 0.06).exp();
            self.sparks(&mut glow, age, unit);
            let [x, y] = self.centre;
            let flash = 3.0 * (-age / 0.04).exp();
            glow.spot(x * unit, y * unit, 0.05 * unit, flash);
        }
        let rgb = self.colour.rgb().map(|value| value / 255.0);
        for (pixel, amount) in canvas.light.iter_mut().zip(&glow.amount) {
            // like the response of film: overlapping sparks brighten without changing their hue
            let bright = 1.0 - (-amount).exp();
            for (value, own) in pixel.iter_mut().zip(rgb) {
                let lit = own + (1.0 - own) * white * bright;
                *value = 1.0 - (1.0 - *value) * (1.0 - lit * bright);
            }
        }
    }

    /// The rocket and its tail, at the fraction `along` of its path, [0, 1].
    fn rocket(&self, glow: &mut Glow, along: f64, unit: f64) {
        const STEPS: usize = 10;
        // starts at the lower edge
        let bottom = (glow.h as f64 / unit).max(self.centre[1]);
        for step in 0..STEPS {
            let back = step as f64 / STEPS as f64;
            let at = (along - 0.45 * back).max(0.0);
            let x = self.ground + (self.centre[0] - self.ground) * at;
            let y = bottom + (self.centre[1] - bottom) * at;
            let light = 1.4 * (1.0 - back) * (1.0 - back);
            glow.spot(x * unit, y * unit, spot_radius(unit), light);
        }
    }

    /// All sparks at `age` in [0, 1], each with a short trail.
    fn sparks(&self, glow: &mut Glow, age: f64, unit: f64) {
        const TRAIL: f64 = 0.34;
        let steps = (0.8 * self.radius * unit).clamp(6.0, 20.0) as usize;
        let fade = (1.0 - age).powf(0.6);
        for spark in &self.sparks {
            for step in 0..steps {
                let back = step as f64 / steps as f64;
                let then = age - TRAIL * back;
                if then < 0.0 && step > 0 {
                    break;
                }
                let [x, y] = self.at(spark, then.max(0.0));
                // the spark itself, then its trail at a fraction of the light
                let part = if step == 0 { 1.0 } else { 3.6 / steps as f64 * (1.0 - back) };
                let light = 1.9 * spark.light * fade * part;
                glow.spot(x * unit, y * unit, spot_radius(unit), light);
            }
        }
    }

    /// The position of a spark: thrown out, slowed by air, pulled down.
    fn at(&self, spark: &Spark, age: f64) -> [f64; 2] {
        const DRAG: f64 = 4.0;
        let out = self.radius * (1.0 - (-DRAG * (age + 0.03)).exp());
        let drop = 1.05 * self.radius * age * age;
        [self.centre[0] + out * spark.along[0], self.centre[1] + out * spark.along[1] + drop]
    }
}

/// The radius of a spark: as small as the pixels allow, growing slowly with the picture.
fn spot_radius(unit: f64) -> f64 {
    (0.42 + 0.008 * unit).max(0.5)
}
