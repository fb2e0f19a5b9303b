//! The layers of a network in order.

use vd_tensor_ops::layers::{NormKind, RelativeBias};

use super::{Layer, Sort};
use crate::flops::Shape;
use crate::level::Names;
use crate::plan::{self, Plan, Unit};
use crate::{Axes, EmbeddingKind, SignalConfig, Skips, TimePositions, UNet3dConfig};

/// The layers so far.
pub(super) struct Walk<'a> {
    pub(super) config: &'a UNet3dConfig,
    pub(super) shape: Shape,
    layers: Vec<Layer>,
}

/// A layer that reads and writes nothing yet.
pub(super) fn layer(name: String, sort: Sort) -> Layer {
    Layer {
        name,
        sort,
        parameters: 0,
        flops: 0,
        inputs: 0,
        residual: 0,
        outputs: 0,
        added: 0,
        leads_back: true,
    }
}

/// The product of `rows` rows of `inputs` with a matrix that gives `outputs`.
pub(super) fn product(name: String, sort: Sort, rows: u64, (inputs, outputs): (u64, u64)) -> Layer {
    Layer {
        parameters: inputs * outputs,
        flops: 2 * rows * inputs * outputs,
        inputs: rows * inputs,
        outputs: rows * outputs,
        ..layer(name, sort)
    }
}

impl<'a> Walk<'a> {
    pub(super) fn new(config: &'a UNet3dConfig, shape: Shape) -> Self {
        Walk { config, shape, layers: Vec::new() }
    }

    pub(super) fn push(&mut self, layer: Layer) {
        self.layers.push(layer);
    }

    /// Positions of the whole batch at a level.
    pub(super) fn positions(&self, level: usize) -> u64 {
        let Shape { b, f, h, w, .. } = self.shape;
        b * f * (h >> level) * (w >> level)
    }

    pub(super) fn layers(mut self) -> Vec<Layer> {
        let (config, plan) = (self.config, Plan::new(self.config));
        self.embedding();
        let first = config.first_channels().unsigned_abs();
        let inputs = (config.channels + config.extra_channels()).unsigned_abs();
        let kernel = config.init_kernel_size.unsigned_abs();
        let conv = self.convolution("init_conv".to_owned(), 0, (inputs, first), kernel);
        self.push(Layer { leads_back: false, ..conv });
        self.in_time("init_conv.", 0, first);
        let each = config.skips == Skips::Block;
        let long_before = !each && config.skip_before_temporal && plan::first_temporal(config);
        if plan::first_temporal(config) {
            self.over_time("init_temporal_attn", 0, first, u64::from(long_before));
        }
        let names = if each { Names::unit } else { Names::numbered };
        for (i, units) in plan.downs.iter().enumerate() {
            for (k, unit) in units.iter().enumerate() {
                // A skip from this output also contributes to its gradient.
                let skipped = each || (i == 0 && k == 0 && !long_before);
                self.unit(&format!("downs.{i}."), &names(k), unit, u64::from(skipped));
            }
            if i + 1 < plan.downs.len() {
                self.resampling(&format!("downs.{i}."), units, true);
            }
        }
        for (k, unit) in plan.middle.iter().enumerate() {
            self.unit("", &Names::middle(k), unit, u64::from(k == 0));
        }
        for (i, units) in plan.ups.iter().enumerate() {
            for (k, unit) in units.iter().enumerate() {
                self.unit(&format!("ups.{i}."), &names(k), unit, 0);
            }
            if i + 1 < plan.ups.len() {
                self.resampling(&format!("ups.{i}."), units, false);
            }
        }
        self.end(plan.last.unsigned_abs());
        self.layers
    }

    /// The embedding of time, with the conditioning inputs.
    fn embedding(&mut self) {
        let config = self.config;
        let [dim, width] = [config.dim, config.time_width()].map(i64::unsigned_abs);
        let b = self.shape.b;
        let bare = |name: &str, parameters: u64| Layer {
            parameters,
            ..layer(name.to_owned(), Sort::Embedding)
        };
        let tables = RelativeBias::BUCKETS.unsigned_abs();
        if config.time_positions == TimePositions::Bias {
            let heads = config.most_heads(Axes::Time).unsigned_abs();
            self.push(bare("time_rel_pos_bias", tables * heads));
        }
        if config.spatial_bias {
            let heads = config.most_heads(Axes::Space).unsigned_abs();
            self.push(bare("space_rel_pos_bias", 2 * tables * heads));
        }
        for i in 0..config.embedding.layers.unsigned_abs() {
            let inputs = if i == 0 { dim } else { width };
            let name = format!("time_mlp.{}", 2 * i + 1);
            let linear = product(name, Sort::Embedding, b, (inputs, width));
            let parameters = linear.parameters + width;
            self.push(Layer { parameters, leads_back: i > 0, ..linear });
        }
        if let Some(d) = config.pooled_width().map(i64::unsigned_abs) {
            self.push(bare("null_cond_emb", d));
            if config.embedding.kind == EmbeddingKind::Add {
                self.push(product("cond_emb".to_owned(), Sort::Embedding, b, (d, width)));
            }
        }
        self.text();
        for (name, signal) in &config.signals {
            let rows = match signal {
                SignalConfig::Video { .. } => continue,
                SignalConfig::Class { classes } => classes.len() as u64,
                // Two layers with their biases.
                SignalConfig::Scalar { .. } => 1 + 1 + width + 1,
                SignalConfig::Series { width: d } => d.unsigned_abs() + 1 + width + 1,
            };
            self.push(bare(&format!("signals.{name}"), (rows + 1) * width));
        }
    }

    /// A spatial convolution with its bias.
    fn convolution(&self, name: String, level: usize, io: (u64, u64), kernel: u64) -> Layer {
        let rows = self.positions(level);
        let (inputs, outputs) = io;
        let taps = kernel * kernel;
        Layer {
            parameters: taps * inputs * outputs + outputs,
            flops: 2 * rows * taps * inputs * outputs,
            inputs: rows * inputs,
            outputs: rows * outputs,
            ..layer(name, Sort::Convolution)
        }
    }

    /// A temporal convolution after this layer, if configured.
    fn in_time(&mut self, place: &str, level: usize, c: u64) {
        let Some(taps) = self.config.temporal_kernel.map(i64::unsigned_abs) else { return };
        let rows = self.positions(level);
        self.push(Layer {
            parameters: taps * c * c + c,
            flops: 2 * rows * taps * c * c,
            inputs: rows * c,
            outputs: rows * c,
            ..layer(format!("{place}temporal"), Sort::TimeConvolution)
        });
    }

    /// A linear map at each position, with its bias.
    fn projection(&mut self, name: String, level: usize, io: (u64, u64)) {
        let linear = product(name, Sort::Projection, self.positions(level), io);
        self.push(Layer { parameters: linear.parameters + io.1, ..linear });
    }

    /// `told`: number of scale and shift values per sample.
    fn norm(&mut self, name: String, level: usize, c: u64, (told, residual): (u64, bool)) {
        let all = self.positions(level) * c;
        let parameters = match self.config.norm {
            NormKind::Rms => c,
            NormKind::Group { .. } => 2 * c,
        };
        self.push(Layer {
            parameters,
            inputs: all + self.shape.b * told,
            residual: if residual { all } else { 0 },
            outputs: all,
            ..layer(name, Sort::Norm)
        });
    }

    /// A residual block; `others`: number of other users of its input.
    fn block(&mut self, place: &str, unit: &Unit, embedded: bool, others: u64) {
        let (config, level) = (self.config, unit.level);
        let [inputs, outputs, width] =
            [unit.inputs, unit.outputs, config.embedding_width()].map(i64::unsigned_abs);
        let mut told = 0;
        if embedded {
            told = match config.embedding.kind {
                EmbeddingKind::Film => 2 * outputs,
                EmbeddingKind::Add => outputs,
            };
            let film =
                product(format!("{place}.mlp.1"), Sort::Embedding, self.shape.b, (width, told));
            // All blocks contribute to the gradient of the embedding.
            self.push(Layer { parameters: film.parameters + told, added: film.inputs, ..film });
        }
        let conv = self.convolution(format!("{place}.block1.proj"), level, (inputs, outputs), 3);
        // The gradient from the skip, the block's own second use of its input.
        let added = (1 + others) * conv.inputs;
        self.push(Layer { added, ..conv });
        self.in_time(&format!("{place}.block1."), level, outputs);
        self.norm(format!("{place}.block1.norm"), level, outputs, (told, false));
        if inputs != outputs {
            self.projection(format!("{place}.res_conv"), level, (inputs, outputs));
        }
        let conv = self.convolution(format!("{place}.block2.proj"), level, (outputs, outputs), 3);
        self.push(conv);
        self.in_time(&format!("{place}.block2."), level, outputs);
        self.norm(format!("{place}.block2.norm"), level, outputs, (0, true));
    }

    /// A residual block and the attentions after it.
    fn unit(&mut self, place: &str, names: &Names, unit: &Unit, others: u64) {
        let (level, c) = (unit.level, unit.outputs.unsigned_abs());
        self.block(&format!("{place}{}", names.block), unit, true, others);
        match unit.spatial {
            Some(plan::Spatial::Linear) => {
                self.linear_over_space(&format!("{place}{}", names.spatial), level, c);
            }
            Some(plan::Spatial::Full) => {
                self.over_space(&format!("{place}{}", names.spatial), level, c);
            }
            None => {}
        }
        let cross = format!("{place}{}", names.cross);
        if unit.attends() {
            self.cross(&cross, level, c, Axes::Space);
        }
        if unit.temporal {
            self.over_time(&format!("{place}{}", names.temporal), level, c, 0);
        }
        if unit.attends() {
            self.cross(&cross, level, c, Axes::Time);
        }
    }

    /// Halves or doubles the frame size after units of a level.
    fn resampling(&mut self, place: &str, units: &[Unit], halves: bool) {
        let Some((level, c)) = units.last().map(|u| (u.level, u.outputs.unsigned_abs())) else {
            return;
        };
        let after = if halves { level + 1 } else { level - 1 };
        let (inputs, outputs) = (self.positions(level) * c, self.positions(after) * c);
        let each = self.config.skips == Skips::Block;
        let name = format!("{place}{}", if each { "resample" } else { "4" });
        self.push(Layer {
            parameters: 16 * c * c + c,
            // Kernel 4 along two axes, at half the positions; transposed, at those of the input.
            flops: 2 * 16 * c * inputs.min(outputs),
            inputs,
            outputs,
            // A skip also uses the tensor that is halved.
            added: if halves { inputs } else { 0 },
            ..layer(name.clone(), Sort::Resampling)
        });
        self.in_time(&format!("{name}."), after, c);
    }

    fn end(&mut self, last: u64) {
        let config = self.config;
        let [dim, outputs] = [config.dim, config.out_channels()].map(i64::unsigned_abs);
        match config.skips {
            Skips::Level => {
                let inputs = config.first_channels() + last as i64;
                let bare =
                    Unit { level: 0, inputs, outputs: config.dim, spatial: None, temporal: false };
                self.block("final_conv.0", &bare, false, 0);
                self.projection("final_conv.1".to_owned(), 0, (dim, outputs));
            }
            Skips::Block => {
                self.norm("final_conv.0".to_owned(), 0, last, (0, false));
                let conv = self.convolution("final_conv.1".to_owned(), 0, (last, outputs), 3);
                self.push(conv);
                self.in_time("final_conv.1.", 0, outputs);
            }
        }
    }
}
