//! Encodes numbers as the bytes of a shard.

use std::path::Path;

use crate::array::{MAX_HALF, of_half, to_half};
use crate::shards::record::Dtype;
use crate::{Error, Result};

/// Encodes the numbers of a clip, and counts the rounded ones.
#[derive(Debug)]
pub(super) struct Encoder {
    dtype: Dtype,
    pub(super) bytes: Vec<u8>,
    /// How many are stored as a different number.
    pub(super) rounded: u64,
    /// The largest relative deviation.
    pub(super) furthest: f64,
}

impl Encoder {
    pub(super) fn new(dtype: Dtype) -> Self {
        Self { dtype, bytes: Vec::new(), rounded: 0, furthest: 0.0 }
    }

    /// Appends numbers; missing ones are stored unchanged.
    ///
    /// # Errors
    /// A number that the dtype cannot represent; for u8 also one that is missing or not an integer.
    pub(super) fn push(&mut self, path: &Path, values: &[f32]) -> Result<()> {
        self.bytes.reserve(values.len() * self.dtype.bytes());
        let unheld = match self.dtype {
            Dtype::F32 => {
                self.bytes.extend(values.iter().flat_map(|x| x.to_le_bytes()));
                None
            }
            Dtype::F16 => values.iter().copied().find(|x| !self.push_half(*x)),
            Dtype::U8 => values.iter().copied().find(|x| !self.push_byte(*x)),
        };
        let Some(x) = unheld else { return Ok(()) };
        let expected = match self.dtype {
            Dtype::U8 => "whole numbers from 0 to 255, none missing".to_owned(),
            _ => format!("numbers of magnitude at most {MAX_HALF}"),
        };
        let expected = format!("{expected} (--dtype f32 holds all numbers)");
        let (path, dtype) = (path.to_path_buf(), self.dtype.numbers().name());
        Err(Error::Unstorable { path, dtype, expected, found: x.to_string() })
    }

    /// False if the number would overflow to an infinity, which marks a missing value.
    fn push_half(&mut self, x: f32) -> bool {
        let half = to_half(x);
        self.bytes.extend(half.to_le_bytes());
        let stored = of_half(half);
        if x.is_finite() && stored != x {
            self.rounded += 1;
            let (x, stored) = (f64::from(x), f64::from(stored));
            self.furthest = self.furthest.max((stored - x).abs() / x.abs());
        }
        x.is_finite() == stored.is_finite()
    }

    fn push_byte(&mut self, x: f32) -> bool {
        self.bytes.push(x as u8);
        f32::from(x as u8) == x
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn encoded(dtype: Dtype, values: &[f32]) -> std::result::Result<Encoder, String> {
        let mut encoder = Encoder::new(dtype);
        let pushed = encoder.push(Path::new("a.npy"), values);
        pushed.map(|()| encoder).map_err(|error| error.to_string())
    }

    fn decoded(encoder: &Encoder) -> Vec<f32> {
        let mut values = Vec::new();
        encoder.dtype.numbers().decode(&encoder.bytes, false, &mut values);
        values
    }

    #[test]
    fn what_a_type_does_not_hold_is_refused_and_named() {
        for (dtype, value, part) in [
            (Dtype::F16, 65520.0, "at most 65504"),
            (Dtype::F16, -1e9, "found -1000000000"),
            (Dtype::U8, 0.5, "whole numbers"),
            (Dtype::U8, 256.0, "found 256"),
            (Dtype::U8, -1.0, "found -1"),
            (Dtype::U8, f32::NAN, "none missing"),
        ] {
            let message = encoded(dtype, &[1.0, value, 2.0]).unwrap_err();
            assert!(message.contains(part) && message.contains("a.npy"), "{message}");
        }
        let held = encoded(Dtype::F16, &[65519.0, -65504.0]).unwrap();
        assert_eq!((decoded(&held), held.rounded), (vec![65504.0, -65504.0], 1));
        let bytes: Vec<f32> = (0..=255u8).map(f32::from).collect();
        assert_eq!(decoded(&encoded(Dtype::U8, &bytes).unwrap()), bytes);
    }

    proptest! {
        #[test]
        fn f32_keeps_every_bit_and_f16_says_what_it_rounds(
            bits in prop::collection::vec(any::<u32>(), 1..200), scale in -20i32..16,
        ) {
            let any: Vec<f32> = bits.iter().map(|bits| f32::from_bits(*bits)).collect();
            let kept = decoded(&encoded(Dtype::F32, &any).unwrap());
            prop_assert!(kept.iter().zip(&any).all(|(a, b)| a.to_bits() == b.to_bits()));
            // numbers of one magnitude, some of them missing in each possible way
            let of = |bits: &u32| match bits % 8 {
                0 => f32::NAN,
                1 => f32::INFINITY,
                2 => f32::NEG_INFINITY,
                _ => (*bits as i32 as f32 / 2f32.powi(31)) * 2f32.powi(scale) * 0.99,
            };
            let values: Vec<f32> = bits.iter().map(of).collect();
            let encoder = encoded(Dtype::F16, &values).unwrap();
            let stored = decoded(&encoder);
            let mut rounded = 0;
            for (stored, x) in stored.iter().zip(&values) {
                prop_assert_eq!(stored.is_nan(), x.is_nan());
                if x.is_finite() {
                    rounded += u64::from(stored != x);
                    prop_assert!((stored - x).abs() <= encoder.furthest as f32 * x.abs() * 1.000_001);
                } else if !x.is_nan() {
                    prop_assert_eq!(stored, x);
                }
            }
            prop_assert_eq!(encoder.rounded, rounded);
        }
    }
}
