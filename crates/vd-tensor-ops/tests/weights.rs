//! Weight files: equal to Python's, byte-stable, strict, and never half written.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

#[path = "fixtures/mod.rs"]
mod fixtures;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use fixtures::{assert_equal, expected, fixture, floats, scratch};
use proptest::prelude::*;
use tch::{Device, Kind, Tensor};
use vd_tensor_ops::{Error, Noise, Result, SeededNoise, Weights};

fn read(path: &Path) -> Result<Weights> {
    Weights::read(path, Device::Cpu)
}

fn refusal(bytes: &[u8]) -> String {
    let folder = scratch();
    let path = folder.path().join("x.safetensors");
    fs::write(&path, bytes).unwrap();
    let message = read(&path).expect_err("is refused").to_string();
    assert!(message.contains("x.safetensors"), "{message}");
    message
}

/// A file of this JSON, padded as given, and this data.
fn raw(json: &str, data: &[u8]) -> Vec<u8> {
    [&(json.len() as u64).to_le_bytes()[..], json.as_bytes(), data].concat()
}

fn noise(seed: u64, shape: &[i64]) -> Tensor {
    SeededNoise::new(seed, 0).normal(&Tensor::zeros(shape, (Kind::Float, Device::Cpu)))
}

#[test]
fn a_file_of_python_has_pythons_values_and_metadata() {
    let weights = read(&fixture("weights/python.safetensors")).unwrap();
    let all = expected("weights/python.json");
    assert_eq!(weights.tensors.len(), all.len());
    for (name, tensor) in &weights.tensors {
        assert_equal(name, tensor, &all[name]);
    }
    assert_eq!(weights.metadata, BTreeMap::from([("format".into(), "pt".into())]));
}

#[test]
fn writing_what_python_wrote_gives_pythons_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("again.safetensors");
    let python = fixture("weights/python.safetensors");
    read(&python).unwrap().write(&path).unwrap();
    assert_eq!(fs::read(path).unwrap(), fs::read(python).unwrap());
}

#[test]
fn the_same_content_gives_the_same_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let files: Vec<Vec<u8>> = (0..8)
        .map(|run| {
            let mut weights = Weights::default();
            let mut names: Vec<_> =
                ["b", "a", "layer.10", "layer.9"].into_iter().enumerate().collect();
            names.rotate_left(run % 4);
            for (seed, name) in names {
                weights.tensors.insert(name.into(), noise(seed as u64, &[3, 2]));
                weights.metadata.insert(format!("key {name}"), "\"quoted\"\n\u{3b5}".into());
            }
            let path = folder.path().join(format!("{run}.safetensors"));
            weights.write(&path).unwrap();
            assert_eq!(read(&path).unwrap().metadata, weights.metadata);
            fs::read(path).unwrap()
        })
        .collect();
    assert!(files.iter().all(|file| *file == files[0]));
}

#[test]
fn each_tensor_starts_at_a_multiple_of_its_element() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.safetensors");
    let kinds = [Kind::Bool, Kind::Double, Kind::Uint8, Kind::BFloat16, Kind::Float, Kind::Int16];
    let tensors = kinds
        .iter()
        .enumerate()
        .map(|(k, &kind)| (format!("{k}"), Tensor::ones([3], (kind, Device::Cpu))));
    let weights = Weights { tensors: tensors.collect(), ..Default::default() };
    weights.write(&path).unwrap();
    let bytes = fs::read(&path).unwrap();
    let len = u64::from_le_bytes(*bytes.first_chunk().unwrap()) as usize;
    assert_eq!(len % 8, 0);
    let header: serde_json::Value = serde_json::from_slice(&bytes[8..8 + len]).unwrap();
    for (k, kind) in kinds.iter().enumerate() {
        let start = header[k.to_string()]["data_offsets"][0].as_u64().unwrap() as usize;
        assert_eq!(start % kind.elt_size_in_bytes(), 0, "{kind:?}");
    }
}

#[test]
fn views_are_written_as_what_they_show() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.safetensors");
    let base = noise(1, &[4, 6]);
    let views = [
        ("transposed", base.tr()),
        ("part", base.slice(1, 1, 6, 2)),
        ("expanded", base.slice(0, 0, 1, 1).expand([3, 6], false)),
        ("scalar", base.get(1).get(2)),
        ("empty", base.slice(0, 2, 2, 1)),
        ("tied", base.shallow_clone()),
        ("whole", base.shallow_clone()),
        ("trained", base.copy().set_requires_grad(true)),
    ];
    let tensors = views.iter().map(|(name, t)| (name.to_string(), t.shallow_clone())).collect();
    Weights { tensors, ..Default::default() }.write(&path).unwrap();
    let again = read(&path).unwrap();
    for (name, view) in views {
        let got = &again.tensors[name];
        assert_eq!((got.size(), got.kind()), (view.size(), view.kind()), "{name}");
        assert_eq!(floats(got), floats(&view), "{name}");
        assert!(!got.requires_grad());
    }
}

#[test]
fn no_tensors_at_all_are_a_file_too() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.safetensors");
    for metadata in [BTreeMap::new(), BTreeMap::from([("a".to_owned(), "b".to_owned())])] {
        let weights = Weights { metadata: metadata.clone(), ..Default::default() };
        weights.write(&path).unwrap();
        let again = read(&path).unwrap();
        assert_eq!((again.tensors.len(), again.metadata), (0, metadata));
    }
}

#[test]
fn dtypes_that_are_not_stored_are_named() {
    let message = read(&fixture("weights/float8.safetensors")).unwrap_err().to_string();
    assert!(message.contains("tensor `f8` has dtype F8_E4M3, expected one of"), "{message}");

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.safetensors");
    fs::write(&path, b"old").unwrap();
    for (kind, shown) in [(Kind::ComplexFloat, "ComplexFloat"), (Kind::Float8e5m2, "Float8e5m2")] {
        let odd = Tensor::zeros([2], (kind, Device::Cpu));
        let weights = Weights { tensors: [("odd".to_owned(), odd)].into(), ..Default::default() };
        let message = weights.write(&path).unwrap_err().to_string();
        assert!(message.contains(&format!("`odd` has dtype {shown}")), "{message}");
    }
    let reserved = [("__metadata__".to_owned(), noise(0, &[1]))].into();
    let message = Weights { tensors: reserved, ..Default::default() }.write(&path).unwrap_err();
    assert!(message.to_string().contains("reserves"), "{message}");
    assert_eq!(fs::read(&path).unwrap(), b"old");
}

#[test]
fn damaged_files_say_what_is_wrong() {
    let good = r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#;
    assert!(refusal(b"").contains("0 bytes are too few"));
    assert!(refusal(b"PK\x03\x04 a zip file, say").contains("not a safetensors file"));
    assert!(refusal(&raw(good, &[0; 8])[..30]).contains("truncated: the header"));
    assert!(refusal(&raw(good, &[0; 7])).contains("truncated: the tensors take 8 bytes"));
    assert!(refusal(&raw(good, &[0; 9])).contains("too long: the tensors take 8 bytes"));
    assert!(refusal(&raw("[]", &[])).contains("header is damaged"));
    let cases: [(&str, usize, &str); 8] = [
        (r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}}"#, 4, "header is damaged"),
        (r#"{"a":{"dtype":"F33","shape":[2],"data_offsets":[0,8]}}"#, 8, "F33"),
        (r#"{"a":{"dtype":"F32","shape":[-2],"data_offsets":[0,8]}}"#, 8, "-2"),
        (
            r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[8,0]}}"#,
            8,
            "invalid offset for tensor",
        ),
        (
            r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}}"#,
            12,
            "invalid offset for tensor",
        ),
        (
            r#"{"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},"b":{"dtype":"U8","shape":[4],"data_offsets":[2,6]}}"#,
            6,
            "invalid offset for tensor",
        ),
        (
            r#"{"a":{"dtype":"F32","shape":[0,9223372036854775807,9],"data_offsets":[0,0]}}"#,
            0,
            "too large",
        ),
        (
            r#"{"a":{"dtype":"BOOL","shape":[2],"data_offsets":[0,2]}}"#,
            2,
            "a bool is 0 or 1, got 7",
        ),
    ];
    for (json, len, want) in cases {
        let message = refusal(&raw(json, &vec![7; len]));
        assert!(message.contains(want), "{json}: {message}");
    }
    assert!(refusal(&raw(&"[".repeat(100_000), &[])).contains("header is damaged"));
}

#[test]
fn offsets_near_the_largest_number_do_not_overflow() {
    // Nine tensors of which each passes for itself, and whose sum with the header would wrap around.
    let each = (1u64 << 61) - 1;
    let mut tensors = Vec::new();
    for k in 0..8u64 {
        let (start, end) = (k * each, (k + 1) * each);
        tensors.push(format!(
            r#""{k}":{{"dtype":"U8","shape":[{each}],"data_offsets":[{start},{end}]}}"#
        ));
    }
    let start = 8 * each;
    tensors.push(format!(
        r#""8":{{"dtype":"U8","shape":[7],"data_offsets":[{start},{}]}}"#,
        start + 7
    ));
    let message = refusal(&raw(&format!("{{{}}}", tensors.join(",")), &[]));
    assert!(
        message.contains("truncated: the tensors take 18446744073709551615 bytes"),
        "{message}"
    );
}

#[test]
fn every_flipped_byte_and_every_truncation_is_survived() {
    let folder = scratch();
    let path = folder.path().join("x.safetensors");
    let bytes = fs::read(fixture("weights/python.safetensors")).unwrap();
    for at in 0..bytes.len() {
        for mask in [0x01, 0x80, 0xff] {
            let mut damaged = bytes.clone();
            damaged[at] ^= mask;
            fs::write(&path, damaged).unwrap();
            let _ = read(&path);
        }
        fs::write(&path, &bytes[..at]).unwrap();
        assert!(read(&path).is_err(), "cut to {at} bytes");
    }
}

#[test]
fn what_is_no_file_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let message = read(folder.path()).unwrap_err().to_string();
    assert!(message.contains("is a directory"), "{message}");
    let message = read(Path::new("/dev/null")).unwrap_err().to_string();
    assert!(message.contains("/dev/null: is not a regular file"), "{message}");
    let absent = folder.path().join("absent");
    assert!(matches!(read(&absent), Err(Error::Io { path, .. }) if path == absent));
}

fn kinds() -> impl Strategy<Value = Kind> {
    use Kind::*;
    prop::sample::select(vec![Double, Float, Half, BFloat16, Int64, Int, Int16, Int8, Uint8, Bool])
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(64) })]

    #[test]
    fn what_is_written_is_read(
        layout in prop::collection::btree_map(
            ".{0,12}", (kinds(), prop::collection::vec(0i64..5, 0..5), any::<u64>(), any::<bool>()), 0..6,
        ),
        metadata in prop::collection::btree_map(".{0,8}", ".{0,8}", 0..4),
    ) {
        let tensors: BTreeMap<String, Tensor> = layout.into_iter().map(|(name, (kind, shape, seed, turned))| {
            let tensor = (noise(seed, &shape) * 9.0).to_kind(Kind::Int).abs().clamp(0, 100).to_kind(kind);
            let axes: Vec<i64> = (0..shape.len() as i64).rev().collect();
            (name, if turned { tensor.permute(axes) } else { tensor })
        }).collect();
        let folder = scratch();
        let path = folder.path().join("x.safetensors");
        let weights = Weights { tensors, metadata };
        weights.write(&path).unwrap();
        let again = read(&path).unwrap();
        prop_assert_eq!(&again.metadata, &weights.metadata);
        prop_assert!(again.tensors.keys().eq(weights.tensors.keys()));
        for (name, tensor) in &weights.tensors {
            let got = &again.tensors[name];
            prop_assert_eq!((got.size(), got.kind()), (tensor.size(), tensor.kind()));
            prop_assert_eq!(floats(got), floats(tensor));
        }
    }
}
