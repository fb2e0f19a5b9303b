//! Operations shared by frames of bytes and of floats.

/// Mirrors rows of `w` pixels of `c` channels left to right.
pub(crate) fn flip_rows<T>(values: &mut [T], w: usize, c: usize) {
    for row in values.chunks_exact_mut(w * c) {
        let (mut left, mut right) = (0, row.len() - c);
        while left < right {
            for channel in 0..c {
                row.swap(left + channel, right + channel);
            }
            left += c;
            right -= c;
        }
    }
}

/// The frames at `indices`, of `frame` values each.
pub(crate) fn pick_frames<T: Copy>(values: &[T], frame: usize, indices: &[usize]) -> Vec<T> {
    let mut picked = Vec::with_capacity(indices.len() * frame);
    for &index in indices {
        picked.extend_from_slice(&values[index * frame..(index + 1) * frame]);
    }
    picked
}

/// A window of every frame (rows of `w` pixels of `c` channels, `h` rows each).
pub(crate) fn window<T: Copy>(
    values: &[T],
    [h, w, c]: [usize; 3],
    [top, left]: [usize; 2],
    [rows, columns]: [usize; 2],
) -> Vec<T> {
    let mut cut = Vec::with_capacity(values.len() / (h * w) * rows * columns);
    for frame in values.chunks_exact(h * w * c) {
        for row in frame.chunks_exact(w * c).skip(top).take(rows) {
            cut.extend_from_slice(&row[left * c..(left + columns) * c]);
        }
    }
    cut
}
