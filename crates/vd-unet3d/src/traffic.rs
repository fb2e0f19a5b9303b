//! Cost of every layer of a network, computed from the config: floating-point operations, and the
//! minimum traffic to and from a device's memory, in bytes.
//!
//! A layer is what one kernel computes on a GPU: a convolution or a matrix product, with the
//! residual added to it; a norm with the scale, shift, SiLU and residual after it; the norm before
//! an attention; the core of an attention between its projections. It reads each input and each
//! weight once and writes its output once. In the backward pass, a matrix product is two kernels,
//! one for the gradient of its input and one for that of its weights; everything else is one. A
//! gradient summed from several sources is read once for each source but the last, by the kernel
//! that sums them.
//!
//! Operations are counted as in [`flops`](crate::flops): only matrix products, so norms have bytes
//! and no flops. Not counted: noise, loss, the layout conversion of the video at both ends, the
//! norm of the gradients for clipping, and what an attention recomputes in its backward pass.

mod attentions;
mod walk;

use std::fmt;

use serde::Serialize;

use crate::UNet3dConfig;
use crate::flops::Shape;
use walk::Walk;

/// Kind of layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Sort {
    /// A spatial convolution: the first, those of the blocks, the last.
    Convolution,
    /// A linear map at each position: in the skip of a block, and at the end.
    Projection,
    /// A temporal convolution.
    TimeConvolution,
    /// Halves or doubles the frame size.
    Resampling,
    /// Norm, scale, shift, SiLU and residual after a convolution.
    Norm,
    /// The norm before an attention.
    AttentionNorm,
    /// Projections of queries, keys and values, and the output projection with its residual.
    AttentionProduct,
    /// The core of a temporal attention, between its projections.
    TemporalAttention,
    /// The core of a linear spatial attention, between its projections.
    LinearAttention,
    /// The core of a full spatial attention, between its projections.
    SpatialAttention,
    /// The core of a cross-attention to a text, between its projections.
    CrossAttention,
    /// The embedding of time, text and signals, and its projections in the blocks.
    Embedding,
    /// AdamW with the moving average.
    Optimizer,
}

impl Sort {
    /// Whether it is a matrix product of the input with weights.
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

/// A layer of a network for an input of some shape; counts are in numbers, not bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layer {
    /// Common prefix of the names of its parameters.
    pub name: String,
    /// Kind of layer.
    pub sort: Sort,
    /// Number of its own parameters.
    pub parameters: u64,
    /// Floating-point operations of the forward pass.
    pub flops: u64,
    /// Activations read by the forward pass, except a residual.
    pub inputs: u64,
    /// Residual activations added at the end: their gradient is that of the output.
    pub residual: u64,
    /// Activations written by the forward pass.
    pub outputs: u64,
    /// Values of its input's gradient that come from other layers, and are added to its own.
    pub added: u64,
    /// Whether its input has a gradient.
    pub leads_back: bool,
}

/// The layers of a network, in order.
///
/// Assumes that no signals are given, and that the text, if any, is the same for all frames.
pub fn layers(config: &UNet3dConfig, shape: Shape) -> Vec<Layer> {
    Walk::new(config, shape).layers()
}

/// Bytes per number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Widths {
    /// Of activations, their gradients, and weights as used by layers.
    pub computed: u64,
    /// Of stored weights, their gradients, moments and average.
    pub kept: u64,
}

impl Widths {
    /// All in f32.
    pub const F32: Widths = Widths { computed: 4, kept: 4 };
    /// Layers in bf16 or fp16, with a copy of the f32 weights that the optimiser writes.
    pub const HALF: Widths = Widths { computed: 2, kept: 4 };
}

/// The cost of a kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pass {
    /// Kind of layer.
    pub sort: Sort,
    /// Floating-point operations.
    pub flops: u64,
    /// Bytes read and written.
    pub bytes: u64,
}

impl Layer {
    /// The cost of the forward pass.
    pub fn forward(&self, widths: Widths) -> Pass {
        let numbers = self.inputs + self.residual + self.outputs + self.parameters;
        Pass { sort: self.sort, flops: self.flops, bytes: widths.computed * numbers }
    }

    /// The cost of the backward pass, kernel by kernel.
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

/// The kernels of a training step: forward, backward, and the optimiser with the moving average.
pub fn training(layers: &[Layer], widths: Widths) -> Vec<Pass> {
    let mut all = forward(layers, widths);
    all.extend(layers.iter().rev().flat_map(|layer| layer.backward(widths)));
    let parameters: u64 = layers.iter().map(|layer| layer.parameters).sum();
    // Reads weight, gradient, two moments and average; writes all but the gradient.
    let copy = if widths.computed < widths.kept { widths.computed } else { 0 };
    let bytes = parameters * (9 * widths.kept + copy);
    all.push(Pass { sort: Sort::Optimizer, flops: 0, bytes });
    all
}

/// The peak rates of a device, per second.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rates {
    /// Bytes read and written.
    pub bytes: f64,
    /// Floating-point operations.
    pub flops: f64,
}

/// Lower bounds in seconds for any implementation with these kernels.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Floors {
    /// All bytes at the memory's rate.
    pub memory: f64,
    /// All operations at the arithmetic rate.
    pub arithmetic: f64,
    /// The sum over kernels of the larger bound.
    pub larger: f64,
}

/// The lower bounds for kernels that run one after the other.
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
