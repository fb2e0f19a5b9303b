//! What tch lacks: start-up tuning, lazy CUDA, device choice, fused optimiser operations,
//! differentiable functions written in Rust, libtorch's threads for our own kernels, asynchronous
//! copies to and from a device, the compiler and launcher of GPU kernels ([`cuda`]), and functions
//! that a GPU replays as a whole ([`graphs`]).
//!
//! The lowest layer of the workspace and, with the kernels of `vd-tensor-ops`, the only place with
//! `unsafe`. Choose a device through [`DeviceChoice::resolve`], which calls [`init`] first:
//! libtorch caches the result of its first CUDA check, so the CUDA library must be in the process
//! before the first query. The variable `VD_CUDA` (`auto`, `off`, `require`) controls whether CUDA
//! is looked for; an explicit device `cpu` takes precedence and loads nothing.

mod attention;
mod autocast;
mod autograd;
mod checkpoint;
pub mod cuda;
mod device;
mod device_memory;
mod driver;
mod error;
#[cfg(feature = "fuzz")]
pub mod fuzz;
pub mod graphs;
mod init;
mod map;
mod memory;
mod moment;
mod operators;
mod optim;
mod shim;
mod team;
pub mod testing;
mod transfer;

pub use attention::without_cudnn_attention;
pub use autocast::{Autocast, autocast, autocast_kind};
pub use autograd::{BoxError, Function, Saved, apply, grad, grad_enabled};
pub use checkpoint::checkpoint;
pub use device::DeviceChoice;
pub use device_memory::{
    DeviceMemory, allow_tf32, catch_panic, deterministic_convolutions, device_memory,
    restart_device_peak, restart_tf32, says_out_of_memory, search_convolutions, synchronize,
};
pub use driver::{Driver, GpuInfo, driver};
pub use error::{Error, Result, brief};
pub use init::{
    CudaStatus, cuda_status, init, libtorch_dir, loaded_version, set_threads, threads, version,
};
pub use map::map_file;
pub use memory::{available_memory, cpu_time, peak_resident};
pub use moment::Moment;
pub use operators::{Operand, Operator, operators};
pub use optim::{AdamWState, AdamWStep, fused_adamw, mark_changed};
pub use tch;
pub use team::{Member, Tasks, for_each, team, team_of};
pub use transfer::{Download, upload};
