//! Hundreds of thousands of damaged files: an error or a value, never a panic, a hang or excessive
//! memory.
//!
//! `VD_FUZZ=1000000` sets the number of inputs for each parser.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::fs;
use std::ops::ControlFlow;
use std::path::Path;

use common::apng::write_apng;
use common::{gifs, marked};
use image::{ImageFormat, Rgb, RgbImage};
use vd_data::{
    ArrayFormat, Captions, Clip, Dtype, Folder, Media, Prepare, ShardDtype, prepare, write_array,
    write_gif, write_webp,
};
use vd_torch::fuzz::{Counting, Fuzz};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// A frame may hold 8256 pixels for each byte of its file, with 4 bytes each while it is decoded;
/// an animation keeps a canvas, the previous one and copies of both.
const PER_BYTE: usize = 8256 * 4 * 8;

/// A folder in memory, if available: a disk is slow for so many writes.
fn scratch() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

/// Decodes two frames of a clip, so that state carried from one to the next is tested too.
fn decode(path: &Path) -> vd_data::Result<Clip> {
    let media = Media::File(path.to_path_buf());
    let probe = media.probe()?;
    let wanted: Vec<usize> = (0..probe.f.min(2)).collect();
    media.decode_frames(3, &wanted, probe.fps)
}

/// Feeds mutations of `seeds` to the decoders of a file.
fn images(seeds: Vec<Vec<u8>>) {
    let dir = scratch();
    let path = dir.path().join("a");
    let fuzz = Fuzz::new(seeds).allocation(PER_BYTE, 8 << 20);
    fuzz.run(|bytes| {
        fs::write(&path, bytes).unwrap();
        decode(&path)
    });
}

fn encoded(format: ImageFormat) -> Vec<u8> {
    let image = RgbImage::from_fn(17, 9, |x, y| Rgb([x as u8 * 15, y as u8 * 28, 7]));
    let mut bytes = std::io::Cursor::new(Vec::new());
    image.write_to(&mut bytes, format).unwrap();
    bytes.into_inner()
}

#[test]
fn gif() {
    let dir = scratch();
    let path = dir.path().join("a.gif");
    let seeds = [[3, 6, 8], [1, 1, 1], [2, 30, 20]].map(|shape| {
        write_gif(&path, &marked(3, shape)).unwrap();
        fs::read(&path).unwrap()
    });
    images(seeds.to_vec());
}

#[test]
fn png_and_apng() {
    let dir = scratch();
    let path = dir.path().join("a.png");
    let frames =
        [3, 90, 200].map(|red| RgbImage::from_fn(5, 4, |x, y| Rgb([red, x as u8, y as u8])));
    write_apng(&path, &frames, 3);
    images(vec![encoded(ImageFormat::Png), fs::read(&path).unwrap()]);
}

/// Allocations of the C library are not counted.
#[test]
fn webp() {
    let dir = scratch();
    let path = dir.path().join("a.webp");
    let seeds = [[3, 6, 8], [2, 9, 5]].map(|shape| {
        write_webp(&path, &marked(3, shape)).unwrap();
        fs::read(&path).unwrap()
    });
    images(seeds.to_vec());
}

#[test]
fn jpeg() {
    images(vec![encoded(ImageFormat::Jpeg)]);
}

/// Tables of two existing clips.
fn tables(name: &str, seeds: &[&str]) {
    let dir = scratch();
    let path = dir.path().join(name);
    let captions = Captions::Table(name.into());
    for k in ["0.gif", "1.gif"] {
        write_gif(&dir.path().join(k), &marked(0, [1, 1, 1])).unwrap();
    }
    // a value of one letter takes a separate node, with its name
    let seeds = seeds.iter().map(|seed| seed.as_bytes().to_vec()).collect();
    let fuzz = Fuzz::new(seeds).allocation(512, 1 << 20);
    fuzz.run(|bytes| {
        fs::write(&path, bytes).unwrap();
        Folder::list_with(dir.path(), &captions).map(drop)
    });
}

#[test]
fn comma_separated_captions() {
    tables(
        "t.csv",
        &[
            "file,caption,speed\n0.gif,\"a \"\"red\"\" one,\ntwo\",1.5\n1.gif,,2e3\n",
            "\u{feff}caption,file\r\nä,0.gif\r\n",
        ],
    );
}

#[test]
fn captions_in_lines_of_json() {
    tables(
        "t.jsonl",
        &[
            "{\"file\": \"0.gif\", \"caption\": \"a \\u00e4\", \"n\": [1, 2.5e-3]}\n{\"file\": \"1.gif\", \"yes\": true}\n",
            "{\"file\": \"1.gif\", \"at\": [[1, 2], [3, 4]], \"t\": null}",
        ],
    );
}

/// Feeds mutations of the index in `out` to its reader, and reads the listed clips.
fn fuzz_index(out: &Path, channels: usize) {
    let index = out.join("index.jsonl");
    let seed = fs::read(&index).unwrap();
    Fuzz::new(vec![seed]).allocation(64, 1 << 20).run(|bytes| {
        fs::write(&index, bytes).unwrap();
        let folder = Folder::list_shards(out)?;
        // the values of the index are trusted, so they must be valid
        for entry in folder.entries() {
            if let Ok(probe) = entry.media.probe() {
                let last = [probe.f - 1];
                let pixels = entry.media.decode_frames(3, &last, probe.fps).map(drop);
                let numbers = entry.media.decode_floats(channels, Some(&last), probe.fps);
                pixels.or(numbers.map(drop))?;
            }
        }
        vd_data::Result::Ok(())
    });
}

#[test]
fn index_of_shards() {
    let dir = scratch();
    let (videos, out) = (dir.path().join("videos"), dir.path().join("out"));
    fs::create_dir(&videos).unwrap();
    gifs(&videos, 3, |k| 1 + usize::from(k));
    fs::write(videos.join("bad.gif"), "GIF89a").unwrap();
    prepare(&Prepare::new(&videos, &out), &mut |_| ControlFlow::Continue(())).unwrap();
    fuzz_index(&out, 3);
}

#[test]
fn index_of_shards_of_arrays() {
    let dir = scratch();
    let (arrays, out) = (dir.path().join("arrays"), dir.path().join("out"));
    fs::create_dir(&arrays).unwrap();
    for k in 0..3 {
        let path = arrays.join(format!("{k}.npy"));
        let values: Vec<f32> = (0..2 * 3 * 4 * 2).map(|x| x as f32 / 3.0).collect();
        write_array(&path, ArrayFormat::Npy, Dtype::F32, &[2, 3, 4, 2], &values).unwrap();
    }
    let config = Prepare { dtype: Some(ShardDtype::F16), ..Prepare::new(&arrays, &out) };
    prepare(&config, &mut |_| ControlFlow::Continue(())).unwrap();
    fuzz_index(&out, 2);
}
