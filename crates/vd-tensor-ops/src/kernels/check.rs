//! What is asked of tensors before a kernel reads them through pointers.
//!
//! Each check looks at sizes, kind and device alone, never at values, and panics with what was
//! expected and what was given.

use tch::{Device, Kind, Tensor};

use crate::layers::HeadShape;

/// Heads, and features of each, at most: products with other sizes do not overflow.
const HEADS: i64 = 1 << 20;

/// Features of all heads together.
///
/// # Panics
/// Numbers below 1, or beyond any attention.
#[track_caller]
pub(crate) fn heads(what: &str, HeadShape { heads, dim }: HeadShape) -> i64 {
    let range = 1..=HEADS;
    assert!(
        range.contains(&heads) && range.contains(&dim),
        "{what}: expected from 1 to {HEADS} heads and features of each, got {heads} heads of {dim}"
    );
    heads * dim
}

/// # Panics
/// A tensor that is not f32 on the CPU.
#[track_caller]
pub(crate) fn plain(what: &str, x: &Tensor) {
    let (kind, device) = (x.kind(), x.device());
    assert!(
        kind == Kind::Float && device == Device::Cpu,
        "{what}: expected f32 on the CPU, got {kind:?} on {device:?} of shape {:?}",
        x.size()
    );
}

/// # Panics
/// A tensor of another shape.
#[track_caller]
pub(crate) fn shape(what: &str, x: &Tensor, expected: &[i64]) {
    let got = x.size();
    assert!(got == expected, "{what}: expected shape {expected:?}, got {got:?}");
}

/// [`plain`] and [`shape`].
#[track_caller]
pub(crate) fn plain_of(what: &str, x: &Tensor, expected: &[i64]) {
    plain(what, x);
    shape(what, x, expected);
}

/// The sizes of a tensor of five axes.
///
/// # Panics
/// Another number of axes.
#[track_caller]
pub(crate) fn five(what: &str, x: &Tensor, letters: &str) -> [i64; 5] {
    let got = x.size();
    match <[i64; 5]>::try_from(got.as_slice()) {
        Ok(size) => size,
        Err(_) => panic!("{what}: expected shape {letters}, got {got:?}"),
    }
}

/// The sizes of a video.
///
/// # Panics
/// Another number of axes.
#[track_caller]
pub(crate) fn video(what: &str, x: &Tensor) -> [i64; 5] {
    five(what, x, "b f h w c")
}

/// The sizes of a video of so many channels.
///
/// # Panics
/// Other channels, another number of axes.
#[track_caller]
pub(crate) fn channels(what: &str, x: &Tensor, c: i64) -> [i64; 5] {
    let size = video(what, x);
    assert!(size[4] == c, "{what}: expected shape b f h w {c}, got {size:?}");
    size
}

/// The sizes that videos whose channels follow each other have together.
///
/// # Panics
/// No videos; other axes than five; sizes other than channels that differ.
#[track_caller]
pub(crate) fn joined(what: &str, inputs: &[&Tensor]) -> [i64; 5] {
    let Some(first) = inputs.first() else {
        panic!("{what}: expected at least one input of shape b f h w c, got 0 inputs");
    };
    let mut all = video(what, first);
    for x in &inputs[1..] {
        let size = video(what, x);
        let [b, f, h, w, _] = all;
        assert!(
            size[..4] == all[..4],
            "{what}: expected inputs that are alike but for channels, shape [{b}, {f}, {h}, {w}, c], \
             got {size:?}"
        );
        all[4] += size[4];
    }
    all
}

/// Rows of c values, each for as many neighbouring images; how many rows.
///
/// # Panics
/// Another number of axes, other channels, rows that do not divide the images.
#[track_caller]
pub(crate) fn rows(what: &str, x: &Tensor, (images, c): (i64, i64)) -> i64 {
    let got = x.size();
    let fits = matches!(got.as_slice(), [r, n] if *n == c && *r > 0 && images % r == 0);
    assert!(fits, "{what}: expected shape r {c}, where r divides {images} images, got {got:?}");
    got[0]
}

/// # Panics
/// Marks of pairs of frames that are not bool, (b or 1) 1 1 f f.
#[track_caller]
pub(crate) fn marks(what: &str, marks: &Tensor, (b, f): (i64, i64)) {
    let (got, kind) = (marks.size(), marks.kind());
    let of = |n: i64| got == [n, 1, 1, f, f];
    assert!(
        kind == Kind::Bool && (of(1) || of(b)),
        "{what}: expected Bool of shape [{b} or 1, 1, 1, {f}, {f}], got {kind:?} of shape {got:?}"
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    fn zeros(shape: &[i64]) -> Tensor {
        Tensor::zeros(shape, (Kind::Float, Device::Cpu))
    }

    #[test]
    fn what_fits_passes_with_its_sizes() {
        let (x, y) = (zeros(&[2, 3, 4, 5, 6]), zeros(&[2, 3, 4, 5, 7]));
        plain_of("x", &x, &[2, 3, 4, 5, 6]);
        assert_eq!(channels("x", &x, 6), [2, 3, 4, 5, 6]);
        assert_eq!(joined("x and y", &[&x, &y]), [2, 3, 4, 5, 13]);
        assert_eq!(rows("gain", &zeros(&[3, 6]), (6, 6)), 3);
        for b in [1, 2] {
            marks("marks", &zeros(&[b, 1, 1, 3, 3]).to_kind(Kind::Bool), (2, 3));
        }
    }

    #[test]
    #[should_panic(expected = "gain: expected shape r 6, where r divides 6 images, got [4, 6]")]
    fn rows_that_do_not_divide_the_images_are_refused() {
        rows("gain", &zeros(&[4, 6]), (6, 6));
    }

    #[test]
    #[should_panic(expected = "x: expected f32 on the CPU, got Half on Cpu of shape [2]")]
    fn another_kind_is_refused() {
        plain("x", &zeros(&[2]).to_kind(Kind::Half));
    }
}
