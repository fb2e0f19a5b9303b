//! Values of flags that are more than a number.

use std::fmt;
use std::str::FromStr;

use clap::ValueEnum;
use serde::Serialize;
use vd_data::ClipFormat;
use vd_text_cond::{Part, Text};

/// The largest side of a frame that a command line may ask for: that of a config.
const LARGEST_SIDE: i64 = vd_data::MAX_SIDE as i64;
/// The most frames of a clip that a command line may ask for: those of a config.
pub(crate) const MOST_FRAMES: i64 = vd_data::MAX_FRAMES as i64;
/// The strongest guidance; clips are noise long before it.
pub(crate) const LARGEST_SCALE: f64 = 1000.0;

/// Height and width in pixels: `32` or `24x40`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FrameSize {
    pub(crate) h: i64,
    pub(crate) w: i64,
}

impl FromStr for FrameSize {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (h, w) = text.split_once(['x', 'X']).unwrap_or((text, text));
        let side = |text: &str| {
            let plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
            let n = text.parse::<i64>().ok().filter(|n| plain && (1..=LARGEST_SIDE).contains(n));
            n.ok_or_else(|| {
                format!(
                    "expected HEIGHTxWIDTH such as 24x40, or one number for a square, \
                     each side from 1 to {LARGEST_SIDE}"
                )
            })
        };
        Ok(FrameSize { h: side(h)?, w: side(w)? })
    }
}

impl fmt::Display for FrameSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}x{}", self.h, self.w)
    }
}

/// Which of the two sets of weights of a checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum WeightsName {
    /// The moving average
    Ema,
    /// The weights that the optimiser updates
    Model,
}

impl fmt::Display for WeightsName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            WeightsName::Ema => "ema",
            WeightsName::Model => "model",
        })
    }
}

/// Where the noise of the steps comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum NoiseName {
    /// Drawn afresh at each step
    Fresh,
    /// From one Brownian path per clip: more steps refine the same clip; slower
    Path,
}

/// How a small video is taken to have been made from a large one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum DownName {
    /// Each pixel is the mean of a square
    Area,
    /// Linear interpolation between the pixels at the centre of each square
    Bilinear,
}

/// Pixels from a row and a column on: `y,x,h,w`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PixelBox {
    pub(crate) y: i64,
    pub(crate) x: i64,
    pub(crate) h: i64,
    pub(crate) w: i64,
}

impl fmt::Display for PixelBox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{},{},{},{}", self.y, self.x, self.h, self.w)
    }
}

/// Four numbers, the last two at least 1.
pub(crate) fn boxed(text: &str) -> Result<PixelBox, String> {
    let numbers: Option<Vec<i64>> = text
        .split(',')
        .map(|number| number.trim().parse().ok().filter(|n| (0..=LARGEST_SIDE).contains(n)))
        .collect();
    match numbers.as_deref() {
        Some(&[y, x, h, w]) if h > 0 && w > 0 => Ok(PixelBox { y, x, h, w }),
        _ => Err("expected row,column,height,width in pixels, such as 8,0,16,32".to_owned()),
    }
}

/// A release of video-diffusion-pytorch whose checkpoints are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum PeerVersion {
    /// Group norm; the long skip starts before the first temporal attention
    #[value(name = "0.5.3", alias = "0.5", alias = "0.5.2")]
    V0_5,
    /// Group norm; the long skip starts after it
    #[value(name = "0.6.3", alias = "0.6", alias = "0.6.0", alias = "0.6.1", alias = "0.6.2")]
    V0_6,
    /// RMS norm
    #[value(name = "0.7.0", alias = "0.7")]
    V0_7,
}

impl fmt::Display for PeerVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            PeerVersion::V0_5 => "0.5.3",
            PeerVersion::V0_6 => "0.6.3",
            PeerVersion::V0_7 => "0.7.0",
        })
    }
}

/// One `section.key=value`; what it means is for the config to say.
pub(crate) fn setting(text: &str) -> Result<String, String> {
    let key = text.split_once('=').map(|(key, _)| key.trim());
    match key {
        Some(key) if key.contains('.') && key.split('.').all(|part| !part.trim().is_empty()) => {
            Ok(text.to_owned())
        }
        _ => Err("expected section.key=value, such as train.steps=2000".to_owned()),
    }
}

/// A guidance scale.
pub(crate) fn scale(text: &str) -> Result<f64, String> {
    let scale = text.parse::<f64>().ok().filter(|scale| (0.0..=LARGEST_SCALE).contains(scale));
    scale.ok_or_else(|| format!("expected a number from 0 to {LARGEST_SCALE}; 1 is no guidance"))
}

/// A text of the grammar of prompts.
pub(crate) fn prompt(text: &str) -> Result<Text, String> {
    Text::parse(text).map_err(|error| error.to_string())
}

/// What clips are pulled away from, as the value of one flag.
pub(crate) type Parts = Vec<Part>;

/// A text that clips are pulled away from, in the same grammar, but for all frames.
pub(crate) fn negative(text: &str) -> Result<Parts, String> {
    let text = Text::plain("").against(text).map_err(|error| error.to_string())?;
    Ok(text.negative.unwrap_or_default())
}

/// A name and what stands behind its `=`.
fn named<'a>(text: &'a str, example: &str) -> Result<(String, &'a str), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.trim().is_empty() && !value.trim().is_empty() => {
            Ok((name.trim().to_owned(), value.trim()))
        }
        _ => Err(format!("expected {example}")),
    }
}

/// A signal with its value, which the model's config gives a meaning.
pub(crate) fn signal(text: &str) -> Result<(String, String), String> {
    let (name, value) = named(text, "NAME=VALUE, such as weather=rain or speed=0.5")?;
    Ok((name, value.to_owned()))
}

/// A signal with its scale.
pub(crate) fn signal_scale(text: &str) -> Result<(String, f64), String> {
    let (name, value) = named(text, "NAME=SCALE, such as weather=2")?;
    Ok((name, scale(value)?))
}

/// A format of clips.
pub(crate) fn format(text: &str) -> Result<ClipFormat, String> {
    let text = text.trim().to_lowercase();
    let known = ClipFormat::ALL.into_iter().find(|format| format.name() == text);
    let names = || ClipFormat::ALL.map(ClipFormat::name).join(", ");
    known.ok_or_else(|| format!("expected one or more of {}, separated by commas", names()))
}

/// A weight of reconstruction guidance.
pub(crate) fn weight(text: &str) -> Result<f64, String> {
    let weight = text.parse::<f64>().ok().filter(|weight| (0.0..=LARGEST_SCALE).contains(weight));
    weight.ok_or_else(|| format!("expected a number from 0 (no gradient) to {LARGEST_SCALE}"))
}

/// A bound that an error is compared with, or a frame rate.
pub(crate) fn positive(text: &str) -> Result<f64, String> {
    let number = text.parse::<f64>().ok().filter(|x| x.is_finite() && *x > 0.0);
    number.ok_or_else(|| "expected a number above 0".to_owned())
}

/// A number of bytes: 1048576, 1024K, 1M.
pub(crate) fn size_in_bytes(text: &str) -> Result<u64, String> {
    let (number, shift) = match text.as_bytes().last().map(u8::to_ascii_uppercase) {
        Some(b'K') => (&text[..text.len() - 1], 10),
        Some(b'M') => (&text[..text.len() - 1], 20),
        Some(b'G') => (&text[..text.len() - 1], 30),
        _ => (text, 0),
    };
    let bytes = number.parse::<u64>().ok().and_then(|n| n.checked_mul(1 << shift));
    let bytes = bytes.filter(|bytes| (1 << 20..=1 << 50).contains(bytes));
    bytes.ok_or_else(|| "expected a size from 1M to 1048576G, such as 256M".to_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn sizes_are_a_side_or_height_by_width() {
        assert_eq!("32".parse::<FrameSize>().unwrap(), FrameSize { h: 32, w: 32 });
        assert_eq!("24x40".parse::<FrameSize>().unwrap(), FrameSize { h: 24, w: 40 });
        for bad in ["", "0", "x", "24x", "x40", "24x40x3", "-8", "+8", "3.5", "99999", "8x0"] {
            assert!(bad.parse::<FrameSize>().unwrap_err().contains("24x40"), "{bad}");
        }
    }

    #[test]
    fn numbers_out_of_range_are_refused() {
        assert_eq!(scale("0").unwrap(), 0.0);
        assert_eq!(scale("1e1").unwrap(), 10.0);
        for bad in ["-1", "nan", "inf", "two", ""] {
            assert!(scale(bad).is_err(), "{bad}");
            assert!(positive(bad).is_err(), "{bad}");
        }
        assert!(positive("0").is_err());
        assert!(scale("1001").is_err());
    }

    #[test]
    fn bytes_have_units_of_1024() {
        assert_eq!(size_in_bytes("3M"), Ok(3 << 20));
        assert_eq!((size_in_bytes("2g"), size_in_bytes("1048576")), (Ok(2 << 30), Ok(1 << 20)));
        for bad in ["", "G", "-1G", "1.5G", "1T", "1", "99999999999G"] {
            assert!(size_in_bytes(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn boxes_are_a_place_and_a_size() {
        assert_eq!(boxed("8, 0,16,32").unwrap(), PixelBox { y: 8, x: 0, h: 16, w: 32 });
        for bad in ["", "1,2,3", "1,2,3,4,5", "1,2,0,4", "-1,2,3,4", "a,2,3,4"] {
            assert!(boxed(bad).unwrap_err().contains("8,0,16,32"), "{bad}");
        }
        assert!(weight("-1").is_err() && weight("nan").is_err());
        assert_eq!(weight("9").unwrap(), 9.0);
    }

    #[test]
    fn signals_are_a_name_and_what_stands_behind_it() {
        let of = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(signal(" weather = light rain").unwrap(), of("weather", "light rain"));
        assert_eq!(signal("a=b=c").unwrap(), of("a", "b=c"));
        assert_eq!(signal_scale("weather=2.5").unwrap(), ("weather".to_owned(), 2.5));
        for bad in ["", "weather", "=rain", "weather= "] {
            assert!(signal(bad).unwrap_err().contains("weather=rain"), "{bad}");
            assert!(signal_scale(bad).unwrap_err().contains("weather=2"), "{bad}");
        }
        assert!(signal_scale("weather=-1").unwrap_err().contains("from 0 to 1000"));
    }

    #[test]
    fn settings_need_a_section_and_a_value() {
        for good in ["train.steps=3", "train.out=", "data.source.kind=digits", "a.b=c=d"] {
            assert_eq!(setting(good).unwrap(), good);
        }
        for bad in ["", "train.steps", "steps=3", "=3", "train.=3", ".steps=3"] {
            assert!(setting(bad).is_err(), "{bad}");
        }
    }
}
