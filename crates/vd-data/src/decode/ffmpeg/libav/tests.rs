//! Reads the same films by programs and by libraries, and expects the same frames, rates and
//! errors.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use image::RgbImage;

use super::super::index::{Index, make};
use super::super::road::Road;
use super::super::{Container, Ffmpeg, Part};
use crate::Result;

const TEST: &str = "testsrc2=size=64x48:rate=24";

/// A folder for films. Without ffmpeg a test passes, unless VD_REQUIRE_FFMPEG is set.
fn folder() -> Option<tempfile::TempDir> {
    if let Err(why) = Ffmpeg::find() {
        assert!(std::env::var_os("VD_REQUIRE_FFMPEG").is_none(), "{why}");
        return None;
    }
    Some(tempfile::tempdir().unwrap())
}

fn run(args: &str, input: Option<&Path>, output: &Path) {
    let mut command = Command::new(&Ffmpeg::find().unwrap().ffmpeg);
    command.args(["-nostdin", "-loglevel", "error", "-y"]);
    for arg in args.split_whitespace() {
        match (arg, input) {
            ("INPUT", Some(input)) => command.arg(input),
            _ => command.arg(arg),
        };
    }
    let made = command.arg(output).output().unwrap();
    assert!(made.status.success(), "{args}: {}", String::from_utf8_lossy(&made.stderr));
}

fn film(dir: &Path, name: &str, picture: &str, options: &str) -> PathBuf {
    let path = dir.join(name);
    run(&format!("-f lavfi -i {picture} {options}"), None, &path);
    path
}

/// How a film is read: its index, its frames, and some from the middle.
fn all(path: &Path, road: Road) -> Result<(Index, Vec<RgbImage>)> {
    let container = Container::sniff(&fs::read(path).unwrap()).unwrap();
    let index = make(path, container, road)?;
    let mut images = Vec::new();
    let mut read = |wanted: &[usize]| {
        let part = Part { path, container, index: &index, wanted };
        part.read(road, &mut |image| {
            images.push(image);
            Ok(())
        })
    };
    let f = index.f;
    read(&(0..f).collect::<Vec<_>>())?;
    for first in (0..f).step_by(5).chain([f - 1]) {
        read(&(first..f).step_by(2).take(3).collect::<Vec<_>>())?;
    }
    Ok((index, images))
}

/// Compares both ways of reading; returns whether they accepted the film.
fn same(path: &Path) -> bool {
    let name = path.display();
    match (all(path, Road::Programs), all(path, Road::Libav)) {
        (Ok((a, a_images)), Ok((b, b_images))) => {
            assert_eq!((a.f, a.h, a.w, a.fps), (b.f, b.h, b.w, b.fps), "{name}");
            assert_eq!(a.times, b.times, "{name}");
            assert_eq!(a_images.len(), b_images.len(), "{name}");
            let differs = (0..a_images.len()).find(|k| a_images[*k] != b_images[*k]);
            assert_eq!(differs, None, "{name} of {} frames", a.f);
            true
        }
        (Err(a), Err(b)) => {
            assert!(a.is_bad_file() && b.is_bad_file(), "{name}: {a}; {b}");
            assert_eq!(b.to_string().lines().count(), 1, "{b}");
            false
        }
        (Ok(_), Err(b)) => panic!("{name}: the libraries alone refuse it: {b}"),
        (Err(a), Ok(_)) => panic!("{name}: the programs alone refuse it: {a}"),
    }
}

#[test]
fn frames_are_those_of_the_programs_bit_for_bit() {
    let Some(dir) = folder() else { return };
    let films = [
        ("b.mp4", TEST, "-t 2.5 -c:v libx264 -bf 3 -g 48"),
        (
            "open.mp4",
            TEST,
            "-t 2 -c:v libx264 -x264-params open-gop=1:bframes=3:keyint=8:min-keyint=8:scenecut=0",
        ),
        (
            "open.mkv",
            TEST,
            "-t 2 -c:v libx264 -x264-params open-gop=1:bframes=3:keyint=8:scenecut=0",
        ),
        ("fragments.mp4", TEST, "-t 2 -c:v libx264 -g 12 -movflags frag_keyframe+empty_moov"),
        ("vp9.webm", TEST, "-t 1.5 -c:v libvpx-vp9 -g 8 -deadline realtime -cpu-used 8"),
        ("live.webm", TEST, "-t 1 -c:v libvpx -g 8 -deadline realtime -cpu-used 8 -live 1"),
        ("late.mkv", TEST, "-t 1 -c:v ffv1 -output_ts_offset 5"),
        ("a.avi", "life=size=48x32:rate=25/2:mold=10", "-t 2 -c:v mpeg4 -g 6"),
        // no packet of this one has a presentation time
        ("b.avi", TEST, "-t 1 -c:v mpeg4 -bf 2 -g 8"),
        ("m.avi", TEST, "-t 1 -c:v mjpeg -pix_fmt yuvj422p"),
        ("raw.avi", TEST, "-t 0.5 -c:v rawvideo -pix_fmt bgr24"),
        ("odd.mkv", "testsrc2=size=37x29:rate=10", "-t 1 -c:v ffv1 -pix_fmt gbrp"),
        (
            "deep.mkv",
            "mandelbrot=size=52x40:rate=30000/1001",
            "-t 1 -c:v ffv1 -pix_fmt yuv444p10le",
        ),
        ("grey.mkv", "testsrc2=size=36x20:rate=10", "-t 1 -c:v ffv1 -pix_fmt gray16le"),
        ("wide.mp4", TEST, "-t 1 -c:v libx264 -pix_fmt yuv420p -colorspace bt709 -color_range pc"),
        ("one.mov", TEST, "-frames:v 1 -c:v libx264"),
        ("qt.mov", TEST, "-t 1 -c:v qtrle"),
        (
            "vfr.mp4",
            TEST,
            "-t 2.5 -vf select='not(mod(n,5))+eq(mod(n,7),1)' -fps_mode vfr -bf 2 -g 10",
        ),
        (
            "vfr.mkv",
            TEST,
            "-t 2.5 -vf select='not(mod(n,5))+eq(mod(n,7),1)' -fps_mode vfr -bf 2 -g 10",
        ),
    ];
    for (name, picture, options) in films {
        assert!(same(&film(dir.path(), name, picture, options)), "{name}");
    }
}

#[test]
fn what_an_edit_list_hides_is_not_shown() {
    let Some(dir) = folder() else { return };
    let whole = film(dir.path(), "a.mp4", TEST, "-t 3 -c:v libx264 -bf 2 -g 30");
    for (name, cut) in [("a", "-ss 0.7"), ("b", "-ss 1.51 -t 1"), ("c", "-t 1.3")] {
        let path = dir.path().join(format!("cut-{name}.mp4"));
        run(&format!("{cut} -i INPUT -c copy"), Some(&whole), &path);
        assert!(same(&path), "{cut}");
    }
}

#[test]
fn films_are_turned_as_the_programs_turn_them() {
    let Some(dir) = folder() else { return };
    let path = film(dir.path(), "a.mp4", TEST, "-t 0.3 -c:v libx264 -pix_fmt yuv420p");
    let bytes = fs::read(&path).unwrap();
    let at = bytes.windows(4).position(|w| w == b"tkhd").unwrap() + 4 + 40;
    let one = 1 << 16;
    let mut matrices = Vec::new();
    for (a, b) in [(one, 0), (0, one), (-one, 0), (0, -one), (46_341, 46_341)] {
        // rotated, and also mirrored
        matrices.extend([[a, b, -b, a], [a, b, b, -a]]);
    }
    matrices.push([0; 4]);
    for [a, b, c, d] in matrices {
        let mut bytes = bytes.clone();
        let matrix: [i32; 9] = [a, b, 0, c, d, 0, 0, 0, 1 << 30];
        for (k, number) in matrix.iter().enumerate() {
            bytes[at + 4 * k..at + 4 * k + 4].copy_from_slice(&number.to_be_bytes());
        }
        let path = dir.path().join(format!("turned {a} {b} {c} {d}.mp4"));
        fs::write(&path, bytes).unwrap();
        assert!(same(&path), "{a} {b} {c} {d}");
    }
}

#[test]
fn damaged_films_are_refused_by_both_or_by_none() {
    let Some(dir) = folder() else { return };
    let films = [
        ("end.mp4", "-t 1 -c:v libx264 -g 12 -crf 10"),
        ("start.mp4", "-t 1 -c:v libx264 -g 12 -crf 10 -movflags +faststart"),
        ("fragments.mp4", "-t 1 -c:v libx264 -g 12 -movflags frag_keyframe+empty_moov"),
        ("a.webm", "-t 1 -c:v libvpx-vp9 -g 8 -deadline realtime -cpu-used 8"),
        ("live.webm", "-t 1 -c:v libvpx -deadline realtime -cpu-used 8 -live 1"),
        ("a.mkv", "-t 0.5 -c:v ffv1 -slicecrc 1"),
        ("a.avi", "-t 1 -c:v mpeg4"),
    ];
    for (name, options) in films {
        let whole = fs::read(film(dir.path(), name, TEST, options)).unwrap();
        let (mut taken, mut state) = (0, 5u32);
        for part in 1..9 {
            let path = dir.path().join(format!("{part}-{name}"));
            fs::write(&path, &whole[..whole.len() * part / 9]).unwrap();
            taken += usize::from(same(&path));
            let mut spoiled = whole.clone();
            for byte in &mut spoiled[whole.len() * part / 9..][..40] {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                *byte = (state >> 24) as u8;
            }
            fs::write(&path, spoiled).unwrap();
            taken += usize::from(same(&path));
        }
        assert!(taken < 9, "{name}: {taken} of 16 damaged ones were taken");
    }
}
