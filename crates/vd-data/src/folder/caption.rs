//! The caption file beside a video.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::Path;

use crate::captions::MAX_CAPTION;
use crate::decode::Media;
use crate::{Error, Result};

/// The caption of a video, by the rules of [`crate::Folder`]; nothing above `root` is read.
pub(super) fn beside(root: &Path, media: &Media) -> Result<Option<String>> {
    let path = media.path();
    match media {
        Media::File(_) | Media::Array(_) => read(&path.with_extension("txt")),
        // its caption is in the index
        Media::Packed(_) => Ok(None),
        Media::Frames { folder, .. } => {
            let inside = read(&folder.join("caption.txt"))?;
            match folder.file_name() {
                Some(name) if inside.is_none() && folder.as_path() != root => {
                    // not with_extension: a dot in a folder's name does not start an extension
                    let mut name = name.to_os_string();
                    name.push(".txt");
                    read(&folder.with_file_name(name))
                }
                _ => Ok(inside),
            }
        }
    }
}

fn read(path: &Path) -> Result<Option<String>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(Error::read(path, e)),
    };
    let mut bytes = Vec::new();
    file.take(MAX_CAPTION + 1).read_to_end(&mut bytes).map_err(|e| Error::read(path, e))?;
    if bytes.len() as u64 > MAX_CAPTION {
        return Err(Error::TooLarge {
            path: path.to_path_buf(),
            found: "a longer caption".to_owned(),
            limit: format!("{MAX_CAPTION} bytes"),
        });
    }
    let text = String::from_utf8(bytes).map_err(|e| {
        Error::damaged(
            path,
            "a caption in UTF-8",
            format!("another byte at position {}", e.utf8_error().valid_up_to()),
        )
    })?;
    // some editors write a byte order mark at the start
    let text = text.trim_start_matches('\u{feff}').trim();
    Ok((!text.is_empty()).then(|| text.to_owned()))
}
