//! Random tensors that depend on a seed alone, whatever other tests draw beside.
#![allow(dead_code)]

use vd_torch::tch::{Kind, Tensor};

/// A splitmix64 generator.
pub(crate) struct Draw(pub(crate) u64);

impl Draw {
    /// Normal numbers in f64.
    pub(crate) fn normal(&mut self, shape: &[i64]) -> Tensor {
        let n = shape.iter().product::<i64>();
        let values: Vec<f64> = (0..n).map(|_| self.one()).collect();
        Tensor::from_slice(&values).view(shape)
    }

    /// Normal numbers in f64, of which gradients are wanted.
    pub(crate) fn leaf(&mut self, shape: &[i64]) -> Tensor {
        self.normal(shape).set_requires_grad(true)
    }

    fn one(&mut self) -> f64 {
        let radius = (-2.0 * (1.0 - self.uniform()).ln()).sqrt();
        radius * (std::f64::consts::TAU * self.uniform()).cos()
    }

    fn uniform(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// The largest absolute difference of two tensors.
pub(crate) fn difference(a: &Tensor, b: &Tensor) -> f64 {
    assert_eq!((a.size(), a.kind()), (b.size(), Kind::Double));
    (a - b).abs().max().double_value(&[])
}
