//! The range of x0 in each channel.

use tch::{Kind, Tensor};

use crate::{Error, Result};

/// The range of x0 in each channel of the data.
///
/// For data other than pixels, whose values may exceed [-1, 1]: the static threshold of
/// [`Thresholded::with_ranges`](crate::Thresholded::with_ranges) clamps to it.
#[derive(Debug, Clone, PartialEq)]
pub struct Ranges(Vec<[f64; 2]>);

impl Ranges {
    /// The lowest and the highest value of each channel; infinite for an end that is not known.
    ///
    /// # Errors
    /// No channels; a range that contains no number.
    pub fn new(each: Vec<[f64; 2]>) -> Result<Self> {
        let sound = |&[low, high]: &[f64; 2]| {
            low <= high && low < f64::INFINITY && high > f64::NEG_INFINITY
        };
        if each.is_empty() || !each.iter().all(sound) {
            let expected = "a lowest and a highest value for each channel";
            return Err(Error::tensor("ranges of x0", expected, format!("{each:?}")));
        }
        Ok(Ranges(each))
    }

    /// The lowest and the highest value of each channel.
    pub fn each(&self) -> &[[f64; 2]] {
        &self.0
    }

    /// Clamps each channel to its range.
    ///
    /// # Shapes
    /// `x0`: b c ...; result: the same
    ///
    /// # Errors
    /// Another number of channels.
    pub fn clamp(&self, x0: &Tensor) -> Result<Tensor> {
        let size = x0.size();
        if size.get(1) != Some(&(self.0.len() as i64)) {
            let expected = format!("b c ... with {} channels", self.0.len());
            return Err(Error::tensor("x0-hat under ranges", expected, format!("{size:?}")));
        }
        let [low, high] = self.0[0];
        if self.0.iter().all(|range| *range == [low, high]) {
            return Ok(x0.f_clamp(low, high)?);
        }
        let mut shape = vec![1; size.len()];
        shape[1] = size[1];
        let side = |k: usize| -> Result<Tensor> {
            let ends: Vec<f64> = self.0.iter().map(|range| range[k]).collect();
            // Rounded on the CPU: not every device has f64.
            let ends = Tensor::f_from_slice(&ends)?.f_to_kind(Kind::Float)?;
            Ok(ends.f_to_device(x0.device())?.f_to_kind(x0.kind())?.f_view(shape.as_slice())?)
        };
        Ok(x0.f_clamp_tensor(Some(&side(0)?), Some(&side(1)?))?)
    }
}
