//! Compares the resize with Pillow's.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use vd_data::{Clip, fit};

/// Height, width, channels -> height, width; the list of `golden/resize.py`.
const CASES: [[usize; 5]; 6] = [
    [37, 53, 3, 16, 23],
    [64, 64, 3, 16, 16],
    [90, 160, 1, 32, 57],
    [12, 20, 3, 32, 53],
    [48, 48, 1, 47, 47],
    [33, 24, 3, 11, 8],
];

fn source(h: usize, w: usize, c: usize) -> Vec<u8> {
    let byte = |i: usize| {
        let noise = (i as u32).wrapping_mul(2_654_435_761) >> 24;
        let (y, x) = (i / c / w, i / c % w);
        (noise as usize / 2 + y * 60 / h + x * 60 / w) as u8
    };
    (0..h * w * c).map(byte).collect()
}

#[test]
fn the_resize_is_within_one_step_of_pillows() {
    let golden = include_bytes!("golden/resize.bin");
    let mut expected = golden.as_slice();
    for [h, w, c, new_h, new_w] in CASES {
        // a different frame before it shows that frames do not affect each other
        let image = source(h, w, c);
        let mut frames: Vec<u8> = image.iter().map(|v| 255 - v).collect();
        frames.extend(image);
        let clip = Clip::new(frames, [2, h, w, c], 8.0).unwrap();
        // all cases keep their proportions, so that nothing is cropped
        let small = fit(&clip, [new_h, new_w], [0.0, 0.0]).unwrap();
        let (wanted, rest) = expected.split_at(new_h * new_w * c);
        expected = rest;
        let pairs = small.frame(1).iter().zip(wanted);
        let away = pairs.map(|(a, b)| a.abs_diff(*b)).max().unwrap();
        assert!(away <= 1, "{h} x {w} -> {new_h} x {new_w}: {away}");
    }
    assert!(expected.is_empty());
}
