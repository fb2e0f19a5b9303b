//! Damaged files of arrays: an error or numbers, never a panic, a hang or more memory than the file
//! justifies.
//!
//! `VD_FUZZ=1000000` sets the number of inputs for each parser.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "common/arrays.rs"]
mod arrays;

use std::fs;
use std::path::Path;

use arrays::{Kind, kinds, npy, npz, tensors};
use vd_data::{ArrayOptions, Captions, Folder, Result};
use vd_torch::fuzz::{Counting, Fuzz};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The maximum expansion of a byte by deflate.
const PACKED: usize = 1032;

fn kind(name: &str) -> Kind {
    kinds().into_iter().find(|kind| kind.name == name).unwrap()
}

fn value(index: &[usize]) -> u8 {
    (index.iter().sum::<usize>() % 100) as u8
}

/// An array of bytes, and one of big-endian floats in Fortran order.
fn plain() -> [Vec<u8>; 2] {
    [
        npy(kind("u8"), &[2, 3, 4], [false; 2], value),
        npy(kind("f32"), &[3, 2, 2, 2], [true, true], value),
    ]
}

/// Reads a whole file, and returns how many numbers it has.
fn read(folder: &Path) -> Result<usize> {
    let listed = Folder::list_arrays(folder, &Captions::Beside, &ArrayOptions::default())?;
    let mut numbers = 0;
    for entry in listed.entries() {
        let probe = entry.media.probe()?;
        for channels in 1..4 {
            let some = entry.media.decode_floats(channels, Some(&[probe.f - 1]), 10.0);
            let all = entry.media.decode_floats(channels, None, 10.0);
            numbers +=
                [some, all].into_iter().flatten().map(|clip| clip.values.len()).sum::<usize>();
        }
    }
    Ok(numbers)
}

/// Feeds mutations of `seeds` to the readers; a byte of a file yields at most `numbers` numbers.
fn fuzz(seeds: Vec<Vec<u8>>, numbers: usize) {
    let dir = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
    let path = dir.path().join("a.npy");
    // each number is read, decoded and stored, and takes 4 bytes in the result
    let fuzz = Fuzz::new(seeds).allocation(16 * numbers, 8 << 20);
    fuzz.run(|bytes| {
        fs::write(&path, bytes).unwrap();
        match read(dir.path()) {
            Ok(0) => Err("no number".to_owned()),
            Ok(read) => {
                // all numbers, and those of one frame again
                assert!(read <= 2 * numbers * bytes.len(), "{read}");
                Ok(())
            }
            Err(error) => Err(error.to_string()),
        }
    });
}

#[test]
fn no_damage_breaks_the_reader_of_npy() {
    fuzz(plain().to_vec(), 4);
}

#[test]
fn no_damage_breaks_the_reader_of_npz() {
    let [a, b] = plain();
    let both = [("a.npy", a), ("b.npy", b)];
    fuzz(vec![npz(&both, false), npz(&both, true)], PACKED);
}

#[test]
fn no_damage_breaks_the_reader_of_safetensors() {
    let shapes: [(&str, &[usize]); 2] = [("a", &[2, 3, 4]), ("b", &[2, 2, 2, 1])];
    fuzz(vec![tensors(kind("f32"), &shapes, value)], 4);
}
