//! How films are read: by programs, or in this process.

use std::path::Path;

use image::RgbImage;

use super::index::Start;
#[cfg(feature = "libav")]
use super::libav;
use super::listing::Listing;
use super::{Container, Part, ask, programs};
use crate::Result;

/// The available ways.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Road {
    /// ffmpeg and ffprobe.
    Programs,
    /// The libraries behind these programs.
    #[cfg(feature = "libav")]
    Libav,
}

impl Road {
    /// The one that is used.
    #[cfg(not(feature = "libav"))]
    pub(super) fn chosen() -> Self {
        Self::Programs
    }

    /// The one that is used: the libraries, unless `VD_LIBAV` is `off`.
    #[cfg(feature = "libav")]
    pub(super) fn chosen() -> Self {
        static CHOSEN: std::sync::OnceLock<Road> = std::sync::OnceLock::new();
        *CHOSEN.get_or_init(|| match std::env::var_os("VD_LIBAV") {
            Some(value) if value == "off" => Self::Programs,
            _ => Self::Libav,
        })
    }

    /// Checks that its programs or libraries are available.
    pub(super) fn check(self, path: &Path, container: Container) -> Result<()> {
        match self {
            Self::Programs => ask::tools(path, container).map(drop),
            #[cfg(feature = "libav")]
            Self::Libav => Ok(()),
        }
    }

    /// Packets and stream of a complete film.
    pub(super) fn list(self, path: &Path, container: Container) -> Result<Listing> {
        match self {
            Self::Programs => programs::list(path, container),
            #[cfg(feature = "libav")]
            Self::Libav => libav::list(path, container),
        }
    }

    /// Decodes from `start` on, and passes each wanted frame to `visit`.
    pub(super) fn read(
        self,
        part: &Part<'_>,
        start: Start,
        visit: &mut dyn FnMut(RgbImage) -> Result<()>,
    ) -> Result<()> {
        match self {
            Self::Programs => programs::read(part, start, visit),
            #[cfg(feature = "libav")]
            Self::Libav => libav::read(part, start, visit),
        }
    }
}
