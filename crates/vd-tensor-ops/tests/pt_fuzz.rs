//! Damaged and random checkpoints: an error or a value, never a panic or a hang.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

#[path = "fixtures/mod.rs"]
mod fixtures;
#[path = "fixtures/pickles.rs"]
mod pickles;

use std::fs;
use std::path::Path;

use fixtures::{fixture, floats, scratch};
use pickles::{Asm, archive, tensor};
use proptest::prelude::*;
use vd_tensor_ops::Result;
use vd_tensor_ops::pt::PtFile;

/// Reads all that a user could: the structure, every tensor, every dict of tensors at once.
fn read_all(path: &Path) -> Result<Vec<f64>> {
    let file = PtFile::open(path)?;
    let mut numbers = Vec::new();
    let parts = file.root().as_dict().unwrap_or_default().iter().map(|(_, part)| part);
    for value in [file.root()].into_iter().chain(parts) {
        let _ = format!("{value:?}");
        if let Some(info) = value.as_tensor() {
            numbers.extend(floats(&file.tensor(info)?));
        }
        let entries = value.as_dict().unwrap_or_default();
        if entries.iter().any(|(_, entry)| entry.as_tensor().is_some()) {
            for tensor in file.state_dict(value)?.values() {
                numbers.extend(floats(tensor));
            }
        }
    }
    Ok(numbers)
}

fn read_bytes(bytes: &[u8]) -> Result<Vec<f64>> {
    let folder = scratch();
    let path = folder.path().join("x.pt");
    fs::write(&path, bytes).unwrap();
    read_all(&path)
}

#[test]
fn no_flipped_byte_of_a_file_without_checksums_breaks_the_reader() {
    let bytes = fs::read(fixture("pt/no_checksums.pt")).unwrap();
    for at in 0..bytes.len() {
        for mask in [0x01, 0x10, 0x80, 0xff] {
            let mut damaged = bytes.clone();
            damaged[at] ^= mask;
            let _ = read_bytes(&damaged);
        }
    }
}

#[test]
fn a_flipped_byte_of_a_file_with_checksums_is_an_error_or_changes_no_number() {
    let bytes = fs::read(fixture("pt/trainer.pt")).unwrap();
    let numbers = read_bytes(&bytes).unwrap();
    let mut refused = 0;
    for at in 0..bytes.len() {
        let mut damaged = bytes.clone();
        damaged[at] ^= 0x04;
        match read_bytes(&damaged) {
            Ok(got) => assert_eq!(got, numbers, "byte {at}"),
            Err(_) => refused += 1,
        }
    }
    assert!(refused > 0);
}

#[test]
fn every_truncation_is_an_error() {
    for name in ["no_checksums", "trainer"] {
        let bytes = fs::read(fixture(&format!("pt/{name}.pt"))).unwrap();
        for len in 0..bytes.len() {
            assert!(read_bytes(&bytes[..len]).is_err(), "{name} cut to {len} bytes");
        }
    }
}

/// One opcode with a plausible argument.
fn step() -> impl Strategy<Value = Vec<u8>> {
    let plain: Vec<Vec<u8>> = b"N()]}tuesab012R.Q\x81\x85\x86\x87\x88\x89\x8f\x90\x91\x92\x93\x94"
        .iter()
        .map(|&op| vec![op])
        .collect();
    let whole = |asm: Asm| Just(asm.0);
    prop_oneof![
        6 => prop::sample::select(plain),
        2 => (prop::sample::select(b"qh".to_vec()), 0u8..4).prop_map(|(op, key)| vec![op, key]),
        2 => any::<i64>().prop_map(|n| Asm::new().int(n).0),
        2 => (0i64..5).prop_map(|n| Asm::new().int(n).0),
        1 => "[a-z]{0,3}".prop_map(|s| Asm::new().text(&s).0),
        1 => prop::sample::select(vec![
            ("collections", "OrderedDict"), ("builtins", "set"), ("_codecs", "encode"),
            ("torch._utils", "_rebuild_tensor_v2"), ("torch._utils", "_rebuild_tensor_v3"),
            ("torch._utils", "_rebuild_parameter"), ("torch._tensor", "_rebuild_from_type_v2"),
            ("torch", "Size"), ("torch", "FloatStorage"), ("torch", "float32"), ("a", "B"),
        ]).prop_map(|(module, name)| Asm::new().global(module, name).0),
        1 => whole(pickles::storage("FloatStorage", "0", 16)),
        1 => (any::<i64>(), -1i64..5, -1i64..5, -1i64..20).prop_map(|(wild, d, step, offset)| {
            let offset = if wild % 7 == 0 { wild } else { offset };
            tensor("FloatStorage", "0", 16, offset, &[d, 2], &[step, 1]).0
        }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(512) })]

    #[test]
    fn no_program_of_opcodes_breaks_the_reader(steps in prop::collection::vec(step(), 0..60)) {
        let pickle = steps.concat();
        let _ = read_bytes(&archive(&[("x/data.pkl", &[pickle, b".".to_vec()].concat()), ("x/data/0", &[0; 64])]));
    }

    #[test]
    fn no_random_pickle_breaks_the_reader(pickle in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = read_bytes(&archive(&[("x/data.pkl", &pickle), ("x/data/0", &[0; 64])]));
    }

    #[test]
    fn no_random_file_breaks_the_reader(tail in prop::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(read_bytes(&[b"PK\x03\x04".to_vec(), tail].concat()).is_err());
    }

    #[test]
    fn damage_in_many_places_does_not_break_the_reader(
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..20),
    ) {
        let mut bytes = fs::read(fixture("pt/no_checksums.pt")).unwrap();
        for (at, byte) in damage {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        let _ = read_bytes(&bytes);
    }
}
