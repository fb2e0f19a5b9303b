//! The windows of a long video, and their order.

use serde::{Deserialize, Serialize};

use super::Window;
use super::window::Level;
use crate::{Error, Result};

/// How to generate a video of any length with a network for clips of `window` frames.
///
/// Every window except the first sees frames that are already final, and continues them or fills
/// the gaps between them. Frames anywhere in the video may be given from the start: a clip to
/// continue, or keyframes to interpolate. A video shorter than one window is cut out of one.
///
/// # Reference
/// Ho et al. 2022, section 3.1, arXiv:2204.03458 (extension in time, keyframes and in-betweens).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum LongVideoPlan {
    /// Each window continues from at least the last `overlap` frames; the last window ends with the
    /// video, and overlaps more.
    Autoregressive {
        /// Frames of the network's clips.
        window: usize,
        /// Known frames at the start of a window, from 1 to `window` - 1.
        overlap: usize,
    },
    /// Windows start at 0, `step`, 2 `step`, ..., whichever frames are given. Without given frames
    /// this is the autoregressive plan with an overlap of `window` - `step`.
    Sliding {
        /// Frames of the network's clips.
        window: usize,
        /// Frames between the starts of consecutive windows, from 1 to `window` - 1.
        step: usize,
    },
    /// Keyframes `strides[0]` apart, then the frames between them `strides[1]` apart, and so on
    /// down to all frames.
    ///
    /// Each level is filled from the first frame to the last; its windows begin with known frames
    /// and end with a known one. The network sees frame rates other than that of the video, so it
    /// should have been trained on them.
    Hierarchical {
        /// Frames of the network's clips.
        window: usize,
        /// Distances between frames, level by level; each divides the previous one, the last is 1.
        /// Consecutive ones differ by a factor of at most `window` - `overlap`, so that a window
        /// sees the keyframes on both sides.
        strides: Vec<usize>,
        /// Known frames at the start of a window, from 1 to `window` - 1.
        overlap: usize,
    },
}

impl LongVideoPlan {
    /// Frames of the network's clips.
    pub fn window(&self) -> usize {
        match *self {
            LongVideoPlan::Autoregressive { window, .. }
            | LongVideoPlan::Sliding { window, .. }
            | LongVideoPlan::Hierarchical { window, .. } => window,
        }
    }

    /// The windows of a video of `total` frames, in the order of generation.
    ///
    /// The frames `given` are already final; each of the others is kept from exactly one window.
    ///
    /// # Errors
    /// Plan settings out of range; no frames; given frames that do not rise or lie past the end.
    pub fn windows(&self, total: usize, given: &[usize]) -> Result<Vec<Window>> {
        self.validate()?;
        let mut known = known(total, given)?;
        let window = self.window();
        let mut windows = Vec::new();
        match self {
            LongVideoPlan::Autoregressive { overlap, .. } => {
                let start = |unknown: usize| unknown.saturating_sub(*overlap);
                Level { stride: 1, window }.fill(&mut known, &start, &mut windows);
            }
            LongVideoPlan::Sliding { step, .. } => {
                let start =
                    |unknown: usize| (unknown + 1).saturating_sub(window).div_ceil(*step) * step;
                Level { stride: 1, window }.fill(&mut known, &start, &mut windows);
            }
            LongVideoPlan::Hierarchical { strides, overlap, .. } => {
                let start = |unknown: usize| unknown.saturating_sub(*overlap);
                for stride in strides {
                    Level { stride: *stride, window }.fill(&mut known, &start, &mut windows);
                }
            }
        }
        Ok(windows)
    }

    /// Refuses settings out of range.
    ///
    /// # Errors
    /// Names the setting, its allowed values and its value.
    pub fn validate(&self) -> Result<()> {
        let window = self.window();
        if window < 2 {
            let expected = "at least 2 frames, one to continue from and one to draw";
            return Err(Error::value("long video: window", expected, window));
        }
        let inside = |what: &str, value: usize| match value {
            n if (1..window).contains(&n) => Ok(()),
            _ => {
                let expected = format!("from 1 to {}, one less than the window", window - 1);
                Err(Error::value(format!("long video: {what}"), expected, value))
            }
        };
        match self {
            LongVideoPlan::Autoregressive { overlap, .. } => inside("overlap", *overlap),
            LongVideoPlan::Sliding { step, .. } => inside("step", *step),
            LongVideoPlan::Hierarchical { strides, overlap, .. } => {
                inside("overlap", *overlap)?;
                check_strides(strides, window - overlap)
            }
        }
    }
}

fn check_strides(strides: &[usize], most: usize) -> Result<()> {
    let refuse = |expected: String| {
        Err(Error::value("long video: strides", expected, format!("{strides:?}")))
    };
    if strides.last() != Some(&1) {
        return refuse("distances between frames that end with 1, such as [4, 1]".to_owned());
    }
    for pair in strides.windows(2) {
        let (coarse, fine) = (pair[0], pair[1]);
        if fine == 0 || coarse <= fine || coarse % fine != 0 {
            return refuse("decreasing distances, each of which divides the one before".to_owned());
        }
        if coarse / fine > most {
            return refuse(format!(
                "at most a factor of {most} (window - overlap) from one to the next: add levels \
                 in between"
            ));
        }
    }
    Ok(())
}

/// Marks the frames that are final from the start.
fn known(total: usize, given: &[usize]) -> Result<Vec<bool>> {
    if total == 0 {
        return Err(Error::value("long video: frames", "at least 1", total));
    }
    if let Some(pair) = given.windows(2).find(|pair| pair[0] >= pair[1]) {
        let got = format!("{} after {}", pair[1], pair[0]);
        return Err(Error::value(
            "long video: given frames",
            "increasing positions, each once",
            got,
        ));
    }
    let mut known = vec![false; total];
    for frame in given {
        match known.get_mut(*frame) {
            Some(known) => *known = true,
            None => {
                let expected = format!("positions from 0 to {}", total - 1);
                return Err(Error::value("long video: given frames", expected, frame));
            }
        }
    }
    Ok(known)
}
