//! The traversal of positions for the gradient of the weights.

use super::phase::Window;

/// Output columns below which the rows of a band are made contiguous.
const NARROW: usize = 32;
/// Channels below which the taps of a kernel row are treated as channels.
const FEW: usize = 16;

/// Neighbouring output rows of an image.
#[derive(Debug, Clone, Copy)]
pub(super) struct Band {
    pub(super) image: usize,
    /// The first row, and how many.
    pub(super) y: usize,
    pub(super) rows: usize,
    /// Where its pixels and positions start in the block.
    pub(super) pixel: usize,
    pub(super) position: usize,
}

/// Positions whose pixels and gradients are packed together.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub(super) bands: Vec<Band>,
    /// The first position of the batch, and how many positions and pixels there are.
    pub(super) first: usize,
    pub(super) positions: usize,
    pub(super) pixels: usize,
}

/// Pixels that consecutive positions multiply with their gradients.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stretch {
    pub(super) pixel: usize,
    pub(super) position: usize,
    pub(super) len: usize,
}

/// The layout of a band's pixels: rows that a tap sees together (with a stride, every stride-th)
/// are adjacent.
#[derive(Debug, Clone, Copy)]
pub(super) struct Layout {
    pub(super) window: Window,
    pub(super) inputs: usize,
    /// Whether pixels have the channels of all taps of a row of the kernel.
    pub(super) folded: bool,
    /// Whether there are pixels for each position rather than for each column of the input.
    unfolded: bool,
    /// Columns of outputs, and of pixels.
    pub(super) columns: usize,
    pub(super) pitch: usize,
}

impl Layout {
    pub(super) fn new(window: Window, inputs: usize, columns: usize) -> Self {
        let folded = inputs < FEW;
        let unfolded = folded || columns < NARROW;
        let pitch = if unfolded { columns } else { Self::seen(window, columns) };
        Layout { window, inputs, folded, unfolded, columns, pitch }
    }

    /// Channels of a pixel.
    pub(super) fn channels(&self) -> usize {
        if self.folded { self.window.kernel * self.inputs } else { self.inputs }
    }

    /// How many copies of all pixels there are: one for each tap of a row.
    pub(super) fn planes(&self) -> usize {
        if self.unfolded && !self.folded { self.window.kernel } else { 1 }
    }

    /// Rows or columns of the input that so many outputs see.
    pub(super) fn seen(window: Window, outputs: usize) -> usize {
        (outputs - 1) * window.stride + window.kernel
    }

    /// The remaining loop over taps: kernel rows, or rows and columns.
    pub(super) fn taps(&self) -> usize {
        let kernel = self.window.kernel;
        if self.folded { kernel } else { kernel * kernel }
    }

    /// Pixels from one position to the next.
    pub(super) fn step(&self) -> usize {
        if self.unfolded { 1 } else { self.window.stride }
    }

    /// Columns of the input from one pixel to the next.
    pub(super) fn spacing(&self) -> usize {
        if self.unfolded { self.window.stride } else { 1 }
    }

    /// Rows of a band that a tap may see.
    fn rows(&self, rows: usize) -> usize {
        rows + (self.window.kernel - 1) / self.window.stride
    }

    /// Where row `row` of the rows that the band sees starts, in pixels.
    pub(super) fn row(&self, band: &Band, row: usize) -> usize {
        let (phase, row) = (row % self.window.stride, row / self.window.stride);
        band.pixel + (phase * self.rows(band.rows) + row) * self.pitch
    }

    /// The stretches that a tap multiplies in a band; planes are so many pixels apart.
    pub(super) fn stretches(
        &self,
        band: Band,
        tap: usize,
        plane: usize,
    ) -> impl Iterator<Item = Stretch> {
        let kernel = self.window.kernel;
        let (down, across) = if self.folded { (tap, 0) } else { (tap / kernel, tap % kernel) };
        let start = self.row(&band, down) + across * if self.unfolded { plane } else { 1 };
        let (count, len) = if self.unfolded { (1, band.rows) } else { (band.rows, 1) };
        let (pitch, columns) = (self.pitch, self.columns);
        (0..count).map(move |k| Stretch {
            pixel: start + k * pitch,
            position: band.position + k * columns,
            len: len * columns,
        })
    }

    /// Batches of about `most` positions, of images with `height` output rows; at least one row
    /// each.
    pub(super) fn batches(&self, images: usize, height: usize, most: usize) -> Vec<Batch> {
        let mut batches = Vec::new();
        let mut batch = Batch::default();
        let (mut image, mut y) = (0, 0);
        while image < images {
            let room = most.saturating_sub(batch.positions) / self.columns;
            if room == 0 && batch.positions > 0 {
                let first = batch.first + batch.positions;
                batches.push(std::mem::take(&mut batch));
                batch.first = first;
                continue;
            }
            let rows = room.max(1).min(height - y);
            let (pixel, position) = (batch.pixels, batch.positions);
            batch.bands.push(Band { image, y, rows, pixel, position });
            batch.positions += rows * self.columns;
            batch.pixels += self.window.stride * self.rows(rows) * self.pitch;
            (image, y) = if y + rows == height { (image + 1, 0) } else { (image, y + rows) };
        }
        batches.push(batch);
        batches
    }
}
