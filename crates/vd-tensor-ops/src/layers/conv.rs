//! Convolution over space, frame by frame.
//!
//! A three-dimensional convolution of depth 1 takes a slow path in libtorch; here frames are folded
//! into the batch and the convolution is two-dimensional, on channels-last memory.

use std::sync::Arc;

use tch::Tensor;

use super::Wrap;
use super::cast::{Cast, Layout};
use crate::kernels::cpu::{self, ConvCache, ConvWeights, DirectCache, Isa, Road, Window};
use crate::kernels::{self, check};
use crate::{Error, Init, Result, Scope};

/// b f h w c as the channels-first view of a batch of images: (b f) c h w, no copy.
fn to_images(x: &Tensor) -> (Tensor, i64, i64) {
    let (b, f) = (x.size()[0], x.size()[1]);
    (x.flatten(0, 1).permute([0, 3, 1, 2]), b, f)
}

/// The inverse: (b f) c h w -> b f h w c, a view if the memory is channels-last.
fn to_video(images: &Tensor, b: i64, f: i64) -> Tensor {
    images.permute([0, 2, 3, 1]).contiguous().unflatten(0, [b, f])
}

/// o i 1 k k -> o i k k
fn plane(weight: &Tensor) -> Tensor {
    weight.squeeze_dim(2)
}

/// Cached casts of a weight and a bias for libtorch's convolutions.
#[derive(Debug, Default)]
struct Casts {
    weight: Cast,
    bias: Cast,
}

impl Casts {
    /// o i 1 k k -> o i k k
    fn plane(&self, weight: &Tensor) -> Tensor {
        self.weight.of(&plane(weight), Layout::ChannelsLast)
    }

    fn bias(&self, bias: &Tensor) -> Tensor {
        self.bias.of(bias, Layout::Stored)
    }
}

/// Whether the kernels make a convolution of these inputs with these parameters by its products.
fn takes_direct(inputs: &[&Tensor], weight: &Tensor, bias: &Tensor) -> bool {
    let lanes = Isa::current().lanes();
    inputs.len() <= 2
        && inputs.iter().all(|x| kernels::on_cpu(x) && x.numel() > 0)
        && [weight, bias].into_iter().all(kernels::on_cpu)
        && bias.numel().is_multiple_of(lanes)
}

/// A convolution of kernel 1 x k x k that keeps height and width.
#[derive(Debug)]
pub struct SpaceConv {
    weight: Tensor,
    pub(super) bias: Tensor,
    window: Window,
    wrap: Wrap,
    casts: Casts,
    winograd: Arc<ConvCache>,
    direct: Arc<DirectCache>,
}

impl SpaceConv {
    /// `weight` (out in 1 k k) and `bias` (out), initialised as in `torch.nn.Conv3d`.
    ///
    /// # Range
    /// `kernel`: odd
    /// # Errors
    /// An even kernel; names that are taken; sizes below 1.
    pub fn new(scope: &mut Scope, inputs: i64, outputs: i64, kernel: i64) -> Result<Self> {
        Self::grown(scope, (inputs, 0), outputs, kernel)
    }

    /// The same with `more` inputs after the others. Their weights start at zero, and the initial
    /// values of the others are the same as without them.
    ///
    /// # Range
    /// `kernel`: odd; `more`: 0 or more
    /// # Errors
    /// As [`SpaceConv::new`].
    pub fn grown(
        scope: &mut Scope,
        (inputs, more): (i64, i64),
        outputs: i64,
        kernel: i64,
    ) -> Result<Self> {
        if kernel < 1 || kernel % 2 == 0 {
            return Err(Error::Value {
                what: "kernel of a spatial convolution".to_owned(),
                expected: "an odd number, so that height and width are preserved".to_owned(),
                got: kernel.to_string(),
            });
        }
        let init = Init::fan_in(inputs * kernel * kernel);
        let shape = [outputs, inputs, 1, kernel, kernel];
        let weight = scope.grown("weight", &shape, init, more)?;
        let bias = scope.param("bias", &[outputs], init)?;
        let kernel = kernel as usize;
        let window = Window { kernel, stride: 1, padding: kernel / 2 };
        let (winograd, direct) = (Arc::default(), Arc::default());
        let (wrap, casts) = (Wrap::default(), Casts::default());
        Ok(SpaceConv { weight, bias, window, wrap, casts, winograd, direct })
    }

    /// The same on periodic frames.
    pub fn wrapped(self, wrap: Wrap) -> Self {
        SpaceConv { wrap, ..self }
    }

    /// Whether frames are not periodic, so that the kernels can be used.
    pub(super) fn is_flat(&self) -> bool {
        !self.wrap.any()
    }

    /// # Shapes
    /// b f h w in -> b f h w out
    ///
    /// # Panics
    /// Another shape; a dtype or a device that does not go with that of the parameters.
    pub fn forward(&self, x: &Tensor) -> Tensor {
        self.joined(&[x])
    }

    /// Convolution of inputs whose channels are concatenated.
    ///
    /// # Shapes
    /// b f h w c each, together the inputs -> b f h w out
    pub(super) fn joined(&self, inputs: &[&Tensor]) -> Tensor {
        self.around(inputs, true)
    }

    /// The same without the bias, by libtorch.
    pub(super) fn unbiased(&self, inputs: &[&Tensor]) -> Tensor {
        self.around(inputs, false)
    }

    fn around(&self, inputs: &[&Tensor], biased: bool) -> Tensor {
        let [b, f, h, w, c] = check::joined("the inputs of a convolution", inputs);
        assert!(
            c == self.weight.size()[1],
            "the inputs of a convolution: expected shape b f h w {} together, got {:?}",
            self.weight.size()[1],
            [b, f, h, w, c]
        );
        if self.is_flat() {
            return self.flat(inputs, biased);
        }
        let (border, size) = (self.window.padding as i64, (h, w));
        let padded: Vec<Tensor> = inputs.iter().map(|x| self.wrap.pad(x, border)).collect();
        let padded: Vec<&Tensor> = padded.iter().collect();
        self.wrap.crop(&self.flat(&padded, biased), border, size)
    }

    /// The same, on frames padded with zeros.
    fn flat(&self, inputs: &[&Tensor], biased: bool) -> Tensor {
        if let Some(road) = self.road(inputs).filter(|_| biased) {
            return cpu::conv(Isa::current(), inputs, self.weights(&road), None);
        }
        let (images, b, f) = match inputs {
            [x] => to_images(x),
            _ => to_images(&Tensor::cat(inputs, -1)),
        };
        let (p, weight) = ([self.window.padding as i64; 2], self.casts.plane(&self.weight));
        let bias = biased.then(|| self.casts.bias(&self.bias));
        let out = images.conv2d(&weight, bias, [1, 1], p, [1, 1], 1);
        to_video(&out, b, f)
    }

    /// The kernel that computes a convolution of these inputs, their channels concatenated.
    pub(super) fn road(&self, inputs: &[&Tensor]) -> Option<Road> {
        let channels: Vec<i64> = inputs.iter().map(|x| x.size()[4]).collect();
        let winograd = self.window.kernel == 3
            && kernels::precision().has_winograd()
            && inputs.iter().all(|x| kernels::on_cpu(x) && x.numel() > 0)
            && [&self.weight, &self.bias].into_iter().all(kernels::on_cpu)
            && cpu::conv_fits(Isa::current(), &channels, self.bias.numel() as i64);
        if winograd {
            return Some(Road::Winograd(Arc::clone(&self.winograd)));
        }
        let direct = || Road::Direct(Arc::clone(&self.direct), self.window);
        takes_direct(inputs, &self.weight, &self.bias).then(direct)
    }

    pub(super) fn weights<'a>(&'a self, road: &'a Road) -> ConvWeights<'a> {
        ConvWeights { weight: &self.weight, bias: &self.bias, road }
    }
}

/// The window of the layers that halve or double the resolution.
const HALF: Window = Window { kernel: 4, stride: 2, padding: 1 };

/// Halves height and width: kernel 1 x 4 x 4, stride 2, padding 1.
#[derive(Debug)]
pub struct SpaceDown {
    weight: Tensor,
    bias: Tensor,
    wrap: Wrap,
    casts: Casts,
    cache: Arc<DirectCache>,
}

impl SpaceDown {
    /// `weight` (c c 1 4 4) and `bias` (c), initialised as in `torch.nn.Conv3d`.
    ///
    /// # Errors
    /// Names that are taken; sizes below 1.
    pub fn new(scope: &mut Scope, channels: i64) -> Result<Self> {
        let init = Init::fan_in(channels * 16);
        let weight = scope.param("weight", &[channels, channels, 1, 4, 4], init)?;
        let bias = scope.param("bias", &[channels], init)?;
        let (wrap, casts) = (Wrap::default(), Casts::default());
        Ok(SpaceDown { weight, bias, wrap, casts, cache: Arc::default() })
    }

    /// The same on periodic frames.
    pub fn wrapped(self, wrap: Wrap) -> Self {
        SpaceDown { wrap, ..self }
    }

    /// # Shapes
    /// b f h w c -> b f h/2 w/2 c
    ///
    /// # Panics
    /// As [`SpaceConv::forward`].
    pub fn forward(&self, x: &Tensor) -> Tensor {
        check::channels("the input of a convolution that halves", x, self.weight.size()[1]);
        if self.wrap.any() {
            // Padding by two positions shifts the outputs by one.
            let size = (x.size()[2] / 2, x.size()[3] / 2);
            return self.wrap.crop(&self.flat(&self.wrap.pad(x, 2)), 1, size);
        }
        self.flat(x)
    }

    /// The same, on frames padded with zeros.
    fn flat(&self, x: &Tensor) -> Tensor {
        if takes_direct(&[x], &self.weight, &self.bias) && x.size()[2] > 1 && x.size()[3] > 1 {
            let road = Road::Direct(Arc::clone(&self.cache), HALF);
            let weights = ConvWeights { weight: &self.weight, bias: &self.bias, road: &road };
            return cpu::conv(Isa::current(), &[x], weights, None);
        }
        let (images, b, f) = to_images(x);
        let (weight, bias) = (self.casts.plane(&self.weight), self.casts.bias(&self.bias));
        let out = images.conv2d(&weight, Some(&bias), [2, 2], [1, 1], [1, 1], 1);
        to_video(&out, b, f)
    }
}

/// Doubles height and width: transposed convolution, kernel 1 x 4 x 4, stride 2, padding 1.
#[derive(Debug)]
pub struct SpaceUp {
    weight: Tensor,
    bias: Tensor,
    wrap: Wrap,
    casts: Casts,
    cache: Arc<DirectCache>,
}

impl SpaceUp {
    /// `weight` (c c 1 4 4) and `bias` (c), initialised as in `torch.nn.ConvTranspose3d`.
    ///
    /// # Errors
    /// Names that are taken; sizes below 1.
    pub fn new(scope: &mut Scope, channels: i64) -> Result<Self> {
        let init = Init::fan_in(channels * 16);
        let weight = scope.param("weight", &[channels, channels, 1, 4, 4], init)?;
        let bias = scope.param("bias", &[channels], init)?;
        let (wrap, casts) = (Wrap::default(), Casts::default());
        Ok(SpaceUp { weight, bias, wrap, casts, cache: Arc::default() })
    }

    /// The same on periodic frames.
    pub fn wrapped(self, wrap: Wrap) -> Self {
        SpaceUp { wrap, ..self }
    }

    /// # Shapes
    /// b f h w c -> b f 2h 2w c
    ///
    /// # Panics
    /// As [`SpaceConv::forward`].
    pub fn forward(&self, x: &Tensor) -> Tensor {
        check::channels("the input of a convolution that doubles", x, self.weight.size()[0]);
        if self.wrap.any() {
            let size = (2 * x.size()[2], 2 * x.size()[3]);
            return self.wrap.crop(&self.flat(&self.wrap.pad(x, 1)), 2, size);
        }
        self.flat(x)
    }

    /// The same, on frames padded with zeros.
    fn flat(&self, x: &Tensor) -> Tensor {
        if takes_direct(&[x], &self.weight, &self.bias) {
            let road = Road::Transposed(Arc::clone(&self.cache), HALF);
            let weights = ConvWeights { weight: &self.weight, bias: &self.bias, road: &road };
            return cpu::conv(Isa::current(), &[x], weights, None);
        }
        let (images, b, f) = to_images(x);
        let (weight, bias) = (self.casts.plane(&self.weight), self.casts.bias(&self.bias));
        let out = images.conv_transpose2d(&weight, Some(&bias), [2, 2], [1, 1], [0, 0], 1, [1, 1]);
        to_video(&out, b, f)
    }
}
