//! Reading files: valid ones exactly, damaged ones with an error that names them.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use common::apng::write_apng;
use common::{cut, huge_gif, huge_png, marked};
use image::{GrayImage, ImageFormat, Luma, Rgb, RgbImage};
use proptest::prelude::*;
use vd_data::{Clip, Error, FireworksConfig, Generator, Media, UNSTATED_FPS, decode, write_gif};

fn pattern(seed: u32, h: u32, w: u32) -> RgbImage {
    RgbImage::from_fn(w, h, |x, y| {
        let v = (x * 7 + y * 13 + seed * 31) as u8;
        Rgb([v, v.wrapping_mul(3), 255 - v])
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn a_gif_of_few_colours_survives_writing_and_reading(
        f in 1usize..5, h in 1usize..6, w in 1usize..6, fps in 2.0f64..50.0,
        bytes in prop::collection::vec(any::<u8>(), 4 * 5 * 5 * 3),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.gif");
        let clip = Clip::new(bytes[..f * h * w * 3].to_vec(), [f, h, w, 3], fps).unwrap();
        write_gif(&path, &clip).unwrap();
        let read = decode(&path, 3).unwrap();
        prop_assert_eq!(&read.frames, &clip.frames);
        prop_assert_eq!((read.f, read.h, read.w, read.c), (f, h, w, 3));
        // the total duration is rounded to 1/100 s
        prop_assert!((f as f64 / read.fps - f as f64 / fps).abs() <= 0.0051);
    }

    #[test]
    fn any_cut_of_a_gif_is_an_error_that_names_the_file(part in 0.0f64..0.999) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.gif");
        write_gif(&path, &marked(3, [4, 6, 8])).unwrap();
        cut(&path, part);
        let error = decode(&path, 3).unwrap_err();
        prop_assert!(error.is_bad_file());
        prop_assert!(error.to_string().contains("a.gif"), "{}", error);
    }

    #[test]
    fn damage_inside_never_panics(at in 0usize..700, value in any::<u8>()) {
        let dir = tempfile::tempdir().unwrap();
        for (name, write) in [
            ("a.gif", &(|path: &Path| write_gif(path, &marked(3, [4, 6, 8])).unwrap()) as &dyn Fn(&Path)),
            ("a.png", &|path| write_apng(path, &[pattern(0, 5, 7), pattern(1, 5, 7)], 5)),
            ("a.jpg", &|path| pattern(2, 9, 9).save(path).unwrap()),
        ] {
            let path = dir.path().join(name);
            write(&path);
            let mut bytes = fs::read(&path).unwrap();
            let at = at % bytes.len();
            bytes[at] = value;
            fs::write(&path, bytes).unwrap();
            // an error that names the file, or a clip; nothing else
            if let Err(error) = decode(&path, 3) {
                prop_assert!(error.to_string().contains(name), "{}", error);
            }
        }
    }
}

#[test]
fn grey_gifs_are_exact_and_tiny_frames_work() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.gif");
    let clip = Clip::new((0..=255).collect(), [256, 1, 1, 1], 20.0).unwrap();
    write_gif(&path, &clip).unwrap();
    assert_eq!(decode(&path, 1).unwrap(), clip);
    assert_eq!(decode(&path, 3).unwrap().frames[3..6], [1, 1, 1]);
}

#[test]
fn many_colours_are_reduced_with_little_loss() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.gif");
    let config = FireworksConfig { two_bursts: 1.0, ..FireworksConfig::default() };
    for seed in 0..4 {
        let (clip, _) = config.clip(seed, 0, 8, [32, 32], 3).unwrap();
        let colours: BTreeSet<&[u8]> = clip.frames.chunks_exact(3).collect();
        assert!(colours.len() > 512, "{}", colours.len());
        write_gif(&path, &clip).unwrap();
        let read = decode(&path, 3).unwrap();
        let square = |(a, b): (&u8, &u8)| f64::from(a.abs_diff(*b)).powi(2);
        let sum: f64 = read.frames.iter().zip(&clip.frames).map(square).sum();
        let psnr = 10.0 * (255.0f64.powi(2) / (sum / clip.frames.len() as f64)).log10();
        // measured: 45.6 to 47.4 dB
        assert!(psnr > 42.0, "{psnr}");
    }
}

#[test]
fn only_the_wanted_frames_are_read() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.gif");
    write_gif(&path, &marked(9, [20, 4, 4])).unwrap();
    let media = Media::at(&path).unwrap();
    let clip = media.decode_frames(3, &[3, 7, 11], 5.0).unwrap();
    let numbers: Vec<u8> = (0..3).map(|k| clip.frame(k)[1]).collect();
    assert_eq!((numbers, clip.fps), (vec![3, 7, 11], 5.0));
    let error = media.decode_frames(3, &[3, 20], 5.0).unwrap_err();
    assert!(matches!(error, Error::Damaged { .. }), "{error}");
}

#[test]
fn an_animated_png_keeps_pixels_and_rate() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.png");
    let frames = [0, 1, 2].map(|k| pattern(k, 5, 7));
    write_apng(&path, &frames, 2);
    let clip = decode(&path, 3).unwrap();
    assert_eq!((clip.f, clip.h, clip.w, clip.fps), (3, 5, 7, 12.5));
    for (k, frame) in frames.iter().enumerate() {
        assert_eq!(clip.frame(k), frame.as_raw().as_slice());
    }
    for part in [0.1, 0.5, 0.9, 0.99] {
        write_apng(&path, &frames, 2);
        cut(&path, part);
        assert!(decode(&path, 3).unwrap_err().is_bad_file());
    }
}

#[test]
fn a_folder_of_frames_is_one_clip_in_natural_order() {
    let dir = tempfile::tempdir().unwrap();
    for k in [10, 2, 1, 9] {
        pattern(k, 4, 6).save(dir.path().join(format!("f{k}.png"))).unwrap();
    }
    fs::write(dir.path().join(".hidden.png"), "no").unwrap();
    fs::write(dir.path().join("notes.txt"), "no").unwrap();
    let clip = decode(dir.path(), 3).unwrap();
    assert_eq!((clip.f, clip.fps), (4, UNSTATED_FPS));
    for (at, k) in [1, 2, 9, 10].into_iter().enumerate() {
        assert_eq!(clip.frame(at), pattern(k, 4, 6).as_raw().as_slice());
    }
    pattern(3, 4, 5).save(dir.path().join("f3.png")).unwrap();
    let error = decode(dir.path(), 3).unwrap_err().to_string();
    assert!(error.contains("f3.png") && error.contains("4 x 6"), "{error}");
}

#[test]
fn gifs_of_another_program_are_composed_as_it_shows_them() {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    for name in ["foreign-keep", "foreign-clear"] {
        let clip = decode(&golden.join(name).with_extension("gif"), 3).unwrap();
        let expected = fs::read(golden.join(name).with_extension("bin")).unwrap();
        assert_eq!((clip.f, clip.h, clip.w, clip.fps), (5, 16, 20, 20.0));
        assert_eq!(clip.frames, expected);
    }
}

#[test]
fn a_jpeg_that_breaks_off_is_no_image() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.jpg");
    for part in [0.1, 0.5, 0.7, 0.9, 0.99] {
        pattern(2, 40, 60).save(&path).unwrap();
        assert!(decode(&path, 3).is_ok());
        cut(&path, part);
        let error = decode(&path, 3).unwrap_err();
        assert!(error.is_bad_file() && error.to_string().contains("a.jpg"), "{error}");
    }
    // data after the end of the image are ignored
    pattern(2, 40, 60).save(&path).unwrap();
    let mut bytes = fs::read(&path).unwrap();
    bytes.extend(b"appended");
    fs::write(&path, bytes).unwrap();
    assert!(decode(&path, 3).is_ok());
}

#[test]
fn still_images_are_clips_of_one_frame() {
    let dir = tempfile::tempdir().unwrap();
    let grey = GrayImage::from_fn(9, 8, |x, y| Luma([(x * 20 + y) as u8]));
    let path = dir.path().join("a.png");
    grey.save(&path).unwrap();
    assert_eq!(decode(&path, 1).unwrap().frames, *grey.as_raw());
    let path = dir.path().join("a.JPG");
    RgbImage::from_pixel(9, 8, Rgb([200, 100, 50]))
        .save_with_format(&path, ImageFormat::Jpeg)
        .unwrap();
    let clip = decode(&path, 3).unwrap();
    assert_eq!((clip.f, clip.h, clip.w), (1, 8, 9));
    // JPEG rounds in its own colour space
    for (value, expected) in clip.frames.iter().zip([200, 100, 50].iter().cycle()) {
        assert!(i32::from(*value).abs_diff(*expected) <= 3);
    }
}

#[test]
fn files_that_are_no_videos_are_named_with_what_they_hold() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    fs::write(path("empty.gif"), "").unwrap();
    fs::write(path("text.gif"), "hello, I am a text").unwrap();
    fs::write(path("head.gif"), "GIF89a").unwrap();
    huge_gif(&path("huge.gif"));
    huge_png(&path("huge.png"), 60_000);
    huge_png(&path("none.png"), 0);
    for (name, said) in [
        ("empty.gif", "an empty file"),
        ("text.gif", "hello"),
        ("head.gif", "GIF header"),
        ("huge.gif", "65535 x 65535"),
        ("huge.png", "60000 x 60000"),
        ("none.png", "0 x 0"),
        ("missing.gif", "cannot be read"),
    ] {
        let error = decode(&path(name), 3).unwrap_err();
        let text = error.to_string();
        assert!(error.is_bad_file() && text.contains(name) && text.contains(said), "{text}");
        let scan = Media::File(path(name)).check_header().unwrap_err().to_string();
        assert_eq!(scan, text);
    }
    assert!(decode(dir.path(), 3).is_err());
    fs::remove_file(path("huge.png")).unwrap();
    fs::remove_file(path("none.png")).unwrap();
    let error = decode(dir.path(), 3).unwrap_err().to_string();
    assert!(error.contains("PNG, JPEG or WebP"), "{error}");
}
