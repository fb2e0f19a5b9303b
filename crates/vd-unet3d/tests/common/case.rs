//! One compared network and its inputs, as described by ../parity/cases.py.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Map, Value};
use tch::{Device, Kind, Tensor};
use vd_unet3d::ops::torch::testing::{device, folder};
use vd_unet3d::ops::{Params, Weights};
use vd_unet3d::{Backbone, Cond, FrameMask, UNet3d, UNet3dConfig};

use super::generator::{FREQUENCIES, parameter, unit};

/// The Python script's description of a case.
#[derive(Debug, Deserialize)]
pub(crate) struct Case {
    pub(crate) version: String,
    /// The arguments of the package's `Unet3D`.
    pub(crate) network: Map<String, Value>,
    /// b f h w
    pub(crate) size: [i64; 4],
    pub(crate) time: Vec<i64>,
    /// Which samples get the null embedding; only for conditional networks.
    pub(crate) null: Option<Vec<bool>>,
    /// Which samples focus on the present.
    pub(crate) focus: Vec<bool>,
    /// Shapes of the trained parameters.
    pub(crate) parameters: BTreeMap<String, Vec<i64>>,
    /// Names of the rotary frequencies in the state dict.
    pub(crate) frequencies: Vec<String>,
    pub(crate) rounding: Rounding,
    /// Whether the weights are those of parity/trained.safetensors.
    #[serde(default)]
    pub(crate) trained: bool,
    /// Videos that are not generated.
    #[serde(skip)]
    pub(crate) x: Option<Tensor>,
}

/// Difference between the package in f32 and in f64.
#[derive(Debug, Deserialize)]
pub(crate) struct Rounding {
    pub(crate) output: f64,
    pub(crate) gradient: f64,
    pub(crate) gradient_of: String,
}

/// The output of a network and the gradient of each parameter, by name.
#[derive(Debug)]
pub(crate) struct Pass {
    pub(crate) output: Tensor,
    pub(crate) gradients: BTreeMap<String, Tensor>,
}

impl Case {
    /// One forward and backward pass in `kind`; the loss is sum(output * weight).
    pub(crate) fn run(&self, network: &UNet3d, params: &Params, kind: Kind) -> Pass {
        let output = self.answer(network, kind);
        let weight = unit("loss/weight", &output.size()).to_device(device()).to_kind(kind);
        (&output * weight).sum(kind).backward();
        let gradient = |tensor: &Tensor| {
            let gradient = tensor.grad();
            if gradient.defined() { gradient } else { tensor.zeros_like() }
        };
        let trainable = params.trainable().into_iter();
        let gradients = trainable.map(|(name, t)| (name.to_owned(), gradient(t))).collect();
        Pass { output: output.detach(), gradients }
    }

    /// One forward pass in `kind`.
    pub(crate) fn answer(&self, network: &UNet3d, kind: Kind) -> Tensor {
        let config = network.config();
        let [b, f, h, w] = self.size;
        let x = match &self.x {
            Some(x) => x.to_kind(kind),
            None => unit("input/x", &[b, config.channels, f, h, w]).to_kind(kind),
        };
        let x = x.to_device(device());
        let t = Tensor::from_slice(&self.time).to_device(device());
        let cond = self.cond(config, kind);
        let frames = FrameMask::Focus(Tensor::from_slice(&self.focus).to_device(device()));
        network.forward(&x, &t, &cond, &frames, None).unwrap()
    }

    /// The weights of the case's network, with the rotary frequencies of the package.
    pub(crate) fn weights(
        &self,
        params: &Params,
        frequencies: &Tensor,
    ) -> BTreeMap<String, Tensor> {
        if !self.trained {
            return weights(params, frequencies);
        }
        // Tests of other crates also read it, from the folder next to theirs.
        let own = folder(env!("CARGO_MANIFEST_DIR"));
        let path = own.join("../vd-unet3d/tests/parity/trained.safetensors");
        let trained = Weights::read(&path, Device::Cpu).unwrap().tensors;
        let kind = |name: &String| params.get(name).unwrap().tensor.kind();
        trained.into_iter().map(|(name, t)| (name.clone(), t.to_kind(kind(&name)))).collect()
    }

    fn cond(&self, config: &UNet3dConfig, kind: Kind) -> Cond {
        let Some(null) = &self.null else { return Cond::none() };
        let width = config.cond_dim.unwrap();
        let pooled = unit("input/cond", &[self.size[0], width]).to_kind(kind);
        let null = Tensor::from_slice(null).to_device(device());
        Cond::pooled(pooled.to_device(device())).with_null(null)
    }
}

/// The config of the package's `Unet3D(**arguments)`.
pub(crate) fn config(version: &str, arguments: &Map<String, Value>) -> UNet3dConfig {
    let mut fields = arguments.clone();
    let (family, _) = version.rsplit_once('.').unwrap();
    fields.insert("preset".to_owned(), format!("video-diffusion-pytorch-{family}").into());
    if let Some(groups) = fields.remove("resnet_groups") {
        let norm = serde_json::json!({ "kind": "group", "groups": groups });
        fields.insert("norm".to_owned(), norm);
    }
    serde_json::from_value(Value::Object(fields)).unwrap()
}

/// A network and its parameters, not yet filled.
pub(crate) fn build(config: &UNet3dConfig, kind: Kind) -> (UNet3d, Params) {
    let mut params = Params::new(0, kind, device());
    let network = UNet3d::new(config, &mut params.root()).unwrap();
    (network, params)
}

/// The generated weights of a network, with the rotary frequencies of the package.
pub(crate) fn weights(params: &Params, frequencies: &Tensor) -> BTreeMap<String, Tensor> {
    let value = |name: &str, like: &Tensor| {
        let frequency = name.ends_with(FREQUENCIES);
        let value = if frequency { frequencies.copy() } else { parameter(name, &like.size()) };
        value.to_kind(like.kind())
    };
    params.iter().map(|(name, p)| (name.to_owned(), value(name, &p.tensor))).collect()
}

/// |got - expected| / |expected|, in f64.
pub(crate) fn relative_l2(got: &Tensor, expected: &Tensor) -> f64 {
    distance(got, expected) / norm(expected)
}

/// The norm of all gradients together.
pub(crate) fn total_norm<'a>(gradients: impl Iterator<Item = &'a Tensor>) -> f64 {
    gradients.map(|g| norm(g).powi(2)).sum::<f64>().sqrt()
}

/// |got - expected|, in f64.
pub(crate) fn distance(got: &Tensor, expected: &Tensor) -> f64 {
    assert_eq!(got.size(), expected.size());
    let values = |t: &Tensor| t.to_device(Device::Cpu).to_kind(Kind::Double);
    norm(&(values(got) - values(expected)))
}

/// The Euclidean norm, in f64.
pub(crate) fn norm(values: &Tensor) -> f64 {
    values.to_kind(Kind::Double).norm().double_value(&[])
}
