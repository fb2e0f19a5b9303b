//! Clips to files: GIF, PNG frames, arrays, contact sheets, line plots.

mod array;
mod frames;
mod gif;
mod keep;
mod palette;
mod picture;
mod plot;
mod sheet;
mod text;
mod tile;

pub use array::{ArrayFormat, write_array};
pub use frames::{write_frames, write_frames_from};
pub use gif::{gif_fps, write_gif};
pub use keep::write_gif_keeping;
pub use picture::picture;
pub use plot::{Line, LinePlot, write_line_plot};
pub use sheet::{SheetRow, contact_sheet, write_contact_sheet};
pub use tile::tile;

use std::path::Path;

use vd_tensor_ops::write_atomically;

use crate::{Error, Result};

/// Replaces a file, or leaves it as it was.
pub(crate) fn write_file(path: &Path, bytes: &[u8]) -> Result<()> {
    write_atomically(path, bytes).map_err(|e| {
        let source = match e {
            vd_tensor_ops::Error::Io { source, .. } => source,
            other => std::io::Error::other(other.to_string()),
        };
        Error::write(path, source)
    })
}
