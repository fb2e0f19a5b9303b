//! Conditioning of clips together with the images beside them.

use tch::{Kind, Tensor};
use vd_data::Batch;
use vd_torch::upload;
use vd_unet3d::{Cond, Given, Tokens};

use crate::Result;
use crate::batch::{Preparation, chosen};
use crate::streams::{Place, Stream};

impl Preparation {
    /// The text of every frame: the clip's for each of its frames, and each image's own. They are
    /// dropped independently; the draws for the clip are the same as without images.
    pub(crate) fn condition_jointly(&self, batch: &Batch, at: Place) -> Result<Cond> {
        let Some((encoder, drop)) = &self.text else { return Ok(Cond::none()) };
        let (b, f) = (batch.captions.len() as i64, batch.clip_frames as i64);
        let k = batch.video.size()[2] - f;
        // The caption of each clip, followed by those of its images.
        let captions: Vec<Option<String>> = batch
            .captions
            .iter()
            .zip(&batch.images)
            .flat_map(|(own, images)| {
                std::iter::once(own).chain(images.iter().map(|image| &image.caption)).cloned()
            })
            .collect();
        let (cond, missing) = self.encoded(encoder.as_ref(), &captions)?;
        let own = chosen(*drop, &[b], at.noise(Stream::Drop))?.f_unsqueeze(1)?;
        let images = chosen(*drop, &[b, k], at.noise(Stream::ImageDrop))?;
        let null = Tensor::f_cat(&[own, images], 1)?.f_logical_or(&missing.f_view([b, 1 + k])?)?;
        let reads = texts_of(f, k)?;
        let texts = |rows: &Tensor| rows.f_unflatten(0, [b, 1 + k]); // b (1 + k) ...
        let frames = |texts: Tensor| texts.f_index_select(1, &upload(&reads, texts.device())?);
        let tokens = match &cond.tokens {
            None => None,
            Some(Tokens { values, weight }) => {
                Some(Tokens { values: texts(values)?, weight: frames(texts(weight)?)? })
            }
        };
        let group = match &tokens {
            None => None,
            Some(_) => Some(upload(&reads.f_expand([b, -1], false)?, self.device)?),
        };
        Ok(Cond {
            pooled: cond.pooled.map(|pooled| frames(texts(&pooled)?)).transpose()?,
            tokens,
            group,
            null: Some(upload(&frames(null)?, self.device)?),
            ..Cond::none()
        })
    }
}

/// The index of the text for each frame: f times the clip's, 0, then 1 to k.
fn texts_of(f: i64, k: i64) -> Result<Tensor> {
    let number = Tensor::f_arange(f + k, (Kind::Int64, tch::Device::Cpu))?;
    Ok(number.f_sub_scalar(f - 1)?.f_clamp_min(0)?)
}

/// A signal for the `f` frames of each clip, followed by its images.
///
/// # Shapes
/// `clips`: one value per clip, or per frame; `images`: one per image, null b k; both on the CPU or
/// neither
pub(crate) fn one_behind_the_other(clips: &Given, images: &Given, f: i64) -> Result<Given> {
    let each = |x: &Tensor| -> Result<Tensor> {
        let mut size = x.size();
        size.insert(1, f);
        Ok(x.f_unsqueeze(1)?.f_expand(&size, false)?)
    };
    let value = match clips.value.dim() {
        5 => Tensor::f_cat(&[&clips.value, &images.value], 2)?,
        axes if axes < images.value.dim() => {
            Tensor::f_cat(&[each(&clips.value)?, images.value.shallow_clone()], 1)?
        }
        _ => Tensor::f_cat(&[&clips.value, &images.value], 1)?,
    };
    let null = match (&clips.null, &images.null) {
        (Some(clips), Some(images)) => {
            Some(Tensor::f_cat(&[each(clips)?, images.shallow_clone()], 1)?)
        }
        _ => None,
    };
    Ok(Given { value, null })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use tch::Device;
    use vd_data::{Cursor, DataConfig, ImagesConfig, Loader};
    use vd_tensor_ops::FrameMask;
    use vd_text_cond::{Hashed, TextEncoder};

    fn batch(images: Option<ImagesConfig>) -> Batch {
        let config = DataConfig { frames: 3, size: [8, 8], images, ..DataConfig::default() };
        Loader::new(&config, 24, Cursor::start(4)).unwrap().next().unwrap()
    }

    fn preparation(drop: f64) -> Preparation {
        let encoder: Box<dyn TextEncoder> = Box::new(Hashed::new(6).unwrap());
        let text = Some((encoder, drop));
        Preparation { text, signals: Vec::new(), focus_present: 0.0, device: Device::Cpu }
    }

    fn rows(mask: &Tensor) -> Vec<Vec<bool>> {
        (0..mask.size()[0]).map(|k| Vec::try_from(mask.get(k)).unwrap()).collect()
    }

    #[test]
    fn every_image_has_its_caption_and_its_own_draw_and_the_clip_has_those_that_it_has_alone() {
        let at = Place { seed: 3, step: 5, micro: 1 };
        let alone = preparation(0.5).prepare(&batch(None), at).unwrap();
        let mut before: Option<Vec<Vec<bool>>> = None;
        for k in [2usize, 5] {
            let batch = batch(Some(ImagesConfig { source: None, per_clip: k }));
            let joint = preparation(0.5).prepare(&batch, at).unwrap();
            assert!(matches!(joint.frames, FrameMask::ClipAndImages { clip: 3 }));
            assert_eq!(joint.x0.narrow(2, 0, 3), alone.x0);
            let (null, own) = (rows(&joint.cond.null.unwrap()), alone.cond.null.as_ref().unwrap());
            let own: Vec<bool> = Vec::try_from(own).unwrap();
            let pooled = joint.cond.pooled.unwrap();
            assert_eq!(pooled.size(), [24, 3 + k as i64, 6]);
            for (b, (null, own)) in null.iter().zip(&own).enumerate() {
                assert!(null[..3].iter().all(|frame| frame == own));
                for f in 0..3 {
                    assert_eq!(
                        pooled.get(b as i64).get(f),
                        alone.cond.pooled.as_ref().unwrap().get(b as i64)
                    );
                }
                for (i, image) in batch.images[b].iter().enumerate() {
                    let caption = image.caption.as_deref().unwrap();
                    let text = Hashed::new(6).unwrap().encode(&[caption], Device::Cpu).unwrap();
                    let row = pooled.get(b as i64).get(3 + i as i64);
                    assert_eq!(row, text.pooled.unwrap().get(0));
                }
            }
            // The first images are dropped as they would be if there were more of them.
            let images: Vec<Vec<bool>> = null.iter().map(|row| row[3..5].to_vec()).collect();
            assert!(before.as_ref().is_none_or(|before| *before == images));
            before = Some(images);
        }
        let dropped = before.unwrap().concat().iter().filter(|null| **null).count();
        // 24 of 48, five standard deviations
        assert!((7..=41).contains(&dropped), "{dropped}");
    }

    /// One token per word, each holding the length of its word.
    #[derive(Debug)]
    struct Words;

    impl TextEncoder for Words {
        fn width(&self) -> i64 {
            6
        }

        fn encode(&self, prompts: &[&str], device: Device) -> vd_text_cond::Result<Cond> {
            let lengths: Vec<Vec<f32>> = prompts
                .iter()
                .map(|p| p.split(' ').map(|word| word.len() as f32).collect())
                .collect();
            let longest = lengths.iter().map(Vec::len).max().unwrap_or(0);
            let padded = lengths
                .iter()
                .flat_map(|row| row.iter().copied().chain(std::iter::repeat(0.0)).take(longest));
            let values = Tensor::from_slice(&padded.collect::<Vec<_>>());
            let values = values.view([prompts.len() as i64, longest as i64]);
            let weight = values.gt(0.0).to_kind(Kind::Float);
            let pooled = Hashed::new(6)?.encode(prompts, device)?;
            Ok(pooled.with_tokens(Tokens { values: values.unsqueeze(2), weight }))
        }
    }

    #[test]
    fn frames_read_the_tokens_of_their_own_text() {
        let images = Some(ImagesConfig { source: None, per_clip: 2 });
        let batch = batch(images);
        let preparation = Preparation { text: Some((Box::new(Words), 0.0)), ..preparation(0.0) };
        let cond = preparation.prepare(&batch, Place { seed: 1, step: 0, micro: 0 }).unwrap().cond;
        let (Tokens { values, weight }, group) = (cond.tokens.unwrap(), cond.group.unwrap());
        assert_eq!((values.size()[..2].to_vec(), group.size()), (vec![24, 3], vec![24, 5]));
        for b in 0..24 {
            let read: Vec<i64> = Vec::try_from(group.get(b)).unwrap();
            assert_eq!(read, [0, 0, 0, 1, 2]);
            let own = batch.captions[b as usize].as_ref();
            let texts = batch.images[b as usize].iter().map(|image| image.caption.as_ref());
            let texts: Vec<_> = std::iter::once(own).chain(texts).map(Option::unwrap).collect();
            for (f, text) in read.iter().enumerate() {
                let words: Vec<f32> =
                    texts[*text as usize].split(' ').map(|word| word.len() as f32).collect();
                let seen = values.get(b).get(*text).squeeze() * weight.get(b).get(f as i64);
                let seen: Vec<f32> = Vec::try_from(seen).unwrap();
                assert_eq!(&seen[..words.len()], words);
                assert!(seen[words.len()..].iter().all(|x| *x == 0.0));
            }
        }
    }
}
