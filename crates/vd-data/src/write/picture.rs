//! Clips of any number of channels as pictures.

use tch::{Kind, Tensor};
use vd_tensor_ops::video;

use super::tile::tile;
use crate::{Error, Normaliser, Result};

/// Converts clips from the range of the diffusion process to pictures: -1 is black, 1 is white; for
/// a channel scaled to z-scores, minus and plus three standard deviations. Values beyond are
/// clamped.
///
/// One channel is shown in grey, three in colour; for any other number each channel is shown in
/// grey, side by side.
///
/// # Shapes
/// `videos`: n c f h w, floats; result: n 1 f H W or n 3 f H W, u8
/// # Errors
/// Clips of another rank, or with a different number of channels than `normaliser`.
pub fn picture(videos: &Tensor, normaliser: Option<&Normaliser>) -> Result<Tensor> {
    let Some(normaliser) = normaliser else { return Ok(video::to_u8(videos)) };
    let shown = normaliser.shown();
    let c = shown.len() as i64;
    let size = videos.size();
    let &[n, channels, f, h, w] = size.as_slice() else {
        return Err(Error::clip("a tensor n c f h w", format!("{size:?}")));
    };
    if channels != c {
        return Err(Error::clip(format!("{c} channels"), format!("{channels}")));
    }
    let shown = Tensor::f_from_slice(&shown)?.f_to_device(videos.device())?;
    let scaled = videos.f_to_kind(Kind::Float)?.f_div(&shown.f_view([1, c, 1, 1, 1])?)?;
    let pixels = video::to_u8(&scaled);
    if c == 1 || c == 3 {
        return Ok(pixels);
    }
    let row = |k| tile(&pixels.f_get(k)?.f_reshape([c, 1, f, h, w])?, usize::MAX);
    let rows = (0..n).map(row).collect::<Result<Vec<_>>>()?;
    Ok(Tensor::f_stack(&rows, 0)?)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::{ChannelRule, Normalise, Scaling};

    fn normaliser(kind: Scaling, channels: usize) -> Normaliser {
        let rule = ChannelRule { statistics: Some([1.0, 9.0]), ..ChannelRule::new(kind) };
        Normaliser::new(&Normalise::all(rule), channels).unwrap()
    }

    #[test]
    fn channels_are_grey_side_by_side_or_colours() {
        let videos = Tensor::from_slice(&[-1.0f32, 0.0, 1.0, 5.0]).view([1, 2, 1, 1, 2]);
        let shown = picture(&videos, Some(&normaliser(Scaling::MinMax, 2))).unwrap();
        // two columns of gap between the channels
        assert_eq!(shown.size(), [1, 1, 1, 1, 6]);
        let bytes: Vec<u8> = Vec::try_from(shown.reshape([-1])).unwrap();
        assert_eq!(bytes, [0, 128, 0, 0, 255, 255]);
        let wide = picture(&videos, Some(&normaliser(Scaling::ZScore, 2))).unwrap();
        let bytes: Vec<u8> = Vec::try_from(wide.reshape([-1])).unwrap();
        assert_eq!(bytes, [85, 128, 0, 0, 170, 255]);
        let three = Tensor::zeros([2, 3, 1, 2, 2], (Kind::Float, tch::Device::Cpu));
        let shown = picture(&three, Some(&normaliser(Scaling::MinMax, 3))).unwrap();
        assert_eq!((shown.size(), shown.kind()), (vec![2, 3, 1, 2, 2], Kind::Uint8));
        assert_eq!(picture(&three, None).unwrap(), video::to_u8(&three));
        assert!(picture(&three, Some(&normaliser(Scaling::MinMax, 2))).is_err());
    }
}
