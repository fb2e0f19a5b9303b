//! Kernels for GPUs, in f32 and bf16; sums are f32 at least.
//!
//! Their text is compiled where it is first wanted, for the GPU that is there ([`vd_torch::cuda`]).
//! Activations are channels-last and contiguous, as everywhere in the layers. No GPU has run them
//! yet: the tests compile the same text for the CPU, and compare it with libtorch's operations in f64.

mod adamw;
mod group_norm;
mod linear;
mod machine;
mod rms_norm;
mod rows;
mod temporal;
mod unit;

pub use adamw::{adamw, adamw_fits, adamw_numbers};
pub use group_norm::{group_finished, group_fits};
pub use linear::{linear, linear_fits};
pub use machine::{Machine, generation, imitated, machine, state};
pub(crate) use machine::{imitating, machine_of, may_run};
pub use rms_norm::{rms_finished, rms_fits};
pub use temporal::{Temporal, temporal, temporal_fits};
pub use unit::Unit;
