//! The encoder of T5 (including v1.1 and FLAN), mT5 and UMT5.

use tch::{Kind, Tensor};

use super::buckets::Buckets;
use super::directory::Loaded;
use super::layers::{Activation, Attention, Embedding, Linear, padding_bias, wide};
use super::settings::Settings;
use super::{Architecture, Layer, Model};
use crate::Result;

/// The T5 encoder described by a config.json.
///
/// mT5 differs only in its settings; UMT5 has separate relative positions in every block.
pub(super) fn read(settings: &Settings) -> Result<Box<dyn Architecture>> {
    let model_type = settings.text("model_type")?;
    let default = if model_type == "t5" { "relu" } else { "gated-gelu" };
    let form = settings.text_or("feed_forward_proj", default)?;
    let (gated, activation) = match form.strip_prefix("gated-") {
        // T5 models only use the GELU with tanh.
        Some("gelu") => (true, "gelu_new"),
        Some(name) => (true, name),
        None => (false, form),
    };
    let buckets = Buckets {
        count: settings.size_or("relative_attention_num_buckets", 32)?,
        reach: settings.size_or("relative_attention_max_distance", 128)?,
    };
    buckets.validate(settings)?;
    Ok(Box::new(T5 {
        sizes: Sizes {
            width: settings.size("d_model")?,
            heads: settings.size("num_heads")?,
            head: settings.size("d_kv")?,
            inner: settings.size("d_ff")?,
            activation: Activation::read(settings, "dense_act_fn", activation)?,
            gated: settings.flag_or("is_gated_act", gated)?,
            eps: settings.float_or("layer_norm_epsilon", 1e-6)?,
        },
        layers: settings.size("num_layers")?,
        words: settings.size("vocab_size")?,
        pad: settings.id_or("pad_token_id", 0)?,
        buckets,
        own_positions: model_type == "umt5",
    }))
}

/// Sizes and settings of a T5 encoder.
///
/// # Reference
/// Raffel et al. 2019, Exploring the Limits of Transfer Learning with a Unified Text-to-Text
/// Transformer, sec. 2.1, arXiv:1910.10683; the gate of v1.1: Shazeer 2020, GLU Variants Improve
/// Transformer, eq. 6, arXiv:2002.05202.
#[derive(Debug)]
struct T5 {
    sizes: Sizes,
    layers: i64,
    words: i64,
    pad: i64,
    buckets: Buckets,
    /// Whether every block has its own relative positions; otherwise all share those of the first.
    own_positions: bool,
}

#[derive(Debug)]
struct Sizes {
    width: i64,
    heads: i64,
    /// The width of a head; the heads together may be wider or narrower than the tokens.
    head: i64,
    inner: i64,
    activation: Activation,
    gated: bool,
    eps: f64,
}

impl Architecture for T5 {
    fn width(&self) -> i64 {
        self.sizes.width
    }

    /// Positions are relative, and all those beyond the reach share a bucket, so any number of
    /// tokens can be encoded. The 512 in the files of many checkpoints is their training length.
    fn longest(&self) -> Option<i64> {
        None
    }

    fn words(&self) -> i64 {
        self.words
    }

    fn pad(&self) -> i64 {
        self.pad
    }

    fn load(&self, weights: &mut Loaded) -> Result<Box<dyn Model>> {
        let Sizes { width, eps, .. } = self.sizes;
        let name = if weights.has("shared.weight") { "shared" } else { "embed_tokens" };
        let words = Embedding::take(weights, name, self.words, width)?;
        let mut blocks = Vec::new();
        for i in 0..self.layers {
            let mut block = Block::take(weights, &self.sizes, &format!("block.{i}"))?;
            if i == 0 || self.own_positions {
                let name = format!("block.{i}.layer.0.SelfAttention.relative_attention_bias");
                let (count, heads) = (self.buckets.count, self.sizes.heads);
                block.positions = Some(Embedding::take(weights, &name, count, heads)?);
            }
            blocks.push(block);
        }
        let norm = RootMeanSquare::take(weights, "final_layer_norm", width, eps)?;
        Ok(Box::new(Network { words, blocks, norm, buckets: self.buckets }))
    }
}

#[derive(Debug)]
struct Network {
    words: Embedding,
    blocks: Vec<Block>,
    norm: RootMeanSquare,
    buckets: Buckets,
}

impl Model for Network {
    fn forward(&self, ids: &Tensor, mask: &Tensor, layer: Layer) -> Result<Tensor> {
        let x = self.words.forward(ids)?;
        // In trained models the residual stream exceeds the range of f16.
        let mut x = x.f_to_kind(wide(x.kind()))?;
        let padding = padding_bias(mask, x.kind())?;
        let pairs = self.buckets.pairs(ids.size2()?.1)?.f_to_device(ids.device())?;
        let mut bias = padding.shallow_clone();
        let count = match layer {
            Layer::Last => self.blocks.len(),
            Layer::Penultimate => self.blocks.len().saturating_sub(1),
        };
        for block in self.blocks.iter().take(count) {
            if let Some(positions) = &block.positions {
                let positions = positions.forward(&pairs)?.f_permute([2, 0, 1])?;
                bias = padding.f_add(&positions.f_unsqueeze(0)?)?;
            }
            x = block.forward(&x, &bias)?;
        }
        match layer {
            Layer::Last => self.norm.forward(&x),
            Layer::Penultimate => Ok(x),
        }
    }
}

/// Attention and feed-forward, each preceded by a norm.
#[derive(Debug)]
struct Block {
    attention_norm: RootMeanSquare,
    attention: Attention,
    /// The bias of each bucket of relative positions on the scores of each head.
    positions: Option<Embedding>,
    norm: RootMeanSquare,
    feed_forward: FeedForward,
}

impl Block {
    fn take(weights: &mut Loaded, sizes: &Sizes, place: &str) -> Result<Self> {
        let Sizes { width, heads, head, eps, .. } = *sizes;
        let name = |part: &str| format!("{place}.layer.{part}");
        let mut map = |part: &str, from, to| {
            Linear::take_unbiased(weights, &name(&format!("0.SelfAttention.{part}")), from, to)
        };
        let attention = Attention {
            query: map("q", width, heads * head)?,
            key: map("k", width, heads * head)?,
            value: map("v", width, heads * head)?,
            out: map("o", heads * head, width)?,
            heads,
            // Training has absorbed the scale into the weights.
            scale: 1.0,
        };
        Ok(Block {
            attention_norm: RootMeanSquare::take(weights, &name("0.layer_norm"), width, eps)?,
            attention,
            positions: None,
            norm: RootMeanSquare::take(weights, &name("1.layer_norm"), width, eps)?,
            feed_forward: FeedForward::take(weights, sizes, &name("1.DenseReluDense"))?,
        })
    }

    fn forward(&self, x: &Tensor, bias: &Tensor) -> Result<Tensor> {
        let x = x.f_add(&self.attention.forward(&self.attention_norm.forward(x)?, bias)?)?;
        Ok(x.f_add(&self.feed_forward.forward(&self.norm.forward(&x)?)?)?)
    }
}

/// Two linear maps with a nonlinearity between them; with a gate, the nonlinearity's output is
/// multiplied by that of a third map.
#[derive(Debug)]
struct FeedForward {
    up: Linear,
    gate: Option<Linear>,
    down: Linear,
    /// Of `down`: f32 if the others are f16, as its sums would exceed the range of f16.
    down_kind: Kind,
    activation: Activation,
}

impl FeedForward {
    fn take(weights: &mut Loaded, sizes: &Sizes, place: &str) -> Result<Self> {
        let Sizes { width, inner, activation, gated, .. } = *sizes;
        let name = |part: &str| format!("{place}.{part}");
        let up = if gated { "wi_0" } else { "wi" };
        let down_kind = match weights.kind() {
            Kind::Half => Kind::Float,
            kind => kind,
        };
        Ok(FeedForward {
            up: Linear::take_unbiased(weights, &name(up), width, inner)?,
            gate: if gated {
                Some(Linear::take_unbiased(weights, &name("wi_1"), width, inner)?)
            } else {
                None
            },
            down: Linear::take_unbiased_in(down_kind, weights, &name("wo"), inner, width)?,
            down_kind,
            activation,
        })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let inner = self.activation.forward(&self.up.forward(x)?)?.f_to_kind(self.down_kind)?;
        match &self.gate {
            Some(gate) => self.down.forward(&inner.f_mul(&gate.forward(x)?)?),
            None => self.down.forward(&inner),
        }
    }
}

/// Divides tokens by their root mean square, over the last axis.
///
/// # Reference
/// Zhang & Sennrich 2019, Root Mean Square Layer Normalization, eq. 4, arXiv:1910.07467.
#[derive(Debug)]
struct RootMeanSquare {
    weight: Tensor,
    eps: f64,
}

impl RootMeanSquare {
    fn take(weights: &mut Loaded, name: &str, width: i64, eps: f64) -> Result<Self> {
        Ok(RootMeanSquare { weight: weights.take(&format!("{name}.weight"), &[width])?, eps })
    }

    /// # Shapes
    /// ... d, f32 or f64 -> ... d, of the weights' kind
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let square = x.f_square()?.f_mean_dim(-1i64, true, None::<Kind>)?;
        let x = x.f_mul(&square.f_add_scalar(self.eps)?.f_rsqrt()?)?;
        Ok(x.f_to_kind(self.weight.kind())?.f_mul(&self.weight)?)
    }
}
