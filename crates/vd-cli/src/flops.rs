//! The arithmetic of one forward pass, counted from the config.

use vd_unet3d::{SPATIAL_HEAD_DIM, UNet3dConfig};

/// Features of each head of the attentions over space.
const HEAD_DIM: u64 = SPATIAL_HEAD_DIM as u64;

/// What passes through the network.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shape {
    pub(crate) b: u64,
    pub(crate) f: u64,
    pub(crate) h: u64,
    pub(crate) w: u64,
}

/// Floating-point operations of one forward pass: two for each multiply-add of convolutions,
/// projections and attention. Norms, activations, softmax and sums are left out.
pub(crate) fn forward(config: &UNet3dConfig, shape: Shape) -> u64 {
    let count = Count { config, shape };
    let n = |n: i64| n.unsigned_abs();
    let (dim, first) = (n(config.dim), n(config.first_channels()));
    let levels: Vec<u64> = config.dim_mults.iter().map(|mult| dim * n(*mult)).collect();
    let last = levels.len().saturating_sub(1);
    let kernel = n(config.init_kernel_size);
    let mut macs = shape.b * (dim * 4 * dim + 16 * dim * dim);
    macs += count.positions(0) * kernel * kernel * n(config.channels) * first;
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
    macs += count.block(0, 2 * first, dim, false);
    macs += count.positions(0) * dim * n(config.out_channels());
    2 * macs
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
    }

    fn block(&self, level: usize, inputs: u64, outputs: u64, embedded: bool) -> u64 {
        let width = self.config.dim * 4 + self.config.cond_dim.unwrap_or(0);
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
        self.projections(level, channels, d) + 2 * pairs * self.heads() * d
    }

    fn over_space(&self, level: usize, channels: u64) -> u64 {
        let pairs = self.positions(level) * self.pixels(level);
        self.projections(level, channels, HEAD_DIM) + 2 * pairs * self.heads() * HEAD_DIM
    }

    fn linear_over_space(&self, level: usize, channels: u64) -> u64 {
        let d = HEAD_DIM;
        self.projections(level, channels, d) + 2 * self.positions(level) * self.heads() * d * d
    }

    fn heads(&self) -> u64 {
        self.config.attn_heads.unsigned_abs()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        let shape = Shape { b: 2, f: 3, h: 16, w: 24 };
        assert_eq!(forward(&base(), shape), 603_087_872);
        assert_eq!(forward(&odd, shape), 361_683_840);
        assert_eq!(forward(&flat, Shape { b: 1, f: 5, h: 8, w: 8 }), 81_657_984);
    }
}
