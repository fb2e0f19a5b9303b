//! Pixel ranges and layouts of videos, and conversion to and from `ndarray`.

use ndarray::ArrayD;
use tch::kind::Element;
use tch::{Device, Kind, Tensor};

use crate::{Error, Result};

/// Maps pixels 0..=255 to the range of the diffusion process, [-1, 1].
///
/// # Shapes
/// u8, any shape -> f32, the same
pub fn from_u8(pixels: &Tensor) -> Tensor {
    pixels.to_kind(Kind::Float) / 127.5 - 1.0
}

/// Maps values in [-1, 1] to pixels 0..=255, rounded; values beyond are clamped.
///
/// # Shapes
/// float, any shape -> u8, the same
pub fn to_u8(values: &Tensor) -> Tensor {
    ((values.to_kind(Kind::Float) + 1.0) * 127.5).round().clamp(0.0, 255.0).to_kind(Kind::Uint8)
}

/// Converts to the network's inner layout.
///
/// # Shapes
/// b c f h w -> b f h w c, contiguous
pub fn to_channels_last(video: &Tensor) -> Tensor {
    video.permute([0, 2, 3, 4, 1]).contiguous()
}

/// Converts to the public layout.
///
/// # Shapes
/// b f h w c -> b c f h w, contiguous
pub fn to_channels_first(video: &Tensor) -> Tensor {
    video.permute([0, 4, 1, 2, 3]).contiguous()
}

/// A CPU tensor with the values of an array.
///
/// # Errors
/// Any error of libtorch (an unsupported element type).
pub fn from_ndarray<T: Element>(array: &ArrayD<T>) -> Result<Tensor> {
    let shape: Vec<i64> = array.shape().iter().map(|n| *n as i64).collect();
    let standard = array.as_standard_layout();
    let values = standard.as_slice().unwrap_or_default();
    Ok(Tensor::f_from_slice(values)?.f_view(shape.as_slice())?)
}

/// An array with the values of a tensor, from any device and any strides.
///
/// # Errors
/// A tensor of another dtype than `T`; any error of libtorch.
pub fn to_ndarray<T: Element + Copy>(tensor: &Tensor) -> Result<ArrayD<T>> {
    if tensor.kind() != T::KIND {
        return Err(Error::Value {
            what: "kind of a tensor to become an array".to_owned(),
            expected: format!("{:?}", T::KIND),
            got: format!("{:?}", tensor.kind()),
        });
    }
    Ok((&tensor.f_to_device(Device::Cpu)?).try_into()?)
}
