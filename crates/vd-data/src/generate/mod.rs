//! Endless sources of clips drawn by the program, each clip a function of the seed and its index.

mod burst;
mod canvas;
mod digits;
mod fireworks;
mod strokes;

use std::fmt::Debug;

pub use digits::DigitsConfig;
pub use fireworks::FireworksConfig;

use crate::{Clip, Result};

/// An endless sequence of clips with captions.
pub trait Generator: Debug + Send + Sync {
    /// Clip number `index` of the sequence for `seed`; always the same bytes.
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

    /// Only frame `frame` of that clip, with the clip's caption: an image beside another clip.
    /// Images come from the clips from number 2^40 on. The default implementation draws the whole
    /// clip.
    ///
    /// # Shapes
    /// As [`Generator::clip`], `frame` below `frames` -> 1 h w c
    /// # Errors
    /// As [`Generator::clip`].
    fn frame(
        &self,
        seed: u64,
        index: u64,
        (frame, frames): (usize, usize),
        size: [usize; 2],
        channels: usize,
    ) -> Result<(Clip, String)> {
        let (clip, caption) = self.clip(seed, index, frames, size, channels)?;
        Ok((clip.pick(&[frame]), caption))
    }
}
