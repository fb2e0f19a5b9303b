//! How much memory a batch needs at least, computed from the config.

use anyhow::{Result, bail};
use vd_torch::Autocast;
use vd_unet3d::UNet3dConfig;
use vd_unet3d::flops::Shape;
use vd_unet3d::traffic::{self, Sort, Widths};

use crate::output::bytes;

/// Bytes that the forward pass of one clip (frames, height, width) needs at least: the activations
/// that the largest layer reads and writes. Skips and working memory of kernels come on top: a
/// forward on a CPU was measured to take about twice as much.
pub(crate) fn least_forward(config: &UNet3dConfig, shape: [i64; 3], autocast: Autocast) -> u64 {
    // Counted at the smallest frame, for counts at the largest overflow. Everything but the
    // embedding and the tokens of texts, which are left out, grows with the number of pixels.
    let side = config.spatial_multiple().unsigned_abs();
    let smallest = Shape { b: 1, f: 1, h: side, w: side, tokens: 0 };
    let width = match autocast {
        Autocast::Off => Widths::F32,
        _ => Widths::HALF,
    };
    let numbers = traffic::layers(config, smallest)
        .iter()
        .filter(|layer| layer.sort != Sort::Embedding)
        .map(|layer| layer.inputs + layer.residual + layer.outputs)
        .max();
    let [f, h, w] = shape.map(i64::unsigned_abs);
    let frames = f.saturating_mul(h / side).saturating_mul(w / side);
    (width.computed * numbers.unwrap_or(0)).saturating_mul(frames)
}

/// Refuses a batch that cannot fit: `each` bytes for each clip, `free` bytes in all.
pub(crate) fn check_batch(batch: usize, each: u64, free: u64) -> Result<()> {
    let needed = each.saturating_mul(batch as u64);
    if needed <= free {
        return Ok(());
    }
    match free / each.max(1) {
        0 => bail!(
            "one clip needs at least {}, {} are free; use fewer frames or a smaller size",
            bytes(each),
            bytes(free)
        ),
        most => bail!(
            "a batch of {batch} clips needs at least {}, {} are free; at most {most} fit: give a \
             --batch well below that",
            bytes(needed),
            bytes(free)
        ),
    }
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
        assert!(message.contains("one clip needs at least"), "{message}");
        assert!(check_batch(usize::MAX, u64::MAX, 8).is_err());
    }

    #[test]
    fn the_least_memory_is_that_of_the_largest_layer() {
        for preset in vd_unet3d::Preset::ALL {
            let config = preset.config();
            let shape = Shape { b: 1, f: 8, h: 64, w: 128, tokens: 0 };
            let layers = traffic::layers(&config, shape);
            let layers = layers.iter().filter(|layer| layer.sort != Sort::Embedding);
            let largest = layers.map(|layer| layer.inputs + layer.residual + layer.outputs).max();
            let least = |autocast| least_forward(&config, [8, 64, 128], autocast);
            let (least_of, largest) = (least(Autocast::Off) as f64, 4.0 * largest.unwrap() as f64);
            // What does not grow with the pixels is counted with each of them.
            assert!((least_of / largest - 1.0).abs() < 0.01, "{}", preset.name());
            assert_eq!(2 * least(Autocast::Bf16), least(Autocast::Off));
            // The largest clip that a command line may ask for.
            assert!(least_forward(&config, [65_536, 16_384, 16_384], Autocast::Off) > 1 << 40);
        }
    }
}
