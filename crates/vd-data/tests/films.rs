//! MP4 and similar formats, made by ffmpeg: every requested frame is the one that is shown.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::fs;
use std::path::Path;
use std::process::Command;

use common::{ffmpeg, film};
use vd_data::{Clip, Cursor, DataConfig, Ffmpeg, Folder, Loader, Media, Source, decode};

/// A film and its expected content.
struct Film {
    name: &'static str,
    picture: &'static str,
    options: &'static str,
    f: usize,
    fps: f64,
}

const fn a(
    name: &'static str,
    picture: &'static str,
    options: &'static str,
    f: usize,
    fps: f64,
) -> Film {
    Film { name, picture, options, f, fps }
}

const TEST: &str = "testsrc2=size=64x48:rate=24";

/// Decodes everything with a separate command line.
fn reference(path: &Path) -> Vec<u8> {
    let mut command = Command::new(&Ffmpeg::find().unwrap().ffmpeg);
    command.args(["-nostdin", "-loglevel", "error", "-i"]).arg(path);
    command.args(["-map", "0:v:0", "-fps_mode", "passthrough", "-f", "rawvideo"]);
    command.args(["-pix_fmt", "rgb24", "-sws_flags", "bicubic+accurate_rnd+full_chroma_int", "-"]);
    command.output().unwrap().stdout
}

/// Compares frames from the middle, single and spaced, with the whole.
fn check_seeks(path: &Path, whole: &Clip, every: usize) {
    let media = Media::at(path).unwrap();
    let f = whole.f;
    for first in (0..f).step_by(every).chain([f - 1]) {
        for stride in [1, 3] {
            let wanted: Vec<usize> = (first..f).step_by(stride).take(3).collect();
            let found = media.decode_frames(3, &wanted, whole.fps).unwrap();
            assert!(found == whole.pick(&wanted), "{}: {wanted:?} of {f}", path.display());
        }
    }
    let uneven = [0, f / 3, f / 2, f - 1];
    if f >= 6 {
        let found = media.decode_frames(3, &uneven, whole.fps).unwrap();
        assert!(found == whole.pick(&uneven), "{}", path.display());
    }
}

fn check(films: &[Film], every: usize) {
    if ffmpeg().is_none() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    for Film { name, picture, options, f, fps } in films {
        let path = dir.path().join(name);
        film(&path, picture, options);
        let probe = Media::at(&path).unwrap().probe().unwrap();
        assert_eq!(probe.f, *f, "{name}");
        assert!((probe.fps / fps - 1.0).abs() < 1e-6, "{name}: {} {fps}", probe.fps);
        let whole = decode(&path, 3).unwrap();
        assert_eq!((whole.f, whole.h, whole.w), (probe.f, probe.h, probe.w), "{name}");
        assert!(whole.frames == reference(&path), "{name}");
        check_seeks(&path, &whole, every);
    }
}

#[test]
fn frames_of_h264_are_exact_with_b_frames_long_and_open_groups() {
    check(
        &[
            a("b.mp4", TEST, "-t 2.5 -c:v libx264 -bf 3 -g 48", 60, 24.0),
            a(
                "open.mp4",
                TEST,
                "-t 2 -c:v libx264 -x264-params open-gop=1:bframes=3:keyint=8:min-keyint=8:scenecut=0",
                48,
                24.0,
            ),
        ],
        9,
    );
}

#[test]
fn frames_of_webm_and_mkv_are_exact_wherever_their_clock_begins() {
    check(
        &[
            a(
                "vp9.webm",
                "mandelbrot=size=64x48:rate=30000/1001",
                "-frames:v 45 -c:v libvpx-vp9 -g 12 -deadline realtime -cpu-used 8",
                45,
                30_000.0 / 1001.0,
            ),
            a("ffv1.mkv", TEST, "-t 1 -c:v ffv1 -output_ts_offset 5", 24, 24.0),
        ],
        9,
    );
}

#[test]
fn frames_of_avi_and_odd_sizes_are_exact() {
    check(
        &[
            a("a.avi", "life=size=48x32:rate=25/2:mold=10", "-t 2 -c:v mpeg4 -g 6", 25, 12.5),
            // one clock tick per frame, and every frame is a key frame
            a("m.avi", TEST, "-t 1 -c:v mjpeg -q:v 2 -pix_fmt yuvj420p", 24, 24.0),
            // no packet of this one has a presentation time
            a("b.avi", TEST, "-t 1 -c:v mpeg4 -bf 2 -g 8", 24, 24.0),
            a("odd.mkv", "testsrc2=size=37x29:rate=10", "-t 1 -c:v ffv1 -pix_fmt gbrp", 10, 10.0),
            a("one.mov", TEST, "-frames:v 1 -c:v libx264", 1, 24.0),
        ],
        7,
    );
}

#[test]
fn a_variable_rate_is_frames_by_duration_and_its_frames_are_exact() {
    // 24 of 60: uneven gaps, for which frame number times mean duration is wrong
    let uneven = "-t 2.5 -vf select='not(mod(n\\,5))+eq(mod(n\\,7)\\,1)+lt(n\\,6)' -fps_mode vfr";
    let kept = (0..60).filter(|n| n % 5 == 0 || n % 7 == 1 || *n < 6).collect::<Vec<usize>>();
    let last = *kept.last().unwrap() as f64 / 24.0;
    let options = format!("{uneven} -c:v libx264 -bf 2 -g 10");
    let fps = kept.len() as f64 / (last + 1.0 / 24.0);
    if ffmpeg().is_none() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    for name in ["vfr.mp4", "vfr.mkv"] {
        let path = dir.path().join(name);
        film(&path, TEST, &options);
        let whole = decode(&path, 3).unwrap();
        assert_eq!(whole.f, kept.len(), "{name}");
        // the duration of the last frame may only be a guess of the file
        assert!((whole.fps / fps - 1.0).abs() < 0.05, "{name}: {} {fps}", whole.fps);
        assert!(whole.frames == reference(&path), "{name}");
        check_seeks(&path, &whole, 4);
    }
}

#[test]
fn turned_films_come_as_they_are_shown() {
    if ffmpeg().is_none() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.mp4");
    film(&path, TEST, "-t 0.5 -c:v libx264rgb -qp 0 -pix_fmt rgb24");
    let upright = decode(&path, 3).unwrap();
    let mut bytes = fs::read(&path).unwrap();
    let at = bytes.windows(4).position(|w| w == b"tkhd").unwrap() + 4 + 40;
    // a quarter turn to the right: x = 48 - y, y = x
    let matrix: [i32; 9] = [0, 1 << 16, 0, -(1 << 16), 0, 0, 48 << 16, 0, 1 << 30];
    for (k, number) in matrix.iter().enumerate() {
        bytes[at + 4 * k..at + 4 * k + 4].copy_from_slice(&number.to_be_bytes());
    }
    fs::write(&path, bytes).unwrap();
    let probe = Media::at(&path).unwrap().probe().unwrap();
    assert_eq!((probe.h, probe.w), (64, 48));
    let turned = decode(&path, 3).unwrap();
    for (y, x) in [(0, 0), (63, 0), (10, 47), (30, 20)] {
        let pixel =
            |clip: &Clip, y: usize, x: usize| clip.frame(3)[(y * clip.w + x) * 3..][..3].to_vec();
        assert_eq!(pixel(&turned, y, x), pixel(&upright, 47 - x, y), "{y} {x}");
    }
    check_seeks(&path, &turned, 5);
}

#[test]
fn no_name_is_taken_for_anything_but_a_name() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    if ffmpeg().is_none() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let plain = dir.path().join("plain.mp4");
    film(&plain, TEST, "-t 0.2 -c:v libx264");
    let whole = decode(&plain, 3).unwrap();
    let folder = dir.path().join("-i");
    fs::create_dir(&folder).unwrap();
    let names: [&[u8]; 7] = [
        b"-version.mp4",
        b"two\nlines.mp4",
        b"%d.mp4",
        b"http:x.mp4",
        b"concat:a|b.mp4",
        b"a 'quoted' [0:v].mp4",
        b"\xff.mp4",
    ];
    for name in names {
        let path = folder.join(OsStr::from_bytes(name));
        fs::copy(&plain, &path).unwrap();
        assert!(decode(&path, 3).unwrap() == whole, "{path:?}");
    }
    let link = dir.path().join("link.mp4");
    std::os::unix::fs::symlink(folder.join("%d.mp4"), &link).unwrap();
    assert!(decode(&link, 3).unwrap() == whole);
    assert_eq!(Folder::scan(dir.path(), 0).unwrap().entries().len(), 9);
}

#[test]
fn a_loader_of_films_gives_the_same_batches_with_any_number_of_threads() {
    if ffmpeg().is_none() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    film(&dir.path().join("a.mp4"), TEST, "-t 1 -c:v libx264 -g 6");
    film(&dir.path().join("b.webm"), TEST, "-t 1 -c:v libvpx-vp9 -g 6 -deadline realtime");
    fs::write(dir.path().join("a.txt"), "a test card").unwrap();
    let config = |workers| DataConfig {
        source: Source::folder(dir.path()),
        frames: 4,
        stride: 2,
        workers,
        ..DataConfig::default()
    };
    let batches = |workers| {
        let mut loader = Loader::new(&config(workers), 3, Cursor::start(5)).unwrap();
        [loader.next().unwrap(), loader.next().unwrap()]
    };
    let (alone, together) = (batches(0), batches(2));
    for (a, b) in alone.iter().zip(&together) {
        assert_eq!((&a.video, &a.taken, &a.fps), (&b.video, &b.taken, &b.fps));
        assert!(a.fps.iter().all(|fps| (fps - 12.0).abs() < 0.05), "{:?}", a.fps);
        assert!(a.captions.contains(&Some("a test card".to_owned())));
    }
}
