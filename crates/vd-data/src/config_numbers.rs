//! The parts of a config that concern numbers other than bytes.

use crate::array::{ArrayOptions, MAX_CHANNELS};
use crate::normalise::Normaliser;
use crate::{DataConfig, Error, Folder, Result, Source};

impl DataConfig {
    /// How arrays are read.
    pub fn arrays(&self) -> ArrayOptions {
        ArrayOptions { axes: self.axes.clone(), member: self.member.clone() }
    }

    /// Lists the clips like [`Source::list`], with arrays read as the config says.
    ///
    /// # Errors
    /// As [`Source::list`].
    pub fn list(&self) -> Result<Option<Folder>> {
        match &self.source {
            Source::Folder { path, captions } => {
                Folder::list_arrays(path, captions, &self.arrays()).map(Some)
            }
            source => source.list(),
        }
    }

    /// Whether clips are numbers in any unit ([`AnyClip::Floats`](crate::AnyClip)) instead of
    /// bytes.
    pub fn takes_floats(&self) -> bool {
        self.normalise.is_some() || self.invalid.is_some() || !matches!(self.channels, 1 | 3)
    }

    /// The mapping of numbers to the range of the diffusion process; `None` for clips of bytes.
    ///
    /// # Errors
    /// Rules outside their range; statistics that have not been measured yet.
    pub fn normaliser(&self) -> Result<Option<Normaliser>> {
        match &self.normalise {
            Some(rules) => Normaliser::new(rules, self.channels).map(Some),
            None if self.takes_floats() => Ok(Some(Normaliser::bytes(self.channels))),
            None => Ok(None),
        }
    }

    pub(crate) fn check_channels(&self) -> Result<()> {
        let arrays = matches!(self.source, Source::Folder { .. } | Source::Shards { .. });
        let of_arrays = 1..=if arrays { MAX_CHANNELS } else { 0 };
        if !matches!(self.channels, 1 | 3) && !of_arrays.contains(&self.channels) {
            let expected = format!("1 or 3; for arrays 1 to {MAX_CHANNELS}");
            return Err(Error::config("data.channels", expected, self.channels));
        }
        if self.images.is_some() && self.takes_floats() {
            let expected = "no images beside clips of numbers (data.normalise, data.invalid, or channels other than 1 and 3)";
            return Err(Error::config("data.images", expected, "images"));
        }
        if self.invalid.is_some_and(f64::is_nan) {
            let expected = "a number; NaN always counts as missing";
            return Err(Error::config("data.invalid", expected, "NaN"));
        }
        match &self.normalise {
            Some(normalise) => normalise.rules(self.channels).map(|_| ()),
            None => Ok(()),
        }
    }
}
