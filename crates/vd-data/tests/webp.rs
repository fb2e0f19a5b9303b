//! Reading animated WebP: files of another program exactly, damaged ones with an error that names
//! them.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::fs;
use std::path::Path;

use common::{cut, marked};
use proptest::prelude::*;
use vd_data::{Clip, Error, Folder, Media, decode, write_webp};

#[test]
fn files_of_another_program_are_composed_as_it_shows_them() {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    for name in ["foreign-lossless", "foreign-lossy", "foreign-alpha"] {
        let clip = decode(&golden.join(name).with_extension("webp"), 3).unwrap();
        let expected = fs::read(golden.join(name).with_extension("bin")).unwrap();
        assert_eq!((clip.f, clip.h, clip.w, clip.fps), (5, 16, 20, 20.0), "{name}");
        assert!(clip.frames == expected, "{name}");
    }
}

#[test]
fn only_the_wanted_frames_are_read() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.webp");
    write_webp(&path, &marked(9, [20, 4, 4])).unwrap();
    let media = Media::at(&path).unwrap();
    let clip = media.decode_frames(3, &[3, 7, 11], 5.0).unwrap();
    let numbers: Vec<u8> = (0..3).map(|k| clip.frame(k)[1]).collect();
    assert_eq!((numbers, clip.fps), (vec![3, 7, 11], 5.0));
    let error = media.decode_frames(3, &[3, 20], 5.0).unwrap_err();
    assert!(matches!(error, Error::Damaged { .. }), "{error}");
}

/// A still WebP: the encoded image of an animation's only frame, with its own header.
fn write_still(path: &Path, clip: &Clip) {
    write_webp(path, clip).unwrap();
    let bytes = fs::read(path).unwrap();
    let at = bytes.windows(4).position(|w| w == b"VP8L").unwrap();
    let image = &bytes[at..];
    let mut still = b"RIFF".to_vec();
    still.extend((image.len() as u32 + 4).to_le_bytes());
    still.extend(b"WEBP");
    still.extend(image);
    fs::write(path, still).unwrap();
}

#[test]
fn images_that_do_not_move_are_frames_of_their_folder() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("film")).unwrap();
    for k in [0u8, 1, 2] {
        write_still(&dir.path().join(format!("film/{k}.webp")), &marked(k, [1, 4, 6]));
    }
    write_webp(&dir.path().join("film/moves.webp"), &marked(9, [3, 4, 6])).unwrap();
    let found = Folder::scan(dir.path(), 0).unwrap();
    let names: Vec<_> = found.entries().iter().map(|entry| entry.name.as_path()).collect();
    assert_eq!(names, [Path::new("film"), Path::new("film/moves.webp")]);
    let frames = found.entries()[0].media.decode(3).unwrap();
    let numbers: Vec<u8> = (0..3).map(|k| frames.frame(k)[0]).collect();
    assert_eq!((numbers, frames.f), (vec![0, 1, 2], 3));
    assert_eq!(
        decode(&dir.path().join("film/1.webp"), 3).unwrap().frames,
        marked(1, [1, 4, 6]).frames
    );
}

#[test]
fn sizes_beyond_the_bound_are_refused_by_the_header() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.webp");
    write_webp(&path, &marked(1, [2, 4, 4])).unwrap();
    let mut bytes = fs::read(&path).unwrap();
    bytes[24..30].copy_from_slice(&[0xff; 6]);
    fs::write(&path, bytes).unwrap();
    let error = decode(&path, 3).unwrap_err();
    assert!(matches!(error, Error::TooLarge { .. }), "{error}");
    assert!(error.to_string().contains("16777216 x 16777216"), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn any_cut_is_an_error_that_names_the_file(part in 0.0f64..0.999) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.webp");
        write_webp(&path, &marked(3, [4, 6, 8])).unwrap();
        cut(&path, part);
        let error = decode(&path, 3).unwrap_err();
        prop_assert!(error.is_bad_file());
        prop_assert!(error.to_string().contains("a.webp"), "{}", error);
    }

    #[test]
    fn damage_inside_never_panics(at in 0usize..700, value in any::<u8>()) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.webp");
        write_webp(&path, &marked(3, [4, 6, 8])).unwrap();
        let mut bytes = fs::read(&path).unwrap();
        let at = at % bytes.len();
        bytes[at] = value;
        fs::write(&path, bytes).unwrap();
        // an error that names the file, or a clip; nothing else
        if let Err(error) = decode(&path, 3) {
            prop_assert!(error.to_string().contains("a.webp"), "{}", error);
        }
    }
}
