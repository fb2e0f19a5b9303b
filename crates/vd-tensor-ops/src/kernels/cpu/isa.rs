//! Which instructions kernels are run with.

use std::fmt;
use std::sync::OnceLock;

use super::Simd;
#[cfg(feature = "imitate")]
use super::simd::Lanes;
use super::simd::Portable;
#[cfg(target_arch = "x86_64")]
use super::simd::{Avx2, Avx512};
use crate::{Error, Result};

/// A set of instructions that kernels are compiled for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Isa {
    /// AVX-512F with the instructions for pairs of bf16.
    Avx512Bf16,
    /// AVX-512F.
    Avx512,
    /// AVX2 with fused multiply-add.
    Avx2,
    /// What every CPU of the target has.
    Portable,
}

impl Isa {
    /// The sets this CPU has, best first.
    pub fn available() -> Vec<Isa> {
        let sets = [Isa::Avx512Bf16, Isa::Avx512, Isa::Avx2, Isa::Portable];
        sets.into_iter().filter(|isa| isa.is_here()).collect()
    }

    /// The sets that tests run: those this CPU has; with the feature `imitate` all, imitated where
    /// it lacks them.
    pub fn tested() -> Vec<Isa> {
        if cfg!(feature = "imitate") {
            vec![Isa::Avx512, Isa::Avx2, Isa::Portable]
        } else {
            Isa::available()
        }
    }

    /// The set that kernels run with: the one that the variable `VD_ISA` names ([`Isa::named`]), or
    /// the best this CPU has.
    pub fn current() -> Isa {
        static CURRENT: OnceLock<Isa> = OnceLock::new();
        *CURRENT.get_or_init(|| {
            let named = Isa::named().ok().flatten();
            named.or_else(|| Isa::available().first().copied()).unwrap_or(Isa::Portable)
        })
    }

    /// What the variable `VD_ISA` (`avx512-bf16`, `avx512`, `avx2`, `portable`) asks for; none where
    /// it is not set.
    ///
    /// # Errors
    /// A name that is none, or of a set that this CPU lacks; [`Isa::current`] passes over it then.
    pub fn named() -> Result<Option<Isa>> {
        let Some(name) = std::env::var_os("VD_ISA") else { return Ok(None) };
        let name = name.to_string_lossy();
        let available = Isa::available();
        match available.iter().find(|isa| isa.to_string() == name) {
            Some(isa) => Ok(Some(*isa)),
            None => Err(Error::Value {
                what: "VD_ISA".to_owned(),
                expected: format!(
                    "what this CPU has: {}",
                    available.iter().map(Isa::to_string).collect::<Vec<_>>().join(", ")
                ),
                got: name.into_owned(),
            }),
        }
    }

    /// Values of a vector.
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

    /// Whether the set has an instruction for products of pairs of bf16: without it they are
    /// emulated, and take as long as those of f32 or longer.
    pub fn has_bf16(self) -> bool {
        self == Isa::Avx512Bf16
    }

    /// The set in the words of whoever computes in f32 alone, for whom bf16 is no difference.
    pub(crate) fn without_bf16(self) -> Isa {
        if self == Isa::Avx512Bf16 { Isa::Avx512 } else { self }
    }

    fn is_here(self) -> bool {
        match self {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512Bf16 => {
                // What compilers take the last of these to have with it.
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
    /// A set that the CPU lacks. With the feature `imitate` it is imitated instead: vectors as long
    /// and tiles as high, in plain instructions.
    pub(crate) fn run<W: Work>(self, work: W) -> W::Out {
        // SAFETY: each set is run only where `is_here` has found it (the answer is cached there).
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
                _ => panic!("this CPU lacks the instructions {self}"),
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

/// What a kernel does on one thread, written for any set of instructions.
///
/// Implementations and all they call over `S` are `#[inline(always)]`: only what is inlined into
/// [`Simd::call`] is compiled with the set's instructions.
pub(crate) trait Work {
    /// What comes out.
    type Out;
    /// Whether products of pairs of bf16 are in it: the rest is the same for sets with and without
    /// instructions for them, and compiled once for both.
    const PAIRS: bool = false;

    /// # Safety
    /// The CPU has the instructions of `S`; pointers that `self` holds are good.
    unsafe fn run<S: Simd>(self) -> Self::Out;
}
