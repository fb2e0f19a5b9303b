//! The dtype of an array's numbers.

use std::fmt;
use std::str::FromStr;

use safetensors::Dtype as Tensor;
use serde::{Deserialize, Serialize};

use super::half::{of_half, to_half};

/// The dtype of an array's numbers. All are read as f32: integers beyond 2^24 are rounded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Dtype {
    /// 0 or 1 in a byte.
    Bool,
    /// Unsigned, one byte.
    U8,
    /// Signed, one byte.
    I8,
    /// Unsigned, two bytes.
    U16,
    /// Signed, two bytes.
    I16,
    /// Unsigned, four bytes.
    U32,
    /// Signed, four bytes.
    I32,
    /// Unsigned, eight bytes.
    U64,
    /// Signed, eight bytes.
    I64,
    /// Half precision.
    F16,
    /// The upper half of an f32; only safetensors has it.
    Bf16,
    /// Single precision.
    F32,
    /// Double precision.
    F64,
}

/// For each: its name, its names in `.npy` and safetensors, and its size in bytes.
const TABLE: [(Dtype, &str, &str, Tensor, usize); 13] = [
    (Dtype::Bool, "bool", "b1", Tensor::BOOL, 1),
    (Dtype::U8, "u8", "u1", Tensor::U8, 1),
    (Dtype::I8, "i8", "i1", Tensor::I8, 1),
    (Dtype::U16, "u16", "u2", Tensor::U16, 2),
    (Dtype::I16, "i16", "i2", Tensor::I16, 2),
    (Dtype::U32, "u32", "u4", Tensor::U32, 4),
    (Dtype::I32, "i32", "i4", Tensor::I32, 4),
    (Dtype::U64, "u64", "u8", Tensor::U64, 8),
    (Dtype::I64, "i64", "i8", Tensor::I64, 8),
    (Dtype::F16, "f16", "f2", Tensor::F16, 2),
    (Dtype::Bf16, "bf16", "", Tensor::BF16, 2),
    (Dtype::F32, "f32", "f4", Tensor::F32, 4),
    (Dtype::F64, "f64", "f8", Tensor::F64, 8),
];

impl Dtype {
    fn row(self) -> (&'static str, &'static str, Tensor, usize) {
        let (_, name, npy, tensor, bytes) = TABLE[self as usize];
        (name, npy, tensor, bytes)
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        self.row().0
    }

    /// Bytes of one number.
    pub fn bytes(self) -> usize {
        self.row().3
    }

    /// Its NumPy name, without the byte order; empty if NumPy has no such dtype.
    pub(crate) fn npy(self) -> &'static str {
        self.row().1
    }

    /// Its safetensors dtype.
    pub(crate) fn tensor(self) -> Tensor {
        self.row().2
    }

    /// The dtype named in a `.npy` header, and whether it is big-endian.
    pub(super) fn of_npy(descr: &str) -> Option<(Self, bool)> {
        let (order, kind) = descr.split_at_checked(1)?;
        let big = match order {
            "<" | "=" | "|" => false,
            ">" => true,
            _ => return None,
        };
        let found = TABLE.iter().find(|row| row.2 == kind && !kind.is_empty())?;
        Some((found.0, big))
    }

    /// The dtype named in a safetensors header.
    pub(super) fn of_tensor(tensor: Tensor) -> Option<Self> {
        TABLE.iter().find(|row| row.3 == tensor).map(|row| row.0)
    }

    /// All names, for messages.
    pub(crate) fn names() -> String {
        TABLE.map(|row| row.1).join(", ")
    }

    /// Appends the numbers in `bytes`, whose length is a multiple of the size of one number.
    pub(crate) fn decode(self, bytes: &[u8], big: bool, out: &mut Vec<f32>) {
        macro_rules! numbers {
            ($kind:ty, $n:literal, $to:expr) => {{
                let (words, _) = bytes.as_chunks::<$n>();
                let to = $to;
                match big {
                    true => out.extend(words.iter().map(|w| to(<$kind>::from_be_bytes(*w)))),
                    false => out.extend(words.iter().map(|w| to(<$kind>::from_le_bytes(*w)))),
                }
            }};
        }
        match self {
            Self::Bool => out.extend(bytes.iter().map(|&b| f32::from(u8::from(b != 0)))),
            Self::U8 => out.extend(bytes.iter().map(|&b| f32::from(b))),
            Self::I8 => out.extend(bytes.iter().map(|&b| f32::from(b as i8))),
            Self::U16 => numbers!(u16, 2, |x: u16| f32::from(x)),
            Self::I16 => numbers!(i16, 2, |x: i16| f32::from(x)),
            Self::U32 => numbers!(u32, 4, |x: u32| x as f32),
            Self::I32 => numbers!(i32, 4, |x: i32| x as f32),
            Self::U64 => numbers!(u64, 8, |x: u64| x as f32),
            Self::I64 => numbers!(i64, 8, |x: i64| x as f32),
            Self::F16 => numbers!(u16, 2, of_half),
            Self::Bf16 => numbers!(u16, 2, |x: u16| f32::from_bits(u32::from(x) << 16)),
            Self::F32 => numbers!(f32, 4, |x: f32| x),
            Self::F64 => numbers!(f64, 8, |x: f64| x as f32),
        }
    }

    /// Encodes numbers as little-endian bytes; integers are rounded to nearest and clamped to their
    /// range.
    pub(crate) fn encode(self, values: &[f32]) -> crate::Result<Vec<u8>> {
        macro_rules! bytes {
            ($to:expr) => {{
                let to = $to;
                values.iter().flat_map(|x| to(*x)).collect()
            }};
        }
        Ok(match self {
            Self::Bool => values.iter().map(|x| u8::from(*x != 0.0)).collect(),
            Self::U8 => bytes!(|x: f32| (x.round() as u8).to_le_bytes()),
            Self::I8 => bytes!(|x: f32| (x.round() as i8).to_le_bytes()),
            Self::U16 => bytes!(|x: f32| (x.round() as u16).to_le_bytes()),
            Self::I16 => bytes!(|x: f32| (x.round() as i16).to_le_bytes()),
            Self::U32 => bytes!(|x: f32| (x.round() as u32).to_le_bytes()),
            Self::I32 => bytes!(|x: f32| (x.round() as i32).to_le_bytes()),
            Self::U64 => bytes!(|x: f32| (x.round() as u64).to_le_bytes()),
            Self::I64 => bytes!(|x: f32| (x.round() as i64).to_le_bytes()),
            Self::F32 => bytes!(f32::to_le_bytes),
            Self::F64 => bytes!(|x: f32| f64::from(x).to_le_bytes()),
            Self::F16 => bytes!(|x: f32| to_half(x).to_le_bytes()),
            Self::Bf16 => {
                let short = tch::Tensor::f_from_slice(values)?.f_to_kind(tch::Kind::BFloat16)?;
                let mut bytes = vec![0; 2 * values.len()];
                short.f_copy_data_u8(&mut bytes, values.len())?;
                bytes
            }
        })
    }
}

impl fmt::Display for Dtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Dtype {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, String> {
        let found = TABLE.iter().find(|row| row.1 == s);
        found.map(|row| row.0).ok_or_else(|| format!("expected one of {}", Self::names()))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_in_the_order_of_the_kinds() {
        for (k, row) in TABLE.iter().enumerate() {
            assert_eq!(row.0 as usize, k);
            assert_eq!(row.1.parse::<Dtype>().unwrap(), row.0);
            assert_eq!(Dtype::of_tensor(row.3), Some(row.0));
            assert_eq!(row.3.bitsize(), 8 * row.4);
            if !row.2.is_empty() {
                assert_eq!(Dtype::of_npy(&format!(">{}", row.2)), Some((row.0, true)));
            }
        }
        assert_eq!(Dtype::of_npy("<"), None);
        assert_eq!(Dtype::of_npy("\u{e9}4"), None);
    }

    #[test]
    fn what_is_encoded_is_decoded() {
        let values = [0.0, 1.0, 2.0, 77.0, 100.0];
        for (dtype, ..) in TABLE {
            let bytes = dtype.encode(&values).unwrap();
            assert_eq!(bytes.len(), 5 * dtype.bytes());
            let mut back = Vec::new();
            dtype.decode(&bytes, false, &mut back);
            let expected = values.map(|x| if dtype == Dtype::Bool { x.min(1.0) } else { x });
            assert_eq!(back, expected, "{dtype}");
            let turned: Vec<u8> =
                bytes.chunks(dtype.bytes()).flat_map(|w| w.iter().rev().copied()).collect();
            let mut big = Vec::new();
            dtype.decode(&turned, true, &mut big);
            assert_eq!(big, expected, "{dtype}");
        }
        assert_eq!(Dtype::U8.encode(&[-3.0, 1e9, 2.5]).unwrap(), [0, 255, 3]);
        assert_eq!(Dtype::I16.encode(&[-1e9]).unwrap(), i16::MIN.to_le_bytes());
    }
}
