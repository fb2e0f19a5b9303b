//! Random arrays, and how they are prepared and read.
#![allow(dead_code)]

use std::fs;
use std::ops::ControlFlow;
use std::path::Path;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};
use vd_data::{
    ArrayFormat, ArrayOptions, ChannelRule, DataConfig, Dtype, Normalise, Prepare, Prepared,
    Scaling, ShardDtype, Source, Transform, prepare, write_array,
};

use crate::arrays::{kinds, npy, npz};

/// The number that marks missing values.
pub(crate) const INVALID: f32 = -9999.0;

pub(crate) fn axes() -> ArrayOptions {
    ArrayOptions { axes: Some("nfhwc".parse().unwrap()), member: None }
}

/// A number from 0.3 to 50.
pub(crate) fn number(random: &mut ChaCha8Rng) -> f32 {
    0.3 + 49.7 * (random.next_u32() >> 8) as f32 / (1 << 24) as f32
}

/// Random arrays with `channels` channels: several dtypes, lengths and sizes, several clips per
/// file, values missing in every possible way; two clips without any value and a truncated file.
/// `change` may modify the numbers.
pub(crate) fn folder(root: &Path, seed: u64, channels: usize, change: impl Fn(&mut Vec<f32>)) {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    fs::create_dir_all(root.join("deep")).unwrap();
    for (k, dtype) in
        [Dtype::F32, Dtype::F64, Dtype::F16, Dtype::I16, Dtype::F32].into_iter().enumerate()
    {
        let mut up_to = |n: u32| 1 + (random.next_u32() % n) as usize;
        let shape = [up_to(3), up_to(9), 3 + up_to(6), 3 + up_to(6), channels];
        let mut values: Vec<f32> =
            (0..shape.iter().product()).map(|_| number(&mut random)).collect();
        for value in &mut values {
            // an integer dtype has no NaN, and f16 no -9999
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
    fs::write(root.join("z.npz"), npz(&[("b.npy", member(2)), ("a.npy", member(1))], true))
        .unwrap();
    fs::write(root.join("cut.npy"), &member(1)[..300]).unwrap();
}

pub(crate) fn run(config: &Prepare) -> Prepared {
    prepare(config, &mut |_| ControlFlow::Continue(())).unwrap()
}

pub(crate) fn plan(from: &Path, to: &Path, dtype: Option<ShardDtype>) -> Prepare {
    Prepare { dtype, arrays: axes(), workers: 2, ..Prepare::new(from, to) }
}

pub(crate) fn config(source: Source, channels: usize) -> DataConfig {
    let rule =
        |kind, transform, offset| ChannelRule { transform, offset, ..ChannelRule::new(kind) };
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
