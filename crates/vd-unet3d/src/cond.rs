//! What a network is conditioned on.

mod parts;

use std::collections::BTreeMap;

use tch::Tensor;

use self::parts::{all_rows, cat_nulls, cat_rows, cat_texts};
use crate::{Error, Result};

pub use self::parts::{Given, Tokens};

/// The conditioning of a network, on the network's device. The default is no conditioning.
///
/// The text and each named signal are optional independently of each other: an input missing from
/// all samples is absent, one missing from some samples is marked by a null mask, and in both cases
/// the network uses its learned null embedding there.
#[derive(Debug, Default)]
pub struct Cond {
    /// One embedding of the text per sample, or one per frame.
    ///
    /// # Shapes
    /// b d, or b f d
    pub pooled: Option<Tensor>,
    /// The tokens of the text. A network without attention to tokens ignores them, as one that
    /// pools its embedding from the tokens ignores `pooled`. If a text is given at all, it must
    /// include the inputs that the network uses.
    pub tokens: Option<Tokens>,
    /// Index of the text that each frame uses, if the tokens are of several texts (b g l d); `None`
    /// if there is one text for all frames.
    ///
    /// # Shapes
    /// i64, b f, from 0 to g - 1
    pub group: Option<Tensor>,
    /// Marks the samples, or the frames, that get the network's learned null embedding instead of
    /// their text; `None` means none of them if a text is given, and all of them otherwise.
    ///
    /// # Shapes
    /// bool, b or b f
    pub null: Option<Tensor>,
    /// Further conditioning inputs, by their names in the network's config
    /// ([`SignalConfig`](crate::SignalConfig)).
    pub signals: BTreeMap<String, Given>,
}

impl Cond {
    /// No conditioning: a conditional network uses its null embeddings for every sample.
    pub fn none() -> Cond {
        Cond::default()
    }

    /// One embedding per sample (b d) or per frame (b f d).
    pub fn pooled(embeddings: Tensor) -> Cond {
        Cond { pooled: Some(embeddings), ..Cond::default() }
    }

    /// The same conditioning with the tokens of its text (b l d).
    #[must_use]
    pub fn with_tokens(self, tokens: Tokens) -> Cond {
        Cond { tokens: Some(tokens), group: None, ..self }
    }

    /// The same conditioning with the tokens of several texts (b g l d), of which `group` (b f)
    /// selects one for each frame.
    #[must_use]
    pub fn with_groups(self, tokens: Tokens, group: Tensor) -> Cond {
        Cond { tokens: Some(tokens), group: Some(group), ..self }
    }

    /// The same conditioning with an additional signal, given for all samples.
    #[must_use]
    pub fn with_signal(mut self, name: impl Into<String>, value: Tensor) -> Cond {
        self.signals.insert(name.into(), Given::new(value));
        self
    }

    /// The same conditioning, with the texts of the samples (bool, b) or frames (b f) marked by
    /// `null` replaced by the null embedding.
    pub fn with_null(&self, null: Tensor) -> Cond {
        Cond { null: Some(null), ..self.shallow_clone() }
    }

    /// Whether no conditioning is given.
    pub fn is_none(&self) -> bool {
        !self.has_text() && self.signals.is_empty()
    }

    /// Whether a text is given, pooled or as tokens.
    pub fn has_text(&self) -> bool {
        self.pooled.is_some() || self.tokens.is_some()
    }

    /// The same conditioning with everything replaced by the null embeddings, in every sample.
    pub fn nulled(&self) -> Cond {
        self.keeping(false, |_| false)
    }

    /// The same conditioning, in which every sample lacks its text (unless `text`) and the signals
    /// for which `signal` returns false.
    pub fn keeping(&self, text: bool, signal: impl Fn(&str) -> bool) -> Cond {
        let mut cond = self.shallow_clone();
        if !text {
            cond.null = self.text_rows().map(all_rows);
        }
        for (name, given) in &mut cond.signals {
            if !signal(name) {
                *given = given.nulled();
            }
        }
        cond
    }

    /// The conditioning of `len` samples, starting at `first`.
    ///
    /// # Errors
    /// A range of samples outside the batch.
    pub fn rows(&self, first: i64, len: i64) -> Result<Cond> {
        let rows = |x: &Tensor| x.f_narrow(0, first, len);
        let maybe = |x: &Option<Tensor>| x.as_ref().map(rows).transpose();
        let tokens = match &self.tokens {
            Some(tokens) => {
                Some(Tokens { values: rows(&tokens.values)?, weight: rows(&tokens.weight)? })
            }
            None => None,
        };
        let mut signals = BTreeMap::new();
        for (name, given) in &self.signals {
            let given = Given { value: rows(&given.value)?, null: maybe(&given.null)? };
            signals.insert(name.clone(), given);
        }
        let (group, null) = (maybe(&self.group)?, maybe(&self.null)?);
        Ok(Cond { pooled: maybe(&self.pooled)?, tokens, group, null, signals })
    }

    /// Concatenates the samples of all parts into one batch. Shorter texts are padded with tokens
    /// of weight 0; an input that some parts have per frame and others per clip is expanded to all
    /// frames.
    ///
    /// # Errors
    /// An input that only some parts have, or whose shape differs between them.
    pub fn cat(parts: &[&Cond]) -> Result<Cond> {
        let pooled = in_all("an embedding", parts, |part| part.pooled.as_ref())?;
        let tokens =
            in_all("tokens", parts, |part| Some((part.tokens.as_ref()?, part.group.as_ref())))?;
        let texts: Vec<_> = parts.iter().filter_map(|part| part.text_rows()).collect();
        let nulls: Vec<_> = parts.iter().map(|part| part.null.as_ref()).zip(texts).collect();
        let mut signals = BTreeMap::new();
        for name in parts.iter().flat_map(|part| part.signals.keys()) {
            if let Some(given) = in_all(name, parts, |part| part.signals.get(name))? {
                signals.insert(name.clone(), Given::cat(&given)?);
            }
        }
        let texts = tokens.map(|parts| cat_texts(&parts)).transpose()?;
        let (tokens, group) = texts.map_or((None, None), |(tokens, group)| (Some(tokens), group));
        Ok(Cond {
            pooled: pooled.map(|rows| cat_rows(&rows)).transpose()?,
            tokens,
            group,
            null: cat_nulls(&nulls)?,
            signals,
        })
    }

    /// Another handle to the same tensors.
    pub fn shallow_clone(&self) -> Cond {
        let signals = self.signals.iter();
        Cond {
            pooled: self.pooled.as_ref().map(Tensor::shallow_clone),
            tokens: self.tokens.as_ref().map(Tokens::shallow_clone),
            group: self.group.as_ref().map(Tensor::shallow_clone),
            null: self.null.as_ref().map(Tensor::shallow_clone),
            signals: signals.map(|(name, given)| (name.clone(), given.shallow_clone())).collect(),
        }
    }

    /// A text tensor that has one row per sample.
    fn text_rows(&self) -> Option<&Tensor> {
        self.pooled.as_ref().or_else(|| self.tokens.as_ref().map(|tokens| &tokens.values))
    }
}

/// An input of all parts; `None` if no part has it.
fn in_all<'a, T>(
    what: &str,
    parts: &[&'a Cond],
    of: impl Fn(&'a Cond) -> Option<T>,
) -> Result<Option<Vec<T>>> {
    let given: Vec<_> = parts.iter().filter_map(|part| of(part)).collect();
    if given.is_empty() {
        return Ok(None);
    }
    if given.len() < parts.len() {
        let got = format!("{} of {} parts with it", given.len(), parts.len());
        return Err(Error::input("conditioning to join", format!("{what} in every part"), got));
    }
    Ok(Some(given))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use tch::Kind;
    use vd_tensor_ops::{Noise, SeededNoise};

    fn rows(null: Option<&Tensor>) -> Vec<bool> {
        Vec::try_from(null.unwrap()).unwrap()
    }

    fn drawn(seed: u64, shape: &[i64]) -> Tensor {
        let like = Tensor::empty(shape, (Kind::Float, tch::Device::Cpu));
        SeededNoise::new(seed, 0).normal(&like)
    }

    #[test]
    fn joining_writes_the_null_mask_out() {
        let a = Cond::pooled(drawn(0, &[2, 2]));
        let both = Cond::cat(&[&a, &a.nulled()]).unwrap();
        assert_eq!(rows(both.null.as_ref()), [false, false, true, true]);
        assert_eq!(both.pooled.unwrap().size(), [4, 2]);
        assert!(Cond::cat(&[&a, &a]).unwrap().null.is_none());
        assert!(Cond::cat(&[&a, &Cond::none()]).is_err());
    }

    #[test]
    fn texts_of_different_lengths_are_joined_with_tokens_that_do_not_count() {
        let part = |seed, l| {
            let weight = drawn(seed + 9, &[2, l]).abs();
            Cond::none().with_tokens(Tokens { values: drawn(seed, &[2, l, 3]), weight })
        };
        let (short, long) = (part(1, 2), part(2, 5));
        let joint = Cond::cat(&[&short, &long]).unwrap().tokens.unwrap();
        assert_eq!((joint.values.size(), joint.weight.size()), (vec![4, 5, 3], vec![4, 5]));
        assert_eq!(
            joint.weight.narrow(0, 0, 2).narrow(1, 2, 3),
            Tensor::zeros([2, 3], (Kind::Float, tch::Device::Cpu))
        );
        assert_eq!(joint.values.narrow(0, 2, 2), long.tokens.unwrap().values);
    }

    #[test]
    fn what_holds_for_all_frames_is_joined_with_what_holds_for_each() {
        let one = Cond::pooled(drawn(1, &[2, 3])).with_signal("speed", drawn(2, &[2]));
        let each = Cond::pooled(drawn(3, &[1, 4, 3])).with_signal("speed", drawn(4, &[1, 4]));
        for parts in [[&one, &each], [&each, &one]] {
            let joint = Cond::cat(&parts).unwrap();
            let at = if parts[0].pooled.as_ref().unwrap().dim() == 2 { 0 } else { 1 };
            let (pooled, speed) = (joint.pooled.unwrap(), &joint.signals["speed"].value);
            assert_eq!((pooled.size(), speed.size()), (vec![3, 4, 3], vec![3, 4]));
            for f in 0..4 {
                let own = pooled.narrow(0, at, 2).select(1, f);
                assert_eq!(&own, one.pooled.as_ref().unwrap());
                assert_eq!(speed.narrow(0, at, 2).select(1, f), one.signals["speed"].value);
            }
        }
    }

    #[test]
    fn what_is_kept_stays_and_the_rest_goes_in_every_sample() {
        let cond = Cond::pooled(drawn(3, &[3, 2]))
            .with_signal("rain", drawn(4, &[3]))
            .with_signal("low", drawn(5, &[3, 1, 2, 4, 4]));
        let kept = cond.keeping(false, |name| name == "low");
        assert_eq!(rows(kept.null.as_ref()), [true; 3]);
        assert_eq!(rows(kept.signals["rain"].null.as_ref()), [true; 3]);
        assert!(kept.signals["low"].null.is_none());
        let joint = Cond::cat(&[&cond, &kept]).unwrap().rows(2, 2).unwrap();
        assert_eq!(rows(joint.null.as_ref()), [false, true]);
        assert_eq!(joint.signals["low"].value.size(), [2, 1, 2, 4, 4]);
        assert!(joint.signals["low"].null.is_none());
        let nothing = Cond::none().nulled();
        assert!(nothing.is_none() && nothing.null.is_none());
    }
}
