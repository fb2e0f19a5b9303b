//! Language models in directories, compared with the output of transformers for the same prompts.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod cache;
mod minilm;
mod parity;
mod refusals;
mod tokenizers;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use tch::{Device, Kind, Tensor};
use vd_tensor_ops::Weights;
use vd_text_cond::{Pretrained, PretrainedConfig, TextEncoder};

/// The small models.
const NAMES: [&str; 3] = ["bert", "distilbert", "roberta"];

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/encoders").join(name)
}

fn config(name: &str) -> PretrainedConfig {
    PretrainedConfig::new(fixture(name))
}

/// A copy of a small model that a test may damage.
fn copy(name: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(fixture(name)).unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, dir.path().join(path.file_name().unwrap())).unwrap();
    }
    dir
}

/// The output of transformers for the prompts.
struct Expected {
    prompts: Vec<String>,
    tensors: BTreeMap<String, Tensor>,
}

impl Expected {
    fn read(path: &Path) -> Self {
        let Weights { tensors, metadata } = Weights::read(path, Device::Cpu).unwrap();
        Expected { prompts: serde_json::from_str(&metadata["prompts"]).unwrap(), tensors }
    }

    fn of(name: &str) -> Self {
        Self::read(&fixture(name).join("expected.safetensors"))
    }

    fn prompts(&self) -> Vec<&str> {
        self.prompts.iter().map(String::as_str).collect()
    }

    fn ids(&self, prompt: usize) -> Vec<i64> {
        Vec::try_from(&self.tensors[&format!("ids.{prompt}")]).unwrap()
    }
}

fn encoder(config: &PretrainedConfig) -> Pretrained {
    Pretrained::open(config).unwrap()
}

fn pooled(encoder: &Pretrained, prompts: &[&str]) -> Tensor {
    encoder.encode(prompts, Device::Cpu).unwrap().pooled.unwrap()
}

/// The largest difference of any two values.
fn distance(a: &Tensor, b: &Tensor) -> f64 {
    assert_eq!(a.size(), b.size());
    (a - b).abs().max().to_kind(Kind::Double).double_value(&[])
}

/// The error with which a model is refused, on opening or on first use.
fn refusal(config: &PretrainedConfig) -> String {
    let tried = Pretrained::open(config).and_then(|e| e.encode(&["red"], Device::Cpu));
    tried.unwrap_err().to_string()
}
