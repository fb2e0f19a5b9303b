//! Reading shards: from before arrays were supported, more than are kept open, and truncated while
//! in use.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs;
use std::path::Path;

use proptest::prelude::*;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};
use vd_data::{Error, Folder, verify_shards};

/// An index line by line, as the first version wrote it.
fn index(folder: &Path, shards: &[usize], clips: &[String]) {
    let header = format!(
        "{{\"format\":\"vd-shards\",\"version\":1,\"settings\":{{\"source\":\"/videos\",\"channels\":3,\"stride\":1,\
         \"shard_bytes\":1073741824}},\"captions\":\"lines\",\"shards\":{shards:?},\"lines\":{}}}",
        clips.len()
    );
    let lines: String = clips.iter().map(|clip| format!("{{\"clip\":{clip}}}\n")).collect();
    fs::write(folder.join("index.jsonl"), format!("{header}\n{lines}")).unwrap();
}

/// A clip of an index, as the first version wrote it.
fn clip(k: usize, (shard, offset): (usize, usize), shape: [usize; 4], sha256: &str) -> String {
    format!(
        "{{\"name\":\"{k:03}.gif\",\"shard\":{shard},\"offset\":{offset},\"shape\":{shape:?},\"dtype\":\"u8\",\"fps\":\"12.5\",\
         \"caption\":\"clip {k}\",\"sha256\":\"{sha256}\",\"from\":{{\"files\":1,\"bytes\":9,\"modified\":1700000000000000000}}}}"
    )
}

fn bytes(n: usize, seed: u64) -> Vec<u8> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    (0..n).map(|_| random.next_u32() as u8).collect()
}

#[test]
fn shards_of_before_there_were_arrays_are_read_as_they_were() {
    let dir = tempfile::tempdir().unwrap();
    let shard: Vec<u8> = (0..=255).collect();
    fs::write(dir.path().join("shard-00000.bin"), &shard[..192 + 12]).unwrap();
    let lines = [
        clip(0, (0, 0), [2, 2, 3, 3], "5d7e2d9b1dcbc85e7c890036a2cf2f9f"),
        clip(1, (0, 192), [3, 2, 2, 1], "d1c595ca91192d192dc779003c7a1e00"),
    ];
    index(dir.path(), &[204], &lines);
    let folder = Folder::scan_shards(dir.path(), 0).unwrap();
    let entries = folder.entries();
    assert_eq!(entries[0].caption.as_deref(), Some("clip 0"));
    let whole = entries[0].media.decode(3).unwrap();
    assert_eq!((whole.frames.as_slice(), whole.fps, whole.f), (&shard[..36], 12.5, 2));
    let last = entries[1].media.decode_frames(1, &[2], 12.5).unwrap();
    assert_eq!(last.frames, [200, 201, 202, 203]);
    let floats = entries[1].media.decode_floats(1, Some(&[0, 2]), 12.5).unwrap();
    assert_eq!(floats.values, [192.0, 193.0, 194.0, 195.0, 200.0, 201.0, 202.0, 203.0]);
    // a grey clip in colour, as of any video
    assert_eq!(
        entries[1].media.decode_frames(3, &[0], 12.5).unwrap().frames[..6],
        [192, 192, 192, 193, 193, 193]
    );
    assert!(verify_shards(dir.path()).unwrap().damaged.is_empty());
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(40) })]

    #[test]
    fn any_frames_of_any_clip_are_its_bytes(
        seed in any::<u64>(),
        shapes in prop::collection::vec((1usize..9, 1usize..40, 1usize..40), 1..12),
        picks in prop::collection::btree_set(0usize..9, 1..6),
        shards in 1usize..4,
    ) {
        let dir = tempfile::tempdir().unwrap();
        let (mut files, mut lines, mut expected) = (vec![Vec::new(); shards], Vec::new(), Vec::new());
        for (k, (f, h, w)) in shapes.into_iter().enumerate() {
            let content = bytes(f * h * w * 3, seed ^ k as u64);
            let file: &mut Vec<u8> = &mut files[k % shards];
            file.resize(file.len().next_multiple_of(64), 0);
            lines.push(clip(k, (k % shards, file.len()), [f, h, w, 3], "0"));
            file.extend(&content);
            expected.push((content, f, h * w * 3));
        }
        for (k, file) in files.iter().enumerate() {
            fs::write(dir.path().join(format!("shard-{k:05}.bin")), file).unwrap();
        }
        index(dir.path(), &files.iter().map(Vec::len).collect::<Vec<_>>(), &lines);
        let folder = Folder::list_shards(dir.path()).unwrap();
        for (entry, (content, f, frame)) in folder.entries().iter().zip(expected) {
            prop_assert_eq!(&entry.media.decode(3).unwrap().frames, &content);
            let picks: Vec<usize> = picks.iter().copied().filter(|k| *k < f).collect();
            if !picks.is_empty() {
                let some = entry.media.decode_frames(3, &picks, 8.0).unwrap();
                let parts = picks.iter().map(|k| &content[k * frame..(k + 1) * frame]);
                prop_assert_eq!(some.frames, parts.collect::<Vec<_>>().concat());
            }
        }
    }
}

#[test]
fn more_shards_than_are_held_open_are_read() {
    let dir = tempfile::tempdir().unwrap();
    let n = 300;
    let lines: Vec<String> = (0..n)
        .map(|k| {
            fs::write(dir.path().join(format!("shard-{k:05}.bin")), bytes(60, k as u64)).unwrap();
            clip(k, (k, 0), [1, 4, 5, 3], "0")
        })
        .collect();
    index(dir.path(), &vec![60; n], &lines);
    let folder = Folder::list_shards(dir.path()).unwrap();
    for (k, entry) in folder.entries().iter().enumerate() {
        assert_eq!(entry.media.decode(3).unwrap().frames, bytes(60, k as u64));
    }
}

#[test]
fn a_shard_that_is_cut_under_a_process_is_an_error_and_a_longer_one_none() {
    let dir = tempfile::tempdir().unwrap();
    let page = 1 << 14;
    for (k, kept) in [(0, true), (299, false)] {
        let path = dir.path().join(format!("shard-{k:05}.bin"));
        let shape = [4, page / 64, 64, 3];
        let content = bytes(shape.iter().product(), 5);
        for n in 0..k {
            fs::write(dir.path().join(format!("shard-{n:05}.bin")), "").unwrap();
        }
        fs::write(&path, &content).unwrap();
        let mut lengths = vec![0; k];
        lengths.push(content.len());
        index(dir.path(), &lengths, &[clip(0, (k, 0), shape, "0")]);
        let folder = Folder::list_shards(dir.path()).unwrap();
        let media = &folder.entries()[0].media;
        let file = fs::File::options().append(true).open(&path).unwrap();
        file.set_len(content.len() as u64 + 100_000).unwrap();
        assert_eq!(media.decode(3).unwrap().frames, content, "{kept}");
        // whole pages are missing, and part of one
        for left in [content.len() - 1, content.len() / 2 + 100, 0] {
            file.set_len(left as u64).unwrap();
            let error = media.decode(3).unwrap_err();
            assert!(error.is_bad_file() && error.to_string().contains("truncated to"), "{error}");
            let refused = Folder::list_shards(dir.path()).unwrap_err();
            assert!(matches!(refused, Error::Shards { .. }), "{refused}");
        }
        // a file that replaces it does not affect the mapping
        fs::write(&path, &content).unwrap();
        let folder = Folder::list_shards(dir.path()).unwrap();
        fs::write(dir.path().join("other"), bytes(content.len(), 6)).unwrap();
        fs::rename(dir.path().join("other"), &path).unwrap();
        let now = folder.entries()[0].media.decode(3).unwrap().frames;
        assert_eq!(now == content, kept);
        fs::remove_file(&path).unwrap();
        assert_eq!(folder.entries()[0].media.decode(3).is_ok(), kept);
    }
}
