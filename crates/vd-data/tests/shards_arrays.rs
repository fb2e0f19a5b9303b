//! Prepared arrays give the same batches as their folder, bit for bit or rounded.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "common/arrays.rs"]
mod arrays;
#[path = "common/prepared.rs"]
mod prepared;

use std::fs;

use prepared::{INVALID, config, folder, plan, run};
use proptest::prelude::*;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};
use tch::{Kind, Tensor};
use vd_data::{
    ArrayFormat, ArrayOptions, Batch, ChannelRule, Crop, Cursor, DataConfig, Dtype, Loader,
    Normalise, Prepare, Scaling, ShardDtype, Short, Source, write_array,
};

/// Everything in a batch, floats as bits.
fn content(batch: &Batch) -> impl PartialEq + std::fmt::Debug + use<> {
    let flat = |x: &Tensor, kind| x.to_kind(kind).contiguous().view(-1);
    let bits: Vec<u32> = Vec::<f32>::try_from(flat(&batch.video, Kind::Float))
        .unwrap()
        .into_iter()
        .map(f32::to_bits)
        .collect();
    let flags = |x: &Tensor| Vec::<u8>::try_from(flat(x, Kind::Uint8)).unwrap();
    (
        (bits, batch.video.size(), batch.video.kind()),
        (batch.valid.as_ref().map(flags), batch.keep.as_ref().map(flags)),
        (batch.captions.clone(), batch.folders.clone(), batch.taken.clone()),
        (batch.fps.clone(), batch.cursor_after),
    )
}

/// A resumed loader gives the same batches as an uninterrupted one. Returns whether a value was
/// missing.
fn assert_same_batches(one: &DataConfig, two: &DataConfig, size: usize, n: usize) -> bool {
    let mut one = Loader::new(one, size, Cursor::start(5)).unwrap();
    let mut other = Loader::new(two, size, Cursor::start(5)).unwrap();
    assert_eq!(one.dataset().config().normalise, other.dataset().config().normalise);
    let mut masked = false;
    for k in 0..n {
        if k == n / 2 {
            let cursor = other.cursor();
            let bad = other.bad_files().len();
            assert_eq!(one.bad_files().len(), bad);
            other = Loader::new(two, size, cursor).unwrap();
        }
        let batch = one.next().unwrap();
        masked |= batch.valid.is_some();
        assert_eq!(content(&batch), content(&other.next().unwrap()));
    }
    masked
}

fn variants(base: &DataConfig) -> Vec<DataConfig> {
    vec![
        DataConfig { crop: Crop::Random, flip: true, ..base.clone() },
        DataConfig { stride: 2, workers: 2, size: [4, 4], ..base.clone() },
        DataConfig { short: Short::Skip, frames: 2, size: [9, 8], flip: true, ..base.clone() },
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(12) })]

    #[test]
    fn f32_shards_give_the_batches_of_their_arrays_bit_for_bit(
        seed in any::<u64>(), channels in 1usize..6, named: bool, told: bool,
    ) {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("arrays"), dir.path().join("shards"));
        folder(&from, seed, channels, |_| {});
        let invalid = told.then_some(f64::from(INVALID));
        let dtype = named.then_some(ShardDtype::F32);
        let report = run(&Prepare { invalid, ..plan(&from, &to, dtype) });
        prop_assert_eq!(report.bad_files.len(), 1);
        prop_assert!(report.arrays.iter().all(|stored| stored.rounded == 0), "{:?}", report.arrays);
        let base = config(Source::folder(&from), channels);
        // if short clips are skipped, possibly only clips without missing values remain
        let mut masked = false;
        for folder in variants(&base) {
            let shards = DataConfig { source: Source::Shards { path: to.clone() }, ..folder.clone() };
            masked |= assert_same_batches(&folder, &shards, 3, 8);
        }
        prop_assert!(masked);
    }

    #[test]
    fn f16_shards_give_the_batches_of_rounded_arrays(seed in any::<u64>(), channels in 1usize..6) {
        let dir = tempfile::tempdir().unwrap();
        let [from, rounded, to] = ["arrays", "rounded", "shards"].map(|name| dir.path().join(name));
        folder(&from, seed, channels, |_| {});
        // rounded like libtorch; the mark of missing values becomes missing first
        folder(&rounded, seed, channels, |values| {
            let there: Vec<f32> =
                values.iter().map(|x| if *x == INVALID { f32::NAN } else { *x }).collect();
            let short = Tensor::from_slice(&there).to_kind(Kind::Half).to_kind(Kind::Float);
            *values = Vec::try_from(short).unwrap();
        });
        // an integer array has no NaN, so the mark of missing values stays there
        let [one, two] = [&from, &rounded].map(|root| root.join("deep/3.safetensors"));
        fs::copy(one, two).unwrap();
        let invalid = Some(f64::from(INVALID));
        let report = run(&Prepare { invalid, ..plan(&from, &to, Some(ShardDtype::F16)) });
        let floats = report.arrays.iter().find(|stored| stored.from == Dtype::F32).unwrap();
        // values from 0.3 to 50: half a unit in the last of 11 bits
        prop_assert!(floats.rounded > 0 && floats.furthest <= 2f64.powi(-11), "{:?}", floats);
        let halves = report.arrays.iter().find(|stored| stored.from == Dtype::F16).unwrap();
        prop_assert_eq!((halves.rounded, halves.furthest), (0, 0.0));
        let base = config(Source::folder(&rounded), channels);
        // if short clips are skipped, possibly only clips without missing values remain
        let mut masked = false;
        for folder in variants(&base) {
            let shards = DataConfig { source: Source::Shards { path: to.clone() }, ..folder.clone() };
            masked |= assert_same_batches(&folder, &shards, 3, 8);
        }
        prop_assert!(masked);
    }
}

#[test]
fn arrays_that_were_brought_to_the_size_of_training_give_its_batches() {
    let dir = tempfile::tempdir().unwrap();
    let (from, to) = (dir.path().join("arrays"), dir.path().join("shards"));
    folder(&from, 11, 2, |_| {});
    let invalid = Some(f64::from(INVALID));
    run(&Prepare { invalid, size: Some([5, 6]), ..plan(&from, &to, None) });
    // with given statistics: measured ones would be those of numbers at full size
    let rule = |low: f64| ChannelRule {
        statistics: Some([low, 50.0]),
        ..ChannelRule::new(Scaling::MinMax)
    };
    let normalise = Some(Normalise::each(vec![rule(0.0), rule(-3.0)]));
    let folder = DataConfig { normalise, flip: true, ..config(Source::folder(&from), 2) };
    let shards = DataConfig { source: Source::Shards { path: to }, ..folder.clone() };
    assert!(assert_same_batches(&folder, &shards, 3, 8));
}

#[test]
fn bytes_stay_bytes_and_train_as_pixels() {
    let dir = tempfile::tempdir().unwrap();
    let mut random = ChaCha8Rng::seed_from_u64(3);
    for (channels, shape) in [(1, vec![2, 6, 7, 8]), (3, vec![5, 6, 9, 3])] {
        let (from, to) =
            (dir.path().join(format!("of-{channels}")), dir.path().join(format!("to-{channels}")));
        fs::create_dir(&from).unwrap();
        for k in 0..3 {
            let n = shape.iter().product();
            let values: Vec<f32> = (0..n).map(|_| (random.next_u32() % 256) as f32).collect();
            let path = from.join(format!("{k}.npy"));
            write_array(&path, ArrayFormat::Npy, Dtype::U8, &shape, &values).unwrap();
        }
        let letters = if channels == 1 { "nfhw" } else { "fhwc" };
        let options = ArrayOptions { axes: Some(letters.parse().unwrap()), member: None };
        let report = run(&Prepare { arrays: options.clone(), ..Prepare::new(&from, &to) });
        assert_eq!(report.arrays[0].to, ShardDtype::U8);
        let base = DataConfig {
            channels,
            axes: options.axes,
            frames: 3,
            size: [4, 5],
            crop: Crop::Random,
            workers: 0,
            source: Source::folder(&from),
            ..DataConfig::default()
        };
        let rule = ChannelRule::new(Scaling::MinMax);
        for normalise in [None, Some(Normalise::all(rule))] {
            let folder = DataConfig { normalise, ..base.clone() };
            let shards =
                DataConfig { source: Source::Shards { path: to.clone() }, ..folder.clone() };
            let batches = |config| Loader::new(config, 2, Cursor::start(1)).unwrap();
            let (mut one, mut two) = (batches(&folder), batches(&shards));
            for _ in 0..6 {
                assert_eq!(content(&one.next().unwrap()), content(&two.next().unwrap()));
            }
        }
    }
}
