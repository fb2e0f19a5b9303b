//! Tiny T5s and CLIPs from their directories, compared with transformers
//! (tests/encoders/t5_clip.py).
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::{Path, PathBuf};

use tch::{Device, Kind, Tensor};
use vd_tensor_ops::Weights;
use vd_text_cond::{Layer, Pooling, Pretrained, PretrainedConfig, TextEncoder};

const CASES: [&str; 5] = ["t5_v10", "t5_v11", "umt5", "clip_quick", "clip_gelu"];

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/encoders").join(name)
}

fn config(name: &str) -> PretrainedConfig {
    PretrainedConfig::new(fixture(name))
}

/// The output of transformers, and the prompts.
fn expected(name: &str) -> (Weights, Vec<String>) {
    let expected = Weights::read(&fixture(name).join("expected.safetensors"), Device::Cpu).unwrap();
    let prompts = serde_json::from_str(&expected.metadata["prompts"]).unwrap();
    (expected, prompts)
}

fn largest(x: &Tensor) -> f64 {
    x.abs().max().double_value(&[])
}

#[test]
fn prompts_have_the_token_ids_of_transformers() {
    for name in CASES {
        let encoder = Pretrained::open(&config(name)).unwrap();
        let (expected, prompts) = expected(name);
        let [ids, mask] = ["ids", "mask"].map(|key| &expected.tensors[key]);
        for (row, prompt) in prompts.iter().enumerate() {
            let real = mask.get(row as i64).to_kind(Kind::Bool);
            let ids: Vec<i64> = ids.get(row as i64).masked_select(&real).try_into().unwrap();
            assert_eq!(encoder.token_ids(prompt).unwrap(), ids, "{name}: {prompt}");
        }
    }
}

#[test]
fn tokens_are_those_of_transformers_and_padding_has_no_weight() {
    for name in CASES {
        let (expected, prompts) = expected(name);
        let prompts: Vec<_> = prompts.iter().map(String::as_str).collect();
        for (layer, key) in
            [(Layer::Last, "hidden.last"), (Layer::Penultimate, "hidden.penultimate")]
        {
            let encoder = Pretrained::open(&PretrainedConfig { layer, ..config(name) }).unwrap();
            let tokens = encoder.encode(&prompts, Device::Cpu).unwrap().tokens.unwrap();
            assert_eq!(tokens.weight, expected.tensors["mask"].to_kind(Kind::Float));
            let apart = (tokens.values - &expected.tensors[key]) * tokens.weight.unsqueeze(-1);
            // measured: at most 7.2e-7, where transformers itself is 3.6e-6 off
            assert!(largest(&apart) < 1e-5, "{name} {key}: {}", largest(&apart));
        }
    }
}

#[test]
fn the_end_of_a_clips_text_is_pooled_as_by_transformers() {
    for name in ["clip_quick", "clip_gelu"] {
        let (expected, prompts) = expected(name);
        let prompts: Vec<_> = prompts.iter().map(String::as_str).collect();
        let config = PretrainedConfig { pooling: Pooling::Eos, ..config(name) };
        let encoder = Pretrained::open(&config).unwrap();
        let pooled = encoder.encode(&prompts, Device::Cpu).unwrap().pooled.unwrap();
        let apart = largest(&(pooled - &expected.tensors["pooled"]));
        assert!(apart < 1e-5, "{name}: {apart}");
    }
}

#[test]
fn a_clip_takes_prompts_up_to_its_length_and_a_t5_takes_any() {
    let long = "gold then red ".repeat(60);
    let refused = Pretrained::open(&config("clip_gelu")).unwrap();
    let message = refused.encode(&[&long], Device::Cpu).unwrap_err().to_string();
    assert!(message.contains("30"), "{message}");
    let cut = PretrainedConfig { truncate: true, ..config("clip_gelu") };
    let ids = Pretrained::open(&cut).unwrap().token_ids(&long).unwrap();
    assert_eq!((ids.len(), ids[0], ids[29]), (30, 100, 101));
    let t5 = Pretrained::open(&config("t5_v11")).unwrap();
    let tokens = t5.encode(&[&long], Device::Cpu).unwrap().tokens.unwrap();
    assert_eq!(tokens.values.size()[1], 181);
    assert!(largest(&tokens.values).is_finite());
}
