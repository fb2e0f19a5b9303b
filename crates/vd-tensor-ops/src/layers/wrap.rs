//! Periodic boundaries of frames.

use serde::{Deserialize, Serialize};
use tch::Tensor;

/// Which axes of a frame are periodic: beyond the border a convolution sees the opposite side
/// instead of zeros.
///
/// For periodic fields, such as longitude or a simulation box.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Wrap {
    /// Top and bottom are neighbours.
    pub height: bool,
    /// Left and right are neighbours.
    pub width: bool,
}

impl Wrap {
    /// Whether any axis is periodic.
    pub fn any(self) -> bool {
        self.height || self.width
    }

    /// The periodic axes of b f h w c.
    fn axes(self) -> impl Iterator<Item = i64> {
        [(self.height, 2), (self.width, 3)]
            .into_iter()
            .filter_map(|(ring, axis)| ring.then_some(axis))
    }

    /// Pads each periodic axis on both ends with `n` positions of the opposite side.
    ///
    /// # Shapes
    /// b f h w c -> b f (h + 2n) w c if the height is periodic, and likewise for the width
    pub(super) fn pad(self, x: &Tensor, n: i64) -> Tensor {
        self.axes().fold(x.shallow_clone(), |x, axis| {
            let size = x.size()[axis as usize];
            if n <= size {
                let ends = [x.narrow(axis, size - n, n), x.narrow(axis, 0, n)];
                return Tensor::cat(&[&ends[0], &x, &ends[1]], axis);
            }
            // A frame smaller than its border is repeated more than once.
            let turns = (n - 1) / size.max(1) + 1;
            let around = Tensor::cat(&vec![&x; 2 * turns as usize + 1], axis);
            around.narrow(axis, turns * size - n, size + 2 * n)
        })
    }

    /// The inverse: drops the first `n` positions of each periodic axis and keeps the next `h` or
    /// `w`.
    ///
    /// # Shapes
    /// b f .. .. c -> b f h w c, contiguous; other axes stay unchanged
    pub(super) fn crop(self, y: &Tensor, n: i64, (h, w): (i64, i64)) -> Tensor {
        let size = |axis| if axis == 2 { h } else { w };
        let crop = |y: Tensor, axis| y.narrow(axis, n, size(axis));
        self.axes().fold(y.shallow_clone(), crop).contiguous()
    }
}
