//! Numbers in any unit through the loader: normalised, with missing values marked.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::Path;

use tch::{Kind, Tensor};
use vd_data::{
    AnyClip, ArrayFormat, Batch, ChannelRule, Crop, Cursor, DataConfig, Dataset, Dtype, Loader,
    Normalise, Scaling, Source, Transform, write_array,
};

const SHAPE: [usize; 4] = [5, 6, 10, 2];

/// A value that identifies its clip, frame, position and channel.
fn value(clip: usize, k: usize) -> f32 {
    (clip * 1000 + k) as f32 * 0.25
}

/// Clips 0 .. n of numbers; `change` may modify each.
fn folder(at: &Path, n: usize, change: impl Fn(usize, &mut Vec<f32>)) {
    for clip in 0..n {
        let mut values = (0..SHAPE.iter().product()).map(|k| value(clip, k)).collect();
        change(clip, &mut values);
        let path = at.join(format!("{clip}.npy"));
        write_array(&path, ArrayFormat::Npy, Dtype::F32, &SHAPE, &values).unwrap();
    }
}

fn config(at: &Path, rule: ChannelRule) -> DataConfig {
    DataConfig {
        source: Source::folder(at),
        frames: 3,
        size: [6, 10],
        channels: 2,
        workers: 0,
        normalise: Some(Normalise::all(rule)),
        ..DataConfig::default()
    }
}

fn min_max(low: f64, high: f64) -> ChannelRule {
    ChannelRule { statistics: Some([low, high]), ..ChannelRule::new(Scaling::MinMax) }
}

fn batch(config: &DataConfig, n: usize) -> Batch {
    Loader::new(config, n, Cursor::start(3)).unwrap().next().unwrap()
}

fn numbers(x: &Tensor) -> Vec<f32> {
    Vec::try_from(x.to_kind(Kind::Float).permute([0, 2, 3, 4, 1]).contiguous().view([-1])).unwrap()
}

#[test]
fn numbers_come_normalised_and_what_is_missing_is_zero_and_marked() {
    let dir = tempfile::tempdir().unwrap();
    folder(dir.path(), 4, |clip, values| {
        values[7 + clip] = f32::NAN;
        values[130] = f32::INFINITY;
        values[131] = -9999.0;
    });
    let config = DataConfig {
        invalid: Some(-9999.0),
        frames: 5,
        ..config(dir.path(), min_max(-100.0, 300.0))
    };
    let batch = batch(&config, 4);
    assert_eq!((batch.video.size(), batch.video.kind()), (vec![4, 2, 5, 6, 10], Kind::Float));
    let valid = batch.valid.as_ref().unwrap();
    assert_eq!((valid.size(), valid.kind()), (batch.video.size(), Kind::Bool));
    let (video, valid) = (numbers(&batch.video), numbers(valid));
    let per_clip = SHAPE.iter().product::<usize>();
    for (video, valid) in video.chunks(per_clip).zip(valid.chunks(per_clip)) {
        // the last value identifies the clip
        let clip = (0..4).find(|k| video[599] == ((value(*k, 599) - 100.0) / 200.0)).unwrap();
        for k in 0..per_clip {
            let there = k != 7 + clip && k != 130 && k != 131;
            assert_eq!(valid[k], f32::from(u8::from(there)));
            let expected = if there { (value(clip, k) - 100.0) / 200.0 } else { 0.0 };
            // both are one rounding away from the same number, whose magnitude is below 8
            assert!((video[k] - expected).abs() <= 2e-6, "{k}: {} {expected}", video[k]);
        }
    }
}

#[test]
fn a_batch_in_which_nothing_is_missing_has_no_mask_and_pictures_stay_bytes() {
    let dir = tempfile::tempdir().unwrap();
    folder(dir.path(), 2, |_, _| {});
    assert!(batch(&config(dir.path(), min_max(0.0, 1.0)), 2).valid.is_none());
    let digits = DataConfig { workers: 0, ..DataConfig::default() };
    let pictures = batch(&digits, 2);
    assert_eq!((pictures.video.kind(), pictures.valid.is_none()), (Kind::Uint8, true));
    let rule = ChannelRule { statistics: Some([0.0, 255.0]), ..ChannelRule::new(Scaling::MinMax) };
    let normalised = batch(&DataConfig { normalise: Some(Normalise::all(rule)), ..digits }, 2);
    let by_hand = vd_tensor_ops::video::from_u8(&pictures.video);
    let away = (normalised.video - by_hand).abs().max().double_value(&[]);
    assert!(away <= 2f64.powi(-23), "{away}");
}

#[test]
fn statistics_are_measured_once_and_the_same_data_give_the_same() {
    let dir = tempfile::tempdir().unwrap();
    folder(dir.path(), 3, |_, values| values[0] = f32::NAN);
    for (kind, expected) in [
        (Scaling::MinMax, [[0.5, 649.5], [0.25, 649.75]]),
        (Scaling::ZScore, [[0.0; 2]; 2]),
        (Scaling::Percentile, [[0.0; 2]; 2]),
    ] {
        let config = config(dir.path(), ChannelRule::new(kind));
        let open = || Dataset::open(&config).unwrap().config().normalise.clone().unwrap();
        let measured = open();
        assert!(measured.is_complete());
        assert_eq!(measured, open());
        let rules = measured.rules(2).unwrap();
        if kind == Scaling::MinMax {
            let found: Vec<_> = rules.iter().map(|rule| rule.statistics.unwrap()).collect();
            assert_eq!(found, expected);
        }
        // measured statistics are not measured again
        let fixed = DataConfig { normalise: Some(measured.clone()), ..config.clone() };
        assert_eq!(Dataset::open(&fixed).unwrap().config().normalise, Some(measured));
    }
}

#[test]
fn resized_cropped_and_flipped_numbers_stay_within_those_of_the_file() {
    let dir = tempfile::tempdir().unwrap();
    folder(dir.path(), 3, |_, values| values.iter_mut().step_by(9).for_each(|x| *x = f32::NAN));
    for size in [[3, 5], [6, 4], [4, 8], [12, 20]] {
        let config = DataConfig {
            size,
            crop: Crop::Random,
            flip: true,
            ..config(dir.path(), ChannelRule::new(Scaling::MinMax))
        };
        let batch = batch(&config, 3);
        assert_eq!(batch.video.size()[3..], size.map(|n| n as i64));
        // the normalisation works in f32: a few units in the last place of 1
        assert!(batch.video.abs().max().double_value(&[]) <= 1.0 + 1e-5);
    }
}

#[test]
fn clips_without_a_value_are_bad_and_parts_without_one_are_left_out() {
    let dir = tempfile::tempdir().unwrap();
    folder(dir.path(), 3, |clip, values| {
        if clip == 1 {
            values.fill(f32::NAN);
        }
    });
    let config = config(dir.path(), min_max(0.0, 500.0));
    let mut loader = Loader::new(&config, 4, Cursor::start(3)).unwrap();
    loader.next().unwrap();
    let bad: Vec<_> = loader.bad_files().iter().map(|bad| bad.reason.clone()).collect();
    assert_eq!(bad.len(), 1);
    assert!(bad[0].contains("1.npy") && bad[0].contains("not missing"), "{bad:?}");
    // a wide clip whose left half is empty
    let dir = tempfile::tempdir().unwrap();
    folder(dir.path(), 1, |_, values| {
        for row in values.chunks_mut(20) {
            row[..10].fill(f32::NAN);
        }
    });
    let config = DataConfig {
        size: [6, 4],
        crop: Crop::Random,
        source: Source::folder(dir.path()),
        ..config
    };
    let dataset = Dataset::open(&config).unwrap();
    let samples = (0..60).map(|epoch| dataset.sample(1, epoch, 0).unwrap());
    let (mut left_out, mut taken) = (0, 0);
    for sample in samples {
        match sample {
            None => left_out += 1,
            Some(sample) => {
                taken += 1;
                let AnyClip::Floats(clip) = sample.clip else { panic!("bytes") };
                assert!(clip.valid().any(|valid| valid));
            }
        }
    }
    assert!(left_out > 0 && taken > 0, "{left_out} {taken}");
}

#[test]
fn a_config_that_no_array_fits_is_refused_and_says_what_would() {
    let dir = tempfile::tempdir().unwrap();
    folder(dir.path(), 2, |_, _| {});
    let error = |config: DataConfig| Dataset::open(&config).unwrap_err().to_string();
    let base = || config(dir.path(), min_max(0.0, 1.0));
    let channels = error(DataConfig { channels: 3, ..base() });
    assert!(channels.starts_with("data.channels: expected 2"), "{channels}");
    let none = error(DataConfig { normalise: None, ..base() });
    assert!(none.starts_with("data.normalise") && none.contains("f32"), "{none}");
    let axes = error(DataConfig { axes: Some("nfhwc".parse().unwrap()), ..base() });
    assert!(axes.contains("5 axes, nfhwc"), "{axes}");
    let log = ChannelRule {
        transform: Transform::Log,
        offset: Some(-1.0),
        ..ChannelRule::new(Scaling::MinMax)
    };
    let log = error(config(dir.path(), log));
    assert!(log.contains("0.npy") && log.contains("above 1"), "{log}");
}
