//! Counter-based numbers, keyed by a name: bitwise the same here and in ../parity/generator.py,
//! which documents the method.

use tch::{Kind, Tensor};

/// Number of signed sums that represent a gradient.
pub(crate) const SIGNED_SUMS: usize = 16;
/// Suffix of the names of rotary frequencies: they are computed, never random.
pub(crate) const FREQUENCIES: &str = "rotary_emb.freqs";

/// Word `index` of the stream `name`.
pub(crate) fn word(name: &str, index: u64) -> u64 {
    mix(key(name), index)
}

/// FNV-1a, 64 bits.
fn key(name: &str) -> u64 {
    name.bytes().fold(0xCBF2_9CE4_8422_2325, |key, byte| {
        (key ^ u64::from(byte)).wrapping_mul(0x100_0000_01B3)
    })
}

/// The finaliser of splitmix64.
fn mix(key: u64, index: u64) -> u64 {
    let z = key.wrapping_add(index.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15));
    let z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// Values in [-1, 1), multiples of 2^-23.
fn uniform(name: &str, count: usize) -> Vec<f32> {
    let key = key(name);
    let centred = |word: u64| (word >> 40) as i32 - (1 << 23);
    (0..count as u64).map(|i| centred(mix(key, i)) as f32 / 8_388_608.0).collect()
}

/// Values of mean 0 and variance 1: inputs, noise, loss weights.
pub(crate) fn unit(name: &str, shape: &[i64]) -> Tensor {
    let scale = 3f64.sqrt() as f32;
    let values: Vec<f32> = uniform(name, count(shape)).iter().map(|u| u * scale).collect();
    Tensor::from_slice(&values).view(shape)
}

/// The value of the parameter `name`.
pub(crate) fn parameter(name: &str, shape: &[i64]) -> Tensor {
    let mut values = uniform(name, count(shape));
    let ends = |suffixes: &[&str]| suffixes.iter().any(|suffix| name.ends_with(suffix));
    if ends(&[".gamma", ".norm.weight"]) {
        values.iter_mut().for_each(|u| *u = 1.0 + *u * 0.25);
    } else if ends(&[".bias"]) {
        values.iter_mut().for_each(|u| *u *= 0.1);
    } else if !ends(&["relative_attention_bias.weight", "null_cond_emb"]) {
        let fan_in: i64 = shape[1..].iter().product();
        let scale = (3.0 / fan_in as f64).sqrt() as f32;
        values.iter_mut().for_each(|u| *u *= scale);
    }
    Tensor::from_slice(&values).view(shape)
}

/// The signed sums of the values of a gradient, in f64.
pub(crate) fn signed_sums(name: &str, values: &Tensor) -> [f64; SIGNED_SUMS] {
    let key = key(&format!("signs/{name}"));
    let flat = Vec::<f64>::try_from(values.to_kind(Kind::Double).flatten(0, -1)).unwrap();
    let mut sums = [0.0; SIGNED_SUMS];
    for (value, i) in flat.iter().zip(0u64..) {
        let bits = mix(key, i) >> 48;
        for (row, sum) in sums.iter_mut().enumerate() {
            *sum += if bits >> row & 1 == 1 { *value } else { -value };
        }
    }
    sums
}

fn count(shape: &[i64]) -> usize {
    shape.iter().product::<i64>() as usize
}
