//! The location of a source's clips, for every kind of source.

use std::path::Path;

use crate::{Folder, Result, Source};

impl Source {
    /// The path of the clips; `None` for a generator.
    pub fn path(&self) -> Option<&Path> {
        match self {
            Self::Folder { path, .. } | Self::Shards { path } => Some(path),
            Self::Fireworks(_) | Self::Digits(_) | Self::Program => None,
        }
    }

    /// Lists the clips with [`Folder::list_with`] or [`Folder::list_shards`]; `None` for a
    /// generator.
    ///
    /// # Errors
    /// As these two.
    pub fn list(&self) -> Result<Option<Folder>> {
        match self {
            Self::Folder { path, captions } => Folder::list_with(path, captions).map(Some),
            Self::Shards { path } => Folder::list_shards(path).map(Some),
            Self::Fireworks(_) | Self::Digits(_) | Self::Program => Ok(None),
        }
    }
}
