//! The counted reads and writes of layers, compared with the tensors of a small network with its
//! own weights.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use tch::{Device, Kind, Tensor};
use vd_unet3d::flops::Shape;
use vd_unet3d::ops::{Noise, Params, SeededNoise};
use vd_unet3d::traffic::{Layer, layers};
use vd_unet3d::{Backbone, Cond, FrameMask, UNet3d, UNet3dConfig};

/// A network built from libtorch's operations, and its counts.
struct Real {
    params: Params,
    layers: BTreeMap<String, Layer>,
    seen: RefCell<BTreeSet<String>>,
    /// b 1 d
    embedding: Tensor,
    heads: i64,
}

fn numbers(tensors: &[&Tensor]) -> u64 {
    tensors.iter().map(|t| t.numel() as u64).sum()
}

impl Real {
    fn weight(&self, name: String) -> Tensor {
        self.params.get(&name).expect(&name).tensor.shallow_clone()
    }

    fn bias(&self, name: &str) -> Option<Tensor> {
        self.params.get(&format!("{name}.bias")).map(|param| param.tensor.shallow_clone())
    }

    /// Compares a layer's actual reads and writes with the counts.
    fn saw(&self, name: &str, inputs: &[&Tensor], residual: Option<&Tensor>, y: Tensor) -> Tensor {
        let of = &self.layers[name];
        let got = [numbers(inputs), residual.map_or(0, |t| numbers(&[t])), numbers(&[&y])];
        assert_eq!(got, [of.inputs, of.residual, of.outputs], "{name}");
        assert!(self.seen.borrow_mut().insert(name.to_owned()), "{name} twice");
        y
    }

    /// b f h w c of every input, along the channels; kernel 4 halves the frame size, or doubles it
    /// if `up`.
    fn conv(&self, name: &str, inputs: &[&Tensor], up: bool) -> Tensor {
        let weight = self.weight(format!("{name}.weight")).squeeze_dim(2);
        let (bias, size) = (self.bias(name), inputs[0].size());
        let x = Tensor::cat(inputs, -1).flatten(0, 1).permute([0, 3, 1, 2]);
        let (stride, kernel) = (if weight.size()[2] == 4 { 2 } else { 1 }, weight.size()[2]);
        let padding = (kernel - stride) / 2 + (kernel - stride) % 2;
        let y = if up {
            x.conv_transpose2d(&weight, bias, [2i64; 2], [1i64; 2], [0i64; 2], 1, [1i64; 2])
        } else {
            x.conv2d(&weight, bias, [stride; 2], [padding; 2], [1i64; 2], 1)
        };
        let y = y.permute([0, 2, 3, 1]).unflatten(0, [size[0], size[1]]);
        self.saw(name, inputs, None, y)
    }

    fn linear(&self, name: &str, inputs: &[&Tensor], residual: Option<&Tensor>) -> Tensor {
        let weight = self.weight(format!("{name}.weight"));
        let weight = weight.flatten(1, -1);
        let y = Tensor::cat(inputs, -1).linear(&weight, self.bias(name).as_ref());
        self.saw(name, inputs, residual, y)
    }

    fn block(&self, place: &str, inputs: &[&Tensor], told: bool) -> Tensor {
        let film = told.then(|| self.linear(&format!("{place}.mlp.1"), &[&self.embedding], None));
        let x = self.conv(&format!("{place}.block1.proj"), inputs, false);
        let read: Vec<&Tensor> = std::iter::once(&x).chain(&film).collect();
        let x = self.saw(&format!("{place}.block1.norm"), &read, None, x.silu());
        let x = self.conv(&format!("{place}.block2.proj"), &[&x], false);
        let name = format!("{place}.res_conv");
        let skip = if self.layers.contains_key(&name) {
            self.linear(&name, inputs, None)
        } else {
            Tensor::cat(inputs, -1)
        };
        let y = x.silu() + &skip;
        self.saw(&format!("{place}.block2.norm"), &[&x], Some(&skip), y)
    }

    /// `over`: the core between the projections, given their output and its other inputs.
    fn attention(&self, place: &str, inner: &str, x: &Tensor, bias: Option<&Tensor>) -> Tensor {
        let normal = self.saw(&format!("{place}.fn.norm"), &[x], None, x.copy());
        let inner = format!("{place}.{inner}");
        let qkv = self.linear(&format!("{inner}.to_qkv"), &[&normal], None);
        let parts = qkv.chunk(3, -1);
        let read: Vec<&Tensor> = std::iter::once(&qkv).chain(bias).collect();
        let out = self.saw(&inner, &read, None, parts[2].contiguous());
        self.linear(&format!("{inner}.to_out"), &[&out], Some(x)) + x
    }

    fn over_time(&self, place: &str, x: &Tensor) -> Tensor {
        let f = x.size()[1];
        let bias = Tensor::zeros([self.heads, f, f], (Kind::Float, Device::Cpu));
        self.attention(place, "fn.fn.fn", x, Some(&bias))
    }

    /// The blocks and attentions of a level.
    fn level(&self, place: &str, inputs: &[&Tensor]) -> Tensor {
        let x = self.block(&format!("{place}.0"), inputs, true);
        let x = self.block(&format!("{place}.1"), &[&x], true);
        let x = self.attention(&format!("{place}.2"), "fn.fn", &x, None);
        self.over_time(&format!("{place}.3"), &x)
    }

    fn forward(&self, x: &Tensor, levels: usize) -> Tensor {
        let x = self.conv("init_conv", &[x], false);
        let first = self.over_time("init_temporal_attn", &x);
        let (mut x, mut skips) = (first.shallow_clone(), Vec::new());
        for i in 0..levels {
            x = self.level(&format!("downs.{i}"), &[&x]);
            skips.push(x.shallow_clone());
            if i + 1 < levels {
                x = self.conv(&format!("downs.{i}.4"), &[&x], false);
            }
        }
        x = self.block("mid_block1", &[&x], true);
        x = self.attention("mid_spatial_attn", "fn.fn.fn", &x, None);
        x = self.over_time("mid_temporal_attn", &x);
        x = self.block("mid_block2", &[&x], true);
        for i in 0..levels {
            x = self.level(&format!("ups.{i}"), &[&x, &skips.pop().unwrap()]);
            if i + 1 < levels {
                x = self.conv(&format!("ups.{i}.4"), &[&x], true);
            }
        }
        let x = self.block("final_conv.0", &[&x, &first], false);
        self.linear("final_conv.1", &[&x], None)
    }
}

#[test]
fn layers_read_and_write_as_many_numbers_as_the_tensors_of_a_network_have() {
    vd_unet3d::ops::torch::set_threads(1);
    let config = UNet3dConfig { dim: 8, dim_mults: vec![1, 2, 3], ..Default::default() };
    let mut params = Params::new(1, Kind::Float, Device::Cpu);
    let net = UNet3d::new(&config, &mut params.root()).unwrap();
    let size = [2, 3, 5, 16, 24];
    let x = SeededNoise::new(2, 0).normal(&Tensor::empty(size, (Kind::Float, Device::Cpu)));
    let shape = Shape { b: 2, f: 5, h: 16, w: 24, tokens: 0 };
    let counted = layers(&config, shape);
    let mut real = Real {
        params,
        layers: counted.iter().map(|layer| (layer.name.clone(), layer.clone())).collect(),
        seen: RefCell::default(),
        embedding: Tensor::zeros([2, 1, 8], (Kind::Float, Device::Cpu)),
        heads: config.attn_heads,
    };
    let hidden = real.linear("time_mlp.1", &[&real.embedding], None);
    real.embedding = real.linear("time_mlp.3", &[&hidden], None);
    let y = real.forward(&x.permute([0, 2, 3, 4, 1]).contiguous(), 3);
    let t = Tensor::from_slice(&[10i64, 500]);
    let answer = net.forward(&x, &t, &Cond::none(), &FrameMask::All, None).unwrap();
    assert_eq!(y.permute([0, 4, 1, 2, 3]).size(), answer.size());
    let moved = counted.iter().filter(|layer| layer.inputs > 0).map(|layer| layer.name.clone());
    assert_eq!(moved.collect::<BTreeSet<_>>(), real.seen.into_inner());
}
