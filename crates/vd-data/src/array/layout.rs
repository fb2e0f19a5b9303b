//! How the numbers of a clip are laid out in its array.

use super::axes::Axes;
use crate::decode::MAX_SIDE;

/// The maximum number of channels of an array.
pub(crate) const MAX_CHANNELS: usize = 4096;
/// The maximum number of clips in one array.
const MAX_CLIPS: u64 = 1 << 24;

/// Extents and strides, in numbers, of the axes of clips.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Layout {
    /// f h w c
    pub(super) extent: [usize; 4],
    /// f h w c
    pub(super) stride: [u64; 4],
    pub(super) clips: u64,
    /// The distance from one clip to the next.
    pub(super) clip_stride: u64,
}

impl Layout {
    /// Reads a shape by its axes.
    ///
    /// # Errors
    /// What was expected and what was found; also for a shape that exceeds the limits.
    pub(super) fn new(
        shape: &[u64],
        axes: Option<&Axes>,
        fortran: bool,
    ) -> Result<Self, (String, String)> {
        let found = || format!("shape {shape:?}");
        let guessed = Axes::of_rank(shape.len());
        let axes = axes.or(guessed.as_ref()).ok_or_else(|| {
            let expected = "3 axes (taken as fhw) or 4 (taken as fhwc); for others, data.axes says \
                            which is which";
            (expected.to_owned(), found())
        })?;
        if axes.rank() != shape.len() {
            return Err((format!("{} axes, {axes} (data.axes)", axes.rank()), found()));
        }
        let strides = strides(shape, fortran)
            .ok_or_else(|| ("a shape of countable size, without zeros".to_owned(), found()))?;
        let of = |letter: u8| match axes.place(letter) {
            Some(place) => (shape[place], strides[place]),
            None => (1, 0),
        };
        let (clips, clip_stride) = of(b'n');
        let limits = [
            ("clips", clips, MAX_CLIPS),
            ("frames", of(b'f').0, 1 << 40),
            ("rows", of(b'h').0, u64::from(MAX_SIDE)),
            ("columns", of(b'w').0, u64::from(MAX_SIDE)),
            ("channels", of(b'c').0, MAX_CHANNELS as u64),
        ];
        if let Some((what, _, most)) = limits.iter().find(|(_, n, most)| n > most) {
            return Err((format!("at most {most} {what} ({axes})"), found()));
        }
        let extent = [b'f', b'h', b'w', b'c'].map(|letter| of(letter).0 as usize);
        let stride = [b'f', b'h', b'w', b'c'].map(|letter| of(letter).1);
        Ok(Self { extent, stride, clips, clip_stride })
    }
}

/// The stride of each axis; `None` for an empty array and on overflow.
fn strides(shape: &[u64], fortran: bool) -> Option<Vec<u64>> {
    let mut strides = vec![0; shape.len()];
    let mut next = 1u64;
    let mut set = |axis: usize| {
        strides[axis] = next;
        next = next.checked_mul(shape[axis]).filter(|n| (1..1 << 60).contains(n))?;
        Some(())
    };
    match fortran {
        true => (0..shape.len()).try_for_each(&mut set)?,
        false => (0..shape.len()).rev().try_for_each(&mut set)?,
    }
    Some(strides)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn strides_follow_the_order_in_memory() {
        let axes = "nfhwc".parse().unwrap();
        let c = Layout::new(&[2, 3, 4, 5, 6], Some(&axes), false).unwrap();
        assert_eq!((c.extent, c.stride), ([3, 4, 5, 6], [120, 30, 6, 1]));
        assert_eq!((c.clips, c.clip_stride), (2, 360));
        let fortran = Layout::new(&[2, 3, 4, 5, 6], Some(&axes), true).unwrap();
        assert_eq!((fortran.stride, fortran.clip_stride), ([2, 6, 24, 120], 1));
        let grey = Layout::new(&[3, 4, 5], None, false).unwrap();
        assert_eq!((grey.extent, grey.stride), ([3, 4, 5, 1], [20, 5, 1, 0]));
    }

    #[test]
    fn shapes_that_fit_no_axes_are_refused() {
        let error = |shape: &[u64], axes: Option<&str>| {
            let axes = axes.map(|axes| axes.parse().unwrap());
            Layout::new(shape, axes.as_ref(), false).unwrap_err().0
        };
        assert!(error(&[3, 4], None).contains("data.axes"));
        assert!(error(&[3, 4, 5], Some("nfhw")).contains("4 axes, nfhw"));
        assert!(error(&[3, 0, 5], None).contains("without zeros"));
        assert!(error(&[1 << 40, 1 << 30, 5], None).contains("countable"));
        assert!(error(&[u64::MAX, u64::MAX, 5], None).contains("countable"));
        assert!(error(&[1, 1 << 20, 5], None).contains("rows"));
        assert!(error(&[1, 5, 5, 5000], None).contains("channels"));
    }
}
