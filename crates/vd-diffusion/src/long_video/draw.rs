//! The loop over windows.

use std::ops::{ControlFlow, Range};

use tch::Tensor;

use super::store::Store;
use super::{LongVideoPlan, Window};
use crate::{Error, Result};

/// Frames of a long video that are final before generation starts.
#[derive(Debug)]
pub struct GivenFrames<'a> {
    /// Their positions, rising.
    pub frames: Vec<usize>,
    /// The frames themselves.
    ///
    /// # Shapes
    /// b c k ..., one for each position
    pub video: &'a Tensor,
}

/// Generates the clip of a window, given its known frames.
pub type DrawWindow<'a, E> =
    dyn FnMut(&Window, Option<&Tensor>) -> std::result::Result<Tensor, E> + 'a;

/// Generates a video of `total` frames window by window, and outputs its frames in order.
///
/// `draw` generates one clip: it gets the window and its known frames, and may condition on them in
/// any way (reconstruction guidance, context frames, replacement); only the frames that the window
/// keeps are taken from its result. `out` gets every frame once, including the given ones, as soon
/// as it and all frames before it are final; it ends the call by returning `ControlFlow::Break`.
/// Between two windows, memory holds only frames that a later window needs or that wait for an
/// earlier frame.
///
/// Returns whether `out` stopped early.
///
/// # Shapes
/// Known frames: b c k ..., those of [`Window::known_places`] in their order, or none; the clip: b
/// c f ... with the window's f; output: b c k ... for the k frames of the range
///
/// # Errors
/// A plan, a total or given frames that [`LongVideoPlan::windows`] refuses; a clip or given frames
/// of the wrong shape; any error of `draw`.
pub fn draw_long<E: From<Error>>(
    plan: &LongVideoPlan,
    total: usize,
    given: Option<GivenFrames<'_>>,
    draw: &mut DrawWindow<'_, E>,
    out: &mut dyn FnMut(Range<usize>, Tensor) -> ControlFlow<()>,
) -> std::result::Result<ControlFlow<()>, E> {
    let places = given.as_ref().map_or(&[][..], |given| &given.frames);
    let windows = plan.windows(total, places)?;
    let mut store = Store::new(total, &windows);
    if let Some(given) = &given {
        check_given(given)?;
        for (place, frame) in given.frames.iter().enumerate() {
            store.lend(*frame, given.video, place)?;
        }
    }
    if hand_out(&mut store, plan.window(), out)?.is_break() {
        return Ok(ControlFlow::Break(()));
    }
    for (index, window) in windows.iter().enumerate() {
        let known = store.known(window)?;
        let clip = draw(window, known.as_ref())?;
        check_clip(&clip, window)?;
        for place in window.kept_places() {
            store.put(window.frames[place], &clip, place)?;
        }
        drop(clip);
        if hand_out(&mut store, plan.window(), out)?.is_break() {
            return Ok(ControlFlow::Break(()));
        }
        store.forget(index + 1);
    }
    Ok(ControlFlow::Continue(()))
}

/// Outputs the frames that are ready, at most `most` at a time.
fn hand_out(
    store: &mut Store,
    most: usize,
    out: &mut dyn FnMut(Range<usize>, Tensor) -> ControlFlow<()>,
) -> Result<ControlFlow<()>> {
    while let Some((range, frames)) = store.ready(most)? {
        store.went_out(range.end);
        if out(range, frames).is_break() {
            return Ok(ControlFlow::Break(()));
        }
    }
    Ok(ControlFlow::Continue(()))
}

fn check_given(given: &GivenFrames<'_>) -> Result<()> {
    let size = given.video.size();
    let frames = given.frames.len();
    if size.len() >= 3 && size[2] == frames as i64 {
        return Ok(());
    }
    let expected = format!("b c {frames} ..., one frame for each of the given positions");
    Err(Error::tensor("given frames of a long video", expected, format!("{size:?}")))
}

fn check_clip(clip: &Tensor, window: &Window) -> Result<()> {
    let size = clip.size();
    if size.len() >= 3 && size[2] == window.len() as i64 {
        return Ok(());
    }
    let expected = format!("b c {} ..., the frames of its window", window.len());
    Err(Error::tensor("clip drawn for a long video", expected, format!("{size:?}")))
}
