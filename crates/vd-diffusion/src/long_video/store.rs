//! The frames that later windows need, and those waiting to be output.

use std::collections::BTreeMap;
use std::ops::Range;

use tch::Tensor;

use super::Window;
use crate::{Error, Result};

/// Final frames, each held until it has been output and no window needs it.
pub(super) struct Store {
    /// Number of the first frame that has not been output.
    out: usize,
    frames: BTreeMap<usize, Tensor>,
    /// Shape of a frame: b c 1 ...
    shape: Option<Vec<i64>>,
    /// For each frame, the number of windows after which it is no longer needed.
    needed: Vec<usize>,
}

impl Store {
    pub(super) fn new(total: usize, windows: &[Window]) -> Self {
        let mut needed = vec![0; total];
        for (index, window) in windows.iter().enumerate() {
            for place in window.known_places() {
                needed[window.frames[place]] = index + 1;
            }
        }
        Store { out: 0, frames: BTreeMap::new(), shape: None, needed }
    }

    /// Stores a copy of a final frame of a clip: a view would keep the whole clip alive.
    pub(super) fn put(&mut self, frame: usize, clip: &Tensor, place: usize) -> Result<()> {
        let tensor = clip.f_narrow(2, place as i64, 1)?.f_detach_copy()?;
        self.insert(frame, tensor)
    }

    /// Stores a view of a final frame that the caller owns.
    pub(super) fn lend(&mut self, frame: usize, video: &Tensor, place: usize) -> Result<()> {
        let tensor = video.f_narrow(2, place as i64, 1)?;
        self.insert(frame, tensor)
    }

    fn insert(&mut self, frame: usize, tensor: Tensor) -> Result<()> {
        let size = tensor.size();
        let shape = self.shape.get_or_insert_with(|| size.clone());
        if *shape != size {
            let expected = format!("{shape:?}, like the frames before it");
            return Err(Error::tensor("frame of a long video", expected, format!("{size:?}")));
        }
        self.frames.insert(frame, tensor);
        Ok(())
    }

    /// The known frames of a window, concatenated; `None` if it has none.
    pub(super) fn known(&self, window: &Window) -> Result<Option<Tensor>> {
        let known: Vec<_> = window
            .known_places()
            .into_iter()
            .filter_map(|place| self.frames.get(&window.frames[place]))
            .collect();
        if known.is_empty() { Ok(None) } else { Ok(Some(Tensor::f_cat(&known, 2)?)) }
    }

    /// The final frames that follow the last output, at most `most`; `None` if the next one is not
    /// final yet.
    pub(super) fn ready(&self, most: usize) -> Result<Option<(Range<usize>, Tensor)>> {
        let run = (self.out..self.out + most).map_while(|frame| self.frames.get(&frame));
        let run: Vec<_> = run.collect();
        if run.is_empty() {
            return Ok(None);
        }
        Ok(Some((self.out..self.out + run.len(), Tensor::f_cat(&run, 2)?)))
    }

    /// Records that all frames before this one have been output.
    pub(super) fn went_out(&mut self, up_to: usize) {
        self.out = up_to;
    }

    /// Drops the frames that have been output and that no window after the first `drawn` needs.
    pub(super) fn forget(&mut self, drawn: usize) {
        let (out, needed) = (self.out, &self.needed);
        self.frames.retain(|frame, _| *frame >= out || needed[*frame] > drawn);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::LongVideoPlan;
    use tch::{Device, Kind};

    /// The largest number of frames in memory between two windows of a plan.
    fn most_held(plan: &LongVideoPlan, total: usize) -> usize {
        let windows = plan.windows(total, &[]).unwrap();
        let mut store = Store::new(total, &windows);
        let clip = Tensor::zeros([1, 1, plan.window() as i64], (Kind::Float, Device::Cpu));
        let mut most = 0;
        for (index, window) in windows.iter().enumerate() {
            let known = store.known(window).unwrap().map_or(0, |known| known.size()[2] as usize);
            assert_eq!(known, window.known_places().len());
            for place in window.kept_places() {
                store.put(window.frames[place], &clip, place).unwrap();
            }
            while let Some((range, _)) = store.ready(3).unwrap() {
                store.went_out(range.end);
            }
            store.forget(index + 1);
            most = most.max(store.frames.len());
        }
        assert_eq!((store.out, store.frames.len()), (total, 0));
        most
    }

    #[test]
    fn memory_holds_what_later_windows_need_and_no_more() {
        for overlap in [1, 3, 7] {
            let plan = LongVideoPlan::Autoregressive { window: 8, overlap };
            // The overlap; if the last window overlaps more, all frames it sees except one.
            assert_eq!(most_held(&plan, 8 + 5 * (8 - overlap)), overlap);
            assert!(most_held(&plan, 9 + 5 * (8 - overlap)) <= 7);
            // A video ten times as long needs no more.
            assert_eq!(most_held(&plan, 8 + 50 * (8 - overlap)), overlap);
        }
        // A hierarchy holds all its keyframes, and those in-between frames that belong to one
        // window.
        let plan = LongVideoPlan::Hierarchical { window: 8, strides: vec![4, 1], overlap: 1 };
        assert!(most_held(&plan, 401) <= 101 + 8);
    }
}
