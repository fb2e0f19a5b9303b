//! A batch of the data as the loss takes it.

use tch::{Device, Kind, Tensor};
use vd_data::Batch;
use vd_tensor_ops::{FrameMask, Noise, video};
use vd_text_cond::TextEncoder;
use vd_unet3d::Cond;

use crate::Result;
use crate::streams::{Place, Stream};

/// What turns batches into [`Prepared`] ones.
#[derive(Debug)]
pub(crate) struct Preparation {
    /// The encoder, and the share of samples that lose their conditioning.
    pub(crate) text: Option<(Box<dyn TextEncoder>, f64)>,
    pub(crate) focus_present: f64,
    pub(crate) device: Device,
}

/// A batch as the loss takes it.
#[derive(Debug)]
pub(crate) struct Prepared {
    pub(crate) x0: Tensor, // b c f h w
    pub(crate) cond: Cond,
    pub(crate) frames: FrameMask,
    pub(crate) keep: Option<Tensor>, // b 1 f 1 1, on the CPU
}

impl Preparation {
    pub(crate) fn prepare(&self, batch: &Batch, at: Place) -> Result<Prepared> {
        let b = batch.video.size()[0];
        let f = batch.video.size()[2];
        let keep = match &batch.keep {
            Some(keep) => Some(keep.f_view([b, 1, f, 1, 1])?),
            None => None,
        };
        let frames = if self.focus_present > 0.0 {
            let focus = chosen(self.focus_present, b, at, Stream::Focus)?;
            FrameMask::Focus(focus.f_to_device(self.device)?)
        } else {
            FrameMask::All
        };
        let x0 = video::from_u8(&batch.video.f_to_device(self.device)?);
        Ok(Prepared { x0, cond: self.condition(&batch.captions, at)?, frames, keep })
    }

    /// Encodes the captions and drops some: a clip without a caption trains the null embedding too.
    fn condition(&self, captions: &[Option<String>], at: Place) -> Result<Cond> {
        let Some((encoder, drop)) = &self.text else { return Ok(Cond::none()) };
        let given: Vec<_> = captions.iter().flatten().map(String::as_str).collect();
        let missing: Vec<_> = captions.iter().map(Option::is_none).collect();
        let cond = encoder.encode(&given, self.device)?;
        let cond = match cond.pooled {
            Some(rows) if given.len() < missing.len() => Cond::pooled(spread(&rows, &missing)?),
            _ => cond,
        };
        let dropped = chosen(*drop, missing.len() as i64, at, Stream::Drop)?;
        let null = dropped.f_logical_or(&Tensor::f_from_slice(&missing)?)?;
        Ok(cond.with_null(null.f_to_device(self.device)?))
    }
}

/// Which samples a probability picks: bool, b, on the CPU.
fn chosen(probability: f64, b: i64, at: Place, stream: Stream) -> Result<Tensor> {
    let like = Tensor::f_empty([b], (Kind::Float, Device::Cpu))?;
    Ok(at.noise(stream).uniform(&like).f_lt(probability)?)
}

/// Rows with zeros between them where a caption is missing; the null embedding stands there.
fn spread(rows: &Tensor, missing: &[bool]) -> Result<Tensor> {
    let size = [missing.len() as i64, rows.size()[1]];
    let places: Vec<_> = (0i64..).zip(missing).filter(|(_, m)| !**m).map(|(k, _)| k).collect();
    let places = Tensor::f_from_slice(&places)?.f_to_device(rows.device())?;
    Ok(Tensor::f_zeros(size, (rows.kind(), rows.device()))?.f_index_copy(0, &places, rows)?)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use vd_text_cond::Hashed;

    fn preparation(drop: f64) -> Preparation {
        let encoder = Box::new(Hashed::new(4).unwrap());
        Preparation { text: Some((encoder, drop)), focus_present: 0.0, device: Device::Cpu }
    }

    fn place(step: u64, micro: u64) -> Place {
        Place { seed: 3, step, micro }
    }

    fn flags(mask: &Tensor) -> Vec<bool> {
        Vec::try_from(mask).unwrap()
    }

    #[test]
    fn a_clip_without_a_caption_gets_the_null_embedding_and_the_others_keep_their_rows() {
        let captions = ["red", "", "blue"].map(|c| Some(c.to_owned()).filter(|c| !c.is_empty()));
        let cond = preparation(0.0).condition(&captions, place(0, 0)).unwrap();
        assert_eq!(flags(&cond.null.unwrap()), [false, true, false]);
        let encoder = Hashed::new(4).unwrap();
        let rows = encoder.encode(&["red", "blue"], Device::Cpu).unwrap().pooled.unwrap();
        let got = cond.pooled.unwrap();
        assert_eq!(got.index_select(0, &Tensor::from_slice(&[0i64, 2])), rows);
        let none = preparation(0.0).condition(&[None, None], place(0, 0)).unwrap();
        assert_eq!(flags(&none.null.unwrap()), [true, true]);
        assert_eq!(none.pooled.unwrap().size(), [2, 4]);
    }

    #[test]
    fn draws_have_their_rate_and_are_a_function_of_place_and_purpose() {
        let b = 4000;
        let drawn = |p, place, stream| chosen(p, b, place, stream).unwrap();
        for (p, step) in [(0.1, 0), (0.5, 1), (0.9, 2)] {
            let count =
                flags(&drawn(p, place(step, 0), Stream::Drop)).iter().filter(|x| **x).count();
            // five standard deviations of a binomial
            let room = 5.0 * (b as f64 * p * (1.0 - p)).sqrt();
            assert!((count as f64 - b as f64 * p).abs() < room, "{p}: {count}");
        }
        assert!(!flags(&drawn(0.0, place(0, 0), Stream::Drop)).contains(&true));
        assert!(!flags(&drawn(1.0, place(0, 0), Stream::Drop)).contains(&false));
        let base = drawn(0.5, place(4, 1), Stream::Drop);
        assert_eq!(base, drawn(0.5, place(4, 1), Stream::Drop));
        for other in [
            drawn(0.5, place(5, 1), Stream::Drop),
            drawn(0.5, place(4, 0), Stream::Drop),
            drawn(0.5, place(4, 1), Stream::Focus),
            drawn(0.5, Place { seed: 4, ..place(4, 1) }, Stream::Drop),
        ] {
            assert_ne!(base, other);
        }
    }
}
