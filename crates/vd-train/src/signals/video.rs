//! Signals that are made from a clip itself.

use tch::{Kind, Tensor};
use vd_torch::upload;

use crate::{Result, Upsampling};

/// Clips at a lower resolution, enlarged to their size: means over squares of `factor` x `factor`
/// pixels, then `upsampling`. Sampling builds such a signal from any clip.
///
/// # Shapes
/// `x0`: b c f h w, floats, h and w multiples of `factor`; result: the same
/// # Errors
/// Sides that `factor` does not divide.
/// # Reference
/// Ho et al. 2021, cascaded diffusion models, section 4, arXiv:2106.15282
pub fn low_resolution(x0: &Tensor, factor: i64, upsampling: Upsampling) -> Result<Tensor> {
    let (b, c, f, h, w) = x0.size5()?;
    if factor < 1 || h % factor != 0 || w % factor != 0 {
        let expected = format!("sides divisible by {factor}");
        return Err(crate::Error::config("low resolution", expected, format!("{h} x {w}")));
    }
    let flat = x0.f_reshape([b, c * f, h, w])?;
    let side = [factor, factor];
    let small = flat.f_avg_pool2d(side, side, [0, 0], false, true, None::<i64>)?;
    let full = match upsampling {
        Upsampling::Nearest => small.f_upsample_nearest2d([h, w], None, None)?,
        Upsampling::Bilinear => small.f_upsample_bilinear2d([h, w], false, None, None)?,
    };
    Ok(full.f_reshape([b, c, f, h, w])?)
}

/// The known part of clips: their pixels where `known` is 1, 0 (grey) elsewhere, and `known` itself
/// as the last channel. Sampling builds such a signal from any clip.
///
/// # Shapes
/// `x0`: b c f h w; `known`: b 1 f h w, 0 or 1 (any axis may be 1); result: b (c + 1) f h w
/// # Errors
/// Shapes that do not match.
pub fn known_part(x0: &Tensor, known: &Tensor) -> Result<Tensor> {
    let (b, _, f, h, w) = x0.size5()?;
    let known = upload(known, x0.device())?.f_to_kind(x0.kind())?;
    let known = known.f_expand([b, 1, f, h, w], false)?;
    Ok(Tensor::f_cat(&[x0.f_mul(&known)?, known], 1)?)
}

/// A mask in which the first `n` of `frames` frames are known.
///
/// # Shapes
/// 1 1 f 1 1
pub(super) fn first_frames(n: usize, frames: i64) -> Result<Tensor> {
    let number = Tensor::f_arange(frames, (Kind::Int64, tch::Device::Cpu))?;
    Ok(number.f_lt(n as i64)?.f_view([1, 1, frames, 1, 1])?)
}

/// A mask in which all pixels are known except a box in each clip; `draws` determines its height,
/// width and position.
///
/// # Shapes
/// `draws`: b 4, uniform on [0, 1); result: b 1 1 h w
pub(super) fn outside_of_boxes(
    draws: &Tensor,
    [least, most]: [f64; 2],
    [h, w]: [i64; 2],
) -> Result<Tensor> {
    let b = draws.size()[0];
    let draws: Vec<f64> = Vec::try_from(&draws.f_to_kind(Kind::Double)?.f_reshape([-1])?)?;
    let mut known = vec![true; (b * h * w) as usize];
    for (draw, known) in draws.chunks_exact(4).zip(known.chunks_exact_mut((h * w) as usize)) {
        let [rows, columns] =
            [(draw[0], draw[2], h), (draw[1], draw[3], w)].map(|(size, at, n)| {
                let share = least + (most - least) * size;
                let side = ((share * n as f64).round() as i64).clamp(1, n);
                // every position at which it fits has an equal share
                let first = ((n - side + 1) as f64 * at) as i64;
                first..first + side
            });
        for row in rows {
            known[(row * w + columns.start) as usize..(row * w + columns.end) as usize].fill(false);
        }
    }
    Ok(Tensor::f_from_slice(&known)?.f_view([b, 1, 1, h, w])?)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use tch::Device;
    use vd_tensor_ops::{Noise, SeededNoise};

    fn drawn(seed: u64, shape: &[i64]) -> Tensor {
        SeededNoise::new(seed, 0).uniform(&Tensor::empty(shape, (Kind::Float, Device::Cpu)))
    }

    #[test]
    fn a_low_resolution_has_the_mean_of_each_square_everywhere_in_it() {
        let x0 = drawn(1, &[2, 3, 2, 4, 6]) * 2.0 - 1.0;
        let low = low_resolution(&x0, 2, Upsampling::Nearest).unwrap();
        assert_eq!(low.size(), x0.size());
        for (row, column) in [(0i64, 0i64), (1, 2), (0, 1)] {
            let square = |x: &Tensor| x.narrow(3, 2 * row, 2).narrow(4, 2 * column, 2);
            let mean = square(&x0).mean_dim([3i64, 4].as_slice(), true, Kind::Float);
            let away = (square(&low) - mean).abs().max().double_value(&[]);
            // four numbers of at most 1 are added and divided: a few roundings of f32
            assert!(away < 1e-6, "{away}");
        }
        let smooth = low_resolution(&x0, 2, Upsampling::Bilinear).unwrap();
        // beyond the centres of the outermost pixels the value is constant: the corners agree
        let corner = |x: &Tensor| x.select(3, 0).select(3, 0);
        assert!((corner(&low) - corner(&smooth)).abs().max().double_value(&[]) < 1e-6);
        assert_ne!(low, smooth);
        // a quarter of the way from one centre to the next, in the first row
        let at = |x: &Tensor, column| x.select(3, 0).select(3, column);
        let between = at(&low, 0) * 0.75 + at(&low, 2) * 0.25;
        assert!((between - at(&smooth, 1)).abs().max().double_value(&[]) < 1e-6);
        assert!(low_resolution(&x0, 4, Upsampling::Nearest).is_err());
    }

    #[test]
    fn known_pixels_stay_and_the_last_channel_says_which_they_are() {
        let x0 = drawn(2, &[2, 3, 4, 2, 2]) - 0.5;
        let signal = known_part(&x0, &first_frames(3, 4).unwrap()).unwrap();
        assert_eq!(signal.size(), [2, 4, 4, 2, 2]);
        assert_eq!(signal.narrow(1, 0, 3).narrow(2, 0, 3), x0.narrow(2, 0, 3));
        assert_eq!(signal.narrow(2, 3, 1).abs().max().double_value(&[]), 0.0);
        assert_eq!(signal.narrow(1, 3, 1).narrow(2, 0, 3).min().double_value(&[]), 1.0);
    }

    #[test]
    fn boxes_have_the_sizes_that_were_asked_for_and_lie_anywhere() {
        let (b, h, w) = (3000, 8, 10);
        let known = outside_of_boxes(&drawn(3, &[b, 4]), [0.25, 0.5], [h, w]).unwrap();
        let hidden = known.view([b, h, w]).logical_not();
        let side =
            |axis: i64| hidden.any_dim(axis, false).sum_dim_intlist(1i64, false, Kind::Int64);
        let (rows, columns) = (side(2), side(1));
        let area = hidden.sum_dim_intlist([1i64, 2].as_slice(), false, Kind::Int64);
        assert_eq!(area, &rows * &columns);
        assert_eq!((rows.min().int64_value(&[]), rows.max().int64_value(&[])), (2, 4));
        // 2.5 is rounded away from 0
        assert_eq!((columns.min().int64_value(&[]), columns.max().int64_value(&[])), (3, 5));
        let anywhere = hidden.to_kind(Kind::Float).mean_dim(0i64, false, Kind::Float);
        assert!(anywhere.min().double_value(&[]) > 0.01);
        let all = outside_of_boxes(&drawn(4, &[5, 4]), [1.0, 1.0], [h, w]).unwrap();
        assert!(!bool::try_from(all.any()).unwrap());
    }
}
