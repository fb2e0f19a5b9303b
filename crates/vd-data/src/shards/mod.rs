//! Prepared clips: raw frames in a few large files beside an index, so that training need not
//! decode anything.
//!
//! A folder of shards contains
//! - `shard-00000.bin` and so on: the samples of one clip after another, f h w c, each clip
//!   contiguous and starting at a multiple of 64 bytes; bytes, or little-endian floats of 16 or 32
//!   bits;
//! - `index.jsonl`: a header on the first line (the format's version, how the clips were prepared,
//!   the length of each shard), then a line for each clip, in the order of the source;
//! - `table.csv` or `table.jsonl`: an unchanged copy of the table of captions, if the source has
//!   one;
//! - `bad.jsonl`: what could not be prepared, and why;
//! - `journal.jsonl`, only while it is being prepared: the clips that are finished.

mod file;
mod index;
mod name;
mod open;
mod packed;
mod prepare;
mod record;
mod verify;

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

pub use packed::Packed;
pub use prepare::{Prepare, Prepared, Progress, StoredArrays, prepare};
pub use record::Dtype;
pub use verify::{Verified, verify};

pub(crate) use open::list;

/// The name of the index.
const INDEX: &str = "index.jsonl";
/// The first bytes of an index.
const MAGIC: &[u8] = b"{\"format\":\"vd-shards\"";
/// Every clip begins at a multiple of this many bytes.
const ALIGN: u64 = 64;

/// Whether a folder contains prepared clips.
pub fn is_shards(folder: &Path) -> bool {
    let mut head = Vec::with_capacity(MAGIC.len());
    let file = File::open(folder.join(INDEX));
    let read = file.and_then(|file| file.take(MAGIC.len() as u64).read_to_end(&mut head));
    read.is_ok() && head == MAGIC
}

/// The path of a shard.
fn shard_path(folder: &Path, number: u32) -> PathBuf {
    folder.join(format!("shard-{number:05}.bin"))
}
