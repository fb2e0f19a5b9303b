//! Random operands, and how far results are from what they should be.
#![allow(dead_code, reason = "each test of kernels takes what it needs")]

use tch::{Device, Kind, Tensor};
use vd_tensor_ops::{Noise, SeededNoise};

/// Standard normal, f32.
pub(crate) fn draw(seed: u64, shape: &[i64]) -> Tensor {
    let size: i64 = shape.iter().product();
    let like = Tensor::empty([1, size], (Kind::Float, Device::Cpu));
    SeededNoise::new(seed, 0).normal(&like).view(shape)
}

/// |a - b| / |b| over all entries, b in f64; |a| where b is zero.
pub(crate) fn error(a: &Tensor, b: &Tensor) -> f64 {
    assert_eq!(a.size(), b.size());
    let length = |t: &Tensor| t.norm().double_value(&[]);
    let (difference, whole) = (length(&(a.to_kind(Kind::Double) - b)), length(b));
    if whole > 0.0 { difference / whole } else { difference }
}
