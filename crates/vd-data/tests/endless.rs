//! Loaders over generators: endless clips, drawn by threads.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use vd_data::{Clip, Cursor, DataConfig, Dataset, Error, Generator, Loader, Result};

#[test]
fn a_dropped_loader_ends_its_threads() {
    let config = DataConfig { workers: 3, ..DataConfig::default() };
    // immediately, after a batch, and with all work in flight
    for batches in 0..3 {
        let mut loader = Loader::new(&config, 4, Cursor::start(1)).unwrap();
        for _ in 0..batches {
            loader.next().unwrap();
        }
        drop(loader);
    }
}

/// A generator of a downstream crate: every clip shows its own number; some of them panic.
#[derive(Debug)]
struct Numbers;

impl Generator for Numbers {
    fn clip(
        &self,
        _seed: u64,
        index: u64,
        frames: usize,
        [h, w]: [usize; 2],
        channels: usize,
    ) -> Result<(Clip, String)> {
        assert_ne!(index, 6, "a generator with a fault");
        let bytes = vec![index as u8; frames * h * w * channels];
        Ok((Clip::new(bytes, [frames, h, w, channels], 10.0)?, index.to_string()))
    }
}

#[test]
fn a_generator_of_ones_own_can_be_loaded_and_its_panic_is_an_error() {
    let config = DataConfig { channels: 1, ..DataConfig::default() };
    let dataset = Dataset::endless(&config, Box::new(Numbers)).unwrap();
    let mut loader = Loader::over(dataset, 3, Cursor::start(1)).unwrap();
    for k in 0..2 {
        let batch = loader.next().unwrap();
        assert_eq!(batch.video.int64_value(&[1, 0, 0, 0, 0]), 3 * k + 1);
        assert_eq!(batch.captions[2], Some((3 * k + 2).to_string()));
    }
    let error = loader.next().unwrap_err();
    assert!(
        matches!(&error, Error::Generator { index: 6, said } if said.contains("a fault")),
        "{error}"
    );
}

/// A generator whose clips have one frame too many, or that has no clips.
#[derive(Debug)]
struct Wrong;

impl Generator for Wrong {
    fn clip(
        &self,
        _seed: u64,
        index: u64,
        frames: usize,
        [h, w]: [usize; 2],
        channels: usize,
    ) -> Result<(Clip, String)> {
        if index > 0 {
            return Err(Error::custom("the database has no such clip"));
        }
        let clip = vec![0; (frames + 1) * h * w * channels];
        Ok((Clip::new(clip, [frames + 1, h, w, channels], 10.0)?, String::new()))
    }
}

#[test]
fn a_generators_clips_of_another_shape_and_its_own_errors_are_told() {
    let config = DataConfig { frames: 3, size: [4, 5], workers: 0, ..DataConfig::default() };
    let dataset = Dataset::endless(&config, Box::new(Wrong)).unwrap();
    let error = dataset.sample(1, 1, 0).unwrap_err().to_string();
    assert!(error.contains("[3, 4, 5, 3]") && error.contains("[4, 4, 5, 3]"), "{error}");
    let error = dataset.sample(1, 1, 1).unwrap_err().to_string();
    assert_eq!(error, "the database has no such clip");
    // Its config alone cannot open anything.
    let error = Dataset::open(dataset.config()).unwrap_err().to_string();
    assert!(
        error.starts_with("data.source.kind: expected") && error.contains("Dataset"),
        "{error}"
    );
}
