//! Synthetic clips written as a folder of videos with captions.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::generate::Generator;
use crate::write::{write_file, write_gif};
use crate::{Error, Result, Source};

/// What [`write_synthetic`] wrote.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Written {
    /// The folder.
    pub out: PathBuf,
    /// The number of clips, each a GIF with a caption beside it.
    pub clips: usize,
    /// The total size of all GIFs in bytes.
    pub bytes: u64,
}

/// Writes the first `num` clips of a generator as `00000.gif` with `00000.txt` and so on into the
/// folder `out`.
///
/// # Errors
/// When `source` is not a generator, a number is outside its range, or a file cannot be written.
pub fn write_synthetic(
    source: &Source,
    seed: u64,
    num: usize,
    frames: usize,
    size: [usize; 2],
    out: &Path,
) -> Result<Written> {
    let generator: &dyn Generator = match source {
        Source::Fireworks(config) => config,
        Source::Digits(config) => config,
        Source::Folder { path, .. } | Source::Shards { path } => {
            let expected = "fireworks or digits";
            return Err(Error::config("source", expected, path.display()));
        }
        Source::Program => {
            return Err(Error::config(
                "source",
                "fireworks or digits",
                "a program's own generator",
            ));
        }
    };
    std::fs::create_dir_all(out).map_err(|e| Error::write(out, e))?;
    // all names have the same width, so that every sorting rule gives the same order
    let digits = num.saturating_sub(1).to_string().len().max(5);
    let mut bytes = 0;
    for index in 0..num {
        let (clip, caption) = generator.clip(seed, index as u64, frames, size, 3)?;
        let path = out.join(format!("{index:0digits$}.gif"));
        write_gif(&path, &clip)?;
        bytes += path.metadata().map_err(|e| Error::read(&path, e))?.len();
        write_file(&path.with_extension("txt"), format!("{caption}\n").as_bytes())?;
    }
    Ok(Written { out: out.to_path_buf(), clips: num, bytes })
}
