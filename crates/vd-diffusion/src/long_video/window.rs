//! One call of a network: the frames of the long video that it sees, and those that it generates.

/// One clip of a plan: the frames of the long video that are generated together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Window {
    /// Positions in the long video, rising, `frame_skip` apart; as many as the plan's window.
    ///
    /// They extend past the end of a video that is shorter than one window.
    pub frames: Vec<usize>,
    /// The frames that are final before this window is generated: its conditioning.
    pub known: Vec<bool>,
    /// The frames that become final with this window.
    ///
    /// A frame that is neither known nor kept only completes the clip: it lies past the end of the
    /// video, or before known frames that this window does not see but another one does.
    pub kept: Vec<bool>,
    /// Distance between consecutive frames, in frames of the video.
    pub frame_skip: usize,
}

impl Window {
    /// Number of frames.
    pub fn len(&self) -> usize {
        self.frames.len()
    }

    /// Whether it has no frames; never true for a window of a plan.
    pub fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// Positions of the known frames within the window, from 0.
    pub fn known_places(&self) -> Vec<usize> {
        places(&self.known)
    }

    /// Positions within the window of the frames that become final with it, from 0.
    pub fn kept_places(&self) -> Vec<usize> {
        places(&self.kept)
    }
}

fn places(flags: &[bool]) -> Vec<usize> {
    flags.iter().enumerate().filter_map(|(place, flag)| flag.then_some(place)).collect()
}

/// The frames 0, stride, 2 stride, ... of a video, finalised from the first to the last.
///
/// Positions within it are in units of the stride.
pub(super) struct Level {
    pub(super) stride: usize,
    /// Frames per window.
    pub(super) window: usize,
}

impl Level {
    /// The windows after which every frame of the level is `known`.
    ///
    /// `start` gives the position at which a window begins that has to generate a given first
    /// unknown position. It begins earlier if it can then end at a known frame, or at the end of
    /// the video.
    pub(super) fn fill(
        &self,
        known: &mut [bool],
        start: &dyn Fn(usize) -> usize,
        windows: &mut Vec<Window>,
    ) {
        let mut places: Vec<bool> = known.iter().step_by(self.stride).copied().collect();
        let farthest = places.iter().rposition(|known| *known);
        let mut next = 0;
        while let Some(skipped) = places.iter().skip(next).position(|known| !known) {
            let unknown = next + skipped;
            let window = self.window(&places, unknown, start(unknown), farthest);
            for place in window.kept_places() {
                let frame = window.frames[place];
                places[frame / self.stride] = true;
                known[frame] = true;
            }
            windows.push(window);
            next = unknown;
        }
    }

    /// The window that generates the first unknown position; `farthest` is the last known one.
    fn window(
        &self,
        places: &[bool],
        unknown: usize,
        start: usize,
        farthest: Option<usize>,
    ) -> Window {
        let end = (start + self.window).min(places.len());
        // Frames generated before known frames have to see the next known one, or they would not
        // join up with it. A gap wider than a window is filled from the left until its far side is
        // within a window.
        let sighted = (unknown..end).rev().find(|place| places[*place]);
        let end = match sighted {
            Some(last) if farthest.is_some_and(|farthest| farthest >= end) => last + 1,
            _ => end,
        };
        let spots = end.saturating_sub(self.window)..end.max(self.window);
        let known: Vec<bool> =
            spots.clone().map(|place| places.get(place).copied().unwrap_or(false)).collect();
        let kept = spots.clone().zip(&known).map(|(place, known)| place < end && !known);
        Window {
            kept: kept.collect(),
            known,
            frames: spots.map(|place| place * self.stride).collect(),
            frame_skip: self.stride,
        }
    }
}
