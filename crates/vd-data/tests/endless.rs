//! Loaders over generators: clips without end, drawn by threads.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use vd_data::{Clip, Cursor, DataConfig, Dataset, Generator, Loader, Result};

#[test]
fn a_dropped_loader_ends_its_threads() {
    let config = DataConfig { workers: 3, ..DataConfig::default() };
    // at once, after a batch, and with all its work under way
    for batches in 0..3 {
        let mut loader = Loader::new(&config, 4, Cursor::start(1)).unwrap();
        for _ in 0..batches {
            loader.next().unwrap();
        }
        drop(loader);
    }
}

/// A generator of a downstream crate: every clip is its own number; some of them panic.
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
    assert!(loader.next().is_err());
}
