//! The training loss: distances, their means, and statistics.

mod bins;
mod kind;
mod reduce;
mod request;

pub use bins::Bin;
pub use kind::LossKind;
pub(crate) use reduce::{Means, counting, reduce};
pub use request::LossRequest;
pub(crate) use request::weighted_by;

use tch::{Kind, Tensor};

use crate::Result;

/// The loss of a batch.
#[derive(Debug)]
pub struct Loss {
    /// Mean over all values that count, a scalar on which to call `backward`.
    pub mean: Tensor,
    /// Each sample's mean, detached; 0 for a sample in which nothing counts. Includes the
    /// weighting, but not a learned [`Uncertainty`](crate::Uncertainty).
    ///
    /// # Shapes
    /// b
    pub per_sample: Tensor,
    /// The same for each noise level.
    ///
    /// # Shapes
    /// b, or b f if every frame has its own level
    pub per_level: Tensor,
    /// How many values of each level count, f64 on the CPU.
    ///
    /// # Shapes
    /// As `per_level`
    pub counts: Tensor,
    /// The log-SNR of each level, f64 on the CPU; infinite for a clean frame.
    ///
    /// # Shapes
    /// As `per_level`
    pub log_snr: Tensor,
    /// The times at which the batch was noised, f64 on the CPU.
    ///
    /// # Shapes
    /// b, or b f
    pub t: Tensor,
}

impl Loss {
    /// The mean loss of the levels between consecutive edges. Synchronises with the device.
    ///
    /// # Range
    /// `edges`: rising log-SNRs, which may be infinite. A bin includes its lower edge and excludes
    /// its upper one; levels outside all bins are omitted, as are clean frames.
    ///
    /// # Errors
    /// Fewer than two edges, or edges that do not rise.
    pub fn by_log_snr(&self, edges: &[f64]) -> Result<Vec<Bin>> {
        let host = |x: &Tensor| -> Result<Vec<f64>> {
            Ok(Vec::try_from(&x.f_to_kind(Kind::Double)?.f_reshape([-1])?)?)
        };
        let (means, counts) = (host(&self.per_level)?, host(&self.counts)?);
        Bin::of(&host(&self.log_snr)?, &means, &counts, edges)
    }
}
