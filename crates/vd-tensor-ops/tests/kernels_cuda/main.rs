//! The kernels for GPUs without one: the same text compiled for the CPU, behind the same Rust, against
//! libtorch's operations in f64; and by NVRTC for every generation of GPUs. With `VD_TEST_DEVICE=cuda`
//! the same tests run on a GPU.
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
mod dropout;
mod emulator;
mod judge;
mod layers;
mod linear;
mod noise;
mod norms;
mod roads;
mod stand_in;
mod temporal;

use std::sync::OnceLock;

use tch::{Device, Kind, Tensor};
use vd_tensor_ops::kernels::cuda;
use vd_tensor_ops::torch::testing;

/// Where the kernels run: on the GPU that `VD_TEST_DEVICE` (`cuda`, `cuda:N`) names, else on the CPU that
/// stands in for one. There TF32 is off.
fn device() -> Device {
    static DEVICE: OnceLock<Device> = OnceLock::new();
    *DEVICE.get_or_init(testing::device)
}

/// Standard normal, f32, where the kernels run.
fn draw(seed: u64, shape: &[i64]) -> Tensor {
    drawn::draw(seed, shape).to_device(device())
}

/// Runs `f` with what runs kernels there.
fn here<R>(f: impl FnOnce() -> R) -> R {
    match device() {
        Device::Cpu => cuda::imitated(emulator::machine(), f),
        _ => f(),
    }
}

/// What rounding operands and results to a kind may move a result by, relative L2: f32's own error is
/// that of sums of some thousand values, bf16 keeps 8 bits. The quick exponential of a GPU has some more
/// bits wrong.
fn bound(kind: Kind, f32: f64) -> f64 {
    match (kind, device()) {
        (Kind::BFloat16, _) => 8e-3,
        (_, Device::Cpu) => f32,
        _ => f32.max(1e-4),
    }
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
