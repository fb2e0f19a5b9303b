//! Arranges many clips in one picture.

use tch::{Kind, Tensor};

use crate::{Error, Result};

/// Pixels between clips in a picture.
const GAP: i64 = 2;

/// Clips side by side, row by row, with black gaps; the rest of an incomplete last row is black
/// too.
///
/// # Shapes
/// `clips`: n c f h w, u8; result: c f H W, u8
/// # Range
/// `columns` is clamped to [1, n].
/// # Errors
/// Clips of another rank or kind; no clips.
pub fn tile(clips: &Tensor, columns: usize) -> Result<Tensor> {
    let size = clips.size();
    let (&[n @ 1..=i64::MAX, c, f, h, w], Kind::Uint8) = (&size[..], clips.kind()) else {
        let got = format!("{:?} of shape {size:?}", clips.kind());
        return Err(Error::clip("a u8 tensor n c f h w, n at least 1", got));
    };
    let columns = i64::try_from(columns).unwrap_or(n).clamp(1, n);
    let rows = (n + columns - 1) / columns;
    let (height, width) = (rows * (h + GAP) - GAP, columns * (w + GAP) - GAP);
    let picture = Tensor::f_zeros([c, f, height, width], (Kind::Uint8, clips.device()))?;
    for k in 0..n {
        let (y, x) = (k / columns * (h + GAP), k % columns * (w + GAP));
        picture.f_narrow(2, y, h)?.f_narrow(3, x, w)?.f_copy_(&clips.f_get(k)?)?;
    }
    Ok(picture)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use tch::Device;

    #[test]
    fn clips_stand_row_by_row_and_the_rest_is_black() {
        let clips = Tensor::arange_start(1, 3 * 2 * 2 * 3 + 1, (Kind::Uint8, Device::Cpu));
        let clips = clips.view([3, 1, 2, 2, 3]);
        let picture = tile(&clips, 2).unwrap();
        assert_eq!(picture.size(), [1, 2, 2 + 2 + 2, 3 + 2 + 3]);
        let part = |y, x| picture.narrow(2, y, 2).narrow(3, x, 3);
        for (k, (y, x)) in [(0, 0), (0, 5), (4, 0)].into_iter().enumerate() {
            assert_eq!(part(y, x), clips.get(k as i64));
        }
        let all = picture.sum(Kind::Int64).int64_value(&[]);
        assert_eq!(all, clips.sum(Kind::Int64).int64_value(&[]));
    }

    #[test]
    fn what_is_no_batch_of_clips_is_refused() {
        let floats = Tensor::arange(48, (Kind::Float, Device::Cpu)).view([2, 3, 2, 2, 2]);
        let message = tile(&floats, 2).unwrap_err().to_string();
        assert!(message.contains("u8 tensor n c f h w"), "{message}");
        assert!(tile(&Tensor::arange(3, (Kind::Uint8, Device::Cpu)), 1).is_err());
    }
}
