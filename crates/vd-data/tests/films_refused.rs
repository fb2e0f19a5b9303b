//! Damaged films, and films with wrong extensions.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::fs;
use std::path::{Path, PathBuf};

use common::{ffmpeg, film};
use vd_data::{Folder, decode, inspect};

const TEST: &str = "testsrc2=size=64x48:rate=24";

/// Overwrites `n` bytes after the first `at` with garbage.
fn spoil(path: &Path, at: usize, n: usize) {
    let mut bytes = fs::read(path).unwrap();
    let mut state = 9u32;
    for byte in bytes.iter_mut().skip(at).take(n) {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        *byte = (state >> 24) as u8;
    }
    fs::write(path, bytes).unwrap();
}

#[test]
fn damaged_films_are_named_and_never_filled_up() {
    if ffmpeg().is_none() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    let coded = "-t 4 -c:v libx264 -g 24 -crf 10";
    film(&path("end.mp4"), TEST, coded);
    film(&path("start.mp4"), TEST, &format!("{coded} -movflags +faststart"));
    film(&path("cut.webm"), TEST, "-t 2 -c:v libvpx-vp9 -deadline realtime -cpu-used 8");
    fs::copy(path("start.mp4"), path("spoiled.mp4")).unwrap();
    film(&path("cut.avi"), TEST, "-t 2 -c:v mpeg4");
    for name in ["end.mp4", "start.mp4", "cut.webm", "cut.avi"] {
        let whole = fs::read(path(name)).unwrap();
        fs::write(path(name), &whole[..whole.len() * 6 / 10]).unwrap();
    }
    let length = fs::metadata(path("spoiled.mp4")).unwrap().len() as usize;
    spoil(&path("spoiled.mp4"), length / 2, 2048);
    fs::write(path("empty.mp4"), "").unwrap();
    fs::write(path("random.mp4"), [7; 4000]).unwrap();
    spoil(&path("random.mp4"), 0, 4000);
    fs::write(path("text.mkv"), "#EXTM3U\nnext.mkv\n").unwrap();
    fs::write(path("head.mp4"), b"\0\0\0\x18ftypisom\0\0\x02\0isomiso2").unwrap();
    film(&path("sound.mp4"), "sine=duration=1", "-c:a aac");
    // the libraries alone give no reason, and do not detect a truncated WebM
    let said = |programs, libraries| if cfg!(feature = "libav") { libraries } else { programs };
    let bad = [
        ("end.mp4", said("moov atom not found", "Invalid data found")),
        ("start.mp4", "start.mp4"),
        ("cut.webm", said("ended prematurely", "as its header states")),
        ("cut.avi", "as its header states"),
        ("spoiled.mp4", "spoiled.mp4"),
        ("empty.mp4", "an empty file"),
        ("random.mp4", "the first bytes of"),
        ("text.mkv", "#EXTM3U"),
        ("head.mp4", "head.mp4"),
        ("sound.mp4", "a video stream"),
    ];
    for (name, said) in bad {
        let error = decode(&path(name), 3).unwrap_err();
        let text = error.to_string();
        assert!(error.is_bad_file() && text.contains(said), "{name}: {text}");
        assert!(!text.contains("file:/") && !text.contains(" @ 0x"), "{text}");
        assert_eq!(text.lines().count(), 1, "{text}");
    }
    let report = inspect(dir.path()).unwrap();
    assert_eq!((report.clips, report.bad_files.len()), (0, bad.len()));
}

#[test]
fn the_content_decides_and_not_the_name() {
    if ffmpeg().is_none() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    image::RgbImage::from_pixel(5, 4, image::Rgb([1, 2, 3])).save(path("a.png")).unwrap();
    fs::rename(path("a.png"), path("picture.mp4")).unwrap();
    film(&path("film.mp4"), TEST, "-t 0.5 -c:v libx264");
    fs::copy(path("film.mp4"), path("film.gif")).unwrap();
    fs::rename(path("film.mp4"), path("film.png")).unwrap();
    fs::write(path("film.txt"), "shared by both").unwrap();
    let found = Folder::scan(dir.path(), 0).unwrap();
    let names: Vec<_> = found.entries().iter().map(|entry| entry.name.clone()).collect();
    assert_eq!(names, ["film.gif", "film.png", "picture.mp4"].map(PathBuf::from));
    assert_eq!(decode(&path("film.gif"), 3).unwrap(), decode(&path("film.png"), 3).unwrap());
    assert_eq!(decode(&path("picture.mp4"), 3).unwrap().frames[..3], [1, 2, 3]);
}

/// Where a container stores the picture size: positions of width and height, each with its length
/// in bytes.
fn sizes(bytes: &[u8], name: &str, [h, w]: [u16; 2]) -> Vec<(usize, usize)> {
    let find = |wanted: &[u8]| {
        let mut places = bytes.windows(wanted.len());
        places.position(|part| part == wanted).unwrap_or_else(|| panic!("{wanted:?} of {name}"))
    };
    if name.ends_with(".mkv") {
        let [[a, b], [c, d]] = [w, h].map(u16::to_be_bytes);
        vec![(find(&[0xb0, 0x82, a, b]) + 2, 2), (find(&[0xba, 0x82, c, d]) + 2, 2)]
    } else if name.ends_with(".avi") {
        let (header, format) = (find(b"avih") + 8, find(b"strf") + 8);
        [header + 32, header + 36, format + 4, format + 8].map(|at| (at, 4)).to_vec()
    } else {
        let (track, entry) = (find(b"tkhd") + 4, find(b"stsd") + 20);
        vec![(track + 76, 4), (track + 80, 4), (entry + 24, 2), (entry + 26, 2)]
    }
}

#[test]
fn a_film_of_no_size_or_a_huge_one_is_refused_or_has_the_size_of_its_stream() {
    if ffmpeg().is_none() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    // if the pictures store their own size, the container may contain anything
    let films = [
        ("ffv1.mkv", "ffv1", true),
        ("raw.mkv", "rawvideo -pix_fmt yuv420p", true),
        ("h264.mkv", "libx264", false),
        ("mjpeg.mkv", "mjpeg -pix_fmt yuvj420p", false),
        ("vp9.mkv", "libvpx-vp9 -deadline realtime -cpu-used 8", false),
        ("rle.mov", "qtrle", true),
        ("h264.mp4", "libx264", false),
        ("mpeg4.mp4", "mpeg4", false),
        ("raw.avi", "rawvideo -pix_fmt bgr24", true),
        ("mpeg4.avi", "mpeg4", false),
        ("mjpeg.avi", "mjpeg -pix_fmt yuvj420p", false),
    ];
    for (name, codec, must) in films {
        let path = dir.path().join(name);
        film(&path, "testsrc2=size=320x260:rate=10", &format!("-t 0.4 -c:v {codec}"));
        let (whole, bytes) = (decode(&path, 3).unwrap(), fs::read(&path).unwrap());
        for value in [0, 0xff, 0x7f] {
            let mut claimed = bytes.clone();
            for (at, n) in sizes(&bytes, name, [260, 320]) {
                claimed[at..at + n].fill(value);
            }
            let path = dir.path().join(format!("{value}-{name}"));
            fs::write(&path, claimed).unwrap();
            match decode(&path, 3) {
                Err(error) => assert!(error.is_bad_file(), "{name} of {value}: {error}"),
                Ok(clip) => assert!(!must && clip == whole, "{name} of {value}"),
            }
        }
    }
}
