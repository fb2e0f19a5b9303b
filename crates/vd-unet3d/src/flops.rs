//! The arithmetic of one forward pass, counted from the config.

use crate::{Axes, SPATIAL_HEAD_DIM, UNet3dConfig};

/// Features of each head of the attentions over space.
const HEAD_DIM: u64 = SPATIAL_HEAD_DIM as u64;

/// What passes through the network.
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
    /// Tokens of each text, for networks that look at them.
    pub tokens: u64,
}

/// Floating-point operations of one forward pass: two for each multiply-add of convolutions,
/// projections and attention. Norms, activations, softmax and sums are left out, and so is what
/// signals add to the embedding of time; videos that they show are inputs of the first convolution,
/// whether given or not.
pub fn forward(config: &UNet3dConfig, shape: Shape) -> u64 {
    let count = Count { config, shape };
    let n = |n: i64| n.unsigned_abs();
    let (dim, first) = (n(config.dim), n(config.first_channels()));
    let levels: Vec<u64> = config.dim_mults.iter().map(|mult| dim * n(*mult)).collect();
    let last = levels.len().saturating_sub(1);
    let kernel = n(config.init_kernel_size);
    let mut macs = shape.b * (dim * 4 * dim + 16 * dim * dim);
    let inputs = n(config.channels) + n(config.extra_channels());
    macs += count.positions(0) * kernel * kernel * inputs * first;
    macs += count.text();
    macs += count.over_time(0, first);
    let mut before = first;
    for (i, &after) in levels.iter().enumerate() {
        macs += count.level(i, before, after);
        // the way up: the skip comes beside, and the level gives what its way down was given
        macs += count.level(i, 2 * after, before);
        if i < last {
            // four taps of two axes at half the positions; transposed, at those of the input
            macs += count.positions(i + 1) * 16 * after * after;
        }
        if i > 0 {
            macs += count.positions(i) * 16 * before * before;
        }
        before = after;
    }
    macs += 2 * count.block(last, before, before, true);
    macs += count.over_space(last, before) + count.over_time(last, before);
    macs += count.cross(last, before);
    macs += count.block(0, 2 * first, dim, false);
    macs += count.positions(0) * dim * n(config.out_channels());
    2 * macs
}

/// The same of clips of `shape` with `images` independent images behind each
/// ([`FrameMask::ClipAndImages`](crate::FrameMask::ClipAndImages)): as many clips of one frame. Left
/// out is that the embedding has a row for each frame of a clip where anything is told per frame.
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

    /// Two residual blocks, attention over space if there is one, attention over time.
    fn level(&self, level: usize, inputs: u64, outputs: u64) -> u64 {
        let linear = if self.config.use_sparse_linear_attn {
            self.linear_over_space(level, outputs)
        } else {
            0
        };
        self.block(level, inputs, outputs, true)
            + self.block(level, outputs, outputs, true)
            + linear
            + self.over_time(level, outputs)
            + self.cross(level, outputs)
    }

    fn block(&self, level: usize, inputs: u64, outputs: u64, embedded: bool) -> u64 {
        let width = self.config.dim * 4 + self.config.pooled_width().unwrap_or(0);
        let film = if embedded { self.shape.b * width.unsigned_abs() * 2 * outputs } else { 0 };
        let skip = if inputs == outputs { 0 } else { inputs * outputs };
        let convolutions = 9 * inputs * outputs + 9 * outputs * outputs;
        film + self.positions(level) * (convolutions + skip)
    }

    /// Queries, keys, values and the way out.
    fn projections(&self, level: usize, channels: u64, head_dim: u64) -> u64 {
        self.positions(level) * 4 * self.heads() * head_dim * channels
    }

    fn over_time(&self, level: usize, channels: u64) -> u64 {
        let d = self.config.attn_dim_head.unsigned_abs();
        let pairs = self.positions(level) * self.shape.f;
        let recalled =
            self.memory(d) + 2 * self.positions(level) * self.memories() * self.heads() * d;
        self.projections(level, channels, d) + 2 * pairs * self.heads() * d + recalled
    }

    fn over_space(&self, level: usize, channels: u64) -> u64 {
        let pairs = self.positions(level) * self.pixels(level);
        let d = HEAD_DIM;
        let recalled =
            self.memory(d) + 2 * self.positions(level) * self.memories() * self.heads() * d;
        self.projections(level, channels, d) + 2 * pairs * self.heads() * d + recalled
    }

    fn linear_over_space(&self, level: usize, channels: u64) -> u64 {
        let d = HEAD_DIM;
        let frames = self.shape.b * self.shape.f;
        let recalled = self.memory(d) + frames * self.memories() * self.heads() * d * d;
        let own = 2 * self.positions(level) * self.heads() * d * d;
        self.projections(level, channels, d) + own + recalled
    }

    /// Keys and values that the text becomes in every attention.
    fn memories(&self) -> u64 {
        self.config.tokens.as_ref().map_or(0, |tokens| tokens.memory.unsigned_abs())
    }

    /// One attention's keys and values of the memory tokens.
    fn memory(&self, head_dim: u64) -> u64 {
        let width = self.config.tokens.as_ref().map_or(0, |tokens| tokens.dim.unsigned_abs());
        self.shape.b * self.memories() * width * 2 * self.heads() * head_dim
    }

    /// The tokens pooled into an embedding and into memory tokens, the null token among the latter.
    fn text(&self) -> u64 {
        let Some(tokens) = &self.config.tokens else { return 0 };
        let (dim, inner) = (tokens.dim.unsigned_abs(), self.heads() * HEAD_DIM);
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

    /// Attention over the tokens and the null token.
    fn cross(&self, level: usize, channels: u64) -> u64 {
        let Some(tokens) = &self.config.tokens else { return 0 };
        let (length, dim) = (self.shape.tokens + 1, tokens.dim.unsigned_abs());
        let one = |axes: &Axes| {
            let d = match axes {
                Axes::Space => HEAD_DIM,
                Axes::Time => self.config.attn_dim_head.unsigned_abs(),
            };
            let inner = self.heads() * d;
            let positions = self.positions(level);
            positions * 2 * inner * (channels + length) + self.shape.b * length * dim * 2 * inner
        };
        tokens.cross.iter().map(one).sum()
    }

    fn heads(&self) -> u64 {
        self.config.attn_heads.unsigned_abs()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{SignalConfig, TokensConfig};

    #[test]
    fn counts_are_those_of_pytorchs_own_counter_on_the_python_network() {
        // torch.utils.flop_counter.FlopCounterMode around video-diffusion-pytorch 0.7.0
        let base = || UNet3dConfig { dim: 8, dim_mults: vec![1, 2, 4], ..Default::default() };
        let odd = UNet3dConfig {
            dim_mults: vec![2, 3],
            cond_dim: Some(5),
            attn_heads: 3,
            attn_dim_head: 20,
            init_kernel_size: 5,
            channels: 1,
            out_dim: Some(2),
            ..base()
        };
        let flat =
            UNet3dConfig { dim: 12, dim_mults: vec![1], use_sparse_linear_attn: false, ..base() };
        let shape = Shape { b: 2, f: 3, h: 16, w: 24, tokens: 9 };
        assert_eq!(forward(&base(), shape), 603_087_872);
        assert_eq!(forward(&odd, shape), 361_683_840);
        assert_eq!(forward(&flat, Shape { b: 1, f: 5, h: 8, w: 8, tokens: 0 }), 81_657_984);
    }

    #[test]
    fn images_behind_a_clip_cost_as_much_as_they_are_many() {
        let tokens = TokensConfig { dim: 7, cross: vec![Axes::Space], memory: 3, pool: true };
        for config in [
            UNet3dConfig { dim: 8, dim_mults: vec![1, 2, 4], ..Default::default() },
            UNet3dConfig { tokens: Some(tokens), ..Default::default() },
        ] {
            let shape = Shape { b: 2, f: 16, h: 32, w: 24, tokens: 9 };
            let cost = |images| joint(&config, shape, images);
            assert_eq!(cost(0), forward(&config, shape));
            let one = cost(1) - cost(0);
            for images in [2, 4, 8, 64] {
                assert_eq!(cost(images) - cost(0), images * one);
            }
            // Less than as many frames more of the clip, for images look at no other.
            let longer = forward(&config, Shape { f: 24, ..shape });
            assert!(cost(8) < longer, "{} {longer}", cost(8));
        }
    }

    /// One level of 8 channels, 2 heads of 4 over time and of 32 over space, 6 positions of 5
    /// frames of 2 samples; 3 tokens of width 7.
    #[test]
    fn a_text_adds_what_its_products_take() {
        let plain = || UNet3dConfig {
            dim: 8,
            dim_mults: vec![1],
            attn_heads: 2,
            attn_dim_head: 4,
            ..UNet3dConfig::default()
        };
        let shape = Shape { b: 2, f: 5, h: 2, w: 3, tokens: 3 };
        let more = |cross: Vec<Axes>, memory, pool| {
            let tokens = Some(TokensConfig { dim: 7, cross, memory, pool });
            forward(&UNet3dConfig { tokens, ..plain() }, shape) - forward(&plain(), shape)
        };
        let product = |rows: u64, inner: u64, columns: u64| 2 * rows * inner * columns;
        let (positions, seen) = (2 * 5 * 6, 4);
        // Queries and the way out, keys and values of the tokens, scores and sums; down, up, middle.
        let cross = |inner: u64| {
            product(positions, 8, inner)
                + product(positions, inner, 8)
                + product(2 * seen, 7, 2 * inner)
                + 2 * product(positions, inner, seen)
        };
        assert_eq!(more(vec![Axes::Space], 0, false), 3 * cross(64));
        assert_eq!(more(vec![Axes::Time], 0, false), 3 * cross(8));
        // The embedding of the tokens, 7 more inputs of the scales and shifts of six blocks.
        let queries = |count: u64, length: u64, inner: u64| {
            product(2 * length, 7, 2 * inner)
                + 2 * product(2 * count, inner, length)
                + product(2 * count, inner, 7)
        };
        let film = 6 * product(2, 7, 16);
        assert_eq!(more(vec![], 0, true), queries(1, 3, 64) + film);
        // Five memory tokens: four attentions over time, one over space, two linear ones.
        let heads = |inner: u64| product(2 * 5, 7, 2 * inner);
        let time = 4 * (heads(8) + 2 * product(positions, 8, 5));
        let space = heads(64) + 2 * product(positions, 64, 5);
        let linear = 2 * (heads(64) + product(2 * 5, 5, 2 * 32 * 32));
        assert_eq!(more(vec![], 5, false), queries(5, seen, 64) + time + space + linear);
        let signals = [("low".to_owned(), SignalConfig::Video { channels: 2 })].into();
        let shown = forward(&UNet3dConfig { signals, ..plain() }, shape);
        assert_eq!(shown - forward(&plain(), shape), product(positions, 49 * 3, 8));
    }
}
