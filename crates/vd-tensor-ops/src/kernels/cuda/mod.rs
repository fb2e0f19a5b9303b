//! GPU kernels, in f32 and bf16; sums are accumulated in f32 or wider.
//!
//! Their text is compiled on first use, for the GPU at hand ([`vd_torch::cuda`]). Activations are
//! channels-last and contiguous, as everywhere in the layers. The tests compile the same text for
//! the CPU and compare it with libtorch's operations in f64; docs/gpu.md lists what has not yet run
//! on a GPU.

mod adamw;
mod dropout;
mod dry;
mod group_norm;
mod judge;
mod layer_norm;
mod linear;
mod machine;
mod noise;
mod rms_norm;
mod rows;
mod stand_in;
mod temporal;
mod unit;

pub use adamw::{Live, adamw, adamw_fits, adamw_gated, adamw_numbers};
pub use dropout::{drop_fits, dropped_out};
pub use dry::Dry;
pub use group_norm::{group_finished, group_fits};
pub use judge::{Gradients, Verdict, Went, judge, judge_fits};
pub use layer_norm::{LayerNormed, add_around, layer_norm, layer_norm_fits};
pub use linear::{linear, linear_fits};
pub use machine::{Machine, generation, imitated, machine, may_run, state, takes};
pub(crate) use machine::{imitating, machine_of, machine_with};
pub use noise::{Law, Streams, draw};
pub use rms_norm::{RmsFinish, rms_finished, rms_fits};
pub use stand_in::{stand_in, stand_in_fits};
pub use temporal::{Temporal, temporal, temporal_fits};
pub use unit::Unit;
