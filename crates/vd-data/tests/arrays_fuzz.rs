//! Damaged files of arrays: an error or numbers, never a panic, a hang or more memory than the file's.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "common/arrays.rs"]
mod arrays;

use std::fs;
use std::path::Path;

use arrays::{kinds, npy, npz, tensors};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};
use vd_data::{ArrayOptions, Captions, Folder};

/// Damaged inputs of each file; VD_FUZZ says another number.
const INPUTS: u64 = 5_000;

fn seeds() -> Vec<Vec<u8>> {
    let [u8s, f32s] =
        ["u8", "f32"].map(|name| kinds().into_iter().find(|kind| kind.name == name).unwrap());
    let of = |index: &[usize]| (index.iter().sum::<usize>() % 100) as u8;
    let plain = npy(u8s, &[2, 3, 4], [false; 2], of);
    let turned = npy(f32s, &[3, 2, 2, 2], [true, true], of);
    let both = [("a.npy", plain.clone()), ("b.npy", turned.clone())];
    let shapes: [(&str, &[usize]); 2] = [("a", &[2, 3, 4]), ("b", &[2, 2, 2, 1])];
    vec![plain, turned, npz(&both, false), npz(&both, true), tensors(f32s, &shapes, of)]
}

/// Flips, replacements, cuts, insertions and numbers of unusual size.
fn damage(bytes: &mut Vec<u8>, random: &mut ChaCha8Rng) {
    let mut below = |n: usize| (random.next_u64() % n.max(1) as u64) as usize;
    for _ in 0..1 + below(4) {
        let at = below(bytes.len());
        match below(7) {
            0 => bytes[at] ^= 1 << below(8),
            1 => bytes[at] = below(256) as u8,
            2 => bytes.truncate(at.max(1)),
            3 => bytes.insert(at, b"0129 -,()[]{}'\"<>"[below(17)]),
            4 => bytes[at] = b"0129 -,()[]{}'\"<>"[below(17)],
            5 => {
                let end = bytes.len().min(at + 8);
                let number = [0, 1, u64::MAX, 1 << 31, 1 << 40, 0xffff][below(6)].to_le_bytes();
                bytes[at..end].copy_from_slice(&number[..end - at]);
            }
            _ => {
                let part = bytes[at..bytes.len().min(at + 16)].to_vec();
                bytes.splice(at..at, part);
            }
        }
    }
}

/// Reads all that there is of a file.
fn read(folder: &Path) -> usize {
    let listed = Folder::list_arrays(folder, &Captions::Beside, &ArrayOptions::default()).unwrap();
    let mut numbers = 0;
    for entry in listed.entries() {
        let probe = entry.media.probe().unwrap();
        for channels in 1..4 {
            let some = entry.media.decode_floats(channels, Some(&[probe.f - 1]), 10.0);
            let all = entry.media.decode_floats(channels, None, 10.0);
            numbers +=
                [some, all].into_iter().flatten().map(|clip| clip.values.len()).sum::<usize>();
        }
    }
    numbers
}

#[test]
fn no_damage_breaks_the_readers_of_arrays() {
    let inputs = std::env::var("VD_FUZZ").ok().and_then(|n| n.parse().ok()).unwrap_or(INPUTS);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.npy");
    for (k, seed) in seeds().into_iter().enumerate() {
        let mut random = ChaCha8Rng::seed_from_u64(k as u64);
        fs::write(&path, &seed).unwrap();
        assert!(read(dir.path()) > 0, "seed {k}");
        let mut sound = 0;
        for _ in 0..inputs {
            let mut bytes = seed.clone();
            damage(&mut bytes, &mut random);
            fs::write(&path, &bytes).unwrap();
            let numbers = read(dir.path());
            // of a sound clip all numbers and one frame of them are read, and no more than the file packs
            assert!(numbers <= 2 * 1100 * bytes.len(), "seed {k}: {numbers}");
            sound += u64::from(numbers > 0);
        }
        assert!(sound < inputs, "seed {k}: no damage was seen");
    }
}
