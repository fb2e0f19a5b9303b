//! Intermediate values of the backward of an image.

use super::pack::Shape;
use super::sums::Sums;

/// The buffers of an image; each thread has its own, or all threads share one.
#[derive(Debug, Clone, Copy)]
pub(super) struct Buffers {
    at: *mut f32,
    shape: Shape,
    /// The number of parts into which the positions are divided.
    pub(super) parts: usize,
}

impl Buffers {
    /// Rounded up to whole panels of every instruction set.
    fn widths(shape: &Shape) -> [usize; 3] {
        [shape.inner(), shape.dim, shape.c].map(|n| n.next_multiple_of(32))
    }

    /// Number of values in a part's sums and in its gradient of M.
    fn part(shape: &Shape) -> usize {
        Sums::len(shape) + shape.inner() * shape.c
    }

    pub(super) fn len(shape: &Shape, parts: usize) -> usize {
        let ([features, dim, c], inner) = (Self::widths(shape), shape.inner());
        let common = 3 * features + inner * dim + 2 * inner * shape.c + inner * c;
        parts * Self::part(shape) + common + shape.c * features
    }

    /// # Safety
    /// `at` is valid for [`Buffers::len`] values.
    pub(super) unsafe fn new(shape: &Shape, at: *mut f32, parts: usize) -> Self {
        Buffers { at, shape: *shape, parts }
    }

    fn add(&self, values: usize) -> *mut f32 {
        // SAFETY: all below are within `len`.
        unsafe { self.at.add(values) }
    }

    /// Sums over the positions of a part.
    pub(super) fn sums(&self, part: usize) -> Sums {
        // SAFETY: a part begins with these.
        unsafe { Sums::new(&self.shape, self.add(part * Self::part(&self.shape))) }
    }

    /// The gradient of M from the positions of a part: (n d) c.
    pub(super) fn mixed_grad(&self, part: usize) -> *mut f32 {
        self.add(part * Self::part(&self.shape) + Sums::len(&self.shape))
    }

    fn common(&self) -> usize {
        self.parts * Self::part(&self.shape)
    }

    /// For each feature: the maximum key, 1 / the sum of the exponentials, and the mean of the
    /// gradient of the keys' softmax.
    pub(super) fn features(&self) -> [*mut f32; 3] {
        let width = Self::widths(&self.shape)[0];
        [0, 1, 2].map(|i| self.add(self.common() + i * width))
    }

    /// The context of each head, and the length of its rows.
    pub(super) fn context(&self) -> (*mut f32, usize) {
        let [features, dim, _] = Self::widths(&self.shape);
        (self.add(self.common() + 3 * features), dim)
    }

    /// Sums over all positions, and M transposed: (n d) c each.
    pub(super) fn whole(&self) -> [*mut f32; 2] {
        let [features, dim, _] = Self::widths(&self.shape);
        let inner = self.shape.inner();
        let first = self.common() + 3 * features + inner * dim;
        [self.add(first), self.add(first + inner * self.shape.c)]
    }

    /// The gradient of the sums: in panels of channels, with features as rows; and in panels of
    /// features, with channels as rows.
    pub(super) fn sums_grad(&self) -> [*mut f32; 2] {
        let [features, dim, c] = Self::widths(&self.shape);
        let inner = self.shape.inner();
        let first = self.common() + 3 * features + inner * (dim + 2 * self.shape.c);
        [self.add(first), self.add(first + inner * c)]
    }
}
