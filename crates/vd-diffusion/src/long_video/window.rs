//! One call of a network: which frames of the long video it sees, and which it draws.

/// One clip of a plan: the frames of the long video that are drawn together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Window {
    /// Places in the long video, rising, `frame_skip` apart, as many as the plan's window.
    ///
    /// They go past the end of a video that is shorter than one window.
    pub frames: Vec<usize>,
    /// Which of them are final before this window is drawn: what it is conditioned on.
    pub known: Vec<bool>,
    /// Which of them become final with it.
    ///
    /// A frame that is neither known nor kept is drawn for the company of the others alone: it lies
    /// past the end of the video, or before known frames that this window does not see and another
    /// one does.
    pub kept: Vec<bool>,
    /// Places from one frame to the next.
    pub frame_skip: usize,
}

impl Window {
    /// Number of frames.
    pub fn len(&self) -> usize {
        self.frames.len()
    }

    /// Whether it has no frames, which no window of a plan is.
    pub fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// Where in the window the known frames are, from 0.
    pub fn known_places(&self) -> Vec<usize> {
        places(&self.known)
    }

    /// Where in the window those frames are that become final with it, from 0.
    pub fn kept_places(&self) -> Vec<usize> {
        places(&self.kept)
    }
}

fn places(flags: &[bool]) -> Vec<usize> {
    flags.iter().enumerate().filter_map(|(place, flag)| flag.then_some(place)).collect()
}

/// The frames 0, stride, 2 stride, ... of a video, which are made final from the first to the last.
///
/// Places on it are counted in strides.
pub(super) struct Level {
    pub(super) stride: usize,
    /// Frames of a window.
    pub(super) window: usize,
}

impl Level {
    /// The windows after which every frame of the level is `known`.
    ///
    /// `start` is the place where a window begins that has to draw the first unknown place. It
    /// begins earlier where that lets it end at a known frame, or at the end of the video.
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

    /// The window that draws the first unknown place; `farthest` is the last known one.
    fn window(
        &self,
        places: &[bool],
        unknown: usize,
        start: usize,
        farthest: Option<usize>,
    ) -> Window {
        let end = (start + self.window).min(places.len());
        // What is drawn before known frames has to see the next one, or it would not meet it. A
        // gap wider than a window is filled from the left until its far side comes into sight.
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
