//! Clips drawn by the program, without end, each a function of the seed and its number.

mod burst;
mod canvas;
mod digits;
mod fireworks;

use std::fmt::Debug;

pub use digits::DigitsConfig;
pub use fireworks::FireworksConfig;

use crate::{Clip, Result};

/// An endless row of clips with captions.
pub trait Generator: Debug + Send + Sync {
    /// Clip number `index` of the row that `seed` names: the same, byte for byte, whenever it is asked for.
    ///
    /// # Shapes
    /// `frames`, `size` = [height, width] and `channels` (1 or 3) become f h w c
    /// # Errors
    /// When the config or the shape is outside its range.
    fn clip(
        &self,
        seed: u64,
        index: u64,
        frames: usize,
        size: [usize; 2],
        channels: usize,
    ) -> Result<(Clip, String)>;
}
