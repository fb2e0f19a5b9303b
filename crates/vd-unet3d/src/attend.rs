//! Attentions with the norm before and the residual around them.

use tch::Tensor;
use vd_tensor_ops::Scope;
use vd_tensor_ops::layers::{
    CrossAttention, HeadShape, LayerNorm, Memory, MemoryHeads, SpatialAttention,
    SpatialLinearAttention, TemporalAttention, TokenShift,
};

use crate::text::Seen;
use crate::{Axes, Result, UNet3dConfig};

/// Features of each head of the attentions over space, which `attn_dim_head` does not touch (as in
/// `video-diffusion-pytorch`).
pub const SPATIAL_HEAD_DIM: i64 = 32;

/// What the attentions of one evaluation share; `T` stands for each tensor.
#[derive(Debug)]
pub(crate) struct Context<T = Tensor> {
    /// Added to the scores over time: n f f.
    pub(crate) bias: T,
    /// Added to the scores of full attention over space: n (h w) (h w).
    pub(crate) space_bias: Option<T>,
    /// Pairs of frames that do not see each other: bool, (b or 1) 1 1 f f.
    pub(crate) forbidden: Option<T>,
    /// The text.
    pub(crate) text: Seen<T>,
}

impl<T> Context<T> {
    /// What `map` makes of each tensor that is there, in its place.
    pub(crate) fn map<'a, U>(&'a self, mut map: impl FnMut(&'a T) -> U) -> Context<U> {
        let Seen { tokens, memory } = &self.text;
        Context {
            bias: map(&self.bias),
            space_bias: self.space_bias.as_ref().map(&mut map),
            forbidden: self.forbidden.as_ref().map(&mut map),
            text: Seen {
                tokens: tokens.as_ref().map(|(values, weight)| (map(values), map(weight))),
                memory: memory.as_ref().map(&mut map),
            },
        }
    }
}

/// What an attention of each kind is made of and how it looks at what.
fn head_shape(axes: Axes, config: &UNet3dConfig) -> Result<HeadShape> {
    let dim = match axes {
        Axes::Space => SPATIAL_HEAD_DIM,
        Axes::Time => config.attn_dim_head,
    };
    Ok(HeadShape::new(config.attn_heads, dim)?)
}

/// What comes before an attention: the norm and the shifts, and what it makes of the text.
#[derive(Debug)]
struct Entry {
    norm: LayerNorm,
    shift: Vec<Axes>,
    memory: Option<MemoryHeads>,
}

impl Entry {
    fn new(
        scope: &mut Scope,
        channels: i64,
        shape: HeadShape,
        config: &UNet3dConfig,
    ) -> Result<Self> {
        let norm = LayerNorm::new(&mut scope.sub("norm"), channels)?;
        let memory = match &config.tokens {
            Some(tokens) if tokens.memory > 0 => {
                Some(MemoryHeads::new(&mut scope.sub("memory"), tokens.dim, shape)?)
            }
            _ => None,
        };
        Ok(Entry { norm, shift: config.token_shift.clone(), memory })
    }

    /// Neighbours in time that do not see each other give each other nothing.
    fn forward(&self, x: &Tensor, forbidden: Option<&Tensor>) -> Tensor {
        let shifts = self.shift.iter();
        shifts.fold(self.norm.forward(x), |x, axes| match axes {
            Axes::Space => TokenShift::space(&x),
            Axes::Time => TokenShift::time(&x, forbidden),
        })
    }

    fn memory(&self, context: &Context) -> Option<Memory> {
        let (memory, tokens) = (self.memory.as_ref()?, context.text.memory.as_ref()?);
        Some(memory.forward(tokens))
    }
}

/// x + attention over time of norm(x).
#[derive(Debug)]
pub(crate) struct TemporalResidual {
    entry: Entry,
    attention: TemporalAttention,
}

impl TemporalResidual {
    pub(crate) fn new(scope: &mut Scope, channels: i64, config: &UNet3dConfig) -> Result<Self> {
        let shape = head_shape(Axes::Time, config)?;
        let mut scope = scope.sub("fn");
        let entry = Entry::new(&mut scope, channels, shape, config)?;
        let attention = TemporalAttention::new(&mut scope.sub("fn").sub("fn"), channels, shape)?;
        Ok(TemporalResidual { entry, attention })
    }

    pub(crate) fn forward(&self, x: &Tensor, context: &Context, masked: bool) -> Tensor {
        let forbidden = context.forbidden.as_ref().filter(|_| masked);
        let memory = self.entry.memory(context);
        if memory.is_none() && self.entry.shift.is_empty() {
            let bias = Some(&context.bias);
            return self.attention.residual(&self.entry.norm, x, bias, forbidden);
        }
        let inner = self.entry.forward(x, forbidden);
        x + self.attention.forward_with(&inner, Some(&context.bias), forbidden, memory.as_ref())
    }
}

/// x + linear attention over space of norm(x).
#[derive(Debug)]
pub(crate) struct LinearResidual {
    entry: Entry,
    attention: SpatialLinearAttention,
}

impl LinearResidual {
    pub(crate) fn new(scope: &mut Scope, channels: i64, config: &UNet3dConfig) -> Result<Self> {
        let shape = head_shape(Axes::Space, config)?;
        let mut scope = scope.sub("fn");
        let entry = Entry::new(&mut scope, channels, shape, config)?;
        let attention = SpatialLinearAttention::new(&mut scope.sub("fn"), channels, shape)?;
        Ok(LinearResidual { entry, attention })
    }

    pub(crate) fn forward(&self, x: &Tensor, context: &Context) -> Tensor {
        let memory = self.entry.memory(context);
        if memory.is_none() && self.entry.shift.is_empty() {
            return self.attention.residual(x, &self.entry.norm);
        }
        let inner = self.entry.forward(x, context.forbidden.as_ref());
        x + self.attention.forward_with(&inner, memory.as_ref())
    }
}

/// x + full attention over space of norm(x).
#[derive(Debug)]
pub(crate) struct SpatialResidual {
    entry: Entry,
    attention: SpatialAttention,
}

impl SpatialResidual {
    pub(crate) fn new(scope: &mut Scope, channels: i64, config: &UNet3dConfig) -> Result<Self> {
        let shape = head_shape(Axes::Space, config)?;
        let mut scope = scope.sub("fn");
        let entry = Entry::new(&mut scope, channels, shape, config)?;
        let attention = SpatialAttention::new(&mut scope.sub("fn").sub("fn"), channels, shape)?;
        Ok(SpatialResidual { entry, attention })
    }

    pub(crate) fn forward(&self, x: &Tensor, context: &Context) -> Tensor {
        let (memory, bias) = (self.entry.memory(context), context.space_bias.as_ref());
        if memory.is_none() && self.entry.shift.is_empty() {
            return self.attention.residual(&self.entry.norm, x, bias);
        }
        let inner = self.entry.forward(x, context.forbidden.as_ref());
        x + self.attention.forward_with(&inner, bias, memory.as_ref())
    }
}

/// x + attention over the tokens of the text of norm(x).
#[derive(Debug)]
pub(crate) struct CrossResidual {
    norm: LayerNorm,
    attention: CrossAttention,
}

impl CrossResidual {
    /// `PREFIXcross_space` or `PREFIXcross_time`, where the config has one after the attentions
    /// along these axes.
    pub(crate) fn new(
        scope: &mut Scope,
        (prefix, axes): (&str, Axes),
        channels: i64,
        config: &UNet3dConfig,
    ) -> Result<Option<Self>> {
        let Some(tokens) = config.tokens.as_ref().filter(|tokens| tokens.cross.contains(&axes))
        else {
            return Ok(None);
        };
        let name = match axes {
            Axes::Space => "cross_space",
            Axes::Time => "cross_time",
        };
        let mut scope = scope.sub(format_args!("{prefix}{name}"));
        let norm = LayerNorm::new(&mut scope.sub("norm"), channels)?;
        let shape = head_shape(axes, config)?;
        let attention = CrossAttention::new(&mut scope, channels, tokens.dim, shape)?;
        Ok(Some(CrossResidual { norm, attention }))
    }

    pub(crate) fn forward(&self, x: &Tensor, context: &Context) -> Tensor {
        let Some((values, weight)) = &context.text.tokens else { return x.shallow_clone() };
        x + self.attention.forward(&self.norm.forward(x), values, weight)
    }
}
