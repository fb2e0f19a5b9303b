//! Configs as written in files.

use std::collections::BTreeMap;

use serde::Deserialize;
use vd_tensor_ops::layers::{NormKind, Wrap};

use super::{
    Axes, EmbeddingConfig, Preset, SignalConfig, Skips, TimeEmbedding, TimePositions, TokensConfig,
    UNet3dConfig,
};

/// The config as written in files: a preset and the keys that differ from it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table of the network's settings")]
pub(super) struct Written {
    #[serde(default)]
    preset: Preset,
    dim: Option<i64>,
    init_dim: Option<i64>,
    init_kernel_size: Option<i64>,
    dim_mults: Option<Vec<i64>>,
    channels: Option<i64>,
    out_dim: Option<i64>,
    cond_dim: Option<i64>,
    attn_heads: Option<i64>,
    attn_dim_head: Option<i64>,
    use_sparse_linear_attn: Option<bool>,
    norm: Option<NormKind>,
    skip_before_temporal: Option<bool>,
    mask_first_temporal: Option<bool>,
    tokens: Option<TokensConfig>,
    signals: Option<BTreeMap<String, SignalConfig>>,
    spatial_bias: Option<bool>,
    token_shift: Option<Vec<Axes>>,
    blocks: Option<i64>,
    attention_levels: Option<Vec<usize>>,
    skips: Option<Skips>,
    spatial_dim_head: Option<i64>,
    heads_by_channels: Option<bool>,
    embedding: Option<EmbeddingConfig>,
    time: Option<TimeEmbedding>,
    time_positions: Option<TimePositions>,
    dropout: Option<f64>,
    zero_init: Option<bool>,
    temporal_kernel: Option<i64>,
    wrap: Option<Wrap>,
}

impl From<Written> for UNet3dConfig {
    fn from(w: Written) -> Self {
        let base = w.preset.config();
        UNet3dConfig {
            dim: w.dim.unwrap_or(base.dim),
            init_dim: w.init_dim.or(base.init_dim),
            init_kernel_size: w.init_kernel_size.unwrap_or(base.init_kernel_size),
            dim_mults: w.dim_mults.unwrap_or(base.dim_mults),
            channels: w.channels.unwrap_or(base.channels),
            out_dim: w.out_dim.or(base.out_dim),
            cond_dim: w.cond_dim.or(base.cond_dim),
            attn_heads: w.attn_heads.unwrap_or(base.attn_heads),
            attn_dim_head: w.attn_dim_head.unwrap_or(base.attn_dim_head),
            use_sparse_linear_attn: w.use_sparse_linear_attn.unwrap_or(base.use_sparse_linear_attn),
            norm: w.norm.unwrap_or(base.norm),
            skip_before_temporal: w.skip_before_temporal.unwrap_or(base.skip_before_temporal),
            mask_first_temporal: w.mask_first_temporal.unwrap_or(base.mask_first_temporal),
            tokens: w.tokens.or(base.tokens),
            signals: w.signals.unwrap_or(base.signals),
            spatial_bias: w.spatial_bias.unwrap_or(base.spatial_bias),
            token_shift: w.token_shift.unwrap_or(base.token_shift),
            blocks: w.blocks.unwrap_or(base.blocks),
            attention_levels: w.attention_levels.or(base.attention_levels),
            skips: w.skips.unwrap_or(base.skips),
            spatial_dim_head: w.spatial_dim_head.or(base.spatial_dim_head),
            heads_by_channels: w.heads_by_channels.unwrap_or(base.heads_by_channels),
            embedding: w.embedding.unwrap_or(base.embedding),
            time: w.time.unwrap_or(base.time),
            time_positions: w.time_positions.unwrap_or(base.time_positions),
            dropout: w.dropout.unwrap_or(base.dropout),
            zero_init: w.zero_init.unwrap_or(base.zero_init),
            temporal_kernel: w.temporal_kernel.or(base.temporal_kernel),
            wrap: w.wrap.unwrap_or(base.wrap),
        }
    }
}
