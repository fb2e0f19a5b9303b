//! The training loss: distances, their means, and what is reported of them.

mod bins;
mod kind;
mod reduce;

pub use bins::Bin;
pub use kind::LossKind;
pub(crate) use reduce::{Means, counting, reduce};

use tch::{Kind, Tensor};

use crate::Result;

/// The loss of a batch.
#[derive(Debug)]
pub struct Loss {
    /// Mean over all numbers that count, a scalar to call `backward` on.
    pub mean: Tensor,
    /// Each sample's own mean, detached; 0 where nothing of the sample counts. Weighted, but
    /// without what a learned [`Uncertainty`](crate::Uncertainty) makes of it.
    ///
    /// # Shapes
    /// b
    pub per_sample: Tensor,
    /// The same for each noise level.
    ///
    /// # Shapes
    /// b, or b f where every frame has its own
    pub per_level: Tensor,
    /// How many numbers of each level count, f64 on the CPU.
    ///
    /// # Shapes
    /// As `per_level`
    pub counts: Tensor,
    /// The log-SNR of each level, f64 on the CPU; infinite for a clean frame.
    ///
    /// # Shapes
    /// As `per_level`
    pub log_snr: Tensor,
    /// The times that the batch was noised to, f64 on the CPU.
    ///
    /// # Shapes
    /// b, or b f
    pub t: Tensor,
}

impl Loss {
    /// The mean loss of the levels between each two edges. Waits for the device.
    ///
    /// # Range
    /// `edges`: log-SNRs that rise, infinite ones too. A bin holds its lower edge and not its
    /// upper one; what lies in no bin is left out, and so are clean frames.
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
