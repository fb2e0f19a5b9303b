//! Convolution along time, for each position separately.

use tch::Tensor;

use super::cast::{Cast, Layout};
use crate::kernels::cpu::{self, TapRuns};
use crate::kernels::cuda;
use crate::kernels::{self, check};
use crate::{Error, Init, Result, Scope};

/// A convolution of kernel k x 1 x 1 that keeps the number of frames and starts as the identity:
/// after a convolution over space it forms a factored three-dimensional one.
///
/// Zeros are used beyond the first and the last frame and for masked frames: an image beside a clip
/// gets the same values as on its own.
///
/// # Reference
/// Singer et al. 2022 (Make-A-Video), section 3.2.1, arXiv:2209.14792: an image network becomes a
/// video network without a change of its output.
#[derive(Debug)]
pub struct TemporalConv {
    weight: Tensor,
    bias: Tensor,
    casts: [Cast; 2],
}

/// A tap of the kernel: an offset in time and its weight.
struct Tap<'a> {
    /// How many frames later than the output the input is.
    offset: i64,
    /// o i
    weight: &'a Tensor,
}

impl TemporalConv {
    /// `weight` (c c k 1 1), 1 from each channel to itself at the output's own frame and 0 elsewhere,
    /// and `bias` (c), 0.
    ///
    /// # Range
    /// `kernel`: odd
    /// # Errors
    /// An even kernel; names that are taken; sizes below 1.
    pub fn new(scope: &mut Scope, channels: i64, kernel: i64) -> Result<Self> {
        if kernel < 1 || kernel % 2 == 0 {
            return Err(Error::Value {
                what: "kernel of a temporal convolution".to_owned(),
                expected: "an odd number, so that the number of frames is preserved".to_owned(),
                got: kernel.to_string(),
            });
        }
        let shape = [channels, channels, kernel, 1, 1];
        Ok(TemporalConv {
            weight: scope.param("weight", &shape, Init::Dirac)?,
            bias: scope.param("bias", &[channels], Init::Const(0.0))?,
            casts: Default::default(),
        })
    }

    /// Sums the taps' matrix products over the frames that they reach.
    ///
    /// # Shapes
    /// `x`: b f h w c -> the same; `forbidden`: bool, (b or 1) 1 1 f f
    ///
    /// # Panics
    /// Other shapes; dtypes or devices that do not go together.
    pub fn forward(&self, x: &Tensor, forbidden: Option<&Tensor>) -> Tensor {
        let what = "the input of a convolution along time";
        let [b, f, ..] = check::channels(what, x, self.weight.size()[1]);
        if let Some(forbidden) = forbidden {
            check::marks("the forbidden pairs of a convolution along time", forbidden, (b, f));
        }
        if let Some(runs) = self.runs(x, forbidden) {
            return cpu::temporal_conv(x, (&self.weight, &self.bias), &runs);
        }
        if forbidden.is_none() && cuda::may_run(x) {
            return self.as_images(x);
        }
        let taps = self.weight.flatten(2, -1).unbind(2); // k of o i
        let (half, f) = (taps.len() as i64 / 2, x.size()[1]);
        let own = x.linear(&taps[half as usize], Some(&self.bias));
        let offsets = (-half..).zip(&taps).map(|(offset, weight)| Tap { offset, weight });
        // Taps that reach beyond both ends only see zeros.
        let others = offsets.filter(|tap| tap.offset != 0 && tap.offset.abs() < f);
        others.fold(own, |sum, tap| sum + tap.of(x, forbidden))
    }

    /// The same as one convolution of images whose rows are frames, without a copy.
    fn as_images(&self, x: &Tensor) -> Tensor {
        let images = x.flatten(2, 3).permute([0, 3, 1, 2]); // b c f s
        let [weight, bias] = &self.casts;
        let weight = weight.of(&self.weight.squeeze_dim(4), Layout::ChannelsLast); // o i k 1
        let bias = bias.of(&self.bias, Layout::Stored);
        let p = [self.weight.size()[2] / 2, 0];
        let out = images.conv2d(&weight, Some(&bias), [1, 1], p, [1, 1], 1);
        out.permute([0, 2, 3, 1]).contiguous().view(x.size().as_slice())
    }

    /// The segments that the kernel multiplies, if it applies to these frames.
    fn runs(&self, x: &Tensor, forbidden: Option<&Tensor>) -> Option<TapRuns> {
        if ![x, &self.weight, &self.bias].into_iter().all(kernels::on_cpu) || x.numel() == 0 {
            return None;
        }
        let marks = forbidden.map(|marks| Vec::<bool>::try_from(marks.flatten(0, -1)));
        let marks = marks.transpose().ok()?;
        let (taps, size) = (self.weight.size()[2], (x.size()[0], x.size()[1]));
        Some(TapRuns::new(taps, size, marks.as_deref()))
    }
}

impl Tap<'_> {
    /// The tap's contribution to all frames, zeros where it reaches none.
    fn of(&self, x: &Tensor, forbidden: Option<&Tensor>) -> Tensor {
        let (offset, frames) = (self.offset, x.size()[1] - self.offset.abs());
        let mut seen = x.narrow(1, offset.max(0), frames);
        if let Some(forbidden) = forbidden {
            // Rows are queries: above the main diagonal the key is a later frame.
            let pairs = forbidden.diagonal(offset, -2, -1); // (b or 1) 1 1 frames
            seen = seen.masked_fill(&pairs.permute([0, 3, 1, 2]).unsqueeze(-1), 0.0);
        }
        let part = seen.linear(self.weight, None::<&Tensor>);
        part.constant_pad_nd([0, 0, 0, 0, 0, 0, (-offset).max(0), offset.max(0)])
    }
}
