//! Six named hues, and the rule that decides which of them a clip shows.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::Clip;

/// A colour of a firework.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Colour {
    /// Hue 0.
    Red,
    /// Hue 45.
    Gold,
    /// Hue 125.
    Green,
    /// Hue 183.
    Cyan,
    /// Hue 230.
    Blue,
    /// Hue 303.
    Magenta,
}

impl Colour {
    /// All of them, in order around the colour circle.
    pub const ALL: [Self; 6] =
        [Self::Red, Self::Gold, Self::Green, Self::Cyan, Self::Blue, Self::Magenta];

    /// The name as used in captions.
    pub fn name(self) -> &'static str {
        match self {
            Self::Red => "red",
            Self::Gold => "gold",
            Self::Green => "green",
            Self::Cyan => "cyan",
            Self::Blue => "blue",
            Self::Magenta => "magenta",
        }
    }

    /// Red, green and blue of a bright spark, [0, 255].
    pub fn rgb(self) -> [f64; 3] {
        match self {
            Self::Red => [255.0, 44.0, 44.0],
            Self::Gold => [255.0, 200.0, 40.0],
            Self::Green => [48.0, 235.0, 64.0],
            Self::Cyan => [40.0, 225.0, 235.0],
            Self::Blue => [64.0, 96.0, 255.0],
            Self::Magenta => [245.0, 60.0, 235.0],
        }
    }

    /// The hue of [`Colour::rgb`] in degrees, [0, 360).
    pub fn hue(self) -> f64 {
        let [r, g, b] = self.rgb();
        hue(r, g, b)
    }

    /// The named colour whose hue is nearest on the circle.
    fn nearest(hue: f64) -> Self {
        let mut best = (f64::INFINITY, Self::Red);
        for colour in Self::ALL {
            let away = (hue - colour.hue()).abs();
            let away = away.min(360.0 - away);
            if away < best.0 {
                best = (away, colour);
            }
        }
        best.1
    }
}

impl fmt::Display for Colour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The chroma, as a fraction of 255, below which a pixel counts as colourless.
const FAINT: f64 = 0.15;

/// The mean weight per frame, in pixels of full chroma, below which a clip counts as colourless.
const LEAST: f64 = 0.25;

/// The dominant colour of a clip's coloured light.
///
/// Every pixel of every frame votes for the named hue nearest to its own. Its weight is the square
/// of its chroma (max(r, g, b) - min(r, g, b)) / 255 = saturation x value; chromas below 0.15 (sky,
/// smoke, rounding) do not vote. `None` for grey clips, and if the votes add up to less than a
/// quarter of one fully coloured pixel per frame.
pub fn dominant_colour(clip: &Clip) -> Option<Colour> {
    let votes = colour_votes(clip)?;
    if votes.iter().sum::<f64>() < LEAST * clip.f as f64 {
        return None;
    }
    let mut best = (0.0, Colour::Red);
    for (weight, colour) in votes.into_iter().zip(Colour::ALL) {
        if weight > best.0 {
            best = (weight, colour);
        }
    }
    Some(best.1)
}

/// The votes of [`dominant_colour`], in the order of [`Colour::ALL`]; `None` for a clip of one channel.
pub fn colour_votes(clip: &Clip) -> Option<[f64; 6]> {
    if clip.c != 3 {
        return None;
    }
    let mut votes = [0.0; 6];
    for pixel in clip.frames.chunks_exact(3) {
        let [r, g, b] = [0, 1, 2].map(|k| f64::from(pixel[k]));
        let chroma = (r.max(g).max(b) - r.min(g).min(b)) / 255.0;
        if chroma >= FAINT {
            votes[Colour::nearest(hue(r, g, b)) as usize] += chroma * chroma;
        }
    }
    Some(votes)
}

/// The hue in degrees, [0, 360); 0 for greys.
///
/// # Reference
/// Smith 1978, the hexcone model (HSV).
fn hue(r: f64, g: f64, b: f64) -> f64 {
    let max = r.max(g).max(b);
    let chroma = max - r.min(g).min(b);
    if chroma <= 0.0 {
        return 0.0;
    }
    let sixth = if max == r {
        ((g - b) / chroma).rem_euclid(6.0)
    } else if max == g {
        (b - r) / chroma + 2.0
    } else {
        (r - g) / chroma + 4.0
    };
    60.0 * sixth
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::generate::{FireworksConfig, Generator};
    use crate::random::{Purpose, Stream};
    use proptest::prelude::*;

    #[test]
    fn the_hues_are_well_apart() {
        for (k, colour) in Colour::ALL.into_iter().enumerate() {
            assert_eq!(colour as usize, k);
            for other in &Colour::ALL[..k] {
                let away = (colour.hue() - other.hue()).abs();
                assert!(away.min(360.0 - away) > 40.0, "{colour} {other}");
            }
        }
        for (colour, expected) in
            Colour::ALL.into_iter().zip([0.0, 44.7, 125.1, 183.1, 229.9, 303.2])
        {
            assert!((colour.hue() - expected).abs() < 0.1, "{colour}: {}", colour.hue());
        }
    }

    proptest! {
        #[test]
        fn the_hue_does_not_depend_on_brightness(
            rgb in [1.0f64..255.0, 1.0..255.0, 1.0..255.0], scale in 0.1f64..1.0,
        ) {
            let [r, g, b] = rgb;
            let away = (hue(r, g, b) - hue(r * scale, g * scale, b * scale)).abs();
            prop_assert!(away.min(360.0 - away) < 1e-6);
        }
    }

    #[test]
    fn a_dark_or_grey_clip_has_no_colour() {
        let clip =
            |pixel: [u8; 3]| Clip::new(pixel.repeat(2 * 16 * 16), [2, 16, 16, 3], 8.0).unwrap();
        assert_eq!(dominant_colour(&clip([10, 10, 30])), None);
        assert_eq!(dominant_colour(&clip([200, 200, 200])), None);
        assert_eq!(dominant_colour(&clip([200, 20, 20])), Some(Colour::Red));
        let grey = Clip::new(vec![200; 256], [1, 16, 16, 1], 8.0).unwrap();
        assert_eq!(dominant_colour(&grey), None);
    }

    /// How often the rule finds the colour of single bursts, each byte of which is off by at most
    /// `noise`.
    fn measured(noise: usize) -> crate::Share {
        let (mut right, mut all) = (0, 0);
        for colour in Colour::ALL {
            let config = FireworksConfig {
                colours: vec![colour],
                two_bursts: 0.0,
                ..FireworksConfig::default()
            };
            for (side, index) in
                [16, 32].into_iter().flat_map(|side| (0..60).map(move |k| (side, k)))
            {
                let seed = 77 + colour as u64;
                let (mut clip, caption) = config.clip(seed, index, 8, [side, side], 3).unwrap();
                assert_eq!(caption, format!("a {colour} firework"));
                let mut stream = Stream::new(Purpose::Sample, seed, side as u64, index);
                for value in &mut clip.frames {
                    let off = stream.below(2 * noise + 1) as i16 - noise as i16;
                    *value = (i16::from(*value) + off).clamp(0, 255) as u8;
                }
                right += usize::from(dominant_colour(&clip) == Some(colour));
                all += 1;
            }
        }
        crate::wilson(right, all)
    }

    #[test]
    fn the_rule_names_the_colour_of_real_bursts() {
        // clean, and with noise like that of a short training
        for noise in [0, 24] {
            let share = measured(noise);
            assert!(share.n >= 600 && share.low >= 0.98, "{noise}: {share:?}");
        }
    }
}
