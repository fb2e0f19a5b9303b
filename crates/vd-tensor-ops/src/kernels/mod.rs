//! The project's own kernels, below the layers: one pass over memory where libtorch takes many.
//!
//! [`crate::layers`] use them where they apply: on the CPU in f32, on a GPU in f32 and bf16.
//! Everything else takes the libtorch fallback, which is also the reference that each kernel is
//! tested against. [`with`] chooses; `VD_KERNELS=reference` in the environment selects the fallback
//! everywhere.

pub(crate) mod check;
pub mod cpu;
pub mod cuda;

use std::cell::Cell;
use std::fmt;
use std::str::FromStr;
use std::sync::OnceLock;

use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor};

use crate::{Error, Result};

/// The numerical precision of the kernels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Precision {
    /// libtorch's operations only, no kernels.
    Reference,
    /// Kernels that compute the direct method's products, summed in another order.
    Exact,
    /// Also convolutions by Winograd's minimal filtering: fewer multiplications, and a rounding
    /// error several times larger.
    #[default]
    F32,
    /// As [`Precision::F32`]; in addition, in the forward pass the projections of attentions use
    /// bf16 operands with f32 accumulation.
    Bf16,
}

impl Precision {
    /// All variants, the most exact first.
    pub const ALL: [Precision; 4] =
        [Precision::Reference, Precision::Exact, Precision::F32, Precision::Bf16];

    /// Whether convolutions use Winograd's minimal filtering.
    pub(crate) fn has_winograd(self) -> bool {
        matches!(self, Precision::F32 | Precision::Bf16)
    }
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Precision::Reference => "reference",
            Precision::Exact => "exact",
            Precision::F32 => "f32",
            Precision::Bf16 => "bf16",
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

/// Runs `f` with this precision for layers on this thread; the default is [`Precision::F32`].
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

/// Runs `f` as a training pass whose weights change before the next one: layers on this thread
/// cache no packed form of them. Passes with gradients do so automatically; this is for a pass
/// whose activations are recomputed later.
pub fn passing<R>(f: impl FnOnce() -> R) -> R {
    cpu::once(f)
}

/// The precision chosen by [`with`], or by `VD_KERNELS=reference` for all.
pub fn precision() -> Precision {
    allowed(PRECISION.get())
}

/// The precision, unless the environment overrides it.
fn allowed(precision: Precision) -> Precision {
    static REFERENCE: OnceLock<bool> = OnceLock::new();
    let set = || std::env::var_os("VD_KERNELS").is_some_and(|word| word == "reference");
    if *REFERENCE.get_or_init(set) { Precision::Reference } else { precision }
}

/// How networks compute on the CPU, in words: the precision, and the instruction set of the
/// kernels.
pub fn road(precision: Precision) -> String {
    road_with(allowed(precision), cpu::Isa::current())
}

/// How networks compute on a device, in words: on a GPU the architecture whose kernels run, or the
/// reference if none do.
pub fn road_on(device: Device, precision: Precision) -> String {
    if !device.is_cuda() {
        return road(precision);
    }
    match allowed(precision) {
        Precision::Reference => Precision::Reference.to_string(),
        _ => cuda::generation(device).unwrap_or_else(|_| Precision::Reference.to_string()),
    }
}

fn road_with(precision: Precision, isa: cpu::Isa) -> String {
    match precision {
        Precision::Reference => precision.to_string(),
        Precision::Bf16 if isa.has_bf16() => format!("{precision}, {isa}"),
        Precision::Bf16 => format!("{precision}, {isa} (emulated: slower than f32)"),
        _ => format!("{precision}, {}", isa.without_bf16()),
    }
}

/// Whether the CPU kernels handle this tensor.
pub(crate) fn on_cpu(x: &Tensor) -> bool {
    precision() != Precision::Reference
        && x.device() == Device::Cpu
        && x.kind() == Kind::Float
        && !cuda::imitating()
}

/// Whether a result of these tensors would have a gradient.
pub(crate) fn needs_grad(tensors: &[&Tensor]) -> bool {
    vd_torch::grad_enabled() && tensors.iter().any(|x| x.requires_grad())
}

#[cfg(test)]
mod tests {
    use super::*;
    use cpu::Isa;

    #[test]
    fn a_road_says_whether_bf16_is_emulated_and_names_it_where_it_is_used() {
        let with = |isa| Precision::ALL.map(|precision| road_with(precision, isa));
        let [reference, exact, f32, bf16] = with(Isa::Avx512Bf16);
        assert_eq!([reference, exact], ["reference", "exact, avx512"]);
        assert_eq!([f32, bf16], ["f32, avx512", "bf16, avx512-bf16"]);
        for isa in [Isa::Avx512, Isa::Avx2, Isa::Portable] {
            let [.., f32, bf16] = with(isa);
            let emulated = format!("bf16, {isa} (emulated: slower than f32)");
            assert_eq!([f32, bf16], [format!("f32, {isa}"), emulated]);
        }
    }
}
