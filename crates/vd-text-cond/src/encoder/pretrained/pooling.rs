//! Pooling of a prompt's tokens into one vector.

use tch::{Device, Kind, Tensor};

use super::text::Tokenized;
use super::{End, Pooling};
use crate::Result;

/// Avoids a division by 0 in the peer's mean of no tokens.
const PEER_EPS: f64 = 1e-8;

/// Prompts that are encoded together, each padded to the longest.
#[derive(Debug)]
pub(super) struct Batch {
    /// # Shapes
    /// i64, b l
    pub(super) ids: Tensor,
    /// # Shapes
    /// bool, b l; false is padding
    pub(super) mask: Tensor,
    /// # Shapes
    /// bool, b l; false is padding or a token added to every prompt
    own: Tensor,
    pad: i64,
}

impl Batch {
    pub(super) fn new(prompts: &[&Tokenized], pad: i64, device: Device) -> Result<Self> {
        let longest = prompts.iter().map(|p| p.ids.len()).max().unwrap_or(0);
        // A tokenizer may return no token at all for an empty prompt; then it is padding.
        let l = longest.max(1);
        let (mut ids, mut mask, mut own) = (Vec::new(), Vec::new(), Vec::new());
        for prompt in prompts {
            let padding = l - prompt.ids.len();
            ids.extend_from_slice(&prompt.ids);
            ids.extend(std::iter::repeat_n(pad, padding));
            mask.extend(std::iter::repeat_n(true, prompt.ids.len()));
            mask.extend(std::iter::repeat_n(false, padding));
            own.extend_from_slice(&prompt.own);
            own.extend(std::iter::repeat_n(false, padding));
        }
        let shape = [prompts.len() as i64, l as i64];
        let flags = |flags: &[bool]| -> Result<Tensor> {
            Ok(Tensor::f_from_slice(flags)?.f_view(shape)?.f_to_device(device)?)
        };
        let ids = Tensor::f_from_slice(&ids)?.f_view(shape)?.f_to_device(device)?;
        Ok(Batch { ids, mask: flags(&mask)?, own: flags(&own)?, pad })
    }

    /// # Shapes
    /// tokens b l d, f32 -> b d
    pub(super) fn pool(&self, tokens: &Tensor, pooling: Pooling, end: End) -> Result<Tensor> {
        match pooling {
            Pooling::Cls => Ok(tokens.f_select(1, 0)?),
            Pooling::Mean => {
                let none = self.own.f_any_dim(1, true)?.f_logical_not()?;
                let kept = self.own.f_logical_or(&none.f_logical_and(&self.mask)?)?;
                let (sum, count) = sum(tokens, &kept)?;
                Ok(sum.f_div(&count.f_clamp_min(1.0)?)?)
            }
            Pooling::Peer => {
                // The peer treats every token with the padding's id as padding.
                let kept = self.mask.f_logical_and(&self.ids.f_ne(self.pad)?)?;
                let behind = kept.size()[1] - 1;
                let (tokens, kept) = (tokens.f_narrow(1, 1, behind)?, kept.f_narrow(1, 1, behind)?);
                let (sum, count) = sum(&tokens, &kept)?;
                Ok(sum.f_div(&count.f_add_scalar(PEER_EPS)?)?)
            }
            Pooling::Eos => {
                let (b, _, d) = tokens.size3()?;
                let index = self.ends(end)?.f_view([b, 1, 1])?.f_expand([b, 1, d], false)?;
                Ok(tokens.f_gather(1, &index, false)?.f_squeeze_dim(1)?)
            }
        }
    }

    /// The position of each prompt's end.
    ///
    /// # Shapes
    /// i64, b
    fn ends(&self, end: End) -> Result<Tensor> {
        let first = |of: &Tensor| of.f_to_kind(Kind::Int64)?.f_argmax(1, false);
        Ok(match end {
            End::Last => {
                let count = self.mask.f_sum_dim_intlist(1, false, Kind::Int64)?;
                count.f_sub_scalar(1)?.f_clamp_min(0)?
            }
            End::HighestId => first(&self.ids)?,
            End::Id(id) => first(&self.ids.f_eq(id)?)?,
        })
    }
}

/// The sum of the tokens that are kept, and their number.
fn sum(tokens: &Tensor, kept: &Tensor) -> Result<(Tensor, Tensor)> {
    let kept = kept.f_unsqueeze(-1)?.f_to_kind(tokens.kind())?;
    let sum = tokens.f_mul(&kept)?.f_sum_dim_intlist(1, false, tokens.kind())?;
    Ok((sum, kept.f_sum_dim_intlist(1, false, tokens.kind())?))
}
