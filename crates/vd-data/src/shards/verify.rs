//! Checks that prepared clips have not changed since they were written.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::index::{Index, bytes};
use super::name::to_hex;
use super::record::ClipLine;
use super::shard_path;
use crate::folder::BadFile;
use crate::{Error, Result};

/// The result of [`verify`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Verified {
    /// The folder.
    pub folder: PathBuf,
    /// The number of clips that were read.
    pub clips: usize,
    /// Their total size.
    pub bytes: u64,
    /// Clips whose bytes differ from those that were written.
    pub damaged: Vec<BadFile>,
}

/// Reads every clip of a folder of shards and compares its checksum.
///
/// # Errors
/// When there is no valid index.
pub fn verify(folder: &Path) -> Result<Verified> {
    let index = Index::read(folder)?;
    let mut found =
        Verified { folder: folder.to_path_buf(), clips: 0, bytes: 0, damaged: Vec::new() };
    for (_, clip) in index.clips() {
        found.clips += 1;
        found.bytes += bytes(clip).unwrap_or(0);
        if let Err(error) = check(folder, clip) {
            found.damaged.push(BadFile { path: clip.name.path(), reason: error.to_string() });
        }
    }
    Ok(found)
}

fn check(folder: &Path, clip: &ClipLine) -> Result<()> {
    let path = shard_path(folder, clip.shard);
    let wanted = bytes(clip).unwrap_or(0);
    let mut file = File::open(&path).map_err(|e| Error::read(&path, e))?;
    file.seek(SeekFrom::Start(clip.offset)).map_err(|e| Error::read(&path, e))?;
    let (mut part, mut rest, mut sum) = (vec![0; 1 << 20], file.take(wanted), Sha256::new());
    let mut read = 0;
    loop {
        match rest.read(&mut part).map_err(|e| Error::read(&path, e))? {
            0 => break,
            n => {
                sum.update(&part[..n]);
                read += n as u64;
            }
        }
    }
    if read == wanted && shortened(sum) == clip.sha256 {
        return Ok(());
    }
    let expected = format!("the {wanted} bytes from byte {} as they were written", clip.offset);
    Err(Error::damaged(&path, expected, if read == wanted { "others" } else { "fewer" }))
}

/// The checksum of a clip.
pub(super) fn checksum(bytes: &[u8]) -> String {
    shortened(Sha256::new_with_prefix(bytes))
}

fn shortened(sum: Sha256) -> String {
    to_hex(&sum.finalize()[..16])
}
