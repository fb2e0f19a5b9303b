//! What the backward of an image keeps between its steps.

use super::pack::Shape;
use super::sums::Sums;

/// Where everything of an image lies; each thread has its own, or all threads one.
#[derive(Debug, Clone, Copy)]
pub(super) struct Buffers {
    at: *mut f32,
    shape: Shape,
    /// Parts that the sites are taken in.
    pub(super) parts: usize,
}

impl Buffers {
    /// Rounded up so that these are whole panels of every set.
    fn widths(shape: &Shape) -> [usize; 3] {
        [shape.inner(), shape.dim, shape.c].map(|n| n.next_multiple_of(32))
    }

    /// Values of a part's sums, and of the gradient of M that comes from it.
    fn part(shape: &Shape) -> usize {
        Sums::len(shape) + shape.inner() * shape.c
    }

    pub(super) fn len(shape: &Shape, parts: usize) -> usize {
        let ([features, dim, c], inner) = (Self::widths(shape), shape.inner());
        let common = 3 * features + inner * dim + 2 * inner * shape.c + inner * c;
        parts * Self::part(shape) + common + shape.c * features
    }

    /// # Safety
    /// `at` is good for [`Buffers::len`] values.
    pub(super) unsafe fn new(shape: &Shape, at: *mut f32, parts: usize) -> Self {
        Buffers { at, shape: *shape, parts }
    }

    fn add(&self, values: usize) -> *mut f32 {
        // SAFETY: all below are within `len`.
        unsafe { self.at.add(values) }
    }

    /// Sums over the sites of a part.
    pub(super) fn sums(&self, part: usize) -> Sums {
        // SAFETY: a part begins with these.
        unsafe { Sums::new(&self.shape, self.add(part * Self::part(&self.shape))) }
    }

    /// The gradient of M from the sites of a part: (n d) c.
    pub(super) fn mixed_grad(&self, part: usize) -> *mut f32 {
        self.add(part * Self::part(&self.shape) + Sums::len(&self.shape))
    }

    fn common(&self) -> usize {
        self.parts * Self::part(&self.shape)
    }

    /// For each feature: the largest key, one over the sum of the exponentials, and the mean of the
    /// gradient of the keys' softmax.
    pub(super) fn features(&self) -> [*mut f32; 3] {
        let width = Self::widths(&self.shape)[0];
        [0, 1, 2].map(|i| self.add(self.common() + i * width))
    }

    /// The context of each head, and values of a row of it.
    pub(super) fn context(&self) -> (*mut f32, usize) {
        let [features, dim, _] = Self::widths(&self.shape);
        (self.add(self.common() + 3 * features), dim)
    }

    /// Sums over all sites, and M turned over: (n d) c each.
    pub(super) fn whole(&self) -> [*mut f32; 2] {
        let [features, dim, _] = Self::widths(&self.shape);
        let inner = self.shape.inner();
        let first = self.common() + 3 * features + inner * dim;
        [self.add(first), self.add(first + inner * self.shape.c)]
    }

    /// The gradient of the sums: panels of channels, rows are features; and panels of features, rows
    /// are channels.
    pub(super) fn sums_grad(&self) -> [*mut f32; 2] {
        let [features, dim, c] = Self::widths(&self.shape);
        let inner = self.shape.inner();
        let first = self.common() + 3 * features + inner * (dim + 2 * self.shape.c);
        [self.add(first), self.add(first + inner * c)]
    }
}
