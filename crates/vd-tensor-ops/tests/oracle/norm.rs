//! Norms over channels.

use ndarray::{Array1, ArrayD, Axis};

use super::Video;

/// x sqrt(c) / max(|x|, 1e-12) * gain, over the last axis (Zhang & Sennrich 2019, equation 4, with
/// no epsilon under the root).
pub fn rms(x: &ArrayD<f64>, gain: &Array1<f64>) -> ArrayD<f64> {
    let mut y = x.clone();
    for mut lane in y.lanes_mut(Axis(x.ndim() - 1)) {
        let c = lane.len();
        assert_eq!(c, gain.len());
        let length = lane.iter().map(|v| v * v).sum::<f64>().sqrt().max(1e-12);
        for i in 0..c {
            lane[i] = lane[i] * (c as f64).sqrt() / length * gain[i];
        }
    }
    y
}

/// Mean and biased variance.
pub fn moments(values: impl Iterator<Item = f64> + Clone) -> (f64, f64) {
    let n = values.clone().count() as f64;
    let mean = values.clone().sum::<f64>() / n;
    (mean, values.map(|v| (v - mean) * (v - mean)).sum::<f64>() / n)
}

/// (x - mean) / sqrt(variance + 1e-5) * gain, over the last axis (Ba et al. 2016, equation 3).
pub fn layer(x: &ArrayD<f64>, gain: &Array1<f64>) -> ArrayD<f64> {
    let mut y = x.clone();
    for mut lane in y.lanes_mut(Axis(x.ndim() - 1)) {
        let (mean, variance) = moments(lane.iter().copied());
        for i in 0..lane.len() {
            lane[i] = (lane[i] - mean) / (variance + 1e-5).sqrt() * gain[i];
        }
    }
    y
}

/// As [`layer`], with the moments of a sample's group of neighbouring channels over all frames and
/// positions (Wu & He 2018, equations 1 to 3 and 7).
pub fn group(x: &Video, gain: &Array1<f64>, bias: &Array1<f64>, groups: usize) -> Video {
    let (samples, f, h, w, c) = x.dim();
    let each = c / groups;
    let mut y = x.clone();
    for b in 0..samples {
        for g in 0..groups {
            let mut values = Vec::with_capacity(f * h * w * each);
            for (index, value) in x.index_axis(Axis(0), b).indexed_iter() {
                if index.3 / each == g {
                    values.push(*value);
                }
            }
            let (mean, variance) = moments(values.iter().copied());
            for (index, value) in y.index_axis_mut(Axis(0), b).indexed_iter_mut() {
                if index.3 / each == g {
                    let normal = (*value - mean) / (variance + 1e-5).sqrt();
                    *value = normal * gain[index.3] + bias[index.3];
                }
            }
        }
    }
    y
}
