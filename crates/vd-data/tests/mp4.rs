//! Writing MP4: what is read back is close to what was written, at its rate.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::ffmpeg;
use vd_data::{Clip, ClipFormat, FireworksConfig, Generator, decode, mp4_size};

fn psnr(a: &[u8], b: &[u8]) -> f64 {
    assert_eq!(a.len(), b.len());
    let sum: f64 = a.iter().zip(b).map(|(a, b)| f64::from(a.abs_diff(*b)).powi(2)).sum();
    10.0 * (255.0f64.powi(2) / (sum / a.len() as f64)).log10()
}

#[test]
fn a_clip_comes_back_nearly_as_it_was_at_its_rate_and_padded_to_even_sides() {
    if ffmpeg().is_none() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("-a %d.mp4");
    for (size, fps) in [([32, 32], 8.0), ([31, 45], 12.5), ([16, 33], 30_000.0 / 1001.0)] {
        let (mut clip, _) = FireworksConfig::default().clip(3, 0, 9, size, 3).unwrap();
        clip.fps = fps;
        ClipFormat::Mp4.write(&path, &clip).unwrap();
        let found = decode(&path, 3).unwrap();
        assert_eq!((found.f, [found.h, found.w]), (9, mp4_size(size)));
        assert!((found.fps / fps - 1.0).abs() < 1e-4, "{} {fps}", found.fps);
        let row = |clip: &Clip, f: usize, y: usize| {
            clip.frame(f)[y * clip.w * 3..][..size[1] * 3].to_vec()
        };
        let rows = |clip: &Clip| -> Vec<u8> {
            (0..9).flat_map(|f| (0..size[0]).flat_map(move |y| row(clip, f, y))).collect()
        };
        let psnr = psnr(&rows(&clip), &rows(&found));
        assert!(psnr > 25.0, "{size:?}: {psnr}");
        // nothing else is left in the folder
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}

#[test]
fn plain_colours_come_back_within_two_steps() {
    if ffmpeg().is_none() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.mp4");
    for colour in [[0, 0, 0], [255, 255, 255], [200, 30, 60], [20, 160, 90], [128, 128, 128]] {
        let clip = Clip::new(colour.repeat(4 * 16 * 16), [4, 16, 16, 3], 8.0).unwrap();
        ClipFormat::Mp4.write(&path, &clip).unwrap();
        let found = decode(&path, 3).unwrap();
        let far = clip.frames.iter().zip(&found.frames).map(|(a, b)| a.abs_diff(*b)).max().unwrap();
        // two roundings of 8 bits, in a range of 220 steps: measured at most 2
        assert!(far <= 3, "{colour:?}: {far}");
    }
    let grey = Clip::new(vec![77; 4 * 16 * 16], [4, 16, 16, 1], 8.0).unwrap();
    ClipFormat::Mp4.write(&path, &grey).unwrap();
    let found = decode(&path, 1).unwrap();
    assert!(found.frames.iter().all(|value| value.abs_diff(77) <= 2), "{:?}", found.frames[0]);
}
