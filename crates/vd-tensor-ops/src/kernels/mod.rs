//! Kernels of our own, below the layers: what libtorch does in many passes over memory, in one.
//!
//! [`crate::layers`] take them where they fit: on the CPU in f32, on a GPU in f32 and bf16. Everything
//! else takes the road of plain libtorch operations, the twin that each kernel is tested against.
//! [`with`] chooses; `VD_KERNELS=reference` in the environment chooses those for all.

pub mod cpu;
pub mod cuda;

use std::cell::Cell;
use std::fmt;
use std::str::FromStr;
use std::sync::OnceLock;

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
    /// As [`Precision::F32`], and the projections of attentions, on the way forward, have operands
    /// of bf16 whose products are added up in f32.
    Bf16,
}

impl Precision {
    /// All, the most exact first.
    pub const ALL: [Precision; 4] =
        [Precision::Reference, Precision::Exact, Precision::F32, Precision::Bf16];

    /// Whether convolutions are done by Winograd's minimal filtering.
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

/// Runs `f` as a pass of training whose weights change before the next one: layers on this thread
/// keep no packed form of them. Passes with gradients do so by themselves; this is for one whose
/// activations are computed again later.
pub fn passing<R>(f: impl FnOnce() -> R) -> R {
    cpu::once(f)
}

/// What [`with`] has chosen, or `VD_KERNELS=reference` for all.
pub fn precision() -> Precision {
    allowed(PRECISION.get())
}

/// The precision, where the environment leaves the choice.
fn allowed(precision: Precision) -> Precision {
    static REFERENCE: OnceLock<bool> = OnceLock::new();
    let set = || std::env::var_os("VD_KERNELS").is_some_and(|word| word == "reference");
    if *REFERENCE.get_or_init(set) { Precision::Reference } else { precision }
}

/// How networks compute on the CPU, in words: the precision, and the instructions of the kernels.
pub fn road(precision: Precision) -> String {
    road_with(allowed(precision), cpu::Isa::current())
}

/// How networks compute on a device, in words: on a GPU the generation whose kernels run, or the
/// reference where none do.
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

/// Whether the kernels of the CPU compute with this tensor.
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
