//! Flags of `vd encode`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use serde::Serialize;
use vd_text_cond::{Pooling, Precision};

use super::Compute;

/// What one vector is made of a prompt's tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum PoolingName {
    /// The first token, the CLS of a BERT
    Cls,
    /// The mean of the prompt's own tokens, special tokens excluded
    Mean,
    /// The prompt's end token, end-of-text in a CLIP
    Eos,
    /// The mean as in video-diffusion-pytorch, for its checkpoints: all but the first token
    Peer,
}

impl From<PoolingName> for Pooling {
    fn from(name: PoolingName) -> Self {
        match name {
            PoolingName::Cls => Pooling::Cls,
            PoolingName::Mean => Pooling::Mean,
            PoolingName::Eos => Pooling::Eos,
            PoolingName::Peer => Pooling::Peer,
        }
    }
}

/// The numbers that the model computes with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum PrecisionName {
    /// 32 bits
    F32,
    /// 16 bits with the range of f32
    Bf16,
    /// 16 bits with a smaller range
    F16,
}

impl From<PrecisionName> for Precision {
    fn from(name: PrecisionName) -> Self {
        match name {
            PrecisionName::F32 => Precision::F32,
            PrecisionName::Bf16 => Precision::Bf16,
            PrecisionName::F16 => Precision::F16,
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct EncodeArgs {
    /// The prompts, one per line
    #[arg(value_name = "PROMPTS.txt")]
    pub(crate) prompts: PathBuf,
    /// The model's directory: config.json, tokenizer.json, model.safetensors
    #[arg(long, value_name = "DIR")]
    pub(crate) encoder: PathBuf,
    /// How a prompt's tokens become one vector
    #[arg(long, value_enum, value_name = "HOW", default_value = "mean")]
    pub(crate) pooling: PoolingName,
    /// The file to write
    #[arg(long, value_name = "FILE.safetensors", value_parser = safetensors)]
    pub(crate) out: PathBuf,
    /// Divide each vector by its length
    #[arg(long)]
    pub(crate) normalize: bool,
    /// Cut prompts that are too long for the model, with a warning, instead of failing
    #[arg(long)]
    pub(crate) truncate: bool,
    /// Number type that the model computes with; the output is f32
    #[arg(long, value_enum, value_name = "KIND", default_value = "f32")]
    pub(crate) precision: PrecisionName,
    /// Prompts encoded at once (batch size)
    #[arg(long, value_name = "B", default_value_t = 32)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) batch: u32,
    #[command(flatten)]
    pub(crate) compute: Compute,
}

fn safetensors(text: &str) -> Result<PathBuf, String> {
    let path = PathBuf::from(text);
    match path.extension() {
        Some(ending) if ending == "safetensors" => Ok(path),
        _ => Err("expected a file name that ends in .safetensors".to_owned()),
    }
}
