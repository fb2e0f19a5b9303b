//! How arrays are stored in the dtypes of shards, what is refused, and what is reported.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "common/arrays.rs"]
mod arrays;
#[path = "common/prepared.rs"]
mod prepared;

use std::collections::BTreeMap;
use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use prepared::{INVALID, config, folder, number, plan, run};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use vd_data::{
    ArrayFormat, ChannelRule, Cursor, DataConfig, Dtype, Loader, Normalise, Prepare, Scaling,
    ShardDtype, Source, prepare, stats, verify_shards, write_array,
};

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
    let stored_as = |name: &str, dtype| {
        let report = run(&Prepare { dtype, ..Prepare::new(&from, dir.path().join(name)) });
        let bad = report.bad_files.iter().map(|bad| bad.reason.clone()).collect::<Vec<_>>();
        assert!(verify_shards(&dir.path().join(name)).unwrap().damaged.is_empty());
        (report.arrays.first().cloned().unwrap(), bad)
    };
    let (stored, bad) = stored_as("f32", None);
    assert_eq!((stored.clips, stored.rounded, bad.len()), (4, 0, 0));
    let (stored, bad) = stored_as("f16", Some(ShardDtype::F16));
    assert_eq!((stored.clips, stored.values, stored.rounded), (3, 12, 2));
    // 1e-9 is below half of the smallest number, 2^-24, and becomes 0
    assert_eq!(stored.furthest, 1.0);
    assert!(bad.len() == 1 && bad[0].contains("large.npy"), "{bad:?}");
    for part in ["as f16", "at most 65504", "found -70000", "--dtype f32"] {
        assert!(bad[0].contains(part), "{part} is not in {}", bad[0]);
    }
    let (stored, bad) = stored_as("u8", Some(ShardDtype::U8));
    assert_eq!((stored.clips, stored.rounded, bad.len()), (1, 0, 3));
    assert!(bad.iter().all(|reason| reason.contains("whole numbers from 0 to 255")), "{bad:?}");
    // the position in the order is kept
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
    // arrays need a rule, and their own number of channels, from shards too
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
        assert!(
            message.contains("data.invalid") && message.contains("--invalid -9999"),
            "{message}"
        );
        let told = |plan: &mut Prepare| {
            (plan.dtype, plan.size, plan.invalid) = (dtype, size, invalid);
        };
        open(&format!("{name}-told"), &told).unwrap();
    }
    open("f32", &|_| {}).unwrap();
    let nan = Prepare { invalid: Some(f64::NAN), ..plan(&from, &dir.path().join("x"), None) };
    let error = prepare(&nan, &mut |_| ControlFlow::Continue(())).unwrap_err().to_string();
    assert!(error.contains("NaN always counts as missing"), "{error}");
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
