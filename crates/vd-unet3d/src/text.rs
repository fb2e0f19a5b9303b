//! The text: an embedding, and the tokens that attentions use.

use tch::{Device, Kind, Tensor};
use vd_tensor_ops::layers::{AttentionPool, MemoryProjection};
use vd_tensor_ops::{Init, Scope};

use crate::attend::head_shape;
use crate::cond::Tokens;
use crate::{Axes, Cond, Error, Result, UNet3dConfig, check};

/// The layers that process a text before the levels.
#[derive(Debug)]
pub(crate) struct Text {
    /// Width of an embedding that must be given.
    given: Option<i64>,
    /// Width of the tokens that must be given.
    tokens: Option<i64>,
    /// Pools the embedding from the tokens.
    pool: Option<AttentionPool>,
    /// Used by the attentions instead of a missing text: 1 d.
    null_token: Option<Tensor>,
    memory: Option<MemoryProjection>,
    kind: Kind,
    device: Device,
}

/// The embedding of a text.
#[derive(Debug)]
pub(crate) struct Pooled {
    /// b (1 or f) d
    pub(crate) rows: Tensor,
    /// Where there is no text: bool, b (1 or f) 1
    pub(crate) null: Option<Tensor>,
}

/// What the attentions use of a text.
#[derive(Debug)]
pub(crate) struct Seen<T = Tensor> {
    /// Tokens and their weights: b l d; b l or b f l. With a group b g l d and b f l.
    pub(crate) tokens: Option<(T, T)>,
    /// Index of the text that each frame uses: b f.
    pub(crate) group: Option<T>,
    /// Memory tokens: b m d or b f m d.
    pub(crate) memory: Option<T>,
}

impl Text {
    /// Below `text`: `pool`, `memory` and `null_token` (1 d), as configured. The null token starts
    /// standard normal, like the null embedding.
    pub(crate) fn new(scope: &mut Scope, config: &UNet3dConfig) -> Result<Self> {
        let (kind, device) = (scope.kind(), scope.device());
        let mut text = Text {
            given: config.cond_dim,
            tokens: None,
            pool: None,
            null_token: None,
            memory: None,
            kind,
            device,
        };
        let Some(tokens) = &config.tokens else { return Ok(text) };
        let shape = head_shape(Axes::Space, tokens.dim, config)?;
        let (mut scope, dim) = (scope.sub("text"), tokens.dim);
        text.tokens = Some(dim);
        if tokens.pool {
            text.given = None;
            let width = config.cond_dim.unwrap_or(dim);
            text.pool = Some(AttentionPool::new(&mut scope.sub("pool"), dim, width, shape)?);
        }
        if tokens.memory > 0 {
            let (mut scope, count) = (scope.sub("memory"), tokens.memory);
            text.memory = Some(MemoryProjection::new(&mut scope, count, dim, dim, shape)?);
        }
        if tokens.memory > 0 || !tokens.cross.is_empty() {
            text.null_token = Some(scope.param("null_token", &[1, dim], Init::Normal)?);
        }
        Ok(text)
    }

    /// The given embedding, or the one pooled from the given tokens.
    pub(crate) fn pooled(&self, cond: &Cond) -> Option<Pooled> {
        let null = cond.null.as_ref().map(check::over_rows);
        let row = |rows: Tensor| if rows.dim() == 2 { rows.unsqueeze(1) } else { rows };
        let Some(pool) = &self.pool else {
            let rows = row(cond.pooled.as_ref()?.to_kind(self.kind));
            return Some(Pooled { rows, null });
        };
        let Tokens { values, weight } = cond.tokens.as_ref()?;
        let (values, group) = (values.to_kind(self.kind), cond.group.as_ref());
        let rows = row(pool.forward_grouped(&values, weight, group));
        let nothing = row(nothing_counts(weight)); // b (1 or f) 1
        let null = null.map_or_else(|| nothing.shallow_clone(), |null| null.logical_or(&nothing));
        Some(Pooled { rows, null: Some(null) })
    }

    /// The inputs of the attentions for a batch of `b` samples.
    pub(crate) fn seen(&self, cond: &Cond, b: i64) -> Seen {
        let Some(null_token) = &self.null_token else {
            return Seen { tokens: None, group: None, memory: None };
        };
        let (values, weight) = self.or_null_token(null_token, cond, b);
        // Without tokens there are no texts to select from.
        let group = cond.group.as_ref().filter(|_| cond.tokens.is_some());
        let project = |memory: &MemoryProjection| memory.forward_grouped(&values, &weight, group);
        let memory = self.memory.as_ref().map(project);
        let group = group.map(Tensor::shallow_clone);
        Seen { tokens: Some((values, weight)), group, memory }
    }

    /// Prepends the null token. It has weight 1 where the text is null or all its tokens have
    /// weight 0; there, no other token has weight.
    fn or_null_token(&self, null_token: &Tensor, cond: &Cond, b: i64) -> (Tensor, Tensor) {
        let Some(Tokens { values, weight }) = &cond.tokens else {
            let first = null_token.unsqueeze(0).expand([b, -1, -1], false);
            return (first, Tensor::ones([b, 1], (self.kind, self.device)));
        };
        let mut weight = weight.shallow_clone();
        if let Some(null) = &cond.null {
            if null.dim() == 2 && weight.dim() == 2 {
                weight = weight.unsqueeze(1).expand([-1, null.size()[1], -1], false);
            }
            let rows = check::over_rows(null);
            let rows = if weight.dim() == 3 { rows } else { rows.squeeze_dim(1) };
            weight = weight.masked_fill(&rows, 0.0);
        }
        let alone = nothing_counts(&weight).to_kind(weight.kind());
        let mut first = values.size();
        if let [.., l, _] = first.as_mut_slice() {
            *l = 1;
        }
        let first = null_token.expand(&first, false);
        let values = Tensor::cat(&[first, values.to_kind(self.kind)], -2);
        (values, Tensor::cat(&[alone, weight], -1))
    }

    /// Checks the text against a video of `b` samples and `f` frames.
    pub(crate) fn validate(&self, cond: &Cond, b: i64, f: i64) -> Result<()> {
        let pooled = self.given.is_some() || self.pool.is_some();
        if !pooled && self.tokens.is_none() {
            if !cond.has_text() {
                return Ok(());
            }
            let expected = "none: this network has no cond_dim and no tokens, so it takes no text";
            let got = if cond.pooled.is_some() { "an embedding" } else { "tokens" };
            return Err(Error::input("conditioning", expected, got.to_owned()));
        }
        if let Some(null) = &cond.null {
            check::null_mask("null mask of the conditioning", null, [b, f], self.device)?;
        }
        match (self.given, &cond.pooled) {
            (Some(d), Some(pooled)) => self.fits_pooled(pooled, [b, f, d])?,
            (Some(d), None) if cond.has_text() => {
                let expected = format!("an embedding of width {d}, which this network needs");
                let got = "tokens without an embedding".to_owned();
                return Err(Error::input("conditioning", expected, got));
            }
            _ => {}
        }
        match (self.tokens, &cond.tokens) {
            (Some(d), Some(tokens)) => self.fits_tokens(tokens, cond.group.as_ref(), [b, f, d]),
            (Some(d), None) if cond.has_text() => {
                let expected = format!("tokens of width {d}, which this network attends to");
                let got = "an embedding without tokens".to_owned();
                Err(Error::input("conditioning", expected, got))
            }
            _ => Ok(()),
        }
    }

    fn fits_pooled(&self, pooled: &Tensor, [b, f, d]: [i64; 3]) -> Result<()> {
        let (what, size) = ("conditioning embedding", pooled.size());
        if size != [b, d] && size != [b, f, d] {
            let expected = format!("shape [{b}, {d}], or [{b}, {f}, {d}] for one per frame");
            return Err(Error::input(what, expected, format!("{size:?}")));
        }
        check::floats(what, pooled, self.device)
    }

    fn fits_tokens(
        &self,
        tokens: &Tokens,
        group: Option<&Tensor>,
        [b, f, d]: [i64; 3],
    ) -> Result<()> {
        let Tokens { values, weight } = tokens;
        let l = match (values.size().as_slice(), group) {
            (&[rows, l, width], None) if rows == b && width == d && l > 0 => l,
            (&[rows, g, l, width], Some(group)) if rows == b && width == d && g > 0 && l > 0 => {
                self.fits_group(group, [b, f, g])?;
                l
            }
            (size, group) => {
                let texts = if group.is_some() { "g, l" } else { "l" };
                let expected = format!("shape [{b}, {texts}, {d}] with l of at least 1");
                return Err(Error::input("tokens", expected, format!("{size:?}")));
            }
        };
        let size = weight.size();
        if size != [b, f, l] && (size != [b, l] || group.is_some()) {
            let each = format!("[{b}, {f}, {l}] for one row per frame");
            let expected = match group {
                None => format!("shape [{b}, {l}], or {each}"),
                Some(_) => format!("shape {each}"),
            };
            return Err(Error::input("weights of the tokens", expected, format!("{size:?}")));
        }
        check::floats("tokens", values, self.device)?;
        check::floats("weights of the tokens", weight, self.device)?;
        // On other devices, reading the values would synchronise.
        if weight.device() == Device::Cpu {
            let least = weight.detach().min().double_value(&[]);
            if least < 0.0 {
                let expected = "numbers of at least 0";
                return Err(Error::input("weights of the tokens", expected, least.to_string()));
            }
        }
        Ok(())
    }
}

impl Text {
    /// Checks the index, among `g` texts, that each frame uses.
    fn fits_group(&self, group: &Tensor, [b, f, g]: [i64; 3]) -> Result<()> {
        let (what, size) = ("group of the tokens", group.size());
        if size != [b, f] || group.kind() != Kind::Int64 {
            let expected = format!("Int64 of shape [{b}, {f}], the text of each frame");
            let got = format!("{:?} of shape {size:?}", group.kind());
            return Err(Error::input(what, expected, got));
        }
        check::here(what, group, self.device)?;
        // On other devices, reading the values would synchronise.
        if group.device() == Device::Cpu {
            let ends = [group.min(), group.max()].map(|end| end.int64_value(&[]));
            if let Some(end) = ends.into_iter().find(|end| !(0..g).contains(end)) {
                let expected = format!("texts from 0 to {}", g - 1);
                return Err(Error::input(what, expected, end.to_string()));
            }
        }
        Ok(())
    }
}

/// Whether no token has weight: ... l -> ... 1
fn nothing_counts(weight: &Tensor) -> Tensor {
    weight.le(0.0).all_dim(-1, true)
}
