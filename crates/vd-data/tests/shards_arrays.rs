//! Prepared arrays give the batches of their folder, bit for bit or rounded, and say what they cannot hold.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "common/arrays.rs"]
mod arrays;

use std::collections::BTreeMap;
use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use arrays::{kinds, npy, npz};
use proptest::prelude::*;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};
use tch::{Kind, Tensor};
use vd_data::{
    ArrayFormat, ArrayOptions, Batch, ChannelRule, Crop, Cursor, DataConfig, Dtype, Loader,
    Normalise, Prepare, Prepared, Scaling, ShardDtype, Short, Source, Transform, prepare, stats,
    verify_shards, write_array,
};

/// What stands where nothing was measured.
const INVALID: f32 = -9999.0;

fn axes() -> ArrayOptions {
    ArrayOptions { axes: Some("nfhwc".parse().unwrap()), member: None }
}

/// A number from 0.3 to 50.
fn number(random: &mut ChaCha8Rng) -> f32 {
    0.3 + 49.7 * (random.next_u32() >> 8) as f32 / (1 << 24) as f32
}

/// Random arrays of `channels`: of several types, lengths and sizes, with several clips in a file, with numbers that are missing in
/// every way that there is; two clips without any number and a file that is cut. `change` may do something to the numbers.
fn folder(root: &Path, seed: u64, channels: usize, change: impl Fn(&mut Vec<f32>)) {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    fs::create_dir_all(root.join("deep")).unwrap();
    for (k, dtype) in [Dtype::F32, Dtype::F64, Dtype::F16, Dtype::I16, Dtype::F32].into_iter().enumerate() {
        let mut up_to = |n: u32| 1 + (random.next_u32() % n) as usize;
        let shape = [up_to(3), up_to(9), 3 + up_to(6), 3 + up_to(6), channels];
        let mut values: Vec<f32> = (0..shape.iter().product()).map(|_| number(&mut random)).collect();
        for value in &mut values {
            // a type of whole numbers has no NaN, and f16 no -9999
            let missing = match dtype {
                Dtype::I16 => [INVALID; 3],
                Dtype::F16 => [f32::NAN, f32::INFINITY, f32::NEG_INFINITY],
                _ => [f32::NAN, f32::INFINITY, INVALID],
            };
            if let Some(missing) = missing.get(random.next_u32() as usize % 40) {
                *value = *missing;
            }
        }
        if k == 4 {
            values.fill(f32::NAN);
        }
        change(&mut values);
        let name = if k % 2 == 0 { format!("{k}.npy") } else { format!("deep/{k}.safetensors") };
        let format = if k % 2 == 0 { ArrayFormat::Npy } else { ArrayFormat::Safetensors };
        write_array(&root.join(&name), format, dtype, &shape, &values).unwrap();
        fs::write(root.join(&name).with_extension("txt"), format!("clip {k}")).unwrap();
    }
    let kind = kinds().into_iter().find(|kind| kind.name == "u16").unwrap();
    let member = |n: usize| {
        let shape = [n, 5, 6, 7, channels];
        npy(kind, &shape, [true, false], |at| (3 + at.iter().sum::<usize>() % 90) as u8)
    };
    fs::write(root.join("z.npz"), npz(&[("b.npy", member(2)), ("a.npy", member(1))], true)).unwrap();
    fs::write(root.join("cut.npy"), &member(1)[..300]).unwrap();
}

fn run(config: &Prepare) -> Prepared {
    prepare(config, &mut |_| ControlFlow::Continue(())).unwrap()
}

fn plan(from: &Path, to: &Path, dtype: Option<ShardDtype>) -> Prepare {
    Prepare { dtype, arrays: axes(), workers: 2, ..Prepare::new(from, to) }
}

fn config(source: Source, channels: usize) -> DataConfig {
    let rule = |kind, transform, offset| ChannelRule { transform, offset, ..ChannelRule::new(kind) };
    let rules = [
        rule(Scaling::ZScore, Transform::None, None),
        rule(Scaling::Percentile, Transform::Log, Some(0.5)),
        rule(Scaling::MinMax, Transform::Sqrt, None),
    ];
    DataConfig {
        source,
        frames: 4,
        size: [5, 6],
        channels,
        workers: 0,
        axes: axes().axes,
        invalid: Some(f64::from(INVALID)),
        normalise: Some(Normalise::each(rules.into_iter().cycle().take(channels).collect())),
        ..DataConfig::default()
    }
}

/// Everything of a batch, floats by their bits.
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

/// The masks are there, and a resumed loader gives what an unbroken one gives.
fn assert_same_batches(one: &DataConfig, two: &DataConfig, size: usize, n: usize) {
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
    assert!(masked || one.dataset().config().normalise.is_none());
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
        for folder in variants(&base) {
            let shards = DataConfig { source: Source::Shards { path: to.clone() }, ..folder.clone() };
            assert_same_batches(&folder, &shards, 3, 8);
        }
    }

    #[test]
    fn f16_shards_give_the_batches_of_rounded_arrays(seed in any::<u64>(), channels in 1usize..6) {
        let dir = tempfile::tempdir().unwrap();
        let [from, rounded, to] = ["arrays", "rounded", "shards"].map(|name| dir.path().join(name));
        folder(&from, seed, channels, |_| {});
        // as libtorch rounds; what stands for a missing number is none before
        folder(&rounded, seed, channels, |values| {
            let there: Vec<f32> =
                values.iter().map(|x| if *x == INVALID { f32::NAN } else { *x }).collect();
            let short = Tensor::from_slice(&there).to_kind(Kind::Half).to_kind(Kind::Float);
            *values = Vec::try_from(short).unwrap();
        });
        // an array of whole numbers has no NaN: there the number that stands for it stays
        let [one, two] = [&from, &rounded].map(|root| root.join("deep/3.safetensors"));
        fs::copy(one, two).unwrap();
        let invalid = Some(f64::from(INVALID));
        let report = run(&Prepare { invalid, ..plan(&from, &to, Some(ShardDtype::F16)) });
        let floats = report.arrays.iter().find(|stored| stored.from == Dtype::F32).unwrap();
        // of 0.3 to 50: half a unit in the last of 11 bits
        prop_assert!(floats.rounded > 0 && floats.furthest <= 2f64.powi(-11), "{:?}", floats);
        let halves = report.arrays.iter().find(|stored| stored.from == Dtype::F16).unwrap();
        prop_assert_eq!((halves.rounded, halves.furthest), (0, 0.0));
        let base = config(Source::folder(&rounded), channels);
        for folder in variants(&base) {
            let shards = DataConfig { source: Source::Shards { path: to.clone() }, ..folder.clone() };
            assert_same_batches(&folder, &shards, 3, 8);
        }
    }
}

#[test]
fn arrays_that_were_brought_to_the_size_of_training_give_its_batches() {
    let dir = tempfile::tempdir().unwrap();
    let (from, to) = (dir.path().join("arrays"), dir.path().join("shards"));
    folder(&from, 11, 2, |_| {});
    let invalid = Some(f64::from(INVALID));
    run(&Prepare { invalid, size: Some([5, 6]), ..plan(&from, &to, None) });
    // with statistics that are given: those that are measured are of numbers at full size
    let rule = |low: f64| ChannelRule {
        statistics: Some([low, 50.0]),
        ..ChannelRule::new(Scaling::MinMax)
    };
    let normalise = Some(Normalise::each(vec![rule(0.0), rule(-3.0)]));
    let folder = DataConfig { normalise, flip: true, ..config(Source::folder(&from), 2) };
    let shards = DataConfig { source: Source::Shards { path: to }, ..folder.clone() };
    assert_same_batches(&folder, &shards, 3, 8);
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
            let shards = DataConfig { source: Source::Shards { path: to.clone() }, ..folder.clone() };
            let batches = |config| Loader::new(config, 2, Cursor::start(1)).unwrap();
            let (mut one, mut two) = (batches(&folder), batches(&shards));
            for _ in 0..6 {
                assert_eq!(content(&one.next().unwrap()), content(&two.next().unwrap()));
            }
        }
    }
}

#[test]
fn a_number_that_a_type_does_not_hold_makes_its_clip_bad_and_no_other() {
    let dir = tempfile::tempdir().unwrap();
    let from = dir.path().join("arrays");
    fs::create_dir(&from).unwrap();
    let write = |name: &str, values: &[f32]| {
        let path = from.join(name);
        write_array(&path, ArrayFormat::Npy, Dtype::F32, &[1, 1, 2, 2], values).unwrap();
    };
    write("whole.npy", &[0.0, 255.0, 3.0, 4.0]);
    write("third.npy", &[1.0 / 3.0, 1e-9, 3.0, 4.0]);
    write("large.npy", &[1.0, 2.0, -7e4, 4.0]);
    write("missing.npy", &[1.0, f32::NAN, 3.0, 4.0]);
    let prepared = |name: &str, dtype| {
        let report = run(&Prepare { dtype, ..Prepare::new(&from, dir.path().join(name)) });
        let bad = report.bad_files.iter().map(|bad| bad.reason.clone()).collect::<Vec<_>>();
        assert!(verify_shards(&dir.path().join(name)).unwrap().damaged.is_empty());
        (report.arrays.first().cloned().unwrap(), bad)
    };
    let (stored, bad) = prepared("f32", None);
    assert_eq!((stored.clips, stored.rounded, bad.len()), (4, 0, 0));
    let (stored, bad) = prepared("f16", Some(ShardDtype::F16));
    assert_eq!((stored.clips, stored.values, stored.rounded), (3, 12, 2));
    // 1e-9 is below half of the least number, 2^-24, and becomes 0
    assert_eq!(stored.furthest, 1.0);
    assert!(bad.len() == 1 && bad[0].contains("large.npy"), "{bad:?}");
    for part in ["as f16", "at most 65504", "found -70000", "--dtype f32"] {
        assert!(bad[0].contains(part), "{part} is not in {}", bad[0]);
    }
    let (stored, bad) = prepared("u8", Some(ShardDtype::U8));
    assert_eq!((stored.clips, stored.rounded, bad.len()), (1, 0, 3));
    assert!(bad.iter().all(|reason| reason.contains("whole numbers from 0 to 255")), "{bad:?}");
    // the place in the order is kept
    let config = |source| DataConfig {
        size: [1, 2],
        frames: 1,
        channels: 2,
        workers: 0,
        normalise: Some(Normalise::all(ChannelRule::new(Scaling::MinMax))),
        source,
        ..DataConfig::default()
    };
    let f16 = config(Source::Shards { path: dir.path().join("f16") });
    let loader = Loader::new(&f16, 1, Cursor::start(0)).unwrap();
    assert_eq!(loader.dataset().clips(), Some(4));
    // arrays need a rule, and their own channels, from shards too
    let no_rule = DataConfig { normalise: None, channels: 2, ..f16.clone() };
    let message = Loader::new(&no_rule, 1, Cursor::start(0)).unwrap_err().to_string();
    assert!(message.contains("data.normalise") && message.contains("an array of f16"), "{message}");
    let other = DataConfig { channels: 5, ..f16 };
    let message = Loader::new(&other, 1, Cursor::start(0)).unwrap_err().to_string();
    assert!(message.contains("data.channels: expected 2"), "{message}");
}

#[test]
fn what_stands_for_a_missing_number_is_known_before_anything_is_rounded_or_scaled() {
    let dir = tempfile::tempdir().unwrap();
    let from = dir.path().join("arrays");
    folder(&from, 7, 2, |_| {});
    let invalid = Some(f64::from(INVALID));
    let open = |name: &str, change: &dyn Fn(&mut Prepare)| {
        let to = dir.path().join(name);
        let mut plan = plan(&from, &to, None);
        change(&mut plan);
        run(&plan);
        let config = config(Source::Shards { path: to }, 2);
        Loader::new(&config, 2, Cursor::start(0)).map_err(|error| error.to_string())
    };
    for (name, dtype, size) in
        [("half", Some(ShardDtype::F16), None), ("small", None, Some([4, 4]))]
    {
        let message = open(name, &|plan| (plan.dtype, plan.size) = (dtype, size)).unwrap_err();
        assert!(message.contains("data.invalid") && message.contains("--invalid -9999"), "{message}");
        let told = |plan: &mut Prepare| {
            (plan.dtype, plan.size, plan.invalid) = (dtype, size, invalid);
        };
        open(&format!("{name}-told"), &told).unwrap();
    }
    open("f32", &|_| {}).unwrap();
    let nan = Prepare { invalid: Some(f64::NAN), ..plan(&from, &dir.path().join("x"), None) };
    let error = prepare(&nan, &mut |_| ControlFlow::Continue(())).unwrap_err().to_string();
    assert!(error.contains("NaN is missing in any case"), "{error}");
}

/// Every file of a folder.
fn files(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let paths = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    paths.map(|path| (path.file_name().unwrap().into(), fs::read(&path).unwrap())).collect()
}

#[test]
fn several_clips_of_a_file_survive_a_stop_and_a_second_run() {
    let dir = tempfile::tempdir().unwrap();
    let from = dir.path().join("arrays");
    folder(&from, 23, 2, |_| {});
    let plan = |name: &str| plan(&from, &dir.path().join(name), Some(ShardDtype::F16));
    let whole = run(&plan("whole"));
    let expected = files(&dir.path().join("whole"));
    for stop in 1..whole.clips {
        let (name, mut done) = (format!("stopped-{stop}"), 0);
        let first = prepare(&plan(&name), &mut |_| {
            done += 1;
            if done == stop { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        assert!(first.unwrap().stopped);
        let rest = run(&plan(&name));
        assert_eq!((rest.kept, rest.kept + rest.new), (stop, whole.new));
        assert_eq!(rest.arrays, whole.arrays);
        assert!(files(&dir.path().join(&name)) == expected, "{stop}");
    }
    assert!(run(&plan("whole")).unchanged);
    let other = Prepare { dtype: None, ..plan("whole") };
    let error = prepare(&other, &mut |_| ControlFlow::Continue(())).unwrap_err().to_string();
    assert!(error.contains("dtype: expected f16"), "{error}");
}

#[test]
fn the_numbers_of_shards_are_those_of_their_arrays() {
    let dir = tempfile::tempdir().unwrap();
    let (from, to) = (dir.path().join("arrays"), dir.path().join("shards"));
    fs::create_dir(&from).unwrap();
    let mut random = ChaCha8Rng::seed_from_u64(31);
    let mut all = [Vec::new(), Vec::new()];
    for k in 0..5 {
        let mut values: Vec<f32> = (0..3 * 4 * 5 * 2).map(|_| number(&mut random)).collect();
        values[k] = f32::NAN;
        for (at, value) in values.iter().enumerate().filter(|(_, x)| x.is_finite()) {
            all[at % 2].push(f64::from(*value));
        }
        let path = from.join(format!("{k}.npy"));
        write_array(&path, ArrayFormat::Npy, Dtype::F32, &[3, 4, 5, 2], &values).unwrap();
    }
    run(&Prepare::new(&from, &to));
    let of = stats(&Source::folder(&from), 100).unwrap();
    let shards = stats(&Source::Shards { path: to }, 100).unwrap();
    assert_eq!((&of.arrays, of.pixels), (&shards.arrays, None));
    assert!(of.bad_files.is_empty() && shards.bad_files.is_empty());
    let found = &of.arrays[0];
    assert_eq!((found.clips, found.frames, found.values), (5, 15, 600));
    assert!((found.missing - 5.0 / 600.0).abs() < 1e-12);
    for (channel, numbers) in found.channels.iter().zip(&all) {
        let n = numbers.len() as f64;
        let mean = numbers.iter().sum::<f64>() / n;
        let std = (numbers.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / n).sqrt();
        // 300 numbers up to 50: a few hundred roundings of f64
        assert!((channel.mean - mean).abs() < 1e-10 && (channel.std - std).abs() < 1e-10);
        assert_eq!(channel.min, numbers.iter().copied().fold(f64::INFINITY, f64::min));
        assert_eq!(channel.max, numbers.iter().copied().fold(0.0, f64::max));
        assert_eq!(channel.histogram.counts.iter().sum::<u64>(), numbers.len() as u64);
        let first = channel.histogram.low + channel.histogram.width;
        let below = numbers.iter().filter(|x| **x < first).count() as u64;
        assert_eq!(channel.histogram.counts[0], below);
    }
}
