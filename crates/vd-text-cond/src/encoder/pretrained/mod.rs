//! Text encoders from models in the Hugging Face layout.

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

/// A kind of model, with the sizes in its config.json; its weights are loaded later.
trait Architecture: Debug + Send {
    /// The width d of the tokens.
    fn width(&self) -> i64;

    /// The most tokens of a prompt, including special ones; `None` if there is no limit.
    fn longest(&self) -> Option<i64>;

    /// The number of rows of the word embedding: all ids must be below it.
    fn words(&self) -> i64;

    /// The id with which shorter prompts are padded.
    fn pad(&self) -> i64;

    /// The token that [`Pooling::Eos`] uses.
    fn end(&self) -> End {
        End::Last
    }

    /// Builds the model, taking all its weights.
    ///
    /// # Errors
    /// Weights that are missing or have another shape.
    fn load(&self, weights: &mut Loaded) -> Result<Box<dyn Model>>;
}

/// A model ready to run, on the device and in the precision of its weights.
trait Model: Debug + Send {
    /// The output of a layer: the last one with the architecture's final norm, the penultimate one
    /// without.
    ///
    /// # Shapes
    /// ids b l, i64; mask b l, bool, true for a token and false for padding -> b l d, in the
    /// precision of the weights
    fn forward(&self, ids: &Tensor, mask: &Tensor, layer: Layer) -> Result<Tensor>;
}

/// Where a prompt ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// At the last token.
    Last,
    /// At the first of the tokens with the highest id.
    HighestId,
    /// At the first token with this id; the first token of the prompt if there is none.
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

/// The kind of model described by a config.json.
fn architecture(settings: &Settings) -> Result<Box<dyn Architecture>> {
    let model_type = settings.text("model_type")?;
    let Some((_, read)) = KNOWN.iter().find(|(name, _)| *name == model_type) else {
        let names: Vec<_> = KNOWN.iter().map(|(name, _)| *name).collect();
        let expected = format!("one of {}", names.join(", "));
        return Err(settings.refuse("model_type", expected, model_type));
    };
    let model = read(settings)?;
    // A single prompt needs no padding, so without this check only the first batch of several would
    // fail.
    let (pad, words) = (model.pad(), model.words());
    if pad >= words {
        let expected = format!("an id below {words}, the vocab_size");
        let got = format!("{pad}; use the config.json that came with the model");
        return Err(settings.refuse("pad_token_id", expected, got));
    }
    Ok(model)
}

/// The width of a model's embeddings and tokens; reads only config.json.
pub(super) fn width(config: &PretrainedConfig) -> Result<i64> {
    config.validate()?;
    Ok(architecture(&directory::settings(&config.path)?)?.width())
}
