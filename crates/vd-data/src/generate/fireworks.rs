//! Fireworks: one or two bursts in a night sky, with captions.

use std::collections::BTreeMap;
use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::Generator;
use super::burst::{Burst, sparks};
use super::canvas::Canvas;
use crate::clip::check_shape;
use crate::random::{Purpose, Stream};
use crate::{Clip, Colour, Error, Result};

/// Settings of the fireworks.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FireworksConfig {
    /// The colours to choose from, with equal probability.
    pub colours: Vec<Colour>,
    /// The probability of two bursts in one clip, [0, 1].
    pub two_bursts: f64,
    /// The pairs, first burst first, from which two bursts are chosen; empty means any two
    /// different `colours`.
    pub pairs: Vec<[Colour; 2]>,
    /// How far the centre of a burst may be from the centre of the frame: 0 means not at all, 1 as
    /// far as the burst stays inside.
    pub spread: f64,
    /// Minimum and maximum radius of an open burst relative to the shorter side, (0, 1].
    pub radius: [f64; 2],
    /// Whether the climbing rocket is shown.
    pub rocket: bool,
    /// The duration of a clip in seconds; the rate follows from it and the number of frames.
    pub seconds: f64,
    /// The names of each colour, one of which is chosen at random each time; a colour that is left
    /// out has its own name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub names: BTreeMap<Colour, Vec<String>>,
    /// Captions for one burst, one of which is chosen at random, with the colour's name in place of
    /// `{colour}`; empty means "a {colour} firework".
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub sentences: Vec<String>,
}

/// The placeholder for the colour's name in a sentence.
const PLACE: &str = "{colour}";

impl Default for FireworksConfig {
    fn default() -> Self {
        Self {
            colours: Colour::ALL.to_vec(),
            two_bursts: 0.25,
            pairs: Vec::new(),
            spread: 0.6,
            radius: [0.3, 0.42],
            rocket: true,
            seconds: 1.6,
            names: BTreeMap::new(),
            sentences: Vec::new(),
        }
    }
}

/// The geometry of the frame.
#[derive(Debug, Clone, Copy)]
struct Frame {
    /// Width and height as multiples of the shorter side.
    aspect: [f64; 2],
    /// The shorter side in pixels.
    unit: f64,
}

impl FireworksConfig {
    /// Checks every number against its range.
    ///
    /// # Errors
    /// Names the first one that is outside.
    pub fn validate(&self) -> Result<()> {
        if self.colours.is_empty() {
            let expected = "at least one colour";
            return Err(Error::config("data.source.colours", expected, "none"));
        }
        if !(0.0..=1.0).contains(&self.two_bursts) {
            let key = "data.source.two_bursts";
            return Err(Error::config(key, "a probability, 0 to 1", self.two_bursts));
        }
        let mut different = self.colours.clone();
        different.sort_unstable();
        different.dedup();
        if self.two_bursts > 0.0 && self.pairs.is_empty() && different.len() < 2 {
            let key = "data.source.two_bursts";
            let expected = "0 with one colour (or pairs of colours)";
            return Err(Error::config(key, expected, self.two_bursts));
        }
        if !(0.0..=1.0).contains(&self.spread) {
            return Err(Error::config("data.source.spread", "0 to 1", self.spread));
        }
        let [small, large] = self.radius;
        if !(small >= 0.05 && large >= small && large <= 1.0) {
            let expected = "[smallest, largest], 0.05 to 1";
            let got = format!("{:?}", self.radius);
            return Err(Error::config("data.source.radius", expected, got));
        }
        if !(self.seconds > 0.0 && self.seconds <= 3600.0) {
            let key = "data.source.seconds";
            return Err(Error::config(key, "above 0, at most 3600", self.seconds));
        }
        self.check_words()
    }

    fn check_words(&self) -> Result<()> {
        for (colour, names) in &self.names {
            if names.is_empty() || names.iter().any(|name| name.trim().is_empty()) {
                let expected = format!("at least one name of {colour}, none of them empty");
                return Err(Error::config("data.source.names", expected, format!("{names:?}")));
            }
        }
        if let Some(sentence) = self.sentences.iter().find(|s| !s.contains(PLACE)) {
            let expected = format!("sentences with {PLACE} in them");
            return Err(Error::config("data.source.sentences", expected, format!("{sentence:?}")));
        }
        Ok(())
    }

    /// One of the colour's names.
    fn name(&self, stream: &mut Stream, colour: Colour) -> &str {
        match self.names.get(&colour).map(Vec::as_slice) {
            None | Some([]) => colour.name(),
            Some(names) => &names[stream.below(names.len())],
        }
    }

    /// The caption of one burst, or of two in their order; `stream` is used for nothing else, so
    /// that words do not affect pixels.
    fn caption(&self, mut stream: Stream, bursts: &[Burst]) -> String {
        match bursts {
            [one] => {
                let name = self.name(&mut stream, one.colour);
                match self.sentences.as_slice() {
                    [] => format!("a {name} firework"),
                    some => some[stream.below(some.len())].replace(PLACE, name),
                }
            }
            more => {
                let names: Vec<_> =
                    more.iter().map(|burst| self.name(&mut stream, burst.colour)).collect();
                format!("two bursts, {}", names.join(" then "))
            }
        }
    }

    /// Plans what one clip shows.
    fn plan(&self, stream: &mut Stream, frame: Frame) -> Vec<Burst> {
        if !stream.chance(self.two_bursts) {
            let colour = self.colours[stream.below(self.colours.len())];
            return vec![self.burst(stream, frame, colour, [0.0, 1.0], 1.0)];
        }
        let [first, second] = self.pair(stream);
        let mut early = self.burst(stream, frame, first, [0.0, 0.75], APART);
        let mut late = self.burst(stream, frame, second, [0.36, 1.0], APART);
        // one on each side, or they would look like one
        let side = if stream.chance(0.5) { 1.0 } else { -1.0 };
        for (burst, side) in [(&mut early, side), (&mut late, -side)] {
            let room = (0.5 * frame.aspect[0] - burst.radius).max(0.0);
            let x = 0.5 * frame.aspect[0] + side * room * stream.between(0.6, 1.0);
            burst.ground += x - burst.centre[0];
            burst.centre[0] = x;
        }
        vec![early, late]
    }

    fn pair(&self, stream: &mut Stream) -> [Colour; 2] {
        if !self.pairs.is_empty() {
            return self.pairs[stream.below(self.pairs.len())];
        }
        let mut colours = self.colours.clone();
        colours.sort_unstable();
        colours.dedup();
        let first = stream.below(colours.len());
        let second = (first + 1 + stream.below(colours.len() - 1)) % colours.len();
        [colours[first], colours[second]]
    }

    /// A burst during the part [`begin`, `end`] of the clip, `scale` times as large as a single
    /// one.
    fn burst(
        &self,
        stream: &mut Stream,
        Frame { aspect, unit }: Frame,
        colour: Colour,
        [begin, end]: [f64; 2],
        scale: f64,
    ) -> Burst {
        let radius = scale * stream.between(self.radius[0], self.radius[1]);
        // leaves room above for the ring and below for the falling sparks
        let middle = [0.5 * aspect[0], 0.42 * aspect[1]];
        let room = [(middle[0] - 0.9 * radius).max(0.0), (middle[1] - 0.9 * radius).max(0.0)];
        let centre =
            [0, 1].map(|axis| middle[axis] + self.spread * room[axis] * stream.between(-1.0, 1.0));
        let climb = if self.rocket { 0.16 } else { 0.0 };
        Burst {
            colour,
            centre,
            radius,
            times: [begin, begin + climb, end],
            ground: centre[0] + stream.between(-0.12, 0.12),
            sparks: sparks(stream, radius * unit),
        }
    }
}

impl FireworksConfig {
    /// Draws some of the clip's `frames` frames.
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
        let mut stream = Stream::new(Purpose::Fireworks, seed, 0, index);
        let unit = h.min(w) as f64;
        let aspect = [w as f64 / unit, h as f64 / unit];
        let bursts = self.plan(&mut stream, Frame { aspect, unit });
        let caption = self.caption(Stream::new(Purpose::Caption, seed, 0, index), &bursts);
        let count = which.len();
        let mut bytes = Vec::with_capacity(count * h * w * channels);
        for frame in which {
            let time = (frame as f64 + 0.5) / frames as f64;
            let mut canvas = Canvas::new(h, w, sky);
            for burst in &bursts {
                burst.draw(&mut canvas, time);
            }
            canvas.finish(channels, &mut bytes);
        }
        let fps = frames as f64 / self.seconds;
        Ok((Clip::new(bytes, [count, h, w, channels], fps)?, caption))
    }
}

impl Generator for FireworksConfig {
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

/// The size of each of two bursts relative to a single one.
const APART: f64 = 0.72;

/// A night sky, slightly lighter towards the ground (`down` = 1), too faint to count as a colour.
fn sky(down: f64) -> [f64; 3] {
    [0.012 + 0.012 * down, 0.012 + 0.016 * down, 0.03 + 0.03 * down]
}
