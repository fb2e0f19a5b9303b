//! What every layer of a network takes, counted from the config: arithmetic, and the fewest bytes that
//! pass through a device's memory.
//!
//! A layer is what one kernel does on a GPU: a convolution or a product, with a residual that it adds; a
//! norm with the scale, the shift, the SiLU and the residual behind it; the norm before an attention;
//! what lies between an attention's products. It reads each input and each weight once and writes its
//! output once. On the way back a product is two kernels, for the gradient of its input and for that of
//! its weights, and everything else is one. A gradient that comes from several sides is read once for
//! each side but the last, by the kernel that adds them up.
//!
//! Arithmetic is that of [`flops`](crate::flops): products alone, so that norms have bytes and no flops.
//! Left out are noise, loss and the layout of the video at both ends, the norm of the gradients for
//! clipping, and what an attention computes again on its way back instead of keeping it.

mod attentions;
mod walk;

use std::fmt;

use serde::Serialize;

use crate::UNet3dConfig;
use crate::flops::Shape;
use walk::Walk;

/// What a layer does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Sort {
    /// A convolution over space: the first, those of the blocks, the last.
    Convolution,
    /// A product at each position: beside a block, and at the end.
    Projection,
    /// A convolution over time.
    TimeConvolution,
    /// What halves or doubles the frame.
    Resampling,
    /// Norm, scale, shift, SiLU and residual behind a convolution.
    Norm,
    /// The norm before an attention.
    AttentionNorm,
    /// Queries, keys and values, and the way out with its residual.
    AttentionProduct,
    /// Attention over time between its products.
    TemporalAttention,
    /// Linear attention over space between its products.
    LinearAttention,
    /// Full attention over space between its products.
    SpatialAttention,
    /// Attention over a text between its products.
    CrossAttention,
    /// The embedding of time, text and signals, and what blocks make of it.
    Embedding,
    /// AdamW with the moving average.
    Optimizer,
}

impl Sort {
    /// Whether it is a product of the input with weights.
    fn is_product(self) -> bool {
        use Sort::*;
        matches!(
            self,
            Convolution | Projection | TimeConvolution | Resampling | AttentionProduct | Embedding
        )
    }
}

impl fmt::Display for Sort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Sort::Convolution => "convolutions",
            Sort::Projection => "products of positions",
            Sort::TimeConvolution => "convolutions over time",
            Sort::Resampling => "halving and doubling",
            Sort::Norm => "norm, scale, SiLU",
            Sort::AttentionNorm => "norms of attentions",
            Sort::AttentionProduct => "products of attentions",
            Sort::TemporalAttention => "attention over time",
            Sort::LinearAttention => "linear attention",
            Sort::SpatialAttention => "full attention",
            Sort::CrossAttention => "attention over a text",
            Sort::Embedding => "embedding",
            Sort::Optimizer => "AdamW and average",
        })
    }
}

/// A layer of a network on an input of some shape; numbers, not bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layer {
    /// What the names of its parameters begin with.
    pub name: String,
    /// What it does.
    pub sort: Sort,
    /// Parameters of its own.
    pub parameters: u64,
    /// Floating-point operations of the forward.
    pub flops: u64,
    /// Activations that the forward reads, but for a residual.
    pub inputs: u64,
    /// Activations that it adds at the end: their gradient is that of the output.
    pub residual: u64,
    /// Activations that the forward writes.
    pub outputs: u64,
    /// Numbers of the gradient of its input that come from elsewhere, and are added to its own.
    pub added: u64,
    /// Whether its input has a gradient.
    pub leads_back: bool,
}

/// The layers of a network in their order.
///
/// A network is told no signals, and its text, if it takes one, is the same for all frames.
pub fn layers(config: &UNet3dConfig, shape: Shape) -> Vec<Layer> {
    Walk::new(config, shape).layers()
}

/// Bytes of numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Widths {
    /// Activations, their gradients, and weights as layers read them.
    pub computed: u64,
    /// Weights that are kept, their gradients, moments and average.
    pub kept: u64,
}

impl Widths {
    /// All in f32.
    pub const F32: Widths = Widths { computed: 4, kept: 4 };
    /// Layers in bf16 or fp16, with a copy of the weights that the optimiser writes beside those in f32.
    pub const HALF: Widths = Widths { computed: 2, kept: 4 };
}

/// What a kernel takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pass {
    /// What it does.
    pub sort: Sort,
    /// Floating-point operations.
    pub flops: u64,
    /// Bytes that it reads and writes.
    pub bytes: u64,
}

impl Layer {
    /// What the forward takes.
    pub fn forward(&self, widths: Widths) -> Pass {
        let numbers = self.inputs + self.residual + self.outputs + self.parameters;
        Pass { sort: self.sort, flops: self.flops, bytes: widths.computed * numbers }
    }

    /// What the way back takes, kernel by kernel.
    pub fn backward(&self, widths: Widths) -> Vec<Pass> {
        let Layer { sort, flops, inputs, outputs, parameters, added, .. } = *self;
        let of_weights = widths.kept * parameters;
        if !sort.is_product() {
            let numbers = inputs + outputs + parameters + added + inputs;
            let bytes = widths.computed * numbers + of_weights;
            return vec![Pass { sort, flops: 2 * flops, bytes }];
        }
        let mut all =
            vec![Pass { sort, flops, bytes: widths.computed * (inputs + outputs) + of_weights }];
        if self.leads_back {
            let numbers = outputs + parameters + added + inputs;
            all.push(Pass { sort, flops, bytes: widths.computed * numbers });
        }
        all
    }
}

/// The kernels of a forward pass.
pub fn forward(layers: &[Layer], widths: Widths) -> Vec<Pass> {
    layers.iter().map(|layer| layer.forward(widths)).collect()
}

/// The kernels of a step of training: forward, backward, and the optimiser with the moving average.
pub fn training(layers: &[Layer], widths: Widths) -> Vec<Pass> {
    let mut all = forward(layers, widths);
    all.extend(layers.iter().rev().flat_map(|layer| layer.backward(widths)));
    let parameters: u64 = layers.iter().map(|layer| layer.parameters).sum();
    // Weight, gradient, two moments and average come in, all but the gradient go out.
    let copy = if widths.computed < widths.kept { widths.computed } else { 0 };
    let bytes = parameters * (9 * widths.kept + copy);
    all.push(Pass { sort: Sort::Optimizer, flops: 0, bytes });
    all
}

/// What a device does in a second at most.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rates {
    /// Bytes that it reads and writes.
    pub bytes: f64,
    /// Floating-point operations.
    pub flops: f64,
}

/// Seconds that no implementation with these kernels stays below.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Floors {
    /// All bytes at the rate of the memory.
    pub memory: f64,
    /// All arithmetic at its rate.
    pub arithmetic: f64,
    /// The sum over kernels of the larger of both.
    pub larger: f64,
}

/// The floors of some kernels one after the other.
pub fn floors<'a>(passes: impl IntoIterator<Item = &'a Pass>, rates: Rates) -> Floors {
    let mut all = Floors { memory: 0.0, arithmetic: 0.0, larger: 0.0 };
    for pass in passes {
        let (memory, arithmetic) =
            (pass.bytes as f64 / rates.bytes, pass.flops as f64 / rates.flops);
        all.memory += memory;
        all.arithmetic += arithmetic;
        all.larger += memory.max(arithmetic);
    }
    all
}
