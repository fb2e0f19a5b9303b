//! The `[signals.NAME]` sections of a run: which data feed the network's conditioning inputs.

use serde::{Deserialize, Serialize};
use vd_data::{Captions, DataConfig, Source};
use vd_text_cond::NullEmbedding;
use vd_unet3d::SignalConfig;

use crate::{Error, Result, RunConfig};

/// The source of a signal's values, and how often they are dropped.
///
/// Every signal of the network, `[model.signals.NAME]`, has such a section, `[signals.NAME]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignalSource {
    /// Where the values come from.
    pub from: SignalFrom,
    /// The fraction of training samples without this signal.
    ///
    /// The draws for each signal, and those for the text, are independent. So the fraction of
    /// samples without any of them, which guidance over all of them starts from, is the product of
    /// the rates: 0.001 for three of 0.1. Guidance over several inputs needs higher rates, both for
    /// that product and for samples that have only one of them.
    ///
    /// # Range
    /// [0, 1); 0 leaves the null embedding untrained, which rules out guidance by this signal and
    /// previews
    /// [0, 1); 0 leaves the stand-in untrained and rules guidance by this signal and previews out
    #[serde(default = "default_drop")]
    pub drop: f64,
}

/// The source of a signal's values.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum SignalFrom {
    /// A column of the table of captions with a value for each clip: the name of a class, a number
    /// for a scalar, a list of numbers for a series. A clip without a value is trained without the
    /// signal.
    Column {
        /// The name of the column.
        name: String,
    },
    /// The name of the folder that contains a clip, as a class ([`vd_data::Entry::folder`]).
    Folder {},
    /// A column of a JSON table with a list that has a value for each frame of the file: numbers
    /// for a scalar, lists of numbers for a series. It is cut to the frames of the clip.
    Array {
        /// The name of the column.
        name: String,
    },
    /// The clip itself at a lower resolution ([`low_resolution`](crate::low_resolution)).
    LowResolution {
        /// The downsampling factor in height and width; it must divide both sides of `data.size`.
        factor: usize,
        /// How the low resolution is enlarged to full size.
        #[serde(default)]
        upsampling: Upsampling,
    },
    /// A part of the clip itself ([`known_part`](crate::known_part)): its known pixels, 0 (grey)
    /// elsewhere, and one additional channel that is 1 where pixels are known and 0 elsewhere.
    /// Exactly one key is given.
    Masked {
        /// The number of frames at the start that are known; 1 to one less than `data.frames`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        first_frames: Option<usize>,
        /// Everything is known except a box, drawn for each clip and the same in all of its frames:
        /// its height and its width, as fractions of the frame's, are drawn independently between
        /// this minimum and maximum, [0, 1].
        #[serde(default, skip_serializing_if = "Option::is_none")]
        hidden_box: Option<[f64; 2]>,
    },
}

/// How a low resolution is enlarged to full size.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Upsampling {
    /// Every pixel becomes a square.
    #[default]
    Nearest,
    /// Linear between pixel centres, constant beyond the outermost ones.
    Bilinear,
}

fn default_drop() -> f64 {
    0.1
}

impl SignalSource {
    /// A source with the default drop rate.
    pub fn new(from: SignalFrom) -> Self {
        SignalSource { from, drop: default_drop() }
    }

    /// Whether the signal's null embedding is trained.
    pub fn null(&self) -> NullEmbedding {
        if self.drop > 0.0 { NullEmbedding::Trained } else { NullEmbedding::Untrained }
    }
}

impl SignalFrom {
    /// The column that it reads, if any.
    pub(crate) fn column(&self) -> Option<&str> {
        match self {
            SignalFrom::Column { name } | SignalFrom::Array { name } => Some(name),
            _ => None,
        }
    }

    /// Its kind in a config.
    fn kind(&self) -> &'static str {
        match self {
            SignalFrom::Column { .. } => "column",
            SignalFrom::Folder {} => "folder",
            SignalFrom::Array { .. } => "array",
            SignalFrom::LowResolution { .. } => "low-resolution",
            SignalFrom::Masked { .. } => "masked",
        }
    }
}

/// Checks that every signal of the network has a source, of a kind that can provide its values.
pub(super) fn check_sections(config: &RunConfig) -> Result<()> {
    let (told, sources) = (&config.model.signals, &config.signals);
    if let Some(name) = told.keys().find(|name| !sources.contains_key(*name)) {
        let key = format!("signals.{name}");
        let expected = format!("a section with the source of [model.signals.{name}]");
        return Err(Error::config(key, expected, "none"));
    }
    for (name, source) in sources {
        let Some(signal) = told.get(name) else {
            let expected = format!("[model.signals.{name}] for [signals.{name}]");
            return Err(Error::config(format!("model.signals.{name}"), expected, "none"));
        };
        if !(0.0..1.0).contains(&source.drop) {
            let key = format!("signals.{name}.drop");
            return Err(Error::config(key, "a share in [0, 1)", source.drop));
        }
        check_kind(name, signal, &source.from)?;
    }
    Ok(())
}

/// Checks the sources of the signals against the data.
pub(super) fn check_sources(config: &RunConfig) -> Result<()> {
    for (name, source) in &config.signals {
        let Some(signal) = config.model.signals.get(name) else { continue };
        check_data(name, &source.from, &config.data)?;
        check_video(name, signal, &source.from, &config.data)?;
    }
    Ok(())
}

/// Checks that this kind of signal can have this source.
fn check_kind(name: &str, signal: &SignalConfig, from: &SignalFrom) -> Result<()> {
    let (what, kinds): (_, &[_]) = match signal {
        SignalConfig::Class { .. } => ("class", &["column", "folder"]),
        SignalConfig::Scalar { .. } => ("scalar", &["column", "array"]),
        SignalConfig::Series { .. } => ("series", &["array", "column"]),
        SignalConfig::Video { .. } => ("video", &["low-resolution", "masked"]),
    };
    if kinds.contains(&from.kind()) {
        return Ok(());
    }
    let expected = format!("{}, for a signal of kind {what}", kinds.join(" or "));
    Err(Error::config(format!("signals.{name}.from.kind"), expected, from.kind()))
}

/// Checks that the data contain the source.
pub(super) fn check_data(name: &str, from: &SignalFrom, data: &DataConfig) -> Result<()> {
    let wanted = match from {
        SignalFrom::Column { .. } | SignalFrom::Array { .. } => match &data.source {
            Source::Folder { captions: Captions::Table(_), .. } | Source::Shards { .. } => {
                return Ok(());
            }
            _ => "a folder with captions = { table = \"...\" }",
        },
        SignalFrom::Folder {} => match &data.source {
            Source::Folder { .. } | Source::Shards { .. } => return Ok(()),
            _ => "a folder with one subfolder per class",
        },
        SignalFrom::LowResolution { .. } | SignalFrom::Masked { .. } => return Ok(()),
    };
    let expected = format!("{wanted}, for signals.{name}.from of kind {}", from.kind());
    Err(Error::config("data.source", expected, "another source"))
}

/// Checks the numbers of a source that is made from the clip itself.
fn check_video(
    name: &str,
    signal: &SignalConfig,
    from: &SignalFrom,
    data: &DataConfig,
) -> Result<()> {
    let refuse = |key: &str, expected: String, got: String| {
        Err(Error::config(format!("signals.{name}.from{key}"), expected, got))
    };
    let channels = match *from {
        SignalFrom::LowResolution { factor, .. } => {
            if factor < 2 || data.size.iter().any(|side| side % factor != 0) {
                let expected = format!("2 or more, dividing data.size = {:?}", data.size);
                return refuse(".factor", expected, factor.to_string());
            }
            data.channels
        }
        SignalFrom::Masked { first_frames, hidden_box } => {
            match (first_frames, hidden_box) {
                (Some(n), None) if !(1..data.frames).contains(&n) => {
                    let expected = format!("1 to less than data.frames = {}", data.frames);
                    return refuse(".first_frames", expected, n.to_string());
                }
                (None, Some([least, most])) if !(0.0 < least && least <= most && most <= 1.0) => {
                    let expected = "[smallest, largest], shares above 0 and up to 1".to_owned();
                    return refuse(".hidden_box", expected, format!("[{least}, {most}]"));
                }
                (Some(_), None) | (None, Some(_)) => {}
                (first, _) => {
                    let got = if first.is_some() { "both" } else { "neither" };
                    let expected = "either first_frames or hidden_box".to_owned();
                    return refuse("", expected, got.to_owned());
                }
            }
            data.channels + 1
        }
        _ => return Ok(()),
    };
    match signal {
        SignalConfig::Video { channels: given } if *given != channels as i64 => {
            let key = format!("model.signals.{name}.channels");
            let expected = format!("{channels}, as signals.{name}.from gives");
            Err(Error::config(key, expected, given))
        }
        _ => Ok(()),
    }
}
