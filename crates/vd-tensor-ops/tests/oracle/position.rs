//! Positions in time and in the diffusion process.

use ndarray::{Array1, Array2, Array3, ArrayD, IxDyn};

/// Frequencies of `width` features: 10000^(-2i / width), i = 0, 1, ... (Su et al. 2021).
pub fn frequencies(width: usize) -> Array1<f64> {
    (0..width / 2).map(|i| 10_000f64.powf(-2.0 * i as f64 / width as f64)).collect()
}

/// Turns the plane of the features (2i, 2i + 1) by the angle position * freqs[i]; features beyond
/// the last pair stay.
pub fn turn(features: &mut [f64], position: usize, freqs: &Array1<f64>) {
    for (i, freq) in freqs.iter().enumerate() {
        let (sin, cos) = (position as f64 * freq).sin_cos();
        let (a, b) = (features[2 * i], features[2 * i + 1]);
        features[2 * i] = a * cos - b * sin;
        features[2 * i + 1] = a * sin + b * cos;
    }
}

/// The bucket of a key `distance` frames behind the query, in whole numbers.
///
/// Each direction has 16 buckets: the distances 0 to 7 one each, then those from 8 to
/// `max_distance` in eight buckets of equal width on a logarithmic scale. Bucket 8 + k begins where
/// 8 log(n / 8) >= k log(max_distance / 8), which is n^8 8^k >= max_distance^k 8^8.
pub fn bucket(distance: i64, max_distance: u128) -> usize {
    let ahead = if distance < 0 { 16 } else { 0 };
    let n = u128::from(distance.unsigned_abs());
    if n < 8 {
        return ahead + n as usize;
    }
    let begun = |k: u32| n.pow(8) * 8u128.pow(k) >= max_distance.pow(k) * 8u128.pow(8);
    ahead + 8 + (1..8).take_while(|k| begun(*k)).count()
}

/// n f f: the row of the bucket of query i and key j.
pub fn relative_bias(table: &Array2<f64>, f: usize, max_distance: u128) -> Array3<f64> {
    Array3::from_shape_fn((table.dim().1, f, f), |(n, i, j)| {
        table[[bucket(i as i64 - j as i64, max_distance), n]]
    })
}

/// n (h w) (h w): the row of the distance down plus the row of the distance across.
pub fn relative_bias_2d(
    [down, across]: [&Array2<f64>; 2],
    (h, w): (usize, usize),
    max_distance: u128,
) -> Array3<f64> {
    let bucket = |i: usize, j: usize| bucket(i as i64 - j as i64, max_distance);
    Array3::from_shape_fn((down.dim().1, h * w, h * w), |(n, i, j)| {
        down[[bucket(i / w, j / w), n]] + across[[bucket(i % w, j % w), n]]
    })
}

/// Sines of t / 10000^(i / (half - 1)), then the cosines.
pub fn sinusoids(t: &ArrayD<f64>, width: usize) -> ArrayD<f64> {
    let half = width / 2;
    let mut shape = t.shape().to_vec();
    shape.push(width);
    ArrayD::from_shape_fn(IxDyn(&shape), |index| {
        let i = index[t.ndim()];
        let at: Vec<usize> = (0..t.ndim()).map(|axis| index[axis]).collect();
        let period = 10_000f64.powf((i % half) as f64 / (half - 1) as f64);
        let angle = t[IxDyn(&at)] / period;
        if i < half { angle.sin() } else { angle.cos() }
    })
}

/// erf(x) = 2 / sqrt(pi) exp(-x^2) sum of 2^k x^(2k + 1) / (1 * 3 * ... * (2k + 1)): all terms of one
/// sign, so that nothing cancels (Abramowitz & Stegun 7.1.6).
pub fn erf(x: f64) -> f64 {
    if x.abs() > 6.0 {
        return x.signum();
    }
    let (mut term, mut sum) = (x, x);
    for k in 1..200 {
        term *= 2.0 * x * x / f64::from(2 * k + 1);
        sum += term;
    }
    sum * 2.0 / std::f64::consts::PI.sqrt() * (-x * x).exp()
}
