//! Attentions with the norm before and the residual around them.

use tch::Tensor;
use vd_tensor_ops::Scope;
use vd_tensor_ops::layers::{
    HeadShape, LayerNorm, SpatialAttention, SpatialLinearAttention, TemporalAttention,
};

use crate::{Result, UNet3dConfig};

/// Features of each head of the attentions over space, which `attn_dim_head` does not touch (as in
/// `video-diffusion-pytorch`).
pub const SPATIAL_HEAD_DIM: i64 = 32;

/// What the temporal attentions of one evaluation share.
#[derive(Debug)]
pub(crate) struct TimeContext {
    /// Added to the scores: n f f.
    pub(crate) bias: Tensor,
    /// Pairs of frames that do not see each other: bool, (b or 1) 1 1 f f.
    pub(crate) forbidden: Option<Tensor>,
}

/// x + attention over time of norm(x).
#[derive(Debug)]
pub(crate) struct TemporalResidual {
    norm: LayerNorm,
    attention: TemporalAttention,
}

impl TemporalResidual {
    pub(crate) fn new(scope: &mut Scope, channels: i64, config: &UNet3dConfig) -> Result<Self> {
        let shape = HeadShape::new(config.attn_heads, config.attn_dim_head)?;
        let mut scope = scope.sub("fn");
        let norm = LayerNorm::new(&mut scope.sub("norm"), channels)?;
        let attention = TemporalAttention::new(&mut scope.sub("fn").sub("fn"), channels, shape)?;
        Ok(TemporalResidual { norm, attention })
    }

    pub(crate) fn forward(&self, x: &Tensor, time: &TimeContext, masked: bool) -> Tensor {
        let forbidden = time.forbidden.as_ref().filter(|_| masked);
        x + self.attention.forward(&self.norm.forward(x), &time.bias, forbidden)
    }
}

/// x + linear attention over space of norm(x).
#[derive(Debug)]
pub(crate) struct LinearResidual {
    norm: LayerNorm,
    attention: SpatialLinearAttention,
}

impl LinearResidual {
    pub(crate) fn new(scope: &mut Scope, channels: i64, config: &UNet3dConfig) -> Result<Self> {
        let shape = HeadShape::new(config.attn_heads, SPATIAL_HEAD_DIM)?;
        let mut scope = scope.sub("fn");
        let norm = LayerNorm::new(&mut scope.sub("norm"), channels)?;
        let attention = SpatialLinearAttention::new(&mut scope.sub("fn"), channels, shape)?;
        Ok(LinearResidual { norm, attention })
    }

    pub(crate) fn forward(&self, x: &Tensor) -> Tensor {
        x + self.attention.forward(&self.norm.forward(x))
    }
}

/// x + full attention over space of norm(x).
#[derive(Debug)]
pub(crate) struct SpatialResidual {
    norm: LayerNorm,
    attention: SpatialAttention,
}

impl SpatialResidual {
    pub(crate) fn new(scope: &mut Scope, channels: i64, config: &UNet3dConfig) -> Result<Self> {
        let shape = HeadShape::new(config.attn_heads, SPATIAL_HEAD_DIM)?;
        let mut scope = scope.sub("fn");
        let norm = LayerNorm::new(&mut scope.sub("norm"), channels)?;
        let attention = SpatialAttention::new(&mut scope.sub("fn").sub("fn"), channels, shape)?;
        Ok(SpatialResidual { norm, attention })
    }

    pub(crate) fn forward(&self, x: &Tensor) -> Tensor {
        x + self.attention.forward(&self.norm.forward(x))
    }
}
