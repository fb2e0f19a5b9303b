//! Attentions with weights, biases and memory against `torch.nn.MultiheadAttention`, whose answers
//! `scripts/make_attentions.py` wrote.

#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "fixtures/mod.rs"]
mod fixtures;
mod oracle;

use std::collections::BTreeMap;

use oracle::build::EXACT;
use oracle::{array, relative};
use tch::{Kind, Tensor};
use vd_tensor_ops::layers::{CrossAttention, HeadShape, Memory, SpatialAttention};
use vd_tensor_ops::torch::testing::device;
use vd_tensor_ops::{Params, Result, Scope, Weights};

const SHAPE: HeadShape = HeadShape { heads: 2, dim: 6 };

/// The tensors of a fixture, and a layer with its parameters.
fn load<L>(name: &str, new: impl Fn(&mut Scope) -> Result<L>) -> (BTreeMap<String, Tensor>, L) {
    oracle::draw::one_thread();
    let path = fixtures::fixture(&format!("attention/{name}.safetensors"));
    let tensors = Weights::read(&path, device()).unwrap().tensors;
    let mut params = Params::new(0, Kind::Double, device());
    let layer = new(&mut params.root()).unwrap();
    let own = tensors.iter().filter(|(name, _)| params.get(name).is_some());
    params.load(&own.map(|(name, t)| (name.clone(), t.shallow_clone())).collect()).unwrap();
    (tensors, layer)
}

#[test]
fn cross_attention_answers_as_pytorch_does() {
    let (t, layer) = load("cross", |s| CrossAttention::new(s, 12, 7, SHAPE));
    let got = layer.forward(&t["x"], &t["tokens"], &t["weight"]);
    let error = relative(&got, &array(&t["out"]));
    assert!(error <= EXACT, "{error:e}");
}

#[test]
fn spatial_attention_with_a_bias_and_one_memory_answers_as_pytorch_does() {
    let (t, layer) = load("memory", |s| SpatialAttention::new(s, 12, SHAPE));
    let [keys, values] = ["keys", "values"].map(|name| t[name].shallow_clone());
    let memory = Memory { keys, values };
    let got = layer.forward_with(&t["x"], Some(&t["bias"]), Some(&memory));
    let error = relative(&got, &array(&t["out"]));
    assert!(error <= EXACT, "{error:e}");
}
