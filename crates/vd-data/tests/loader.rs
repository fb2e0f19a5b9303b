//! The order of clips: a function of seed and epoch, from any cursor, with any number of workers.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use common::{cut, gifs};
use tch::Kind;
use vd_data::{
    Batch, Clip, Crop, Cursor, DataConfig, Error, FireworksConfig, Loader, Short, Source, write_gif,
};

fn folder(path: &Path) -> DataConfig {
    DataConfig {
        source: Source::folder(path.to_path_buf()),
        frames: 4,
        size: [5, 5],
        crop: Crop::Random,
        flip: true,
        ..DataConfig::default()
    }
}

/// Everything in a batch, as values that can be compared bit by bit.
#[derive(Debug, PartialEq)]
struct Content {
    video: Vec<u8>,
    keep: Option<Vec<u8>>,
    captions: Vec<Option<String>>,
    fps: Vec<u64>,
    after: Cursor,
}

fn content(batch: &Batch) -> Content {
    let bytes = |tensor: &tch::Tensor| {
        let flat = tensor.to_kind(Kind::Uint8).contiguous().view(-1);
        Vec::<u8>::try_from(flat).unwrap()
    };
    Content {
        video: bytes(&batch.video),
        keep: batch.keep.as_ref().map(bytes),
        captions: batch.captions.clone(),
        fps: batch.fps.iter().map(|fps| fps.to_bits()).collect(),
        after: batch.cursor_after,
    }
}

fn run(config: &DataConfig, batch: usize, from: Cursor, batches: usize) -> Vec<Batch> {
    let mut loader = Loader::new(config, batch, from).unwrap();
    (0..batches).map(|_| loader.next().unwrap()).collect()
}

fn captions(batches: &[Batch]) -> Vec<String> {
    let all = batches.iter().flat_map(|batch| batch.captions.clone());
    all.map(Option::unwrap).collect()
}

/// Sources of both kinds, with short clips and a truncated file.
fn both(dir: &Path) -> [DataConfig; 2] {
    let files = gifs(dir, 11, |k| 2 + usize::from(k));
    cut(&files[4], 0.7);
    let fireworks = DataConfig {
        source: Source::Fireworks(FireworksConfig::default()),
        frames: 3,
        size: [10, 12],
        flip: true,
        ..DataConfig::default()
    };
    [folder(dir), fireworks]
}

#[test]
fn the_number_of_workers_changes_no_byte() {
    let dir = tempfile::tempdir().unwrap();
    for config in both(dir.path()) {
        let mut all = Vec::new();
        for workers in [0, 1, 2, 4] {
            let config = DataConfig { workers, ..config.clone() };
            let batches = run(&config, 3, Cursor::start(7), 10);
            all.push(batches.iter().map(content).collect::<Vec<_>>());
        }
        assert!(all.iter().all(|one| *one == all[0]));
    }
}

#[test]
fn a_saved_cursor_goes_on_byte_for_byte() {
    let dir = tempfile::tempdir().unwrap();
    for config in both(dir.path()) {
        let whole = run(&config, 3, Cursor::start(7), 12);
        for stop in [1, 3, 4, 8] {
            let text = serde_json::to_string(&whole[stop - 1].cursor_after).unwrap();
            let cursor: Cursor = serde_json::from_str(&text).unwrap();
            let rest = run(&config, 3, cursor, 12 - stop);
            for (a, b) in rest.iter().zip(&whole[stop..]) {
                assert_eq!(content(a), content(b));
            }
        }
    }
}

#[test]
fn every_epoch_has_each_clip_once_in_its_own_order() {
    let dir = tempfile::tempdir().unwrap();
    gifs(dir.path(), 12, |_| 6);
    let config = folder(dir.path());
    let names = captions(&run(&config, 4, Cursor::start(1), 6));
    let epochs: Vec<&[String]> = names.chunks(12).collect();
    for epoch in &epochs {
        assert_eq!(epoch.iter().collect::<BTreeSet<_>>().len(), 12);
    }
    assert_ne!(epochs[0], epochs[1]);
    assert_ne!(names, captions(&run(&config, 4, Cursor::start(2), 6)));
}

#[test]
fn a_batch_larger_than_the_data_set_runs_across_epochs() {
    let dir = tempfile::tempdir().unwrap();
    gifs(dir.path(), 3, |_| 6);
    let batches = run(&folder(dir.path()), 8, Cursor::start(1), 2);
    let names = captions(&batches);
    for epoch in names.chunks_exact(3) {
        assert_eq!(epoch.iter().collect::<BTreeSet<_>>().len(), 3);
    }
    assert_eq!((batches[1].cursor_after.epoch, batches[1].cursor_after.position), (5, 1));
}

#[test]
fn the_video_has_the_public_layout_and_the_frames_of_its_file() {
    let dir = tempfile::tempdir().unwrap();
    gifs(dir.path(), 5, |_| 9);
    let config = DataConfig { stride: 2, size: [6, 8], flip: false, ..folder(dir.path()) };
    let mut starts = BTreeSet::new();
    for batch in run(&config, 5, Cursor::start(3), 20) {
        assert_eq!((batch.video.size(), batch.video.kind()), (vec![5, 3, 4, 6, 8], Kind::Uint8));
        assert!(batch.keep.is_none());
        assert_eq!(batch.fps, [5.0; 5]);
        for (k, name) in batch.captions.iter().enumerate() {
            // red is the clip, green the frame, blue the column
            let at = |c, f, x| batch.video.int64_value(&[k as i64, c, f, 2, x]);
            assert_eq!(name.as_deref(), Some(format!("clip {}", at(0, 0, 0)).as_str()));
            let frames: Vec<i64> = (0..4).map(|f| at(1, f, 3)).collect();
            assert!(frames.windows(2).all(|pair| pair[1] == pair[0] + 2));
            assert!((0..8).all(|x| at(2, 1, x) == x));
            starts.insert(frames[0]);
        }
    }
    // nine frames hold a span of seven at 0, 1 and 2
    assert_eq!(starts, BTreeSet::from([0, 1, 2]));
}

#[test]
fn one_flip_holds_for_all_frames_of_a_clip() {
    let dir = tempfile::tempdir().unwrap();
    gifs(dir.path(), 8, |_| 6);
    let config = DataConfig { size: [6, 8], ..folder(dir.path()) };
    let mut flipped = 0;
    for batch in run(&config, 8, Cursor::start(3), 8) {
        for k in 0..8 {
            let first = |f| batch.video.int64_value(&[k, 2, f, 0, 0]);
            assert!((0..4).all(|f| first(f) == first(0)));
            assert!(first(0) == 0 || first(0) == 7);
            flipped += usize::from(first(0) == 7);
        }
    }
    // half of 64, plus or minus four standard deviations
    assert!((16..=48).contains(&flipped), "{flipped}");
}

#[test]
fn short_clips_are_padded_and_marked_or_left_out() {
    let dir = tempfile::tempdir().unwrap();
    gifs(dir.path(), 6, |k| 1 + usize::from(k));
    let config = DataConfig { size: [6, 8], flip: false, ..folder(dir.path()) };
    let batch = &run(&config, 6, Cursor::start(3), 1)[0];
    let keep = batch.keep.as_ref().unwrap();
    assert_eq!((keep.size(), keep.kind()), (vec![6, 4], Kind::Bool));
    for k in 0..6 {
        let clip = batch.video.int64_value(&[k, 0, 0, 0, 0]);
        for f in 0..4 {
            let real = f <= clip;
            assert_eq!(keep.int64_value(&[k, f]) == 1, real);
            if !real {
                // green is the index of the frame: the last one is repeated
                assert_eq!(batch.video.int64_value(&[k, 1, f, 0, 0]), clip);
            }
        }
    }
    let skip = DataConfig { short: Short::Skip, ..config };
    let batches = run(&skip, 3, Cursor::start(3), 2);
    let names: BTreeSet<String> = captions(&batches).into_iter().collect();
    assert_eq!(names, ["clip 3", "clip 4", "clip 5"].map(str::to_owned).into());
    assert!(batches.iter().all(|batch| batch.keep.is_none()));
    let long = DataConfig { frames: 7, ..skip };
    let error = Loader::new(&long, 3, Cursor::start(3)).unwrap().next().unwrap_err();
    assert!(matches!(error, Error::NoClips { .. }), "{error}");
    assert!(error.to_string().contains("frames = 7"), "{error}");
}

#[test]
fn a_file_that_breaks_off_is_skipped_counted_once_and_bounded() {
    let dir = tempfile::tempdir().unwrap();
    let files = gifs(dir.path(), 6, |_| 6);
    cut(&files[1], 0.6);
    fs::write(dir.path().join("z.gif"), "text").unwrap();
    for workers in [0, 2] {
        let config = DataConfig { workers, max_bad_files: 2, ..folder(dir.path()) };
        let mut loader = Loader::new(&config, 5, Cursor::start(1)).unwrap();
        for _ in 0..4 {
            let names: BTreeSet<_> = loader.next().unwrap().captions.into_iter().collect();
            assert_eq!(names.len(), 5);
        }
        let bad: Vec<_> = loader.bad_files().iter().map(|b| b.path.clone()).collect();
        assert_eq!(bad, [dir.path().join("z.gif"), files[1].clone()]);
        let strict = DataConfig { max_bad_files: 1, ..config };
        let mut loader = Loader::new(&strict, 5, Cursor::start(1)).unwrap();
        let error = (0..2).find_map(|_| loader.next().err()).unwrap();
        assert!(matches!(error, Error::TooManyBadFiles { count: 2, max: 1, .. }), "{error}");
    }
    for file in &files {
        cut(file, 0.6);
    }
    let config = folder(dir.path());
    let error = Loader::new(&config, 2, Cursor::start(1)).unwrap().next().unwrap_err();
    assert!(matches!(error, Error::NoClips { .. }), "{error}");
}

#[test]
fn a_clip_of_impossible_proportions_is_a_bad_file() {
    let dir = tempfile::tempdir().unwrap();
    gifs(dir.path(), 3, |_| 6);
    let strip = Clip::new(vec![5; 4 * 16_000], [4, 1, 16_000, 1], 10.0).unwrap();
    write_gif(&dir.path().join("strip.gif"), &strip).unwrap();
    let config = DataConfig { size: [128, 128], ..folder(dir.path()) };
    let mut loader = Loader::new(&config, 4, Cursor::start(1)).unwrap();
    loader.next().unwrap();
    let reason = &loader.bad_files()[0].reason;
    assert!(reason.contains("strip.gif") && reason.contains("1 x 16000"), "{reason}");
}

#[test]
fn a_cursor_of_another_data_set_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    gifs(dir.path(), 4, |_| 6);
    let config = folder(dir.path());
    let cursor = run(&config, 3, Cursor::start(1), 1)[0].cursor_after;
    gifs(dir.path(), 5, |_| 6);
    let error = Loader::new(&config, 3, cursor).unwrap_err();
    assert!(error.to_string().contains("4 clips"), "{error}");
    let beyond = Cursor { position: 9, ..Cursor::start(1) };
    assert!(Loader::new(&config, 3, beyond).is_err());
    assert!(Loader::new(&config, 0, Cursor::start(1)).is_err());
    let endless = Loader::new(&DataConfig::default(), 3, cursor).unwrap_err();
    assert!(matches!(endless, Error::Cursor { .. }));
}
