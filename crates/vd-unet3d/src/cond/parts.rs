//! The parts of a conditioning.

use tch::{Kind, Tensor};

use crate::Result;

/// The tokens of a text, or of several if frames use different ones ([`Cond::group`]).
///
/// [`Cond::group`]: crate::Cond::group
#[derive(Debug)]
pub struct Tokens {
    /// # Shapes
    /// b l d; with a group b g l d
    pub values: Tensor,
    /// Weight of each token: its attention weight is multiplied by this. 0 is padding, 1 a normal
    /// token. There is one row for all frames, or one per frame; with a group, each frame's row
    /// refers to the text that the frame uses. If no weight is above 0 there is no text, and the
    /// network uses its null embedding.
    ///
    /// # Shapes
    /// b l, or b f l; with a group b f l; f32
    pub weight: Tensor,
}

/// The value of a signal.
#[derive(Debug)]
pub struct Given {
    /// # Shapes
    /// Those of the signal's [`SignalConfig`](crate::SignalConfig)
    pub value: Tensor,
    /// Marks the samples, or the frames, without the signal; `None` means none of them.
    ///
    /// # Shapes
    /// bool, b or b f
    pub null: Option<Tensor>,
}

impl Tokens {
    /// Another handle to the same tensors.
    pub fn shallow_clone(&self) -> Tokens {
        Tokens { values: self.values.shallow_clone(), weight: self.weight.shallow_clone() }
    }

    /// The same, padded to `l` tokens with tokens of weight 0.
    fn padded(&self, l: i64) -> Result<Tokens> {
        let more = l - self.length().unwrap_or(l);
        Ok(Tokens {
            values: self.values.f_constant_pad_nd([0, 0, 0, more])?,
            weight: self.weight.f_constant_pad_nd([0, more])?,
        })
    }

    /// Number of tokens of the longest text.
    fn length(&self) -> Option<i64> {
        self.values.size().iter().rev().nth(1).copied()
    }

    /// One text for all frames as the only one of a group, with one row of weights for each of `f`
    /// frames.
    fn grouped(&self, f: i64) -> Result<(Tokens, Tensor)> {
        let (values, b) = (self.values.f_unsqueeze(1)?, self.values.size()[0]);
        let weight = match self.weight.dim() {
            2 => self.weight.f_unsqueeze(1)?.f_expand([-1, f, -1], false)?,
            _ => self.weight.shallow_clone(),
        };
        let group = Tensor::f_zeros([b, f], (Kind::Int64, self.values.device()))?;
        Ok((Tokens { values, weight }, group))
    }

    /// The same, padded to `g` texts; no frame uses the new ones.
    fn with_texts(&self, g: i64) -> Result<Tokens> {
        let more = g - self.values.size()[1];
        let values = self.values.f_constant_pad_nd([0, 0, 0, 0, 0, more])?;
        Ok(Tokens { values, weight: self.weight.shallow_clone() })
    }

    /// All parts in one batch, padded to the longest text.
    fn cat(parts: &[&Tokens]) -> Result<Tokens> {
        let longest = parts.iter().filter_map(|part| part.length()).max().unwrap_or(0);
        let padded = parts.iter().map(|part| part.padded(longest));
        let padded = padded.collect::<Result<Vec<_>>>()?;
        let values: Vec<_> = padded.iter().map(|part| &part.values).collect();
        let weights: Vec<_> = padded.iter().map(|part| &part.weight).collect();
        Ok(Tokens { values: Tensor::f_cat(&values, 0)?, weight: cat_rows(&weights)? })
    }
}

/// The tokens of all parts in one batch. If frames of one part use different texts, all frames of
/// the other parts use their only one.
pub(super) fn cat_texts(parts: &[(&Tokens, Option<&Tensor>)]) -> Result<(Tokens, Option<Tensor>)> {
    let frames = parts.iter().find_map(|(_, group)| group.as_ref()?.size().get(1).copied());
    let Some(f) = frames else {
        let tokens: Vec<_> = parts.iter().map(|(tokens, _)| *tokens).collect();
        return Ok((Tokens::cat(&tokens)?, None));
    };
    let grouped = parts.iter().map(|(tokens, group)| match group {
        Some(group) => Ok((tokens.shallow_clone(), group.shallow_clone())),
        None => tokens.grouped(f),
    });
    let grouped = grouped.collect::<Result<Vec<_>>>()?;
    let most = grouped.iter().filter_map(|(tokens, _)| tokens.values.size().get(1).copied()).max();
    let tokens = grouped.iter().map(|(tokens, _)| tokens.with_texts(most.unwrap_or(1)));
    let tokens = tokens.collect::<Result<Vec<_>>>()?;
    let groups: Vec<_> = grouped.iter().map(|(_, group)| group).collect();
    let tokens = Tokens::cat(&tokens.iter().collect::<Vec<_>>())?;
    Ok((tokens, Some(Tensor::f_cat(&groups, 0)?)))
}

impl Given {
    /// A value given for all samples.
    pub fn new(value: Tensor) -> Given {
        Given { value, null: None }
    }

    /// Another handle to the same tensors.
    pub fn shallow_clone(&self) -> Given {
        Given {
            value: self.value.shallow_clone(),
            null: self.null.as_ref().map(Tensor::shallow_clone),
        }
    }

    pub(super) fn nulled(&self) -> Given {
        Given { value: self.value.shallow_clone(), null: Some(all_rows(&self.value)) }
    }

    pub(super) fn cat(parts: &[&Given]) -> Result<Given> {
        let values: Vec<_> = parts.iter().map(|part| &part.value).collect();
        let nulls: Vec<_> = parts.iter().map(|part| (part.null.as_ref(), &part.value)).collect();
        Ok(Given { value: cat_rows(&values)?, null: cat_nulls(&nulls)? })
    }
}

/// True for every row of a tensor.
pub(super) fn all_rows(of: &Tensor) -> Tensor {
    let b = of.size().first().copied().unwrap_or(0);
    Tensor::ones([b], (Kind::Bool, of.device()))
}

/// The null masks of several batches, expanded; `None` if none has one.
pub(super) fn cat_nulls(parts: &[(Option<&Tensor>, &Tensor)]) -> Result<Option<Tensor>> {
    if parts.iter().all(|(null, _)| null.is_none()) {
        return Ok(None);
    }
    let rows = parts.iter().map(|(null, of)| match null {
        Some(null) => null.shallow_clone(),
        None => all_rows(of).logical_not(),
    });
    let rows: Vec<_> = rows.collect();
    Ok(Some(cat_rows(&rows.iter().collect::<Vec<_>>())?))
}

/// Concatenates samples. If some parts have one row per frame and others one per clip, the latter
/// are expanded to all frames.
pub(super) fn cat_rows(parts: &[&Tensor]) -> Result<Tensor> {
    let most = parts.iter().max_by_key(|part| part.dim());
    let frames = most.and_then(|part| Some((part.dim(), *part.size().get(1)?)));
    let each = parts.iter().map(|part| match frames {
        Some((axes, f)) if part.dim() + 1 == axes => {
            let mut size = part.size();
            size.insert(1, f);
            Ok(part.f_unsqueeze(1)?.f_expand(&size, false)?)
        }
        _ => Ok(part.shallow_clone()),
    });
    Ok(Tensor::f_cat(&each.collect::<Result<Vec<_>>>()?, 0)?)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::Cond;
    use vd_tensor_ops::{Noise, SeededNoise};

    fn drawn(seed: u64, shape: &[i64]) -> Tensor {
        let like = Tensor::empty(shape, (Kind::Float, tch::Device::Cpu));
        SeededNoise::new(seed, 0).normal(&like)
    }

    #[test]
    fn a_text_for_all_frames_is_joined_with_texts_of_frames_as_their_only_one() {
        let weight = |seed, shape: &[i64]| drawn(seed, shape).abs();
        let group = || Tensor::from_slice(&[0i64, 0, 1, 2]).view([1, 4]);
        let each = Tokens { values: drawn(1, &[1, 3, 2, 5]), weight: weight(2, &[1, 4, 2]) };
        let each = Cond::none().with_groups(each, group());
        let one = Tokens { values: drawn(3, &[2, 4, 5]), weight: weight(4, &[2, 4]) };
        let one = Cond::none().with_tokens(one);
        for parts in [[&one, &each], [&each, &one]] {
            let joint = Cond::cat(&parts).unwrap();
            let at = i64::from(parts[0].group.is_some());
            let (tokens, group_of) = (joint.tokens.unwrap(), joint.group.unwrap());
            assert_eq!(tokens.values.size(), [3, 3, 4, 5]);
            assert_eq!((tokens.weight.size(), group_of.size()), (vec![3, 4, 4], vec![3, 4]));
            let own = one.tokens.as_ref().unwrap();
            assert_eq!(tokens.values.narrow(0, at, 2).select(1, 0), own.values);
            assert_eq!(group_of.narrow(0, at, 2).max().int64_value(&[]), 0);
            for f in 0..4 {
                assert_eq!(tokens.weight.narrow(0, at, 2).select(1, f), own.weight);
            }
            let other = 2 - 2 * at;
            assert_eq!(group_of.narrow(0, other, 1), group());
            let own = each.tokens.as_ref().unwrap();
            assert_eq!(tokens.values.narrow(0, other, 1).narrow(2, 0, 2), own.values);
        }
        // The null masks of both are expanded, to samples and to frames.
        let null = Tensor::from_slice(&[true, false, false, true]).view([1, 4]);
        let joint = Cond::cat(&[&one.nulled(), &each.with_null(null)]).unwrap();
        let expected = [&[true; 8][..], &[true, false, false, true]].concat();
        assert_eq!(Vec::<bool>::try_from(joint.null.unwrap().flatten(0, 1)).unwrap(), expected);
        let part = each.rows(0, 1).unwrap();
        assert_eq!(
            (part.group.unwrap(), part.tokens.unwrap().values.size()),
            (group(), vec![1, 3, 2, 5])
        );
    }
}
