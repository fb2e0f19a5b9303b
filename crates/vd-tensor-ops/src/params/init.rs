//! Initial values of parameters.

use rand_chacha::rand_core::RngCore;
use tch::{Device, Kind, Tensor};

use crate::noise::{fill_normal, named_stream, to_tensor, unit};

/// How a parameter is initialised.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Init {
    /// A constant.
    Const(f64),
    /// Uniform on [-bound, bound).
    Uniform {
        /// Half the width of the range.
        bound: f64,
    },
    /// Standard normal.
    Normal,
    /// Normal with mean 0.
    NormalOf {
        /// The standard deviation.
        std: f64,
    },
    /// A convolution that is the identity on each channel: 1 where output and input channel are the
    /// same and the kernel is at its middle, 0 elsewhere.
    ///
    /// # Shapes
    /// o i, and the axes of a kernel, of odd lengths
    Dirac,
}

impl Init {
    /// PyTorch's default for the weight and the bias of linear and convolution layers.
    ///
    /// # Reference
    /// `torch.nn.Linear.reset_parameters`: Kaiming uniform with a = sqrt(5), which is uniform
    /// within 1 / sqrt(fan_in).
    pub fn fan_in(fan_in: i64) -> Init {
        Init::Uniform { bound: 1.0 / (fan_in as f64).sqrt() }
    }

    /// The initial values of a parameter, from seed and name alone.
    pub(super) fn draw(
        self,
        (seed, name): (u64, &str),
        shape: &[i64],
        (kind, device): (Kind, Device),
    ) -> Tensor {
        let mut values = vec![0f32; shape.iter().product::<i64>() as usize];
        let mut rng = named_stream(seed, name);
        match self {
            Init::Const(value) => return Tensor::full(shape, value, (kind, device)),
            Init::Uniform { bound } => {
                values.fill_with(|| (2.0 * unit(rng.next_u32()) - 1.0) * bound as f32);
            }
            Init::Normal => fill_normal(&mut rng, &mut values),
            Init::NormalOf { std } => {
                fill_normal(&mut rng, &mut values);
                values.iter_mut().for_each(|x| *x *= std as f32);
            }
            Init::Dirac => diagonal(shape, &mut values),
        }
        to_tensor(&values, shape, kind, device)
    }
}

/// Ones at the middle of the kernel from each channel to itself.
fn diagonal(shape: &[i64], values: &mut [f32]) {
    let [outputs, inputs, kernel @ ..] = shape else { return };
    let (inputs, cells) = (*inputs as usize, kernel.iter().product::<i64>() as usize);
    for channel in 0..inputs.min(*outputs as usize) {
        values[(channel * inputs + channel) * cells + cells / 2] = 1.0;
    }
}
