//! Creates input files for tests.
#![allow(dead_code)]

pub(crate) mod apng;

use std::fs;
use std::path::{Path, PathBuf};

use vd_data::{Captions, Clip, Folder, write_gif};

/// A clip whose pixels identify clip, frame and position: (number, frame, column) as red, green,
/// blue.
pub(crate) fn marked(number: u8, [f, h, w]: [usize; 3]) -> Clip {
    let mut frames = Vec::with_capacity(f * h * w * 3);
    for frame in 0..f {
        for _ in 0..h {
            for column in 0..w {
                frames.extend([number, frame as u8, column as u8]);
            }
        }
    }
    Clip::new(frames, [f, h, w, 3], 10.0).unwrap()
}

/// Writes `marked` clips 0 .. n, with `frames(k)` frames each, as GIFs with captions "clip k".
pub(crate) fn gifs(folder: &Path, n: u8, frames: impl Fn(u8) -> usize) -> Vec<PathBuf> {
    (0..n)
        .map(|k| {
            let path = folder.join(format!("{k}.gif"));
            write_gif(&path, &marked(k, [frames(k), 6, 8])).unwrap();
            fs::write(path.with_extension("txt"), format!(" clip {k}\n")).unwrap();
            path
        })
        .collect()
}

/// Truncates a file to a fraction of its bytes.
pub(crate) fn cut(path: &Path, part: f64) {
    let bytes = fs::read(path).unwrap();
    fs::write(path, &bytes[..(bytes.len() as f64 * part) as usize]).unwrap();
}

/// A GIF that claims a canvas of 65535 x 65535.
pub(crate) fn huge_gif(path: &Path) {
    let mut bytes = b"GIF89a".to_vec();
    bytes.extend([0xff, 0xff, 0xff, 0xff, 0x80, 0, 0]);
    bytes.extend([0; 6]); // two colours
    bytes.extend([0x2c, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0]);
    bytes.extend([2, 1, 0, 0, 0x3b]);
    fs::write(path, bytes).unwrap();
}

/// The header of a PNG that claims `side` x `side` pixels.
pub(crate) fn huge_png(path: &Path, side: u32) {
    let mut bytes = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR".to_vec();
    bytes.extend(side.to_be_bytes());
    bytes.extend(side.to_be_bytes());
    bytes.extend([8, 2, 0, 0, 0, 0, 0, 0, 0]);
    bytes.extend(b"\0\0\0\0IDAT\0\0\0\0\0\0\0\0IEND\0\0\0\0");
    fs::write(path, bytes).unwrap();
}

/// Five frames each: 0.gif, 1.gif and "sub/2,x.gif".
pub(crate) fn clips(root: &Path) {
    gifs(root, 2, |_| 5);
    fs::create_dir(root.join("sub")).unwrap();
    write_gif(&root.join("sub/2,x.gif"), &marked(2, [5, 6, 8])).unwrap();
}

pub(crate) fn table(root: &Path, name: &str, text: impl AsRef<[u8]>) -> Captions {
    fs::write(root.join(name), text).unwrap();
    Captions::Table(name.into())
}

pub(crate) fn read(name: &str, text: impl AsRef<[u8]>) -> Result<Folder, String> {
    let dir = tempfile::tempdir().unwrap();
    clips(dir.path());
    let captions = table(dir.path(), name, text);
    Folder::scan_with(dir.path(), &captions, 0).map_err(|e| e.to_string())
}

pub(crate) fn captions(folder: &Folder) -> Vec<Option<&str>> {
    folder.entries().iter().map(|entry| entry.caption.as_deref()).collect()
}

/// Finds ffmpeg. Without it a test prints a note and passes, unless VD_REQUIRE_FFMPEG is set.
#[allow(clippy::print_stderr, reason = "a test that shows nothing says so")]
pub(crate) fn ffmpeg() -> Option<&'static vd_data::Ffmpeg> {
    let found = vd_data::Ffmpeg::find();
    if let Err(why) = found {
        assert!(std::env::var_os("VD_REQUIRE_FFMPEG").is_none(), "{why}");
        eprintln!("not tested: {why}");
    }
    found.ok()
}

/// Makes a film from one of ffmpeg's animated test pictures.
pub(crate) fn film(path: &Path, picture: &str, options: &str) {
    let mut command = std::process::Command::new(&vd_data::Ffmpeg::find().unwrap().ffmpeg);
    command.args(["-nostdin", "-loglevel", "error", "-y", "-f", "lavfi", "-i", picture]);
    command.args(options.split_whitespace());
    let mut name = std::ffi::OsString::from("file:");
    name.push(path);
    let made = command.arg(name).output().unwrap();
    assert!(
        made.status.success(),
        "{picture} {options}: {}",
        String::from_utf8_lossy(&made.stderr)
    );
}
