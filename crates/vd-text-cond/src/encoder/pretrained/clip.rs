//! The text encoder of CLIP and of OpenCLIP.

use tch::{Device, Kind, Tensor};

use super::directory::Loaded;
use super::layers::{
    Activation, Attention, Embedding, FeedForward, Linear, Norm, lowest, padding_bias,
};
use super::settings::Settings;
use super::{Architecture, End, Layer, Model};
use crate::Result;

/// An end-of-text id that no checkpoint uses: files written before a fix in transformers say 2, and
/// mean the highest id of a prompt.
const OLD_END: i64 = 2;

/// The text encoder of the CLIP described by a config.json; omitted sizes are those of CLIP
/// ViT-B/32, as in transformers.
pub(super) fn read(settings: &Settings) -> Result<Box<dyn Architecture>> {
    if settings.text("model_type")? != "clip" {
        return Ok(Box::new(Clip::read(settings)?));
    }
    // If both are present, the older name takes precedence.
    let part = settings.part("text_config_dict").or_else(|| settings.part("text_config"));
    match part {
        Some(part) => Ok(Box::new(Clip::read(&part)?)),
        None => Err(settings.refuse("text_config", "an object", "nothing")),
    }
}

/// Sizes and settings of a CLIP's text encoder.
///
/// The final norm is applied to the last layer's output. It is not applied to the penultimate
/// one's, on which Stable Diffusion XL is conditioned. Stable Diffusion 2 applies the norm to its
/// penultimate layer; its text encoders are stored without the layer after it, so for them it is
/// the last.
///
/// Attention is causal, so padding does not change a prompt's own tokens. In Stable Diffusion the
/// networks attend to padding up to 77 tokens; here padding has weight 0. The projection to the
/// space shared with images is omitted.
///
/// # Reference
/// Radford et al. 2021, Learning Transferable Visual Models From Natural Language Supervision,
/// sec. 2.4, arXiv:2103.00020; Cherti et al. 2022, Reproducible scaling laws for contrastive
/// language-image learning, arXiv:2212.07143.
#[derive(Debug)]
struct Clip {
    width: i64,
    heads: i64,
    inner: i64,
    layers: i64,
    words: i64,
    places: i64,
    activation: Activation,
    eps: f64,
    end: End,
}

impl Clip {
    fn read(settings: &Settings) -> Result<Self> {
        let width = settings.size_or("hidden_size", 512)?;
        let heads = settings.size_or("num_attention_heads", 8)?;
        if width % heads != 0 {
            let expected = format!("a divisor of hidden_size, {width}");
            return Err(settings.refuse("num_attention_heads", expected, heads.to_string()));
        }
        Ok(Clip {
            width,
            heads,
            inner: settings.size_or("intermediate_size", 2048)?,
            layers: settings.size_or("num_hidden_layers", 12)?,
            words: settings.size_or("vocab_size", 49408)?,
            places: settings.size_or("max_position_embeddings", 77)?,
            activation: Activation::read(settings, "hidden_act", "quick_gelu")?,
            eps: settings.float_or("layer_norm_eps", 1e-5)?,
            end: match settings.id_or("eos_token_id", 49407)? {
                OLD_END => End::HighestId,
                id => End::Id(id),
            },
        })
    }
}

impl Architecture for Clip {
    fn width(&self) -> i64 {
        self.width
    }

    fn longest(&self) -> Option<i64> {
        Some(self.places)
    }

    /// Any id works: no token of a prompt attends to later ones.
    fn words(&self) -> i64 {
        self.words
    }

    fn pad(&self) -> i64 {
        0
    }

    fn end(&self) -> End {
        self.end
    }

    fn load(&self, weights: &mut Loaded) -> Result<Box<dyn Model>> {
        let (width, eps) = (self.width, self.eps);
        let words = Embedding::take(weights, "embeddings.token_embedding", self.words, width)?;
        let places = Embedding::take(weights, "embeddings.position_embedding", self.places, width)?;
        let blocks = (0..self.layers).map(|i| Block::take(weights, self, i));
        let blocks = blocks.collect::<Result<_>>()?;
        let norm = Norm::take(weights, "final_layer_norm", width, eps)?;
        Ok(Box::new(Network { words, places, blocks, norm }))
    }
}

#[derive(Debug)]
struct Network {
    words: Embedding,
    places: Embedding,
    blocks: Vec<Block>,
    norm: Norm,
}

impl Model for Network {
    fn forward(&self, ids: &Tensor, mask: &Tensor, layer: Layer) -> Result<Tensor> {
        let l = ids.size2()?.1;
        let x = self.words.forward(ids)?.f_add(&self.places.first(l)?)?;
        let bias = causal_bias(mask, x.kind())?;
        let count = match layer {
            Layer::Last => self.blocks.len(),
            Layer::Penultimate => self.blocks.len().saturating_sub(1),
        };
        let mut blocks = self.blocks.iter().take(count);
        let x = blocks.try_fold(x, |x, block| block.forward(&x, &bias))?;
        match layer {
            Layer::Last => self.norm.forward(&x),
            Layer::Penultimate => Ok(x),
        }
    }
}

/// The score bias that masks later tokens and padding.
///
/// # Shapes
/// mask b l -> b 1 l l
fn causal_bias(mask: &Tensor, kind: Kind) -> Result<Tensor> {
    let (_, l) = mask.size2()?;
    let ahead = Tensor::f_ones([l, l], (Kind::Bool, Device::Cpu))?.f_triu(1)?;
    let ahead = ahead.f_to_device(mask.device())?;
    let bias = padding_bias(mask, kind)?.f_expand([-1, -1, l, -1], false)?;
    Ok(bias.f_masked_fill(&ahead, lowest(kind))?)
}

/// Attention and feed-forward, each preceded by a norm.
#[derive(Debug)]
struct Block {
    attention_norm: Norm,
    attention: Attention,
    norm: Norm,
    feed_forward: FeedForward,
}

impl Block {
    fn take(weights: &mut Loaded, clip: &Clip, i: i64) -> Result<Self> {
        let Clip { width, heads, inner, activation, eps, .. } = *clip;
        let name = |part: &str| format!("encoder.layers.{i}.{part}");
        let mut map = |part: &str, from, to| Linear::take(weights, &name(part), from, to);
        let attention = Attention {
            query: map("self_attn.q_proj", width, width)?,
            key: map("self_attn.k_proj", width, width)?,
            value: map("self_attn.v_proj", width, width)?,
            out: map("self_attn.out_proj", width, width)?,
            heads,
            scale: 1.0 / ((width / heads) as f64).sqrt(),
        };
        let feed_forward = FeedForward {
            up: map("mlp.fc1", width, inner)?,
            down: map("mlp.fc2", inner, width)?,
            activation,
        };
        Ok(Block {
            attention_norm: Norm::take(weights, &name("layer_norm1"), width, eps)?,
            attention,
            norm: Norm::take(weights, &name("layer_norm2"), width, eps)?,
            feed_forward,
        })
    }

    fn forward(&self, x: &Tensor, bias: &Tensor) -> Result<Tensor> {
        let x = x.f_add(&self.attention.forward(&self.attention_norm.forward(x)?, bias)?)?;
        Ok(x.f_add(&self.feed_forward.forward(&self.norm.forward(&x)?)?)?)
    }
}
