//! What a network is conditioned on.

use tch::{Kind, Tensor};

use crate::{Error, Result};

/// What a network is conditioned on, on the network's device. The default is nothing at all.
#[derive(Debug, Default)]
pub struct Cond {
    /// One embedding per sample, or one per frame.
    ///
    /// # Shapes
    /// b d, or b f d
    pub pooled: Option<Tensor>,
    /// Which samples get the network's learned null embedding instead of their own; `None` means
    /// none of them where there is an embedding, and all of them where there is none.
    ///
    /// # Shapes
    /// bool, b
    pub null: Option<Tensor>,
}

impl Cond {
    /// No conditioning: a conditional network uses its null embedding for every sample.
    pub fn none() -> Cond {
        Cond::default()
    }

    /// One embedding per sample (b d) or per frame (b f d).
    pub fn pooled(embeddings: Tensor) -> Cond {
        Cond { pooled: Some(embeddings), null: None }
    }

    /// The same conditioning, with the samples that `null` (bool, b) marks replaced by the null
    /// embedding.
    pub fn with_null(&self, null: Tensor) -> Cond {
        Cond { null: Some(null), ..self.shallow_clone() }
    }

    /// The same conditioning with every sample replaced by the null embedding.
    pub fn nulled(&self) -> Cond {
        match &self.pooled {
            Some(pooled) => {
                let b = pooled.size().first().copied().unwrap_or(0);
                self.with_null(Tensor::ones([b], (Kind::Bool, pooled.device())))
            }
            None => Cond::none(),
        }
    }

    /// One batch that holds the samples of all parts, one part after the other.
    ///
    /// # Errors
    /// Parts of which some are given and some are not, or whose embeddings differ in shape.
    pub fn cat(parts: &[&Cond]) -> Result<Cond> {
        let given = parts.iter().filter(|part| part.pooled.is_some()).count();
        if given == 0 {
            return Ok(Cond::none());
        }
        if given < parts.len() {
            return Err(Error::Input {
                what: "conditioning to join",
                expected: "an embedding in every part".to_owned(),
                got: format!("{given} of {} parts with one", parts.len()),
            });
        }
        let pooled: Vec<_> = parts.iter().filter_map(|part| part.pooled.as_ref()).collect();
        let null = if parts.iter().any(|part| part.null.is_some()) {
            let rows: Vec<_> = parts.iter().filter_map(|part| part.null_rows()).collect();
            Some(Tensor::f_cat(&rows, 0)?)
        } else {
            None
        };
        Ok(Cond { pooled: Some(Tensor::f_cat(&pooled, 0)?), null })
    }

    /// A second handle on the same tensors.
    pub fn shallow_clone(&self) -> Cond {
        Cond {
            pooled: self.pooled.as_ref().map(Tensor::shallow_clone),
            null: self.null.as_ref().map(Tensor::shallow_clone),
        }
    }

    /// The null mask, written out.
    fn null_rows(&self) -> Option<Tensor> {
        let pooled = self.pooled.as_ref()?;
        let none = || Tensor::zeros([pooled.size()[0]], (Kind::Bool, pooled.device()));
        Some(self.null.as_ref().map_or_else(none, Tensor::shallow_clone))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn rows(cond: &Cond) -> Vec<bool> {
        Vec::try_from(cond.null.as_ref().unwrap()).unwrap()
    }

    #[test]
    fn joining_writes_the_null_mask_out() {
        let a = Cond::pooled(Tensor::from_slice(&[0.5f32, -1.5, 2.0, 0.25]).view([2, 2]));
        let both = Cond::cat(&[&a, &a.nulled()]).unwrap();
        assert_eq!(rows(&both), [false, false, true, true]);
        assert_eq!(both.pooled.unwrap().size(), [4, 2]);
        assert!(Cond::cat(&[&a, &a]).unwrap().null.is_none());
        assert!(Cond::cat(&[&a, &Cond::none()]).is_err());
    }
}
