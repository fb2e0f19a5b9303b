//! Converts texts to the conditioning of clips: encodes every prompt once, weights parts,
//! interpolates frames.

use std::collections::HashMap;

use tch::{Device, Kind, Tensor};
use vd_unet3d::{Cond, Tokens};

use crate::{Error, Part, Result, Text, TextEncoder};

/// The encoded texts of all clips.
#[derive(Debug)]
pub(crate) struct Encoded {
    /// What they show.
    pub(crate) given: Cond,
    /// The negative prompts, if any; a null mask marks clips without one.
    pub(crate) negative: Option<Cond>,
}

/// Encodes the texts of all clips, one per clip. `along` is the position of each frame between the
/// parts (0) and the last frame's parts (1).
///
/// # Shapes
/// pooled n d, or n f d if any text has an `until`; tokens n l d with weights n l, or n f l
pub(crate) fn encode(
    encoder: &dyn TextEncoder,
    texts: &[Text],
    along: &[f64],
    device: Device,
) -> Result<Encoded> {
    texts.iter().try_for_each(Text::validate)?;
    let all = Prompts::encoded(encoder, texts, device)?;
    let moving = texts.iter().any(|text| text.until.is_some());
    let along = if moving { Some(along) } else { None };
    let mixed = |text: &Text| all.mix(&text.parts, text.until.as_deref(), along);
    let given = all.cond(&texts.iter().map(mixed).collect::<Vec<_>>())?;
    let without: Vec<bool> = texts.iter().map(|text| text.negative.is_none()).collect();
    if without.iter().all(|without| *without) {
        return Ok(Encoded { given, negative: None });
    }
    // Clips without a negative prompt are masked, so any prompt will do for them.
    let mixed = |text: &Text| all.mix(text.negative.as_ref().unwrap_or(&text.parts), None, along);
    let mut negative = all.cond(&texts.iter().map(mixed).collect::<Vec<_>>())?;
    if without.contains(&true) {
        negative.null = Some(Tensor::f_from_slice(&without)?.f_to_device(device)?);
    }
    Ok(Encoded { given, negative: Some(negative) })
}

/// The weights of a clip's prompts: the row of each, and one weight, or one per frame.
type Mix = Vec<(usize, Vec<f64>)>;

/// Every prompt of a call, encoded once.
struct Prompts<'a> {
    rows: HashMap<&'a str, usize>,
    cond: Cond,
    device: Device,
}

impl<'a> Prompts<'a> {
    fn encoded(encoder: &dyn TextEncoder, texts: &'a [Text], device: Device) -> Result<Self> {
        let (mut rows, mut prompts) = (HashMap::new(), Vec::new());
        for Part { prompt, .. } in texts.iter().flat_map(Text::all) {
            rows.entry(prompt.as_str()).or_insert_with(|| {
                prompts.push(prompt.as_str());
                prompts.len() - 1
            });
        }
        let cond = encoder.encode(&prompts, device)?;
        Ok(Prompts { rows, cond, device })
    }

    /// The weights of a clip's prompts, which sum to 1 in every frame.
    fn mix(&self, parts: &[Part], until: Option<&[Part]>, along: Option<&[f64]>) -> Mix {
        let shares = |parts: &[Part], of: &dyn Fn(f64) -> f64| -> Mix {
            let sum: f64 = parts.iter().map(|part| part.weight).sum();
            let share = |part: &Part| {
                let share = part.weight / sum;
                let frames = along.map(|along| along.iter().map(|u| share * of(*u)).collect());
                let row = self.rows.get(part.prompt.as_str()).copied().unwrap_or_default();
                (row, frames.unwrap_or_else(|| vec![share]))
            };
            parts.iter().map(share).collect()
        };
        match until {
            None => shares(parts, &|_| 1.0),
            Some(until) => {
                let mut mix = shares(parts, &|u| 1.0 - u);
                mix.extend(shares(until, &|u| u));
                mix
            }
        }
    }

    /// The conditioning of clips with these weights.
    fn cond(&self, mixes: &[Mix]) -> Result<Cond> {
        let pooled = match &self.cond.pooled {
            Some(rows) => Some(self.pooled(rows, mixes)?),
            None => None,
        };
        let tokens = match &self.cond.tokens {
            Some(tokens) => Some(self.tokens(tokens, mixes)?),
            None => None,
        };
        Ok(Cond { pooled, tokens, ..Cond::none() })
    }

    /// The weighted mean of embeddings: n d, or n f d.
    fn pooled(&self, rows: &Tensor, mixes: &[Mix]) -> Result<Tensor> {
        let mut clips = Vec::new();
        for mix in mixes {
            let mut sum: Option<Tensor> = None;
            for (row, shares) in mix {
                let row = rows.f_get(*row as i64)?;
                let part = match shares[..] {
                    // A weight of 1 needs no multiplication, and no rounding.
                    [1.0] => row,
                    [share] => row.f_mul_scalar(share)?,
                    _ => {
                        let shares = floats(shares, self.device)?.f_to_kind(row.kind())?;
                        shares.f_unsqueeze(1)?.f_mul(&row)? // f d
                    }
                };
                sum = Some(match sum {
                    None => part,
                    Some(sum) => sum.f_add(&part)?,
                });
            }
            clips.push(sum.ok_or_else(|| no_parts("nothing"))?);
        }
        Ok(Tensor::f_stack(&clips, 0)?)
    }

    /// The tokens of all parts concatenated, with their padding removed and appended at the end.
    fn tokens(&self, tokens: &Tokens, mixes: &[Mix]) -> Result<Tokens> {
        let size = tokens.values.size();
        let &[n, l, d] = size.as_slice() else {
            return Err(no_parts(&format!("tokens of shape {size:?}")));
        };
        let own = tokens.weight.f_to_device(Device::Cpu)?.f_to_kind(Kind::Double)?;
        let own = Vec::<f64>::try_from(&own.f_reshape([-1])?)?; // n l
        let l = usize::try_from(l).unwrap_or_default();
        let there = |row: usize| (row * l..(row + 1) * l).filter(|at| own[*at] != 0.0);
        let lengths = mixes.iter().map(|mix| mix.iter().map(|(row, _)| there(*row).count()).sum());
        let longest = lengths.max().unwrap_or(0).max(1);
        let frames = mixes.iter().flatten().map(|(_, shares)| shares.len()).max().unwrap_or(1);
        let mut places = vec![0i64; mixes.len() * longest];
        let mut weights = vec![0f64; mixes.len() * frames * longest];
        for (clip, mix) in mixes.iter().enumerate() {
            let found =
                mix.iter().flat_map(|(row, shares)| there(*row).map(move |at| (at, shares)));
            for (k, (at, shares)) in found.enumerate() {
                places[clip * longest + k] = at as i64;
                for (frame, share) in shares.iter().enumerate() {
                    weights[(clip * frames + frame) * longest + k] = own[at] * share;
                }
            }
        }
        let (b, f, longest) = (mixes.len() as i64, frames as i64, longest as i64);
        let places = Tensor::f_from_slice(&places)?.f_to_device(tokens.values.device())?;
        let values = tokens.values.f_reshape([n * l as i64, d])?.f_index_select(0, &places)?;
        let weight = floats(&weights, self.device)?;
        let shape = if f == 1 { vec![b, longest] } else { vec![b, f, longest] };
        Ok(Tokens {
            values: values.f_view([b, longest, d])?,
            weight: weight.f_view(shape.as_slice())?,
        })
    }
}

fn floats(values: &[f64], device: Device) -> Result<Tensor> {
    Ok(Tensor::f_from_slice(values)?.f_to_kind(Kind::Float)?.f_to_device(device)?)
}

/// The error for an encoder that violates its contract.
fn no_parts(got: &str) -> Error {
    Error::Value {
        what: "encoder",
        expected: "an embedding of each prompt, n d, or tokens, n l d".to_owned(),
        got: got.to_owned(),
    }
}
