//! How much memory a batch needs at least, computed from the config.

use anyhow::{Result, bail};
use vd_torch::Autocast;
use vd_unet3d::UNet3dConfig;
use vd_unet3d::flops::Shape;
use vd_unet3d::traffic::{self, Widths};

use crate::output::bytes;

/// Tokens of each text, for networks that attend to them: a sentence.
const TOKENS: u64 = 32;

/// Bytes that the forward pass of one clip (frames, height, width) needs at least: the activations
/// that the largest layer reads and writes. Skips and working memory of kernels come on top.
pub(crate) fn least_forward(config: &UNet3dConfig, shape: [i64; 3], autocast: Autocast) -> u64 {
    let [f, h, w] = shape.map(i64::unsigned_abs);
    let layers = traffic::layers(config, Shape { b: 1, f, h, w, tokens: TOKENS });
    let width = match autocast {
        Autocast::Off => Widths::F32,
        _ => Widths::HALF,
    };
    let numbers = layers.iter().map(|layer| layer.inputs + layer.residual + layer.outputs);
    width.computed * numbers.max().unwrap_or(0)
}

/// Refuses a batch that cannot fit: `each` bytes for each clip, `free` bytes in all.
pub(crate) fn check_batch(batch: usize, each: u64, free: u64) -> Result<()> {
    let needed = each.saturating_mul(batch as u64);
    if needed <= free {
        return Ok(());
    }
    let most = match free / each.max(1) {
        0 => "not even 1 fits: use fewer frames or a smaller size".to_owned(),
        n => format!("at most {n} fit: give --batch {n} or less"),
    };
    bail!(
        "a batch of {batch} clips needs at least {}, {} are free; {most}",
        bytes(needed),
        bytes(free)
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_batch_that_cannot_fit_is_refused_with_the_largest_that_may() {
        check_batch(8, 1_000_000, 8_000_000).unwrap();
        let message = check_batch(9, 1_000_000, 8_000_000).unwrap_err().to_string();
        assert!(message.contains("9.0 MB, 8.0 MB are free; at most 8 fit"), "{message}");
        let message = check_batch(1, 9, 8).unwrap_err().to_string();
        assert!(message.contains("not even 1 fits"), "{message}");
        assert!(check_batch(usize::MAX, u64::MAX, 8).is_err());
    }

    #[test]
    fn the_least_memory_grows_with_the_pixels() {
        let config = vd_unet3d::Preset::ALL[0].config();
        let small = least_forward(&config, [4, 16, 16], Autocast::Off);
        assert!(small >= 4 * 2 * 4 * 16 * 16 * config.dim.unsigned_abs());
        assert!(least_forward(&config, [8, 32, 32], Autocast::Off) >= 8 * small);
        assert_eq!(2 * least_forward(&config, [4, 16, 16], Autocast::Bf16), small);
    }
}
