//! DistilBERT: a BERT of half the depth, without segment embeddings.

use tch::Tensor;

use super::bert::{Block, BlockNames, Sizes, run};
use super::directory::Loaded;
use super::layers::{Activation, Embedding, Norm};
use super::settings::Settings;
use super::{Architecture, Layer, Model};
use crate::Result;

/// The epsilon of its norms, which is in no config.
const EPS: f64 = 1e-12;

/// The DistilBERT described by a config.json.
pub(super) fn read(settings: &Settings) -> Result<Box<dyn Architecture>> {
    let (width, heads) = (settings.size("dim")?, settings.size("n_heads")?);
    if width % heads != 0 {
        let expected = format!("a divisor of dim, {width}");
        return Err(settings.refuse("n_heads", expected, heads.to_string()));
    }
    let sizes = Sizes {
        width,
        heads,
        inner: settings.size("hidden_dim")?,
        activation: Activation::read(settings, "activation", "gelu")?,
        eps: EPS,
    };
    Ok(Box::new(DistilBert {
        sizes,
        layers: settings.size("n_layers")?,
        words: settings.size("vocab_size")?,
        places: settings.size("max_position_embeddings")?,
        pad: settings.id_or("pad_token_id", 0)?,
    }))
}

/// Sizes and settings of a DistilBERT.
///
/// # Reference
/// Sanh et al. 2019, DistilBERT, a distilled version of BERT, sec. 3, arXiv:1910.01108.
#[derive(Debug, Clone)]
struct DistilBert {
    sizes: Sizes,
    layers: i64,
    words: i64,
    places: i64,
    pad: i64,
}

impl Architecture for DistilBert {
    fn width(&self) -> i64 {
        self.sizes.width
    }

    fn longest(&self) -> Option<i64> {
        Some(self.places)
    }

    fn words(&self) -> i64 {
        self.words
    }

    fn pad(&self) -> i64 {
        self.pad
    }

    fn load(&self, weights: &mut Loaded) -> Result<Box<dyn Model>> {
        let width = self.sizes.width;
        let part = |name: &str| format!("embeddings.{name}");
        let words = Embedding::take(weights, &part("word_embeddings"), self.words, width)?;
        let places = Embedding::take(weights, &part("position_embeddings"), self.places, width)?;
        let norm = Norm::take(weights, &part("LayerNorm"), width, EPS)?;
        let layer =
            |i| Block::take(weights, &self.sizes, &NAMES, &format!("transformer.layer.{i}"));
        let blocks = (0..self.layers).map(layer).collect::<Result<_>>()?;
        Ok(Box::new(Network { words, places, norm, blocks }))
    }
}

/// Names of a block's parts.
const NAMES: BlockNames = BlockNames {
    query: "attention.q_lin",
    key: "attention.k_lin",
    value: "attention.v_lin",
    out: "attention.out_lin",
    attention_norm: "sa_layer_norm",
    up: "ffn.lin1",
    down: "ffn.lin2",
    norm: "output_layer_norm",
};

#[derive(Debug)]
struct Network {
    words: Embedding,
    places: Embedding,
    norm: Norm,
    blocks: Vec<Block>,
}

impl Model for Network {
    fn forward(&self, ids: &Tensor, mask: &Tensor, layer: Layer) -> Result<Tensor> {
        let places = self.places.first(ids.size2()?.1)?;
        let x = self.norm.forward(&self.words.forward(ids)?.f_add(&places)?)?;
        run(&self.blocks, x, mask, layer)
    }
}
