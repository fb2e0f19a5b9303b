//! Frames that go on where they end.

use serde::{Deserialize, Serialize};
use tch::Tensor;

/// Which axes of a frame are rings: beyond its border a convolution sees the other side, not zeros.
///
/// For fields that are periodic, as longitude is or a simulated box.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Wrap {
    /// Top and bottom are neighbours.
    pub height: bool,
    /// Left and right are neighbours.
    pub width: bool,
}

impl Wrap {
    /// Whether an axis is a ring.
    pub fn any(self) -> bool {
        self.height || self.width
    }

    /// The rings among the axes of b f h w c.
    fn axes(self) -> impl Iterator<Item = i64> {
        [(self.height, 2), (self.width, 3)]
            .into_iter()
            .filter_map(|(ring, axis)| ring.then_some(axis))
    }

    /// `n` positions of the other side before and after those of each ring.
    ///
    /// # Shapes
    /// b f h w c -> b f (h + 2n) w c where the height is a ring, and so the width
    pub(super) fn pad(self, x: &Tensor, n: i64) -> Tensor {
        self.axes().fold(x.shallow_clone(), |x, axis| {
            let size = x.size()[axis as usize];
            if n <= size {
                let ends = [x.narrow(axis, size - n, n), x.narrow(axis, 0, n)];
                return Tensor::cat(&[&ends[0], &x, &ends[1]], axis);
            }
            // A frame that is smaller than its border goes round more than once.
            let turns = (n - 1) / size.max(1) + 1;
            let around = Tensor::cat(&vec![&x; 2 * turns as usize + 1], axis);
            around.narrow(axis, turns * size - n, size + 2 * n)
        })
    }

    /// The way back: without the first `n` positions of each ring, and `h` and `w` of the others.
    ///
    /// # Shapes
    /// b f .. .. c -> b f h w c, contiguous; an axis that is no ring stays as it is
    pub(super) fn crop(self, y: &Tensor, n: i64, (h, w): (i64, i64)) -> Tensor {
        let size = |axis| if axis == 2 { h } else { w };
        let crop = |y: Tensor, axis| y.narrow(axis, n, size(axis));
        self.axes().fold(y.shallow_clone(), crop).contiguous()
    }
}
