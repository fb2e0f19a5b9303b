//! Prepares a batch of data for the loss.

use tch::{Device, Kind, Tensor};
use vd_data::Batch;
use vd_tensor_ops::{FrameMask, Noise, SeededNoise, video};
use vd_text_cond::TextEncoder;
use vd_torch::upload;
use vd_unet3d::{Cond, Tokens};

use crate::Result;
use crate::signals::Signal;
use crate::streams::{Place, Stream};

/// Turns batches into [`Prepared`] ones.
#[derive(Debug)]
pub(crate) struct Preparation {
    /// The encoder, and the fraction of samples whose conditioning is dropped.
    pub(crate) text: Option<(Box<dyn TextEncoder>, f64)>,
    /// The other conditioning inputs.
    pub(crate) signals: Vec<Signal>,
    pub(crate) focus_present: f64,
    pub(crate) device: Device,
}

/// A batch in the form that the loss takes.
#[derive(Debug)]
pub(crate) struct Prepared {
    pub(crate) x0: Tensor, // b c (f + k) h w: the clips, and the images beside each
    pub(crate) cond: Cond,
    pub(crate) frames: FrameMask,
    pub(crate) keep: Option<Tensor>, // b 1 (f + k) 1 1 or b c (f + k) h w, on the CPU
}

impl Preparation {
    pub(crate) fn prepare(&self, batch: &Batch, at: Place) -> Result<Prepared> {
        let size = batch.video.size();
        let (b, all, clip) = (size[0], size[2], batch.clip_frames as i64);
        let keep = match &batch.keep {
            Some(keep) => Some(keep.f_view([b, 1, all, 1, 1])?),
            None => None,
        };
        let keep = match (keep, &batch.valid) {
            (keep, None) => keep,
            (None, Some(valid)) => Some(valid.shallow_clone()),
            (Some(keep), Some(valid)) => Some(valid.f_logical_and(&keep)?),
        };
        let frames = if clip < all {
            FrameMask::ClipAndImages { clip }
        } else if self.focus_present > 0.0 {
            let focus = chosen(self.focus_present, &[b], at.noise(Stream::Focus))?;
            FrameMask::Focus(upload(&focus, self.device)?)
        } else {
            FrameMask::All
        };
        let video = upload(&batch.video, self.device)?;
        // numbers other than bytes are already in the range of the diffusion process
        let x0 = if video.kind() == Kind::Uint8 { video::from_u8(&video) } else { video };
        let mut cond = match clip < all {
            true => self.condition_jointly(batch, at)?,
            false => self.condition(&batch.captions, at)?,
        };
        for signal in &self.signals {
            cond.signals.insert(signal.name.clone(), signal.given(batch, &x0, at)?);
        }
        Ok(Prepared { x0, cond, frames, keep })
    }

    /// Encodes the captions and drops some; a clip without a caption trains the null embedding too.
    fn condition(&self, captions: &[Option<String>], at: Place) -> Result<Cond> {
        let Some((encoder, drop)) = &self.text else { return Ok(Cond::none()) };
        let (cond, missing) = self.encoded(encoder.as_ref(), captions)?;
        let dropped = chosen(*drop, &[captions.len() as i64], at.noise(Stream::Drop))?;
        let null = dropped.f_logical_or(&missing)?;
        Ok(cond.with_null(upload(&null, self.device)?))
    }

    /// The encoded texts of some captions, with placeholder rows for missing ones, and a mask of
    /// these (bool, on the CPU).
    pub(crate) fn encoded(
        &self,
        encoder: &dyn TextEncoder,
        captions: &[Option<String>],
    ) -> Result<(Cond, Tensor)> {
        let given: Vec<_> = captions.iter().flatten().map(String::as_str).collect();
        let missing: Vec<_> = captions.iter().map(Option::is_none).collect();
        let cond = encoder.encode(&given, self.device)?;
        let cond = if given.len() < missing.len() { spread_all(cond, &missing)? } else { cond };
        Ok((cond, Tensor::f_from_slice(&missing)?))
    }
}

/// Selects samples (b), or images beside them (b k), with a probability: bool, on the CPU.
pub(crate) fn chosen(probability: f64, shape: &[i64], mut noise: SeededNoise) -> Result<Tensor> {
    let like = Tensor::f_empty(shape, (Kind::Float, Device::Cpu))?;
    Ok(noise.uniform(&like).f_lt(probability)?)
}

/// Embeddings and tokens, with rows inserted for missing captions, to be replaced by the null
/// embedding.
fn spread_all(cond: Cond, missing: &[bool]) -> Result<Cond> {
    let pooled = cond.pooled.map(|rows| spread(&rows, missing)).transpose()?;
    let tokens = match cond.tokens {
        Some(Tokens { values, weight }) => {
            // if there is no caption at all there is still one token, because every text has one
            let more = [0, i64::from(values.size()[1] == 0)];
            let values = values.f_constant_pad_nd([0, 0, more[0], more[1]])?;
            let weight = weight.f_constant_pad_nd(more)?;
            Some(Tokens { values: spread(&values, missing)?, weight: spread(&weight, missing)? })
        }
        None => None,
    };
    Ok(Cond { pooled, tokens, ..Cond::default() })
}

/// Rows, with zero rows inserted for missing captions.
fn spread(rows: &Tensor, missing: &[bool]) -> Result<Tensor> {
    let mut size = rows.size();
    size[0] = missing.len() as i64;
    let places: Vec<_> = (0i64..).zip(missing).filter(|(_, m)| !**m).map(|(k, _)| k).collect();
    let places = upload(&Tensor::f_from_slice(&places)?, rows.device())?;
    Ok(Tensor::f_zeros(size.as_slice(), (rows.kind(), rows.device()))?
        .f_index_copy(0, &places, rows)?)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use vd_text_cond::Hashed;

    fn preparation(drop: f64) -> Preparation {
        let encoder = Box::new(Hashed::new(4).unwrap());
        let text = Some((encoder as Box<dyn TextEncoder>, drop));
        Preparation { text, signals: Vec::new(), focus_present: 0.0, device: Device::Cpu }
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

    /// An encoder with one token per word.
    #[derive(Debug)]
    struct Words;

    impl TextEncoder for Words {
        fn width(&self) -> i64 {
            4
        }

        fn encode(&self, prompts: &[&str], device: Device) -> vd_text_cond::Result<Cond> {
            let counts = prompts.iter().map(|prompt| prompt.split(' ').count());
            let longest = counts.clone().max().unwrap_or(0) as i64;
            let row = |n: usize| Tensor::arange(longest, (Kind::Float, device)).lt(n as f64);
            let rows: Vec<_> = counts.map(row).collect();
            let weight = match rows.as_slice() {
                [] => Tensor::zeros([0, longest], (Kind::Float, device)),
                rows => Tensor::stack(rows, 0).to_kind(Kind::Float),
            };
            let values = weight.unsqueeze(2).expand([-1, -1, 3], false) * 2.5;
            let pooled = Hashed::new(4)?.encode(prompts, device)?;
            Ok(pooled.with_tokens(Tokens { values, weight }))
        }
    }

    #[test]
    fn the_tokens_of_captions_keep_their_rows_and_those_of_missing_ones_do_not_count() {
        let prepared = |captions: &[Option<&str>]| {
            let text = Some((Box::new(Words) as Box<dyn TextEncoder>, 0.0));
            let preparation = Preparation { text, ..preparation(0.0) };
            let captions: Vec<_> = captions.iter().map(|c| c.map(str::to_owned)).collect();
            preparation.condition(&captions, place(0, 0)).unwrap()
        };
        let cond = prepared(&[None, Some("a red one"), None, Some("blue")]);
        let Tokens { values, weight } = cond.tokens.unwrap();
        let rows = [[0.0, 0.0, 0.0], [1.0, 1.0, 1.0], [0.0; 3], [1.0, 0.0, 0.0]].concat();
        let expected = Tensor::from_slice(&rows).to_kind(Kind::Float).view([4, 3]);
        assert_eq!(weight, expected);
        assert_eq!(values, expected.unsqueeze(2).expand([-1, -1, 3], false) * 2.5);
        assert_eq!(flags(&cond.null.unwrap()), [true, false, true, false]);
        assert_eq!(cond.pooled.unwrap().size(), [4, 4]);
        let none = prepared(&[None, None]);
        let Tokens { values, weight } = none.tokens.unwrap();
        assert_eq!((values.size(), weight.size()), (vec![2, 1, 3], vec![2, 1]));
        assert_eq!(weight.abs().sum(Kind::Float).double_value(&[]), 0.0);
        assert_eq!(flags(&none.null.unwrap()), [true, true]);
        assert_eq!(prepared(&[Some("a b"), Some("c")]).tokens.unwrap().values.size(), [2, 2, 3]);
    }

    #[test]
    fn draws_have_their_rate_and_are_a_function_of_place_and_purpose() {
        let b = 4000;
        let drawn = |p, place: Place, stream| chosen(p, &[b], place.noise(stream)).unwrap();
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
            chosen(0.5, &[b], place(4, 1).named_noise(Stream::SignalDrop, "a")).unwrap(),
            chosen(0.5, &[b], place(4, 1).named_noise(Stream::SignalDrop, "b")).unwrap(),
        ] {
            assert_ne!(base, other);
        }
    }
}
