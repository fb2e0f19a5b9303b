//! Images beside clips, and the checks that they share with the source of the clips.

use serde::{Deserialize, Serialize};

use super::Source;
use crate::captions::Captions;
use crate::{Error, Result};

/// The maximum number of images beside a clip.
const MOST: usize = 4096;

/// Independent images appended to the frames of every clip, for joint training.
///
/// Each is one frame, chosen at random from its own random stream, so that the clips are the same
/// as without images. It is resized, cropped and mirrored by the same rules as a clip, with draws
/// of its own.
///
/// # Reference
/// Ho et al. 2022, section 4.3.1, arXiv:2204.03458.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ImagesConfig {
    /// Where they come from. Default: random frames of other clips of the set, and of the clip
    /// itself only if it is the only one. In a folder, each still image is an image with its own
    /// caption ([`Folder::scan_images`](crate::Folder::scan_images)), and any frame of an animation
    /// can be an image; with a generator, any frame of any clip.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<Source>,
    /// How many images there are beside every clip.
    pub per_clip: usize,
}

impl Default for ImagesConfig {
    fn default() -> Self {
        Self { source: None, per_clip: 4 }
    }
}

impl ImagesConfig {
    /// Checks the numbers, and the source if there is one.
    pub(super) fn validate(&self) -> Result<()> {
        if !(1..=MOST).contains(&self.per_clip) {
            let expected = format!("1 to {MOST}; without data.images there are none");
            return Err(Error::config("data.images.per_clip", expected, self.per_clip));
        }
        let Some(source) = &self.source else { return Ok(()) };
        source.validate().map_err(|error| match error {
            Error::Config { key, expected, got } => {
                let key = key.rsplit('.').next().unwrap_or(key);
                Error::config("data.images.source", format!("{key}: {expected}"), got)
            }
            other => other,
        })
    }
}

impl Source {
    /// Checks every number and path.
    pub(super) fn validate(&self) -> Result<()> {
        match self {
            Source::Folder { path, .. } | Source::Shards { path }
                if path.as_os_str().is_empty() =>
            {
                Err(Error::config("data.source.path", "a folder", "nothing"))
            }
            Source::Folder { captions: Captions::Table(table), .. }
                if table.as_os_str().is_empty() =>
            {
                Err(Error::config("data.source.captions.table", "a file", "nothing"))
            }
            Source::Folder { .. } | Source::Shards { .. } | Source::Program => Ok(()),
            Source::Fireworks(config) => config.validate(),
            Source::Digits(config) => config.validate(),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::DataConfig;

    #[test]
    fn images_are_off_unless_asked_for_and_then_written_back() {
        let read = |images: &str| {
            let text = format!("source = {{ kind = \"fireworks\" }}\n{images}");
            toml::from_str::<DataConfig>(&text).map_err(|e| e.to_string())
        };
        let without = read("").unwrap();
        assert_eq!(without.images, None);
        assert!(!toml::to_string(&without).unwrap().contains("images"));
        let folder = Source::folder("stills");
        for (text, source, per_clip) in [
            ("images = {}", None, 4),
            ("images = { per_clip = 8 }", None, 8),
            (
                "images = { source = { kind = \"folder\", path = \"stills\" }, per_clip = 2 }",
                Some(folder),
                2,
            ),
        ] {
            let config = read(text).unwrap();
            config.validate().unwrap();
            assert_eq!(config.images, Some(ImagesConfig { source, per_clip }));
            let written = toml::to_string(&config).unwrap();
            assert_eq!(toml::from_str::<DataConfig>(&written).unwrap(), config);
        }
        assert!(read("images = { count = 3 }").unwrap_err().contains("per_clip"));
        let refused = |text: &str| read(text).unwrap().validate().unwrap_err().to_string();
        assert!(refused("images = { per_clip = 0 }").starts_with("data.images.per_clip"));
        let source = "images = { source = { kind = \"digits\", digits = 9 } }";
        assert_eq!(refused(source), "data.images.source: expected digits: 1 to 4, got 9");
        let source = "images = { source = { kind = \"folder\", path = \"\" } }";
        assert!(refused(source).starts_with("data.images.source: expected path: a folder"));
        let huge = "frames = 65536\nsize = [102, 102]\nimages = { per_clip = 4096 }";
        let small = "frames = 1\nsize = [4096, 4096]\nimages = { per_clip = 4096 }";
        for text in [huge, small] {
            assert!(refused(text).contains("frames of"), "{}", refused(text));
        }
    }
}
