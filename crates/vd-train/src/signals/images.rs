//! Signals of the images beside clips.

use tch::{Device, Kind, Tensor};
use vd_data::Batch;
use vd_tensor_ops::Noise;
use vd_unet3d::{Given, SignalConfig};

use super::{Signal, known_part, low_resolution, video};
use crate::batch::chosen;
use crate::streams::{Place, Stream};
use crate::{Result, SignalFrom};

impl Signal {
    /// The signal of the images: an image has none if its own file has no value, or if it is
    /// dropped by its own draw. Known first frames are meaningless for an image, so it has no such
    /// signal.
    ///
    /// # Shapes
    /// `x0`: b c k h w -> b k, b k d or b c k h w; null b k
    pub(super) fn of_images(&self, batch: &Batch, x0: &Tensor, at: Place) -> Result<Given> {
        let (b, _, k, h, w) = x0.size5()?;
        let noise = |stream| at.named_noise(stream, &self.name);
        let dropped = chosen(self.source.drop, &[b, k], noise(Stream::ImageSignalDrop))?;
        let (value, null) = match &self.source.from {
            SignalFrom::LowResolution { factor, upsampling } => {
                (low_resolution(x0, *factor as i64, *upsampling)?, dropped)
            }
            SignalFrom::Masked { first_frames: Some(_), .. } => {
                let known = Tensor::f_zeros([1; 5], (Kind::Float, Device::Cpu))?;
                (known_part(x0, &known)?, dropped.f_ones_like()?)
            }
            SignalFrom::Masked { hidden_box, .. } => {
                let like = Tensor::f_empty([b, k, 4], (Kind::Float, Device::Cpu))?;
                let draws = noise(Stream::ImageSignalBox).uniform(&like).f_view([b * k, 4])?;
                let sides = hidden_box.unwrap_or([1.0; 2]);
                let known = video::outside_of_boxes(&draws, sides, [h, w])?;
                (known_part(x0, &known.f_view([b, 1, k, h, w])?)?, dropped)
            }
            _ => {
                let images = batch.images.iter().flatten();
                let told = images.enumerate().map(|(i, image)| {
                    let about = (image.row.as_deref(), image.folder.as_deref());
                    self.told_in(about, (&image.taken, 1), &format!("image {i} of a batch"))
                });
                let (value, missing) = self.stacked(told.collect::<Result<_>>()?, 1)?;
                let mut shape = vec![b, k];
                if let SignalConfig::Series { width } = self.kind {
                    shape.push(width);
                }
                let missing = Tensor::f_from_slice(&missing)?.f_view([b, k])?;
                (value.f_reshape(shape.as_slice())?, dropped.f_logical_or(&missing)?)
            }
        };
        Ok(Given { value, null: Some(null) })
    }
}
