//! Products over channels and convolutions over space.

use ndarray::{Array1, Array2, Array5, ArrayD, Axis, IxDyn, s};

use super::Video;

/// y[.., o] = bias[o] + sum over i of x[.., i] w[o, i], over the last axis.
pub fn linear(x: &ArrayD<f64>, weight: &Array2<f64>, bias: Option<&Array1<f64>>) -> ArrayD<f64> {
    let (outputs, inputs) = weight.dim();
    let mut shape = x.shape().to_vec();
    assert_eq!(shape.pop(), Some(inputs), "width of the input");
    shape.push(outputs);
    let mut y = ArrayD::zeros(IxDyn(&shape));
    for (xs, mut ys) in x.lanes(Axis(x.ndim() - 1)).into_iter().zip(y.rows_mut()) {
        for o in 0..outputs {
            let product: f64 = xs.iter().zip(weight.row(o)).map(|(x, w)| x * w).sum();
            ys[o] = product + bias.map_or(0.0, |b| b[o]);
        }
    }
    y
}

/// [`linear`] on a video.
pub fn channels(x: &Video, weight: &Array2<f64>, bias: Option<&Array1<f64>>) -> Video {
    linear(&x.clone().into_dyn(), weight, bias).into_dimensionality().unwrap()
}

/// Correlation of every frame with a kernel o i 1 k k, zeros beyond the border.
pub fn convolution(
    x: &Video,
    weight: &Array5<f64>,
    bias: &Array1<f64>,
    stride: usize,
    padding: usize,
) -> Video {
    let (b, f, h, w, c) = x.dim();
    let (outputs, inputs, depth, kernel, _) = weight.dim();
    assert!(c == inputs && depth == 1);
    let after = |n: usize| (n + 2 * padding - kernel) / stride + 1;
    let weight = weight.view().permuted_axes([0, 2, 3, 4, 1]); // o 1 k k i
    let weight = weight.as_standard_layout();
    let x = x.as_standard_layout();
    Video::from_shape_fn((b, f, after(h), after(w), outputs), |(b, f, row, column, o)| {
        let mut sum = bias[o];
        for u in 0..kernel {
            for v in 0..kernel {
                // Where the kernel's cell (u, v) lies in the padded frame.
                let (r, q) = (row * stride + u, column * stride + v);
                if r < padding || q < padding || r - padding >= h || q - padding >= w {
                    continue;
                }
                let pixel = x.slice(s![b, f, r - padding, q - padding, ..]);
                let cell = weight.slice(s![o, 0, u, v, ..]);
                sum += pixel.iter().zip(cell).map(|(x, w)| x * w).sum::<f64>();
            }
        }
        sum
    })
}

/// The transpose of a strided correlation: every pixel is spread by a kernel i o 1 k k.
pub fn transposed(
    x: &Video,
    weight: &Array5<f64>,
    bias: &Array1<f64>,
    stride: usize,
    padding: usize,
) -> Video {
    let (b, f, h, w, c) = x.dim();
    let (inputs, outputs, depth, kernel, _) = weight.dim();
    assert!(c == inputs && depth == 1);
    let after = |n: usize| (n - 1) * stride + kernel - 2 * padding;
    let (height, width) = (after(h), after(w));
    let mut y = Video::from_shape_fn((b, f, height, width, outputs), |(_, _, _, _, o)| bias[o]);
    for ((b, f, row, column, i), value) in x.indexed_iter() {
        for u in 0..kernel {
            for v in 0..kernel {
                let (r, q) = (row * stride + u, column * stride + v);
                if r < padding || q < padding || r - padding >= height || q - padding >= width {
                    continue;
                }
                for o in 0..outputs {
                    y[[b, f, r - padding, q - padding, o]] += value * weight[[i, o, 0, u, v]];
                }
            }
        }
    }
    y
}
