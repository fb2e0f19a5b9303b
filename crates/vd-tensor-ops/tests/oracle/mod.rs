//! What the layers should compute, written from their definitions: plain loops in f64.
//!
//! Nothing here calls libtorch; only the bridges at the end of this file read its tensors. Videos
//! are `b f h w c`, weights are given as they are stored.

#![allow(dead_code, unreachable_pub, clippy::unwrap_used, clippy::expect_used)]

pub mod attention;
pub mod build;
pub mod dense;
pub mod differences;
pub mod draw;
pub mod norm;
pub mod position;
pub mod text;
pub mod zoo;

use std::collections::BTreeMap;

use ndarray::{Array1, Array2, Array5, ArrayD, Ix1, Ix2, Ix5, IxDyn};
use tch::{Kind, Tensor};
use vd_tensor_ops::Params;
use vd_tensor_ops::torch::testing::device;

/// b f h w c.
pub type Video = Array5<f64>;

/// Half the distance of 1 and the next f32: what one rounding may do.
pub const U32: f64 = 5.960_464_477_539_063e-8;

/// Named arrays, as a checkpoint has them.
#[derive(Debug, Clone)]
pub struct Weights(pub BTreeMap<String, ArrayD<f64>>);

impl Weights {
    pub fn of(params: &Params) -> Weights {
        Weights(params.iter().map(|(name, p)| (name.to_owned(), array(&p.tensor))).collect())
    }

    pub fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    pub fn get(&self, name: &str) -> &ArrayD<f64> {
        self.0.get(name).unwrap_or_else(|| panic!("no parameter `{name}`"))
    }

    /// All values in one row: gains and biases are stored with axes of length 1.
    pub fn row(&self, name: &str) -> Array1<f64> {
        self.get(name).iter().copied().collect()
    }

    /// The first two axes: a convolution of kernel 1 is stored with axes of length 1 behind them.
    pub fn matrix(&self, name: &str) -> Array2<f64> {
        let w = self.get(name);
        let (rows, columns) = (w.shape()[0], w.shape()[1]);
        assert_eq!(w.len(), rows * columns, "`{name}` has a kernel");
        w.to_shape((rows, columns)).unwrap().to_owned()
    }

    pub fn kernel(&self, name: &str) -> Array5<f64> {
        self.get(name).clone().into_dimensionality::<Ix5>().unwrap()
    }
}

pub fn array(t: &Tensor) -> ArrayD<f64> {
    let shape: Vec<usize> = t.size().iter().map(|n| *n as usize).collect();
    let values = Vec::<f64>::try_from(t.detach().to_kind(Kind::Double).reshape([-1])).unwrap();
    ArrayD::from_shape_vec(IxDyn(&shape), values).unwrap()
}

pub fn row(t: &Tensor) -> Array1<f64> {
    array(t).into_dimensionality::<Ix1>().unwrap()
}

pub fn matrix(t: &Tensor) -> Array2<f64> {
    array(t).into_dimensionality::<Ix2>().unwrap()
}

pub fn video(t: &Tensor) -> Video {
    array(t).into_dimensionality::<Ix5>().unwrap()
}

pub fn tensor<D: ndarray::Dimension>(a: &ndarray::Array<f64, D>) -> Tensor {
    let shape: Vec<i64> = a.shape().iter().map(|n| *n as i64).collect();
    let values: Vec<f64> = a.iter().copied().collect();
    Tensor::from_slice(&values).view(shape.as_slice()).to_device(device())
}

fn length(values: impl Iterator<Item = f64>) -> f64 {
    values.map(|v| v * v).sum::<f64>().sqrt()
}

/// Length of the difference over the length of what is expected; shapes must agree.
pub fn relative<D: ndarray::Dimension>(got: &Tensor, expected: &ndarray::Array<f64, D>) -> f64 {
    let got = array(got);
    assert_eq!(got.shape(), expected.shape(), "shapes differ");
    let difference = length(got.iter().zip(expected.iter()).map(|(a, b)| a - b));
    let size = length(expected.iter().copied());
    assert!(difference.is_finite() && size.is_finite(), "values are not finite");
    if difference == 0.0 { 0.0 } else { difference / size }
}

/// The largest |difference| over its own bound: at most 1 where every element keeps its bound. On
/// CUDA, whose convolutions may do other products than the bounds count, it is the relative
/// difference in parts of 1e-4.
pub fn share<D: ndarray::Dimension>(
    got: &Tensor,
    expected: &ndarray::Array<f64, D>,
    bound: &ndarray::Array<f64, D>,
) -> f64 {
    if device().is_cuda() {
        return relative(got, expected) / 1e-4;
    }
    let got = array(got);
    assert_eq!(got.shape(), expected.shape(), "shapes differ");
    let pairs = got.iter().zip(expected.iter()).zip(bound.iter());
    let share = |((a, b), bound): ((&f64, &f64), &f64)| {
        let difference = (a - b).abs();
        if difference == 0.0 { 0.0 } else { difference / bound }
    };
    pairs.map(share).fold(0.0, |most, s| if s.is_nan() { f64::INFINITY } else { most.max(s) })
}
