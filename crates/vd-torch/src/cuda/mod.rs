//! The project's own GPU kernels: NVRTC compiles their text, and the driver runs them on libtorch's
//! current stream. Also the module behind libtorch's CUDA graphs.
//!
//! Both libraries are opened on first use, and their functions looked up by name: the same program
//! runs on a machine without them, and the error names what is missing. Compiling needs no GPU.
//! docs/gpu.md lists what has not yet run on a GPU.

mod cache;
mod driver;
mod graph;
mod library;
mod nvrtc;
mod report;

pub(crate) use graph::{Graph, pool};
pub(crate) use library::Library;

pub use cache::{cubin, cubin_in};
pub use driver::{Function, Gpu, Launch, Module};
pub use graph::graphs;
pub use nvrtc::{Arch, Compiled, Nvrtc};
pub use report::KernelReport;
