//! Why a prompt, a file of embeddings or a request was refused.

use std::path::PathBuf;

/// Errors of this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The diffusion process or the network returned an error.
    #[error(transparent)]
    Diffusion(#[from] vd_diffusion::Error),
    /// The network's conditioning was refused.
    #[error(transparent)]
    Network(#[from] vd_unet3d::Error),
    /// A weight file or a tensor was refused.
    #[error(transparent)]
    Ops(#[from] vd_tensor_ops::Error),
    /// libtorch refused the operation.
    #[error("libtorch: {}", vd_tensor_ops::torch::brief(.0))]
    Torch(#[from] tch::TchError),
    /// An error of a [`TextEncoder`](crate::TextEncoder) outside this crate.
    #[error(transparent)]
    Other(Box<dyn std::error::Error + Send + Sync>),
    /// A file that the operating system does not hand over.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The operating system's error.
        source: std::io::Error,
    },
    /// A file of embeddings with unexpected content.
    #[error("{}: {what}: expected {expected}, got {got}", path.display())]
    Embeddings {
        /// The file.
        path: PathBuf,
        /// The part of the file.
        what: String,
        /// The expected content.
        expected: String,
        /// The actual content.
        got: String,
    },
    /// A prompt that is not in a file of embeddings.
    #[error("{}: no embedding of the prompt \"{prompt}\"; {}", path.display(), offer(near))]
    UnknownPrompt {
        /// The file.
        path: PathBuf,
        /// The prompt.
        prompt: String,
        /// The most similar prompts of the file, best first.
        near: Vec<String>,
    },
    /// A file missing from a model's directory.
    #[error("{}: {file} is missing: {advice}", path.display())]
    MissingFile {
        /// The directory.
        path: PathBuf,
        /// The name of the file.
        file: String,
        /// What to do.
        advice: String,
    },
    /// A model's directory with unexpected content.
    #[error("{}: {what}: expected {expected}, got {got}", path.display())]
    Pretrained {
        /// The file.
        path: PathBuf,
        /// The part of the file.
        what: String,
        /// The expected content.
        expected: String,
        /// The actual content.
        got: String,
    },
    /// A tokenizer that cannot be read or that refused a prompt.
    #[error("{}: {source}", path.display())]
    Tokenizer {
        /// The file.
        path: PathBuf,
        /// The tokenizer's error.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A prompt with more tokens than a model takes.
    #[error(
        "the prompt \"{prompt}\" has {tokens} tokens, of which {longest} fit; shorten it, or truncate it: text.encoder.truncate = true in a run's config, --truncate of `vd encode`"
    )]
    TooLong {
        /// The prompt.
        prompt: String,
        /// The number of its tokens, including special ones.
        tokens: usize,
        /// The most that fit.
        longest: i64,
    },
    /// A cache of embeddings that cannot be written.
    #[error(
        "{}: the cache of embeddings cannot be written: {source}; give another folder, or omit the cache", path.display()
    )]
    Cache {
        /// The folder or the file.
        path: PathBuf,
        /// The operating system's error.
        source: std::io::Error,
    },
    /// A text whose marks are invalid.
    #[error("prompt \"{text}\": expected {expected}, got {got}")]
    Prompt {
        /// The text.
        text: String,
        /// What is allowed.
        expected: String,
        /// What was given.
        got: String,
    },
    /// A file of prompts with unexpected content.
    #[error("{}, line {line}: {what}: expected {expected}, got {got}", path.display())]
    PromptFile {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// The part of the line.
        what: String,
        /// The expected content.
        expected: String,
        /// The actual content.
        got: String,
    },
    /// A signal that does not fit the network.
    #[error("signal `{name}`: expected {expected}, got {got}")]
    Signal {
        /// Its name.
        name: String,
        /// What the network accepts.
        expected: String,
        /// What was given.
        got: String,
    },
    /// A text for a model that takes only signals.
    #[error(
        "this model was trained without a [text] section and takes no {0}, only signals ({1}); omit them"
    )]
    NoText(&'static str, String),
    /// A setting out of range.
    #[error("{what}: expected {expected}, got {got}")]
    Value {
        /// Name of the setting.
        what: &'static str,
        /// What is allowed.
        expected: String,
        /// What was given.
        got: String,
    },
    /// Prompts or embeddings for a model that takes none.
    #[error(
        "this model is unconditional: it was trained without a [text] section and takes no {0}; omit them, or use a conditional model"
    )]
    Unconditional(&'static str),
    /// Prompts for a conditional model that has no encoder.
    #[error(
        "this model is conditional, but it is unknown how its prompts were encoded; give embeddings instead of prompts"
    )]
    NoEncoder,
    /// Guidance with a null embedding that was never trained.
    #[error(
        "guidance scale {scale} needs a null embedding, but this model was trained with text.drop = 0 and has never seen one; sample with scale 1, give every clip a negative prompt, or train with text.drop = 0.1"
    )]
    NeverDropped {
        /// The requested scale.
        scale: f64,
    },
    /// Guidance by a signal that was never omitted in training.
    #[error(
        "signal `{name}` at scale {scale}: guidance evaluates the model without it, but training never dropped it (drop = 0); give it scale 1, or train with drop = 0.1"
    )]
    SignalNeverDropped {
        /// Its name.
        name: String,
        /// The requested scale.
        scale: f64,
    },
}

impl Error {
    /// An error of a [`TextEncoder`](crate::TextEncoder) outside this crate: another error, or a message.
    pub fn custom(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Error::Other(error.into())
    }
}

/// Result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

fn offer(near: &[String]) -> String {
    if near.is_empty() {
        return "no prompt in the file is similar".to_owned();
    }
    let quoted: Vec<_> = near.iter().map(|prompt| format!("\"{prompt}\"")).collect();
    format!("similar prompts: {}", quoted.join(", "))
}
