//! Which inputs each output of a convolution depends on.

/// The window of a convolution over space, the same vertically and horizontally.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Window {
    /// Window size along an axis, at least 1.
    pub kernel: usize,
    /// Distance in the input between neighbouring outputs, at least 1.
    pub stride: usize,
    /// Zeros added before the first and after the last position.
    pub padding: usize,
}

/// The largest kernel, stride and padding: beyond any video, and buffers for it still fit in memory.
const MOST: usize = 1 << 12;

impl Window {
    /// # Panics
    /// A kernel or a stride of 0, numbers beyond any video.
    pub(super) fn check(self) {
        let Window { kernel, stride, padding } = self;
        assert!(
            (1..=MOST).contains(&kernel) && (1..=MOST).contains(&stride) && padding <= MOST,
            "the window of a convolution: expected kernel and stride from 1 to {MOST} and padding up to \
             {MOST}, got {self:?}"
        );
    }

    /// Outputs along an axis of so many inputs; none where the window does not fit.
    ///
    /// # Panics
    /// A stride of 0.
    pub fn outputs(self, inputs: usize) -> usize {
        let padded = inputs + 2 * self.padding;
        padded.checked_sub(self.kernel).map_or(0, |rest| rest / self.stride + 1)
    }

    /// Number of outputs along an axis of the transposed convolution: the fewest inputs from which
    /// the window makes so many.
    pub fn transposed(self, inputs: usize) -> usize {
        ((inputs.max(1) - 1) * self.stride + self.kernel).saturating_sub(2 * self.padding)
    }
}

/// The convolution, or its transpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    Straight,
    Transposed,
}

/// An entry of the kernel, and the offset of the input that it weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Tap {
    pub(super) number: usize,
    pub(super) down: isize,
    pub(super) across: isize,
}

/// Outputs that use the same taps: all of them or, transposed, every stride-th from a start.
#[derive(Debug)]
pub(super) struct Phase {
    pub(super) start: [usize; 2],
    pub(super) taps: Vec<Tap>,
}

/// Entries of the kernel along an axis with their offsets from the position of the phase.
fn along(window: Window, way: Way, start: usize) -> Vec<(usize, isize)> {
    let kernel = 0..window.kernel;
    match way {
        Way::Straight => kernel.map(|k| (k, k as isize - window.padding as isize)).collect(),
        Way::Transposed => {
            let first = start + window.padding;
            let seen = kernel.filter(|k| first % window.stride == k % window.stride);
            let offset = |k: usize| (first as isize - k as isize) / window.stride as isize;
            seen.map(|k| (k, offset(k))).collect()
        }
    }
}

/// All phases; each output belongs to exactly one.
pub(super) fn phases(window: Window, way: Way) -> Vec<Phase> {
    let starts = match way {
        Way::Straight => 1,
        Way::Transposed => window.stride,
    };
    let both = (0..starts).flat_map(|y| (0..starts).map(move |x| [y, x]));
    let phase = |start: [usize; 2]| {
        let [rows, columns] = start.map(|start| along(window, way, start));
        let taps = rows.iter().flat_map(|(ky, down)| {
            columns.iter().map(move |(kx, across)| Tap {
                number: ky * window.kernel + kx,
                down: *down,
                across: *across,
            })
        });
        Phase { start, taps: taps.collect() }
    };
    both.map(phase).collect()
}
