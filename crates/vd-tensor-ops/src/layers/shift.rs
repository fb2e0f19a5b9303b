//! Mixing features of neighbours without arithmetic.

use tch::Tensor;

use crate::kernels::check;

/// Takes a part of the channels from the neighbours in time or space, for the layer that follows to
/// mix; no parameters.
///
/// Each direction shifts its own eighth of the channels (rounded down, so fewer than eight channels
/// stay unchanged): the first two eighths in time, the next four in space, so that both together,
/// in either order, shift six eighths once. Values from beyond the border are 0; the remaining
/// channels stay.
///
/// # Reference
/// Time: Lin et al. 2019 (TSM), section 3, arXiv:1811.08383: an eighth from the frame before, an
/// eighth from the frame after. Space: the four directions of Yu et al. 2021 (S2-MLP), section 3,
/// arXiv:2106.07477, with the share and the border of TSM.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TokenShift;

/// Each direction shifts one SHARE-th of the channels.
const SHARE: i64 = 8;

/// The source of a direction's channels.
#[derive(Debug, Clone, Copy)]
struct Step {
    /// Axis of b f h w c.
    axis: i64,
    /// Whether they come from the neighbour after it rather than the one before.
    from_after: bool,
}

impl Step {
    /// The neighbours' values; 0 beyond the border and where `hidden`, which has one entry for each
    /// pair of neighbours along the axis, is true.
    fn take(self, x: &Tensor, hidden: Option<&Tensor>) -> Tensor {
        let first = i64::from(self.from_after);
        let mut moved = x.narrow(self.axis, first, x.size()[self.axis as usize] - 1);
        if let Some(hidden) = hidden {
            moved = moved.masked_fill(hidden, 0.0);
        }
        // From the last axis to this one: how many zeros before and after.
        let mut zeros = vec![0; 2 * (5 - self.axis as usize)];
        let end = zeros.len() - 2 + usize::from(self.from_after);
        zeros[end] = 1;
        moved.constant_pad_nd(zeros)
    }
}

impl TokenShift {
    /// Takes the first eighth of the channels from the frame before, the second from the frame
    /// after.
    ///
    /// A frame that may not attend to its neighbour gets 0 as at the border: an image beside a clip
    /// gets the same values as on its own.
    ///
    /// # Shapes
    /// `x`: b f h w c -> the same; `forbidden`: bool, (b or 1) 1 1 f f
    ///
    /// # Panics
    /// Other shapes; no frame.
    pub fn time(x: &Tensor, forbidden: Option<&Tensor>) -> Tensor {
        let [b, f, ..] = check::video("the input of a shift in time", x);
        if let Some(forbidden) = forbidden {
            check::marks("the forbidden pairs of a shift in time", forbidden, (b, f));
        }
        // Diagonals beside the main one: queries along the rows, so that below it the key is the
        // frame before.
        let hidden = [-1, 1].map(|offset| {
            let pairs = forbidden.map(|forbidden| forbidden.diagonal(offset, -2, -1));
            pairs.map(|pairs| pairs.permute([0, 3, 1, 2]).unsqueeze(-1)) // b f-1 1 1 1
        });
        let steps = [false, true].map(|from_after| Step { axis: 1, from_after });
        shift(x, 0, &[(steps[0], hidden[0].as_ref()), (steps[1], hidden[1].as_ref())])
    }

    /// Takes the third eighth of the channels from the position above, the next three from those
    /// below, left and right.
    ///
    /// # Shapes
    /// b f h w c -> b f h w c
    ///
    /// # Panics
    /// Another number of axes; no position.
    pub fn space(x: &Tensor) -> Tensor {
        check::video("the input of a shift in space", x);
        let steps = [(2, false), (2, true), (3, false), (3, true)];
        shift(x, 2, &steps.map(|(axis, from_after)| (Step { axis, from_after }, None)))
    }
}

/// Shifts one eighth of the channels per step, beginning with eighth `first`; the others stay.
fn shift(x: &Tensor, first: i64, steps: &[(Step, Option<&Tensor>)]) -> Tensor {
    let c = x.size()[4];
    let each = c / SHARE;
    if each == 0 {
        return x.shallow_clone();
    }
    let mut parts = Vec::with_capacity(steps.len() + 2);
    parts.push(x.narrow(4, 0, first * each));
    for (k, (step, hidden)) in (first..).zip(steps) {
        parts.push(step.take(&x.narrow(4, k * each, each), *hidden));
    }
    let end = (first + steps.len() as i64) * each;
    parts.push(x.narrow(4, end, c - end));
    Tensor::cat(&parts, 4)
}
