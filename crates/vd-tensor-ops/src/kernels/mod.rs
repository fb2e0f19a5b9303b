//! Kernels of our own, below the layers: what libtorch does in many passes over memory, in one.
//!
//! [`crate::layers`] take them where they fit: on the CPU, in f32. Everything else takes the road of
//! plain libtorch operations, the twin that each kernel is tested against. [`with`] chooses.

pub mod cpu;

use std::cell::Cell;

use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor};

/// How exactly kernels compute.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Precision {
    /// libtorch's operations alone, no kernels.
    Reference,
    /// Kernels that do the products of the direct way, in another order.
    Exact,
    /// Convolutions by Winograd's minimal filtering too: fewer products, and rounding that is some
    /// times larger.
    #[default]
    F32,
}

thread_local! {
    static PRECISION: Cell<Precision> = const { Cell::new(Precision::F32) };
}

/// Runs `f` with layers on this thread computing so; [`Precision::F32`] where nobody says.
pub fn with<R>(precision: Precision, f: impl FnOnce() -> R) -> R {
    struct Restore(Precision);
    impl Drop for Restore {
        fn drop(&mut self) {
            PRECISION.set(self.0);
        }
    }
    let _restore = Restore(PRECISION.replace(precision));
    f()
}

/// What [`with`] has chosen.
pub fn precision() -> Precision {
    PRECISION.get()
}

/// Whether the kernels of the CPU compute with this tensor.
pub(crate) fn on_cpu(x: &Tensor) -> bool {
    precision() != Precision::Reference && x.device() == Device::Cpu && x.kind() == Kind::Float
}

/// Whether a result of these tensors would have a gradient.
pub(crate) fn needs_grad(tensors: &[&Tensor]) -> bool {
    // A view requires a gradient where its base does and the mode of the thread says so.
    tensors.iter().any(|x| x.requires_grad() && x.alias().requires_grad())
}
