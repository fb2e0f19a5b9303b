//! Kernels of our own, below the layers: what libtorch does in many passes over memory, in one.
//!
//! [`crate::layers`] take them where they fit: on the CPU, in f32. Everything else takes the road of
//! plain libtorch operations, the twin that each kernel is tested against. [`with`] chooses.

pub mod cpu;

use std::cell::Cell;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor};

use crate::{Error, Result};

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

impl Precision {
    /// All, the most exact first.
    pub const ALL: [Precision; 3] = [Precision::Reference, Precision::Exact, Precision::F32];
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Precision::Reference => "reference",
            Precision::Exact => "exact",
            Precision::F32 => "f32",
        })
    }
}

impl FromStr for Precision {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        let all = Precision::ALL.into_iter();
        all.clone().find(|precision| precision.to_string() == name).ok_or_else(|| Error::Value {
            what: "precision".to_owned(),
            expected: all.map(|precision| precision.to_string()).collect::<Vec<_>>().join(", "),
            got: name.to_owned(),
        })
    }
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

/// How networks compute on the CPU, in words: the precision, and the instructions of the kernels.
pub fn road(precision: Precision) -> String {
    match precision {
        Precision::Reference => precision.to_string(),
        _ => format!("{precision}, {}", cpu::Isa::current()),
    }
}

/// Whether the kernels of the CPU compute with this tensor.
pub(crate) fn on_cpu(x: &Tensor) -> bool {
    precision() != Precision::Reference && x.device() == Device::Cpu && x.kind() == Kind::Float
}

/// Whether a result of these tensors would have a gradient.
pub(crate) fn needs_grad(tensors: &[&Tensor]) -> bool {
    vd_torch::grad_enabled() && tensors.iter().any(|x| x.requires_grad())
}
