//! Attentions with their pre-norm and residual connection.

use tch::Tensor;
use vd_tensor_ops::Scope;
use vd_tensor_ops::layers::{
    Around, CrossAttention, DropoutSeeds, HeadShape, LayerNorm, Memory, MemoryHeads,
    SpatialAttention, SpatialLinearAttention, TemporalAttention, TokenShift,
};

use crate::text::Seen;
use crate::{Axes, Result, TimePositions, UNet3dConfig};

/// Default head dimension of the spatial attentions: `attn_dim_head` does not affect them (as in
/// `video-diffusion-pytorch`).
pub const SPATIAL_HEAD_DIM: i64 = 32;

/// What the attentions of one evaluation share; `T` is the tensor type.
#[derive(Debug)]
pub(crate) struct Context<T = Tensor> {
    /// Bias of the temporal scores, from which an attention takes as many heads as it has: n f f.
    pub(crate) bias: Option<T>,
    /// The same for full spatial attention, for each level that has it: n (h w) (h w).
    pub(crate) space_bias: Vec<Option<T>>,
    /// Pairs of frames that must not attend to each other: bool, (b or 1) 1 1 f f.
    pub(crate) forbidden: Option<T>,
    /// Number of frames that belong to the clip, if independent images follow it.
    pub(crate) clip: Option<i64>,
    /// The text.
    pub(crate) text: Seen<T>,
    /// Seeds of the dropout masks; `None` in evaluation.
    pub(crate) dropout: Option<DropoutSeeds>,
}

impl<T> Context<T> {
    /// Applies `map` to each tensor that is present.
    pub(crate) fn map<'a, U>(&'a self, mut map: impl FnMut(&'a T) -> U) -> Context<U> {
        let Seen { tokens, group, memory } = &self.text;
        Context {
            bias: self.bias.as_ref().map(&mut map),
            space_bias: self.space_bias.iter().map(|bias| bias.as_ref().map(&mut map)).collect(),
            forbidden: self.forbidden.as_ref().map(&mut map),
            clip: self.clip,
            text: Seen {
                tokens: tokens.as_ref().map(|(values, weight)| (map(values), map(weight))),
                group: group.as_ref().map(&mut map),
                memory: memory.as_ref().map(&mut map),
            },
            dropout: self.dropout.clone(),
        }
    }
}

/// Number and width of the heads of an attention with this many channels.
pub(crate) fn head_shape(axes: Axes, channels: i64, config: &UNet3dConfig) -> Result<HeadShape> {
    let (heads, dim) = config.heads(axes, channels);
    Ok(HeadShape::new(heads, dim)?)
}

/// Zeroes the output projection of an attention, if the config requires it.
fn silenced(scope: &mut Scope, way_out: &[&str], config: &UNet3dConfig) -> Result<()> {
    if config.zero_init {
        way_out.iter().try_for_each(|name| scope.zero(name))?;
    }
    Ok(())
}

/// The bias of the first heads, as many as the attention has.
fn of_heads(bias: Option<&Tensor>, heads: i64) -> Option<Tensor> {
    let bias = bias?;
    Some(if bias.size()[0] == heads { bias.shallow_clone() } else { bias.narrow(0, 0, heads) })
}

/// What precedes an attention: the norm and the token shifts, and its keys and values of the text.
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

    /// Frames that must not attend to each other exchange no shifted channels either.
    fn forward(&self, x: &Tensor, forbidden: Option<&Tensor>) -> (Tensor, Around) {
        let (inner, around) = self.norm.branch(x);
        let shifts = self.shift.iter();
        let inner = shifts.fold(inner, |x, axes| match axes {
            Axes::Space => TokenShift::space(&x),
            Axes::Time => TokenShift::time(&x, forbidden),
        });
        (inner, around)
    }

    fn memory(&self, context: &Context) -> Option<Memory> {
        let (memory, tokens) = (self.memory.as_ref()?, context.text.memory.as_ref()?);
        Some(memory.forward(tokens))
    }
}

/// x + attention over time of norm(x).
#[derive(Debug)]
pub(crate) struct TemporalResidual {
    heads: i64,
    entry: Entry,
    attention: TemporalAttention,
}

impl TemporalResidual {
    pub(crate) fn new(scope: &mut Scope, channels: i64, config: &UNet3dConfig) -> Result<Self> {
        let shape = head_shape(Axes::Time, channels, config)?;
        let mut scope = scope.sub("fn");
        let entry = Entry::new(&mut scope, channels, shape, config)?;
        let mut scope = scope.sub("fn.fn");
        let attention = match config.time_positions {
            TimePositions::Bias => TemporalAttention::new(&mut scope, channels, shape)?,
            TimePositions::Shaw { distance } => {
                TemporalAttention::shaw(&mut scope, channels, shape, distance)?
            }
        };
        silenced(&mut scope, &["to_out.weight"], config)?;
        Ok(TemporalResidual { heads: shape.heads, entry, attention })
    }

    pub(crate) fn forward(&self, x: &Tensor, context: &Context, masked: bool) -> Tensor {
        let forbidden = context.forbidden.as_ref().filter(|_| masked);
        let memory = self.entry.memory(context);
        let bias = of_heads(context.bias.as_ref(), self.heads);
        match context.clip {
            Some(clip) => self.apart(x, clip, bias.as_ref(), memory.as_ref()),
            None => self.joint(x, bias.as_ref(), forbidden, memory.as_ref()),
        }
    }

    /// The clip, and each of the images after it as a clip of one frame. Forbidden pairs of frames
    /// are not computed, so the cost is linear in the number of images.
    fn apart(
        &self,
        x: &Tensor,
        clip: i64,
        bias: Option<&Tensor>,
        memory: Option<&Memory>,
    ) -> Tensor {
        let (b, images) = (x.size()[0], x.size()[1] - clip);
        // A single split, so that the gradients are concatenated rather than summed.
        let parts = x.split_with_sizes([clip, images], 1);
        let bias_of = |f: i64| bias.map(|bias| bias.narrow(1, 0, f).narrow(2, 0, f));
        let seen = memory.map(|memory| memory.frames(0, clip));
        let first = self.joint(&parts[0], bias_of(clip).as_ref(), None, seen.as_ref());
        let seen = memory.map(|memory| memory.alone(clip, images));
        let alone = parts[1].flatten(0, 1).unsqueeze(1); // (b k) 1 h w c
        let alone = self.joint(&alone, bias_of(1).as_ref(), None, seen.as_ref());
        Tensor::cat(&[first, alone.squeeze_dim(1).unflatten(0, [b, images])], 1)
    }

    /// All frames as one clip.
    fn joint(
        &self,
        x: &Tensor,
        bias: Option<&Tensor>,
        forbidden: Option<&Tensor>,
        memory: Option<&Memory>,
    ) -> Tensor {
        if memory.is_none() && self.entry.shift.is_empty() {
            return self.attention.residual(&self.entry.norm, x, bias, forbidden);
        }
        let (inner, around) = self.entry.forward(x, forbidden);
        around.plus(&self.attention.forward_with(&inner, bias, forbidden, memory))
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
        let shape = head_shape(Axes::Space, channels, config)?;
        let mut scope = scope.sub("fn");
        let entry = Entry::new(&mut scope, channels, shape, config)?;
        let mut scope = scope.sub("fn");
        let attention = SpatialLinearAttention::new(&mut scope, channels, shape)?;
        silenced(&mut scope, &["to_out.weight", "to_out.bias"], config)?;
        Ok(LinearResidual { entry, attention })
    }

    pub(crate) fn forward(&self, x: &Tensor, context: &Context) -> Tensor {
        let memory = self.entry.memory(context);
        if memory.is_none() && self.entry.shift.is_empty() {
            return self.attention.residual(x, &self.entry.norm);
        }
        let (inner, around) = self.entry.forward(x, context.forbidden.as_ref());
        around.plus(&self.attention.forward_with(&inner, memory.as_ref()))
    }
}

/// x + full attention over space of norm(x).
#[derive(Debug)]
pub(crate) struct SpatialResidual {
    heads: i64,
    level: usize,
    entry: Entry,
    attention: SpatialAttention,
}

impl SpatialResidual {
    /// For this many channels at a level.
    pub(crate) fn new(
        scope: &mut Scope,
        (channels, level): (i64, usize),
        config: &UNet3dConfig,
    ) -> Result<Self> {
        let shape = head_shape(Axes::Space, channels, config)?;
        let mut scope = scope.sub("fn");
        let entry = Entry::new(&mut scope, channels, shape, config)?;
        let mut scope = scope.sub("fn.fn");
        let attention = SpatialAttention::new(&mut scope, channels, shape)?;
        silenced(&mut scope, &["to_out.weight"], config)?;
        Ok(SpatialResidual { heads: shape.heads, level, entry, attention })
    }

    pub(crate) fn forward(&self, x: &Tensor, context: &Context) -> Tensor {
        let bias = context.space_bias.get(self.level).and_then(Option::as_ref);
        let (memory, bias) = (self.entry.memory(context), of_heads(bias, self.heads));
        let bias = bias.as_ref();
        if memory.is_none() && self.entry.shift.is_empty() {
            return self.attention.residual(&self.entry.norm, x, bias);
        }
        let (inner, around) = self.entry.forward(x, context.forbidden.as_ref());
        around.plus(&self.attention.forward_with(&inner, bias, memory.as_ref()))
    }
}

/// x + cross-attention of norm(x) to the tokens of the text.
#[derive(Debug)]
pub(crate) struct CrossResidual {
    norm: LayerNorm,
    attention: CrossAttention,
}

impl CrossResidual {
    /// `PREFIXcross_space` or `PREFIXcross_time`, if the config has cross-attention after the
    /// attentions along these axes.
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
        let shape = head_shape(axes, channels, config)?;
        let attention = CrossAttention::new(&mut scope, channels, tokens.dim, shape)?;
        Ok(Some(CrossResidual { norm, attention }))
    }

    pub(crate) fn forward(&self, x: &Tensor, context: &Context) -> Tensor {
        let Some((values, weight)) = &context.text.tokens else { return x.shallow_clone() };
        let group = context.text.group.as_ref();
        let (inner, around) = self.norm.branch(x);
        around.plus(&self.attention.forward_grouped(&inner, values, weight, group))
    }
}
