//! The kernels for GPUs without one: the same text compiled for the CPU, behind the same Rust, against
//! libtorch's operations in f64; and by NVRTC for every generation of GPUs.
#![allow(clippy::unwrap_used, clippy::expect_used)]
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "what kernels take, and what was left out"
)]

mod adamw;
mod compiled;
#[path = "../drawn/mod.rs"]
mod drawn;
mod emulator;
mod layers;
mod linear;
mod norms;
mod temporal;

use tch::{Kind, Tensor};

/// What rounding operands and results to a kind may move a result by, relative L2: f32's own error is
/// that of sums of some thousand values, bf16 keeps 8 bits.
fn bound(kind: Kind, f32: f64) -> f64 {
    if kind == Kind::BFloat16 { 8e-3 } else { f32 }
}

/// As a kernel is given it, and what it then stands for.
fn rounded(x: &Tensor, kind: Kind) -> (Tensor, Tensor) {
    let x = x.to_kind(kind);
    (x.shallow_clone(), x.to_kind(Kind::Double))
}

/// |a - b| / |b|, or |a - b| where b is all but zero.
fn off(got: &Tensor, want: &Tensor) -> f64 {
    assert_eq!(got.size(), want.size());
    let length = |t: &Tensor| t.norm().double_value(&[]);
    let difference = length(&(got.to_kind(Kind::Double) - want));
    difference / length(want).max(1e-6)
}
