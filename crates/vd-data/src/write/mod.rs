//! Writes clips to files: GIF, WebP, MP4, PNG frames, arrays, contact sheets, line plots.

mod array;
mod format;
mod frames;
mod fresh;
mod gif;
mod grid;
mod keep;
mod mp4;
mod palette;
mod picture;
mod plot;
mod preview;
mod preview_numbers;
mod sheet;
mod text;
mod tile;
mod webp;

pub use array::{ArrayFormat, write_array, write_floats};
pub use format::ClipFormat;
pub use frames::{write_frames, write_frames_from};
pub use gif::{gif_fps, write_gif};
pub use grid::grid;
pub use keep::write_gif_keeping;
pub use mp4::{mp4_size, write_mp4};
pub use picture::picture;
pub use plot::{Line, LinePlot, write_line_plot};
pub use preview::{Previewed, write_preview};
pub use sheet::{SheetRow, contact_sheet, write_contact_sheet};
pub use tile::tile;
pub use webp::{webp_fps, write_webp};

use std::path::Path;

use vd_tensor_ops::write_atomically;

use crate::{Error, Result};

/// Writes a file atomically, replacing an existing one.
pub(crate) fn write_file(path: &Path, bytes: &[u8]) -> Result<()> {
    write_atomically(path, bytes).map_err(|e| unwritten(path, e))
}

/// The error of a file that could not be written.
fn unwritten(path: &Path, error: vd_tensor_ops::Error) -> Error {
    let source = match error {
        vd_tensor_ops::Error::Io { source, .. } => source,
        other => std::io::Error::other(other.to_string()),
    };
    Error::write(path, source)
}
