//! Clips to files: GIF, contact sheets, line plots.

mod gif;
mod palette;
mod plot;
mod sheet;
mod text;
mod tile;

pub use gif::write_gif;
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
