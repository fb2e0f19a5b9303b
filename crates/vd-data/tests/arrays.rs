//! Arrays on disk are read exactly as written, whatever their layout.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "common/arrays.rs"]
mod arrays;

use std::fs;
use std::path::Path;

use arrays::{Kind, kinds, npy, npz, tensors};
use proptest::prelude::*;
use vd_data::{ArrayFormat, ArrayOptions, Captions, Dtype, FloatClip, Folder, Media, write_array};

/// Clips, and the folder that contains them.
#[derive(Debug)]
struct Listed(Vec<Media>, #[allow(dead_code, reason = "dropped with the clips")] tempfile::TempDir);

impl std::ops::Deref for Listed {
    type Target = [Media];

    fn deref(&self) -> &[Media] {
        &self.0
    }
}

/// Lists a folder with one file.
fn listed(bytes: &[u8], name: &str, options: &ArrayOptions) -> Result<Listed, String> {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join(name), bytes).unwrap();
    let folder = Folder::list_arrays(dir.path(), &Captions::Beside, options).unwrap();
    if let Some(bad) = folder.bad_files().first() {
        return Err(bad.reason.clone());
    }
    Ok(Listed(folder.entries().iter().map(|entry| entry.media.clone()).collect(), dir))
}

fn options(axes: &str) -> ArrayOptions {
    ArrayOptions { axes: Some(axes.parse().unwrap()), member: None }
}

/// The value at a position, given by the letters of its axes.
fn value(axes: &str, index: &[usize]) -> u8 {
    let weights = [(b'n', 61), (b'f', 17), (b'h', 7), (b'w', 3), (b'c', 29)];
    let of = |letter: u8| weights.iter().find(|(l, _)| *l == letter).map_or(0, |(_, w)| *w);
    let sum: usize = axes.bytes().zip(index).map(|(letter, k)| of(letter) * (k + 1)).sum();
    (sum % 101) as u8
}

/// The expected content of a clip: f h w c.
fn expected(n: usize, frames: &[usize], [h, w, c]: [usize; 3]) -> Vec<f32> {
    let mut values = Vec::new();
    for f in frames {
        for y in 0..h {
            for x in 0..w {
                for k in 0..c {
                    values.push(f32::from(value("nfhwc", &[n, *f, y, x, k])));
                }
            }
        }
    }
    values
}

fn axes() -> impl Strategy<Value = String> {
    prop_oneof![Just("fhw"), Just("fhwc"), Just("nfhwc")].prop_flat_map(|letters| {
        Just(letters.chars().collect::<Vec<_>>()).prop_shuffle().prop_map(String::from_iter)
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(200) })]

    #[test]
    fn any_layout_of_any_kind_gives_its_numbers_back(
        axes in axes(),
        [n, f, h, w, c] in [1usize..4, 1..6, 1..5, 1..5, 1..4],
        kind in prop::sample::select(kinds()),
        big: bool, fortran: bool, file in 0usize..4,
        picks in prop::collection::btree_set(0usize..6, 1..4),
    ) {
        let extent = |letter| match letter { 'n' => n, 'f' => f, 'h' => h, 'w' => w, _ => c };
        let shape: Vec<usize> = axes.chars().map(extent).collect();
        let (n, c) = (if axes.contains('n') { n } else { 1 }, if axes.contains('c') { c } else { 1 });
        // the contribution of an axis that is missing
        let shift = |letter: char, weight: usize| if axes.contains(letter) { 0 } else { weight };
        let of = |index: &[usize]| {
            let missing = shift('n', 61) + shift('c', 29);
            ((usize::from(value(&axes, index)) + missing) % 101) as u8
        };
        let plain = || npy(kind, &shape, [big, fortran], of);
        let (bytes, name) = match (file, kind.npy) {
            (3, _) | (_, "") => (tensors(kind, &[("a", shape.as_slice())], of), "a.safetensors"),
            (0, _) => (plain(), "a.npy"),
            (file, _) => (npz(&[("a.npy", plain())], file == 2), "a.npz"),
        };
        let clips = listed(&bytes, name, &options(&axes)).unwrap();
        prop_assert_eq!(clips.len(), n);
        let picks: Vec<usize> = picks.into_iter().filter(|k| *k < f).collect();
        for (k, media) in clips.iter().enumerate() {
            let all: Vec<usize> = (0..f).collect();
            let whole = media.decode_floats(c, None, 10.0).unwrap();
            prop_assert_eq!(whole.shape(), [f, h, w, c]);
            prop_assert_eq!(&whole.values, &expected(k, &all, [h, w, c]));
            if !picks.is_empty() {
                let some = media.decode_floats(c, Some(&picks), 10.0).unwrap();
                prop_assert_eq!(some.values, expected(k, &picks, [h, w, c]));
            }
            if kind.name == "u8" && (c == 1 || c == 3) {
                let bytes = media.decode(c).unwrap();
                prop_assert_eq!(FloatClip::from(&bytes), whole);
            }
        }
    }
}

fn by_name(name: &str) -> Kind {
    kinds().into_iter().find(|kind| kind.name == name).unwrap()
}

#[test]
fn eight_frames_of_many_gigabytes_are_read_without_the_rest() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("long.npy");
    let frames = 1usize << 17;
    for (order, frame) in [("False", frames - 9), ("True", 3)] {
        let (shape, axes) = match order {
            "False" => (format!("({frames}, 256, 256)"), "fhw"),
            _ => (format!("(256, 256, {frames})"), "whf"),
        };
        let text = format!("{{'descr': '|u1', 'fortran_order': {order}, 'shape': {shape}}}");
        let header = arrays::header(&text);
        fs::write(&path, &header).unwrap();
        // a hole of 8 GiB
        let file = fs::File::options().write(true).open(&path).unwrap();
        file.set_len((header.len() + frames * 256 * 256) as u64).unwrap();
        let folder = Folder::list_arrays(dir.path(), &Captions::Beside, &options(axes)).unwrap();
        let media = &folder.entries()[0].media;
        assert_eq!(media.probe().unwrap().f, frames);
        let wanted: Vec<usize> = (frame..frame + 8).collect();
        let clip = media.decode(1);
        assert!(clip.unwrap_err().to_string().contains("at most"));
        let clip = media.decode_frames(1, &wanted, 10.0).unwrap();
        assert_eq!(clip.frames, vec![0; 8 * 256 * 256]);
    }
}

#[test]
fn of_several_arrays_all_are_clips_or_the_one_that_is_named() {
    let kind = by_name("f32");
    let array = |shape: &[usize], x: u8| npy(kind, shape, [false; 2], |_| x);
    let files = |last: Vec<u8>| {
        [("b10.npy", array(&[2, 3, 4], 1)), ("b9.npy", array(&[5, 3, 4], 2)), ("readme.txt", last)]
    };
    let bytes = npz(&files(b"text".to_vec()), true);
    let clips = listed(&bytes, "a.npz", &ArrayOptions::default()).unwrap();
    let frames: Vec<_> = clips.iter().map(|clip| clip.probe().unwrap().f).collect();
    assert_eq!(frames, [5, 2]);
    let member = |name: &str| ArrayOptions { axes: None, member: Some(name.to_owned()) };
    let one = listed(&bytes, "a.npz", &member("b10")).unwrap();
    assert_eq!((one.len(), one[0].probe().unwrap().f), (1, 2));
    let none = listed(&bytes, "a.npz", &member("b1")).unwrap_err();
    assert!(none.contains("`b1`") && none.contains("b10, b9"), "{none}");
    let labels = [("x.npy", array(&[2, 3, 4], 1)), ("labels.npy", array(&[2], 1))];
    let error = listed(&npz(&labels, false), "a.npz", &ArrayOptions::default()).unwrap_err();
    assert!(error.contains("`labels`") && error.contains("data.member"), "{error}");
    let shapes: [(&str, &[usize]); 2] = [("video", &[2, 3, 4]), ("labels", &[2])];
    let bytes = tensors(kind, &shapes, |_| 3);
    assert!(listed(&bytes, "a.safetensors", &ArrayOptions::default()).is_err());
    assert_eq!(listed(&bytes, "a.safetensors", &member("video")).unwrap().len(), 1);
}

#[test]
fn what_a_file_is_its_first_bytes_say() {
    let kind = by_name("u8");
    let bytes = npy(kind, &[2, 3, 4], [false; 2], |_| 7);
    for name in ["a.npz", "a.safetensors", "a.gif"] {
        let clips = listed(&bytes, name, &ArrayOptions::default()).unwrap();
        assert_eq!(clips[0].decode(1).unwrap().frames, [7; 24]);
    }
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.npy");
    fs::write(&path, &bytes).unwrap();
    assert_eq!(vd_data::decode(&path, 1).unwrap().frames, [7; 24]);
    fs::write(&path, npy(by_name("f32"), &[2, 3, 4], [false; 2], |_| 7)).unwrap();
    let error = vd_data::decode(&path, 1).unwrap_err().to_string();
    assert!(error.contains("f32") && error.contains("data.normalise"), "{error}");
}

#[test]
fn headers_that_lie_are_refused_before_anything_is_allocated_for_them() {
    let header = |shape: &str| {
        let text = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}}}");
        [arrays::header(&text), vec![0; 96]].concat()
    };
    for (shape, said) in [
        ("(2, 3, 5)", "120 bytes"),
        ("(2, 3, 3)", "72 bytes"),
        ("(1000000, 100000, 100000)", "40000000000000000 bytes"),
        ("(4611686018427387904, 4, 4)", "too many to count"),
        ("(-2, 3, 4)", "shape"),
        ("(24,)", "data.axes"),
        ("(2, 3, 4, 1, 1)", "data.axes"),
        ("(0, 3, 4)", "0 bytes"),
    ] {
        let error = listed(&header(shape), "a.npy", &ArrayOptions::default()).unwrap_err();
        assert!(error.contains(said), "{shape}: {error}");
    }
    let tensor = |shape: &str, end: &str| {
        let json =
            format!("{{\"a\":{{\"dtype\":\"F32\",\"shape\":{shape},\"data_offsets\":[0,{end}]}}}}");
        [(json.len() as u64).to_le_bytes().to_vec(), json.into_bytes(), vec![0; 96]].concat()
    };
    assert_eq!(
        listed(&tensor("[2,3,4]", "96"), "a.npy", &ArrayOptions::default()).unwrap().len(),
        1
    );
    for (shape, end) in [("[2,3,5]", "120"), ("[2,3,4]", "95"), ("[2,3,9223372036854775807]", "96")]
    {
        assert!(listed(&tensor(shape, end), "a.npy", &ArrayOptions::default()).is_err());
    }
    let mut long = tensor("[2,3,4]", "96");
    long[..8].copy_from_slice(&(1u64 << 40).to_le_bytes());
    assert!(listed(&long, "a.safetensors", &ArrayOptions::default()).is_err());
}

#[test]
fn a_file_that_becomes_shorter_is_damaged() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.npy");
    let bytes = npy(by_name("f64"), &[9, 4, 4], [false; 2], |_| 7);
    fs::write(&path, &bytes).unwrap();
    let folder = Folder::scan(dir.path(), 0).unwrap();
    fs::write(&path, &bytes[..bytes.len() - 8]).unwrap();
    let media = &folder.entries()[0].media;
    assert!(media.decode_floats(1, Some(&[0]), 10.0).is_ok());
    let error = media.decode_floats(1, Some(&[8]), 10.0).unwrap_err();
    assert!(error.is_bad_file(), "{error}");
}

#[test]
fn written_arrays_come_back() {
    let dir = tempfile::tempdir().unwrap();
    let values: Vec<f32> = (0..2 * 3 * 4 * 5).map(|k| k as f32 - 7.25).collect();
    for format in [ArrayFormat::Npy, ArrayFormat::Safetensors] {
        for dtype in [Dtype::F32, Dtype::F64, Dtype::I16, Dtype::U8, Dtype::F16] {
            let path = dir.path().join("a");
            write_array(&path, format, dtype, &[2, 3, 4, 5], &values).unwrap();
            let clip = Media::at(&path).unwrap().decode_floats(5, None, 10.0).unwrap();
            let kept = |x: f32| match dtype {
                Dtype::I16 => x.round(),
                Dtype::U8 => x.round().max(0.0),
                _ => x,
            };
            assert_eq!(clip.shape(), [2, 3, 4, 5]);
            let expected: Vec<f32> = values.iter().map(|x| kept(*x)).collect();
            assert_eq!(clip.values, expected, "{dtype}");
        }
    }
    let bf16 = write_array(Path::new("x.npy"), ArrayFormat::Npy, Dtype::Bf16, &[1], &[1.0]);
    assert!(bf16.unwrap_err().to_string().contains("f16"));
    assert!(write_array(Path::new("x"), ArrayFormat::Npy, Dtype::F32, &[2], &[1.0]).is_err());
}
