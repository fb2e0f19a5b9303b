//! Which windows a long video is drawn in, and in which order.

use serde::{Deserialize, Serialize};

use super::Window;
use super::window::Level;
use crate::{Error, Result};

/// How a video of any length is drawn by a network of clips of `window` frames.
///
/// Every window but the first sees frames that are final already, and goes on from them or fills
/// what is between them. Frames may be given from the start, anywhere: a clip to go on from,
/// keyframes to draw between. A video shorter than one window is cut out of one.
///
/// # Reference
/// Ho et al. 2022, section 3.1, arXiv:2204.03458 (extension in time, keyframes and in-betweens).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum LongVideoPlan {
    /// Each window goes on from at least the last `overlap` frames; the last one ends with the
    /// video, and overlaps more.
    Autoregressive {
        /// Frames of the network's clips.
        window: usize,
        /// Known frames that a window begins with, from 1 to `window` - 1.
        overlap: usize,
    },
    /// Windows stand at 0, `step`, 2 `step`, ..., whatever is given: without given frames, the
    /// autoregressive plan with an overlap of `window` - `step`.
    Sliding {
        /// Frames of the network's clips.
        window: usize,
        /// Frames from one window to the next, from 1 to `window` - 1.
        step: usize,
    },
    /// Keyframes `strides[0]` apart, then the frames `strides[1]` apart between them, and so on
    /// down to all frames.
    ///
    /// Each level is filled from the first frame to the last; its windows begin with known frames
    /// and end with a known one. The network sees frames of other rates than that of the video, so
    /// it should have been trained on them.
    Hierarchical {
        /// Frames of the network's clips.
        window: usize,
        /// Distances of frames level by level; each divides the one before, the last is 1. Two
        /// neighbours differ by a factor of at most `window` - `overlap`, so that a window sees
        /// the keyframes on both sides.
        strides: Vec<usize>,
        /// Known frames that a window begins with, from 1 to `window` - 1.
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

    /// The windows of a video of `total` frames, in the order in which they are drawn.
    ///
    /// `given` are the frames that are final already; each of the others is kept from exactly one
    /// window.
    ///
    /// # Errors
    /// A plan out of its ranges; no frames; given frames that do not rise or lie past the end.
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

    /// Refuses settings out of their range.
    ///
    /// # Errors
    /// The setting, what it may be and what it is.
    pub fn validate(&self) -> Result<()> {
        let window = self.window();
        if window < 2 {
            let expected = "at least 2 frames, one to go on from and one to draw";
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
        return refuse("distances of frames that end with 1, such as [4, 1]".to_owned());
    }
    for pair in strides.windows(2) {
        let (coarse, fine) = (pair[0], pair[1]);
        if fine == 0 || coarse <= fine || coarse % fine != 0 {
            return refuse("falling distances, each of which divides the one before".to_owned());
        }
        if coarse / fine > most {
            return refuse(format!(
                "at most a factor of {most} (window - overlap) from one to the next: put levels \
                 between"
            ));
        }
    }
    Ok(())
}

/// Which frames are final from the start.
fn known(total: usize, given: &[usize]) -> Result<Vec<bool>> {
    if total == 0 {
        return Err(Error::value("long video: frames", "at least 1", total));
    }
    if let Some(pair) = given.windows(2).find(|pair| pair[0] >= pair[1]) {
        let got = format!("{} after {}", pair[1], pair[0]);
        return Err(Error::value("long video: given frames", "rising places, each once", got));
    }
    let mut known = vec![false; total];
    for frame in given {
        match known.get_mut(*frame) {
            Some(known) => *known = true,
            None => {
                let expected = format!("places from 0 to {}", total - 1);
                return Err(Error::value("long video: given frames", expected, frame));
            }
        }
    }
    Ok(known)
}
