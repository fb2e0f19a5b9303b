//! CPU kernels, in f32.
//!
//! Written once over `Simd`, a set of vector instructions, and compiled for each of them; the set
//! is chosen at run time ([`Isa`]). Threads are libtorch's own ([`vd_torch::team`]), so kernels and
//! libtorch never compete for cores. Activations are `b f h w c`, contiguous.

#![allow(clippy::needless_range_loop, reason = "indices of tiles run over several arrays")]

mod adamw;
mod conv;
mod conv_function;
mod conv_grad;
mod direct;
mod dropout;
mod epilogue;
mod epilogue_grad;
mod function;
mod gemm;
mod group_norm;
mod isa;
mod linear_attention;
mod packed;
mod paired;
mod peak;
mod road;
mod scratch;
mod simd;
mod spatial;
mod temporal;
mod temporal_conv;
mod winograd;

pub use adamw::{AdamWTensors, adamw};
pub(crate) use adamw::{Numbers, changed};
pub use conv::{ConvCache, Finish, conv_fits, conv3x3, conv3x3_input_grad, finish};
pub use conv_function::{ConvWeights, conv, finished};
pub use conv_grad::{FinishGrad, conv3x3_weight_grad, finish_grad};
pub use direct::{DirectCache, Window, direct, direct_transposed, direct_weight_grad};
pub use dropout::{DropMask, drop_out, dropped_out};
pub(crate) use function::{none, one};
pub use group_norm::{
    GroupFinish, GroupFinishGrad, GroupFinished, group_finish, group_finish_grad, group_finished,
};
pub use isa::Isa;
pub(crate) use isa::Work;
pub use linear_attention::{
    LinearAttentionCache, LinearAttentionGrad, LinearAttentionWeights, linear_attention,
    linear_attention_backward, linear_attention_fits,
};
pub(crate) use packed::{Cache, Version, columns, keeps, once, pointer, pointer_or_null, version};
pub use peak::fma_peak;
pub use road::Road;
pub(crate) use scratch::{Block, Scratch};
pub(crate) use simd::{Pairs, Simd, pair};
pub use spatial::{
    SpatialCache, SpatialGrads, SpatialWeights, spatial, spatial_attention,
    spatial_attention_backward, spatial_fits,
};
pub use temporal::{
    Frames, TemporalCache, TemporalGrads, TemporalWeights, temporal, temporal_attention,
    temporal_attention_backward, temporal_fits,
};
pub use temporal_conv::{TapRuns, temporal_conv};
