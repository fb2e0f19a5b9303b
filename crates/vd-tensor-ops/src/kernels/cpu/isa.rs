//! The instruction sets of the kernels.

use std::fmt;
use std::sync::OnceLock;

use super::Simd;
#[cfg(feature = "imitate")]
use super::simd::Lanes;
use super::simd::Portable;
#[cfg(target_arch = "x86_64")]
use super::simd::{Avx2, Avx512};
use crate::{Error, Result};

/// An instruction set that kernels are compiled for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Isa {
    /// AVX-512F with the instructions for pairs of bf16.
    Avx512Bf16,
    /// AVX-512F.
    Avx512,
    /// AVX2 with fused multiply-add.
    Avx2,
    /// Instructions that every CPU of the target has.
    Portable,
}

impl Isa {
    /// The sets that this CPU supports, best first.
    pub fn available() -> Vec<Isa> {
        let sets = [Isa::Avx512Bf16, Isa::Avx512, Isa::Avx2, Isa::Portable];
        sets.into_iter().filter(|isa| isa.is_here()).collect()
    }

    /// The sets that tests run: those that this CPU supports; with the feature `imitate` all of
    /// them, emulated if necessary.
    pub fn tested() -> Vec<Isa> {
        if cfg!(feature = "imitate") {
            vec![Isa::Avx512, Isa::Avx2, Isa::Portable]
        } else {
            Isa::available()
        }
    }

    /// The set that kernels run with: the one named by the variable `VD_ISA` ([`Isa::named`]), or
    /// the best that this CPU supports.
    pub fn current() -> Isa {
        static CURRENT: OnceLock<Isa> = OnceLock::new();
        *CURRENT.get_or_init(|| {
            let named = Isa::named().ok().flatten();
            named.or_else(|| Isa::available().first().copied()).unwrap_or(Isa::Portable)
        })
    }

    /// The set that the variable `VD_ISA` (`avx512-bf16`, `avx512`, `avx2`, `portable`) asks for;
    /// None if it is not set.
    ///
    /// # Errors
    /// An unknown name, or a set that this CPU lacks; [`Isa::current`] then ignores it.
    pub fn named() -> Result<Option<Isa>> {
        let Some(name) = std::env::var_os("VD_ISA") else { return Ok(None) };
        let name = name.to_string_lossy();
        let available = Isa::available();
        match available.iter().find(|isa| isa.to_string() == name) {
            Some(isa) => Ok(Some(*isa)),
            None => Err(Error::Value {
                what: "VD_ISA".to_owned(),
                expected: format!(
                    "one that this CPU supports: {}",
                    available.iter().map(Isa::to_string).collect::<Vec<_>>().join(", ")
                ),
                got: name.into_owned(),
            }),
        }
    }

    /// Values per vector.
    pub fn lanes(self) -> usize {
        match self {
            Isa::Avx512Bf16 | Isa::Avx512 => 16,
            Isa::Avx2 => 8,
            Isa::Portable => Portable::LANES,
        }
    }

    /// Rows of a tile of matrix products.
    pub(crate) fn rows(self) -> usize {
        match self {
            Isa::Avx512Bf16 | Isa::Avx512 => 14,
            Isa::Avx2 => 6,
            Isa::Portable => Portable::ROWS,
        }
    }

    /// Whether the set has an instruction for products of bf16 pairs: without it they are emulated,
    /// and take as long as those of f32 or longer.
    pub fn has_bf16(self) -> bool {
        self == Isa::Avx512Bf16
    }

    /// The set for code that computes in f32 only, for which bf16 makes no difference.
    pub(crate) fn without_bf16(self) -> Isa {
        if self == Isa::Avx512Bf16 { Isa::Avx512 } else { self }
    }

    fn is_here(self) -> bool {
        match self {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512Bf16 => {
                // Compilers take the last of these to imply the others.
                is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512bw")
                    && is_x86_feature_detected!("avx512bf16")
            }
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => is_x86_feature_detected!("avx512f"),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma"),
            Isa::Portable => true,
            #[cfg(not(target_arch = "x86_64"))]
            _ => false,
        }
    }

    /// Runs `work` with this set.
    ///
    /// # Panics
    /// A set that the CPU lacks. With the feature `imitate` it is emulated instead: the same vector
    /// length and tile height, in plain instructions.
    pub(crate) fn run<W: Work>(self, work: W) -> W::Out {
        // SAFETY: each set is run only if `is_here` has found it (the answer is cached there).
        unsafe {
            match self {
                #[cfg(target_arch = "x86_64")]
                Isa::Avx512Bf16 if W::PAIRS && self.is_here() => Avx512::<true>::call(work),
                #[cfg(target_arch = "x86_64")]
                Isa::Avx512Bf16 | Isa::Avx512 if self.is_here() => Avx512::<false>::call(work),
                #[cfg(target_arch = "x86_64")]
                Isa::Avx2 if self.is_here() => Avx2::call(work),
                Isa::Portable => Portable::call(work),
                #[cfg(feature = "imitate")]
                Isa::Avx512Bf16 | Isa::Avx512 => Lanes::<16, 14>::call(work),
                #[cfg(feature = "imitate")]
                Isa::Avx2 => Lanes::<8, 6>::call(work),
                #[cfg(not(feature = "imitate"))]
                _ => panic!("this CPU does not support the instruction set {self}"),
            }
        }
    }
}

impl fmt::Display for Isa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Isa::Avx512Bf16 => "avx512-bf16",
            Isa::Avx512 => "avx512",
            Isa::Avx2 => "avx2",
            Isa::Portable => "portable",
        })
    }
}

/// The work of a kernel on one thread, written for any instruction set.
///
/// Implementations and everything that they call over `S` are `#[inline(always)]`: only code
/// inlined into [`Simd::call`] is compiled with the set's instructions.
pub(crate) trait Work {
    /// The result.
    type Out;
    /// Whether it computes products of bf16 pairs: otherwise the code is the same for sets with and
    /// without instructions for them, and compiled once for both.
    const PAIRS: bool = false;

    /// # Safety
    /// The CPU has the instructions of `S`; the pointers in `self` are valid.
    unsafe fn run<S: Simd>(self) -> Self::Out;
}
