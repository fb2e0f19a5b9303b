//! What a conditioning is made of.

use tch::{Kind, Tensor};

use crate::Result;

/// The tokens of a text.
#[derive(Debug)]
pub struct Tokens {
    /// # Shapes
    /// b l d
    pub values: Tensor,
    /// How much each counts: its share of an attention is multiplied by this. 0 is padding, 1 a
    /// token as it stands; one row for all frames, or one each. Where none of them is above 0 there
    /// is no text, and the network shows its stand-in.
    ///
    /// # Shapes
    /// b l, or b f l; f32
    pub weight: Tensor,
}

/// The value of a signal.
#[derive(Debug)]
pub struct Given {
    /// # Shapes
    /// Those of the signal's [`SignalConfig`](crate::SignalConfig)
    pub value: Tensor,
    /// Which samples go without; `None` means none of them.
    ///
    /// # Shapes
    /// bool, b
    pub null: Option<Tensor>,
}

impl Tokens {
    /// A second handle on the same tensors.
    pub fn shallow_clone(&self) -> Tokens {
        Tokens { values: self.values.shallow_clone(), weight: self.weight.shallow_clone() }
    }

    /// The same with room for `l` tokens, the new ones of weight 0.
    fn padded(&self, l: i64) -> Result<Tokens> {
        let more = l - self.values.size().get(1).copied().unwrap_or(l);
        Ok(Tokens {
            values: self.values.f_constant_pad_nd([0, 0, 0, more])?,
            weight: self.weight.f_constant_pad_nd([0, more])?,
        })
    }

    /// One batch of all parts, padded to the longest.
    pub(super) fn cat(parts: &[&Tokens]) -> Result<Tokens> {
        let lengths = parts.iter().filter_map(|part| part.values.size().get(1).copied());
        let longest = lengths.max().unwrap_or(0);
        let padded = parts.iter().map(|part| part.padded(longest));
        let padded = padded.collect::<Result<Vec<_>>>()?;
        let values: Vec<_> = padded.iter().map(|part| &part.values).collect();
        let weights: Vec<_> = padded.iter().map(|part| &part.weight).collect();
        Ok(Tokens { values: Tensor::f_cat(&values, 0)?, weight: cat_rows(&weights)? })
    }
}

impl Given {
    /// A value that all samples have.
    pub fn new(value: Tensor) -> Given {
        Given { value, null: None }
    }

    /// A second handle on the same tensors.
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

/// The null masks of several batches, written out; `None` where none has one.
pub(super) fn cat_nulls(parts: &[(Option<&Tensor>, &Tensor)]) -> Result<Option<Tensor>> {
    if parts.iter().all(|(null, _)| null.is_none()) {
        return Ok(None);
    }
    let rows = parts.iter().map(|(null, of)| match null {
        Some(null) => null.shallow_clone(),
        None => all_rows(of).logical_not(),
    });
    Ok(Some(Tensor::f_cat(&rows.collect::<Vec<_>>(), 0)?))
}

/// Samples one after the other. Where some parts have a row for each frame and others one for all,
/// each frame of the others gets the one.
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
