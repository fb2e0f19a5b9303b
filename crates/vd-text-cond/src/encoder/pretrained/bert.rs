//! BERT, and models built like it.

use tch::{Kind, Tensor};

use super::directory::Loaded;
use super::layers::{Activation, Attention, Embedding, FeedForward, Linear, Norm, padding_bias};
use super::settings::Settings;
use super::{Architecture, Layer, Model};
use crate::Result;

/// The BERT described by a config.json.
pub(super) fn read(settings: &Settings) -> Result<Box<dyn Architecture>> {
    Ok(Box::new(Bert::read(settings, 0, Positions::FromZero)?))
}

/// Sizes and settings of a BERT.
///
/// # Reference
/// Devlin et al. 2018, BERT: Pre-training of Deep Bidirectional Transformers for Language
/// Understanding, sec. 3, arXiv:1810.04805.
#[derive(Debug, Clone)]
pub(super) struct Bert {
    sizes: Sizes,
    layers: i64,
    words: i64,
    types: i64,
    /// Number of rows of the position table.
    places: i64,
    pad: i64,
    positions: Positions,
}

/// How a prompt's tokens are numbered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Positions {
    /// From 0, including padding.
    FromZero,
    /// From the id of the padding plus 1; padding itself has that id.
    BehindPadding,
}

impl Bert {
    pub(super) fn read(settings: &Settings, pad: i64, positions: Positions) -> Result<Self> {
        let kind = settings.text_or("position_embedding_type", "absolute")?;
        if kind != "absolute" {
            return Err(settings.refuse("position_embedding_type", "absolute", kind));
        }
        if settings.flag_or("is_decoder", false)? {
            return Err(settings.refuse("is_decoder", "false, as for an encoder", "true"));
        }
        let width = settings.size("hidden_size")?;
        let heads = settings.size("num_attention_heads")?;
        if width % heads != 0 {
            let expected = format!("a divisor of hidden_size, {width}");
            return Err(settings.refuse("num_attention_heads", expected, heads.to_string()));
        }
        let pad = settings.id_or("pad_token_id", pad)?;
        let places = settings.size("max_position_embeddings")?;
        if positions == Positions::BehindPadding && places <= pad + 1 {
            let expected = format!("more than {}, the first position", pad + 1);
            return Err(settings.refuse("max_position_embeddings", expected, places.to_string()));
        }
        let sizes = Sizes {
            width,
            heads,
            inner: settings.size("intermediate_size")?,
            activation: Activation::read(settings, "hidden_act", "gelu")?,
            eps: settings.float_or("layer_norm_eps", 1e-12)?,
        };
        Ok(Bert {
            sizes,
            layers: settings.size("num_hidden_layers")?,
            words: settings.size("vocab_size")?,
            types: settings.size_or("type_vocab_size", 2)?,
            places,
            pad,
            positions,
        })
    }
}

impl Architecture for Bert {
    fn width(&self) -> i64 {
        self.sizes.width
    }

    fn longest(&self) -> Option<i64> {
        Some(match self.positions {
            Positions::FromZero => self.places,
            Positions::BehindPadding => self.places - self.pad - 1,
        })
    }

    fn words(&self) -> i64 {
        self.words
    }

    fn pad(&self) -> i64 {
        self.pad
    }

    fn load(&self, weights: &mut Loaded) -> Result<Box<dyn Model>> {
        let Sizes { width, eps, .. } = self.sizes;
        let part = |name: &str| format!("embeddings.{name}");
        let words = Embedding::take(weights, &part("word_embeddings"), self.words, width)?;
        let places = Embedding::take(weights, &part("position_embeddings"), self.places, width)?;
        let types = Embedding::take(weights, &part("token_type_embeddings"), self.types, width)?;
        let norm = Norm::take(weights, &part("LayerNorm"), width, eps)?;
        let layer = |i| Block::take(weights, &self.sizes, &NAMES, &format!("encoder.layer.{i}"));
        let blocks = (0..self.layers).map(layer).collect::<Result<_>>()?;
        let (pad, positions) = (self.pad, self.positions);
        Ok(Box::new(Network { words, places, types, norm, blocks, pad, positions }))
    }
}

/// Names of a block's parts.
const NAMES: BlockNames = BlockNames {
    query: "attention.self.query",
    key: "attention.self.key",
    value: "attention.self.value",
    out: "attention.output.dense",
    attention_norm: "attention.output.LayerNorm",
    up: "intermediate.dense",
    down: "output.dense",
    norm: "output.LayerNorm",
};

#[derive(Debug)]
struct Network {
    words: Embedding,
    places: Embedding,
    types: Embedding,
    norm: Norm,
    blocks: Vec<Block>,
    pad: i64,
    positions: Positions,
}

impl Network {
    /// # Shapes
    /// ids b l -> b|1 l d
    fn position_embeddings(&self, ids: &Tensor) -> Result<Tensor> {
        match self.positions {
            Positions::FromZero => Ok(self.places.first(ids.size2()?.1)?.f_unsqueeze(0)?),
            Positions::BehindPadding => {
                let token = ids.f_ne(self.pad)?.f_to_kind(Kind::Int64)?;
                let place = token.f_cumsum(1, Kind::Int64)?.f_mul(&token)?;
                self.places.forward(&place.f_add_scalar(self.pad)?)
            }
        }
    }
}

impl Model for Network {
    fn forward(&self, ids: &Tensor, mask: &Tensor, layer: Layer) -> Result<Tensor> {
        let types = self.types.first(1)?;
        let x = self.words.forward(ids)?.f_add(&types)?;
        let x = self.norm.forward(&x.f_add(&self.position_embeddings(ids)?)?)?;
        run(&self.blocks, x, mask, layer)
    }
}

/// Passes tokens through the blocks up to a layer.
pub(super) fn run(blocks: &[Block], x: Tensor, mask: &Tensor, layer: Layer) -> Result<Tensor> {
    let count = match layer {
        Layer::Last => blocks.len(),
        Layer::Penultimate => blocks.len().saturating_sub(1),
    };
    let bias = padding_bias(mask, x.kind())?;
    blocks.iter().take(count).try_fold(x, |x, block| block.forward(&x, &bias))
}

/// Sizes and settings of a block.
#[derive(Debug, Clone)]
pub(super) struct Sizes {
    pub(super) width: i64,
    pub(super) heads: i64,
    /// The hidden width of the feed-forward network.
    pub(super) inner: i64,
    pub(super) activation: Activation,
    pub(super) eps: f64,
}

/// Names of a block's parts.
pub(super) struct BlockNames {
    pub(super) query: &'static str,
    pub(super) key: &'static str,
    pub(super) value: &'static str,
    pub(super) out: &'static str,
    pub(super) attention_norm: &'static str,
    pub(super) up: &'static str,
    pub(super) down: &'static str,
    pub(super) norm: &'static str,
}

/// Attention and feed-forward, each followed by a norm.
#[derive(Debug)]
pub(super) struct Block {
    attention: Attention,
    attention_norm: Norm,
    feed_forward: FeedForward,
    norm: Norm,
}

impl Block {
    pub(super) fn take(
        weights: &mut Loaded,
        sizes: &Sizes,
        names: &BlockNames,
        place: &str,
    ) -> Result<Self> {
        let Sizes { width, heads, inner, activation, eps } = *sizes;
        let name = |part: &str| format!("{place}.{part}");
        let mut square = |part| Linear::take(weights, &name(part), width, width);
        let attention = Attention {
            query: square(names.query)?,
            key: square(names.key)?,
            value: square(names.value)?,
            out: square(names.out)?,
            heads,
            scale: 1.0 / ((width / heads) as f64).sqrt(),
        };
        let feed_forward = FeedForward {
            up: Linear::take(weights, &name(names.up), width, inner)?,
            down: Linear::take(weights, &name(names.down), inner, width)?,
            activation,
        };
        Ok(Block {
            attention,
            attention_norm: Norm::take(weights, &name(names.attention_norm), width, eps)?,
            feed_forward,
            norm: Norm::take(weights, &name(names.norm), width, eps)?,
        })
    }

    fn forward(&self, x: &Tensor, bias: &Tensor) -> Result<Tensor> {
        let x = self.attention_norm.forward(&x.f_add(&self.attention.forward(x, bias)?)?)?;
        self.norm.forward(&x.f_add(&self.feed_forward.forward(&x)?)?)
    }
}
