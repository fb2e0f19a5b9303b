//! Floating-point operations of one forward pass, computed from the config.

use crate::plan::{self, Plan, Spatial, Unit};
use crate::{Axes, EmbeddingKind, Skips, TimePositions, UNet3dConfig};

#[cfg(test)]
mod tests;

/// The size of the network's input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// Samples.
    pub b: u64,
    /// Frames.
    pub f: u64,
    /// Height of a frame.
    pub h: u64,
    /// Width of a frame.
    pub w: u64,
    /// Tokens of each text, for networks that use them.
    pub tokens: u64,
}

/// Floating-point operations of one forward pass: two for each multiply-add of convolutions,
/// projections and attention. Not counted: norms, activations, dropout, softmax and sums, and the
/// contribution of signals to the embedding of time; videos among the signals are inputs of the
/// first convolution, whether given or not. A temporal convolution counts the taps that reach
/// beyond the clip.
pub fn forward(config: &UNet3dConfig, shape: Shape) -> u64 {
    let (count, plan) = (Count { config, shape }, Plan::new(config));
    let [first, inputs, outputs, kernel] = [
        config.first_channels(),
        config.channels + config.extra_channels(),
        config.out_channels(),
        config.init_kernel_size,
    ]
    .map(i64::unsigned_abs);
    let mut macs = count.embedding() + count.text();
    macs += count.positions(0) * kernel * kernel * inputs * first + count.in_time(0, first);
    if plan::first_temporal(config) {
        macs += count.over_time(0, first);
    }
    macs += plan.units().map(|unit| count.unit(unit)).sum::<u64>();
    // Kernel 4 along two axes, at half the positions; transposed, at those of the input.
    let half = |unit: &Unit| {
        let c = unit.outputs.unsigned_abs();
        count.positions(unit.level + 1) * 16 * c * c
    };
    for unit in plan.downs.iter().rev().skip(1).filter_map(|units| units.last()) {
        macs += half(unit) + count.in_time(unit.level + 1, unit.outputs.unsigned_abs());
    }
    for unit in plan.ups.iter().rev().skip(1).filter_map(|units| units.last()) {
        let c = unit.outputs.unsigned_abs();
        macs += count.positions(unit.level) * 16 * c * c + count.in_time(unit.level - 1, c);
    }
    macs += match config.skips {
        Skips::Level => {
            let (dim, last) = (config.dim, plan.last + config.first_channels());
            count.block(0, last, dim, false) + count.positions(0) * dim.unsigned_abs() * outputs
        }
        Skips::Block => {
            count.positions(0) * 9 * plan.last.unsigned_abs() * outputs + count.in_time(0, outputs)
        }
    };
    2 * macs
}

/// The same for clips of `shape`, each followed by `images` independent images
/// ([`FrameMask::ClipAndImages`](crate::FrameMask::ClipAndImages)), which count as clips of one
/// frame. Not counted: with conditioning per frame the embedding has one row for each frame of a
/// clip.
pub fn joint(config: &UNet3dConfig, shape: Shape, images: u64) -> u64 {
    let alone = Shape { b: shape.b * images, f: 1, ..shape };
    forward(config, shape) + forward(config, alone)
}

struct Count<'a> {
    config: &'a UNet3dConfig,
    shape: Shape,
}

/// Multiply-adds.
impl Count<'_> {
    /// Pixels of a frame at a level.
    fn pixels(&self, level: usize) -> u64 {
        (self.shape.h >> level) * (self.shape.w >> level)
    }

    /// Positions of the whole batch at a level.
    fn positions(&self, level: usize) -> u64 {
        self.shape.b * self.shape.f * self.pixels(level)
    }

    /// The layers after the sinusoids, and the one for the text if it is added to them.
    fn embedding(&self) -> u64 {
        let config = self.config;
        let [dim, width, others] =
            [config.dim, config.time_width(), config.embedding.layers - 1].map(i64::unsigned_abs);
        let text = match (config.embedding.kind, config.pooled_width()) {
            (EmbeddingKind::Add, Some(d)) => d.unsigned_abs() * width,
            _ => 0,
        };
        self.shape.b * (dim * width + others * width * width + text)
    }

    /// A residual block and the attentions after it.
    fn unit(&self, unit: &Unit) -> u64 {
        let (level, outputs) = (unit.level, unit.outputs.unsigned_abs());
        let spatial = match unit.spatial {
            Some(Spatial::Linear) => self.linear_over_space(level, outputs),
            Some(Spatial::Full) => self.over_space(level, outputs),
            None => 0,
        };
        let temporal = if unit.temporal { self.over_time(level, outputs) } else { 0 };
        let cross = if unit.attends() { self.cross(level, outputs) } else { 0 };
        self.block(level, unit.inputs, unit.outputs, true) + spatial + temporal + cross
    }

    fn block(&self, level: usize, inputs: i64, outputs: i64, embedded: bool) -> u64 {
        let parts = match self.config.embedding.kind {
            EmbeddingKind::Film => 2,
            EmbeddingKind::Add => 1,
        };
        let [inputs, outputs, width] =
            [inputs, outputs, self.config.embedding_width()].map(i64::unsigned_abs);
        let film = if embedded { self.shape.b * width * parts * outputs } else { 0 };
        let skip = if inputs == outputs { 0 } else { inputs * outputs };
        let convolutions = 9 * inputs * outputs + 9 * outputs * outputs;
        film + self.positions(level) * (convolutions + skip) + 2 * self.in_time(level, outputs)
    }

    /// A temporal convolution, if configured.
    fn in_time(&self, level: usize, channels: u64) -> u64 {
        let kernel = self.config.temporal_kernel.unwrap_or(0).unsigned_abs();
        self.positions(level) * kernel * channels * channels
    }

    /// Number and width of the heads of an attention.
    fn heads(&self, axes: Axes, channels: u64) -> (u64, u64) {
        let (heads, dim) = self.config.heads(axes, i64::try_from(channels).unwrap_or(i64::MAX));
        (heads.unsigned_abs(), dim.unsigned_abs())
    }

    /// Queries, keys, values and the output projection.
    fn projections(&self, level: usize, channels: u64, inner: u64) -> u64 {
        self.positions(level) * 4 * inner * channels
    }

    fn over_time(&self, level: usize, channels: u64) -> u64 {
        let (heads, d) = self.heads(Axes::Time, channels);
        // Keys and values, and their vectors of distances.
        let products = match self.config.time_positions {
            TimePositions::Bias => 2,
            TimePositions::Shaw { .. } => 4,
        };
        let pairs = self.positions(level) * self.shape.f;
        let recalled =
            self.memory(heads * d) + 2 * self.positions(level) * self.memories() * heads * d;
        self.projections(level, channels, heads * d) + products * pairs * heads * d + recalled
    }

    fn over_space(&self, level: usize, channels: u64) -> u64 {
        let (heads, d) = self.heads(Axes::Space, channels);
        let pairs = self.positions(level) * self.pixels(level);
        let recalled =
            self.memory(heads * d) + 2 * self.positions(level) * self.memories() * heads * d;
        self.projections(level, channels, heads * d) + 2 * pairs * heads * d + recalled
    }

    fn linear_over_space(&self, level: usize, channels: u64) -> u64 {
        let (heads, d) = self.heads(Axes::Space, channels);
        let frames = self.shape.b * self.shape.f;
        let recalled = self.memory(heads * d) + frames * self.memories() * heads * d * d;
        let own = 2 * self.positions(level) * heads * d * d;
        self.projections(level, channels, heads * d) + own + recalled
    }

    /// Memory tokens that the text adds to every attention.
    fn memories(&self) -> u64 {
        self.config.tokens.as_ref().map_or(0, |tokens| tokens.memory.unsigned_abs())
    }

    /// One attention's keys and values of the memory tokens.
    fn memory(&self, inner: u64) -> u64 {
        let width = self.config.tokens.as_ref().map_or(0, |tokens| tokens.dim.unsigned_abs());
        self.shape.b * self.memories() * width * 2 * inner
    }

    /// The tokens pooled into an embedding and into memory tokens, including the null token.
    fn text(&self) -> u64 {
        let Some(tokens) = &self.config.tokens else { return 0 };
        let dim = tokens.dim.unsigned_abs();
        let (heads, d) = self.heads(Axes::Space, dim);
        let inner = heads * d;
        let queries = |count: u64, length: u64, width: u64| {
            self.shape.b * (length * dim * 2 * inner + 2 * count * length * inner)
                + self.shape.b * count * inner * width
        };
        let length = self.shape.tokens;
        let width = self.config.pooled_width().unwrap_or(0).unsigned_abs();
        let pool = if tokens.pool { queries(1, length, width) } else { 0 };
        let memory =
            if self.memories() > 0 { queries(self.memories(), length + 1, dim) } else { 0 };
        pool + memory
    }

    /// Cross-attention to the tokens and the null token.
    fn cross(&self, level: usize, channels: u64) -> u64 {
        let Some(tokens) = &self.config.tokens else { return 0 };
        let (length, dim) = (self.shape.tokens + 1, tokens.dim.unsigned_abs());
        let one = |axes: &Axes| {
            let (heads, d) = self.heads(*axes, channels);
            let inner = heads * d;
            let positions = self.positions(level);
            positions * 2 * inner * (channels + length) + self.shape.b * length * dim * 2 * inner
        };
        tokens.cross.iter().map(one).sum()
    }
}
