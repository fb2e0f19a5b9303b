//! The layers of space-time factored networks.
//!
//! All take and give the inner layout, `b f h w c`. Parameters keep the names and shapes of the
//! checkpoints of video-diffusion-pytorch, whose convolutions are stored as three-dimensional ones
//! of depth 1; the layers that look at a text have no twin there.
//!
//! The constructors declare parameters and return an error for sizes that do not fit each other.
//! `forward` returns a tensor: it panics where the shapes, dtypes or devices of its inputs do not go
//! with the layer, with what was expected and what was given, and never reads beyond a tensor. It
//! looks at sizes alone, so a value that is not finite passes through. Parameters of another dtype than
//! f32 are computed with by libtorch.

mod attention;
mod cast;
mod conv;
mod conv_block;
mod cross_attention;
mod dropout;
mod indices;
mod linear;
mod linear_attention;
mod masked;
mod memory;
mod norm;
mod pool;
mod position;
mod relative;
mod shift;
mod spatial_attention;
mod stand_in;
mod temporal_attention;
mod temporal_conv;
mod tokens;
mod wrap;

pub use attention::HeadShape;
pub use conv::{SpaceConv, SpaceDown, SpaceUp};
pub use conv_block::{ConvBlock, ScaleShift};
pub use cross_attention::CrossAttention;
pub use dropout::{Dropout, DropoutSeeds};
pub use indices::look_up;
pub use linear::Linear;
pub use linear_attention::SpatialLinearAttention;
pub use memory::{Memory, MemoryHeads, MemoryProjection};
pub use norm::{Around, GroupNorm, LayerNorm, Norm, NormKind, RmsNorm};
pub use pool::AttentionPool;
pub use position::{RelativeBias, RelativeBias2d, Rotary, SinusoidalEmbedding};
pub use shift::TokenShift;
pub use spatial_attention::SpatialAttention;
pub use stand_in::or_stand_in;
pub use temporal_attention::TemporalAttention;
pub use temporal_conv::TemporalConv;
pub use wrap::Wrap;
