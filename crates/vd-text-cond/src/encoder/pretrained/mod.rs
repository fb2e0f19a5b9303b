//! Models of the Hugging Face layout as text encoders.

mod bert;
mod buckets;
mod clip;
mod config;
mod directory;
mod distilbert;
mod encode;
mod layers;
mod pooling;
mod roberta;
mod settings;
mod t5;
#[cfg(test)]
mod t5_clip_tests;
mod text;
mod vocabulary;

use std::fmt::Debug;

use tch::Tensor;

pub use config::{Layer, Pooling, Precision, PretrainedConfig};
pub use encode::Pretrained;

use crate::Result;
use directory::Loaded;
use settings::Settings;

/// A kind of model, with the sizes that a config.json gives it; its weights come later.
trait Architecture: Debug + Send {
    /// The width d of the tokens.
    fn width(&self) -> i64;

    /// The most tokens of a prompt, special ones included; `None` where there is no limit.
    fn longest(&self) -> Option<i64>;

    /// The rows of the table of words: every id is below.
    fn words(&self) -> i64;

    /// The id that shorter prompts are padded with.
    fn pad(&self) -> i64;

    /// The token that [`Pooling::Eos`] takes.
    fn end(&self) -> End {
        End::Last
    }

    /// The model, with all its weights taken.
    ///
    /// # Errors
    /// Weights that are missing or have another shape.
    fn load(&self, weights: &mut Loaded) -> Result<Box<dyn Model>>;
}

/// A model that is ready to run, on the device and in the precision of its weights.
trait Model: Debug + Send {
    /// What a layer makes of prompts: the last one with the norm that the architecture puts behind
    /// it, the penultimate one as it stands.
    ///
    /// # Shapes
    /// ids b l, i64; mask b l, bool, true for a token and false for padding -> b l d, in the
    /// precision of the weights
    fn forward(&self, ids: &Tensor, mask: &Tensor, layer: Layer) -> Result<Tensor>;
}

/// Where a prompt ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// At its last token.
    Last,
    /// At the first of its tokens that have the highest id.
    HighestId,
    /// At the first token of this id; the first token of all where there is none.
    Id(i64),
}

/// Reads a kind of model from its config.json.
type Read = fn(&Settings) -> Result<Box<dyn Architecture>>;

/// The kinds of models by the `model_type` of their config.json.
const KNOWN: [(&str, Read); 10] = [
    ("bert", bert::read),
    ("camembert", roberta::read),
    ("clip", clip::read),
    ("clip_text_model", clip::read),
    ("distilbert", distilbert::read),
    ("mt5", t5::read),
    ("roberta", roberta::read),
    ("t5", t5::read),
    ("umt5", t5::read),
    ("xlm-roberta", roberta::read),
];

/// The kind of model that a config.json describes.
fn architecture(settings: &Settings) -> Result<Box<dyn Architecture>> {
    let model_type = settings.text("model_type")?;
    let Some((_, read)) = KNOWN.iter().find(|(name, _)| *name == model_type) else {
        let names: Vec<_> = KNOWN.iter().map(|(name, _)| *name).collect();
        let expected = format!("one of {}", names.join(", "));
        return Err(settings.refuse("model_type", expected, model_type));
    };
    let model = read(settings)?;
    // A prompt alone needs no padding, so that the first batch of several would be what fails.
    let (pad, words) = (model.pad(), model.words());
    if pad >= words {
        let expected = format!("an id below {words}, the vocab_size");
        let got = format!("{pad}; take the config.json that came with the model");
        return Err(settings.refuse("pad_token_id", expected, got));
    }
    Ok(model)
}

/// The width of the embeddings and tokens of a model, of which only config.json is read.
pub(super) fn width(config: &PretrainedConfig) -> Result<i64> {
    config.validate()?;
    Ok(architecture(&directory::settings(&config.path)?)?.width())
}
