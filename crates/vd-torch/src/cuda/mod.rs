//! Kernels of our own on a GPU: NVRTC compiles their text, the driver runs them on the stream that
//! libtorch is on. And what libtorch's graphs of CUDA need.
//!
//! Both libraries are opened where they are first asked for, and their functions looked up by name:
//! a machine without them runs the same program, and what is missing is an error that says so.
//! Compiling needs no GPU.

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
