//! libtorch's CUDA graphs, through a C++ module that is opened after libtorch's CUDA library.

use std::ffi::{c_char, c_int, c_void};
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsRawFd, FromRawFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::OnceLock;

use tch::Tensor;
use torch_sys::C_tensor;

use super::Library;
use crate::device_memory::said_by;
use crate::graphs::{Pool, drop_alone};
use crate::{CudaStatus, Error, Result, cuda_status, shim};

/// The module as built; empty if it could not be built.
static MODULE: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/cuda_module.so"));
/// The reason why it could not be built.
const WHY: &str = env!("VD_NO_CUDA_MODULE");

type Handle = *mut c_void;
type Message = *mut *mut c_char;

#[derive(Debug, Clone, Copy)]
struct Functions {
    pool: unsafe extern "C" fn(*mut u64, Message) -> c_int,
    new: unsafe extern "C" fn(*mut Handle, Message) -> c_int,
    begin: unsafe extern "C" fn(Handle, *const u64, Message) -> c_int,
    end: unsafe extern "C" fn(Handle, Message) -> c_int,
    abandon: unsafe extern "C" fn(Handle, c_int, *const u64, *mut C_tensor, Message) -> c_int,
    replay: unsafe extern "C" fn(Handle, Message) -> c_int,
    free: unsafe extern "C" fn(Handle),
}

impl Functions {
    fn get() -> Result<&'static Functions> {
        static FOUND: OnceLock<std::result::Result<Functions, String>> = OnceLock::new();
        let found = FOUND.get_or_init(|| match cuda_status() {
            Ok(CudaStatus::Ready { .. }) => open().and_then(Functions::of),
            Ok(CudaStatus::Absent { why }) => Err(why.clone()),
            Err(error) => Err(error.to_string()),
        });
        let failed =
            |why: &String| Error::Driver { what: "no graphs".to_owned(), why: why.clone() };
        found.as_ref().map_err(failed)
    }

    fn of(library: Library) -> std::result::Result<Self, String> {
        // SAFETY: the types are those that cpp/cuda_module.cpp declares.
        unsafe {
            Ok(Functions {
                pool: library.function(c"vd_graph_pool")?,
                new: library.function(c"vd_graph_new")?,
                begin: library.function(c"vd_graph_begin")?,
                end: library.function(c"vd_graph_end")?,
                abandon: library.function(c"vd_graph_abandon")?,
                replay: library.function(c"vd_graph_replay")?,
                free: library.function(c"vd_graph_free")?,
            })
        }
    }
}

/// Opens the module; all symbols that it needs must be in this process by now.
fn open() -> std::result::Result<Library, String> {
    if MODULE.is_empty() {
        return Err(WHY.to_owned());
    }
    let file = in_memory(MODULE).map_err(|e| format!("a file in memory: {e}"))?;
    let library = Library::open(&PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd())));
    // The linker identifies files by their inodes, so this one must stay open.
    std::mem::forget(file);
    library
}

fn in_memory(bytes: &[u8]) -> io::Result<File> {
    // SAFETY: a NUL-terminated name, and a flag that the kernel knows.
    let number = unsafe { libc::memfd_create(c"vd_cuda_module".as_ptr(), libc::MFD_CLOEXEC) };
    if number < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a file that was just made and is not shared.
    let mut file = unsafe { File::from_raw_fd(number) };
    file.write_all(bytes)?;
    Ok(file)
}

/// Whether libtorch's CUDA graphs are available.
///
/// # Errors
/// The reason why they are not.
pub fn graphs() -> Result<()> {
    Functions::get().map(|_| ())
}

/// A new memory pool, for recordings that never run at the same time.
pub(crate) fn pool() -> Result<Pool> {
    let (functions, mut pool) = (Functions::get()?, [0; 2]);
    // SAFETY: room for two numbers.
    shim::call(|error| unsafe { (functions.pool)(pool.as_mut_ptr(), error) })?;
    Ok(pool)
}

/// A recorded sequence of device work, replayed as a whole.
#[derive(Debug)]
pub(crate) struct Graph {
    functions: &'static Functions,
    handle: Handle,
}

// SAFETY: libtorch's graphs may be replayed and freed by any thread, one at a time.
unsafe impl Send for Graph {}

impl Graph {
    /// Records the device work of `f` on the current stream, which must not be the default stream.
    /// `scratch` is any tensor of the device; it is cleared if the recording fails.
    ///
    /// # Errors
    /// Any error of `f`, a panic included; work that cannot be recorded.
    pub(crate) fn record(
        device: usize,
        pool: Pool,
        scratch: &mut Tensor,
        f: &mut dyn FnMut() -> Result<()>,
    ) -> Result<Graph> {
        let mut graph = Graph { functions: Functions::get()?, handle: std::ptr::null_mut() };
        let calls = graph.functions;
        // SAFETY: room for a handle.
        shim::call(|error| unsafe { (calls.new)(&mut graph.handle, error) })?;
        // SAFETY: a live graph, and two numbers.
        let begun =
            shim::call(|error| unsafe { (calls.begin)(graph.handle, pool.as_ptr(), error) });
        let done = match &begun {
            Ok(()) => catch_unwind(AssertUnwindSafe(f))
                .unwrap_or_else(|panic| Err(Error::Torch(said_by(&*panic)))),
            Err(_) => Ok(()),
        };
        // SAFETY: a live graph.
        let ended = shim::call(|error| unsafe { (calls.end)(graph.handle, error) });
        if ended.is_err() {
            let device = c_int::try_from(device).unwrap_or_default();
            let (handle, scratch) = (graph.handle, scratch.as_mut_ptr());
            // A failed clean-up is ignored: there is an error to report already.
            // SAFETY: a live graph and a live tensor, and two numbers.
            let _ = shim::call(|error| unsafe {
                (calls.abandon)(handle, device, pool.as_ptr(), scratch, error)
            });
        }
        begun.and(done).and(ended)?;
        Ok(graph)
    }

    /// Replays it on the current stream.
    pub(crate) fn replay(&mut self) -> Result<()> {
        // SAFETY: a live graph.
        shim::call(|error| unsafe { (self.functions.replay)(self.handle, error) })
    }
}

impl Drop for Graph {
    fn drop(&mut self) {
        if !self.handle.is_null() {
            // It strikes itself out of libtorch's generator, where another thread may be entering one.
            drop_alone(Box::new(Ended { free: self.functions.free, handle: self.handle }));
        }
    }
}

/// A graph of which nothing is wanted but that it goes.
struct Ended {
    free: unsafe extern "C" fn(Handle),
    handle: Handle,
}

// SAFETY: any thread may free a graph.
unsafe impl Send for Ended {}

impl Drop for Ended {
    fn drop(&mut self) {
        // SAFETY: a graph that was made by the module, freed once.
        unsafe { (self.free)(self.handle) }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_module_is_there_and_without_cuda_there_is_a_reason() {
        assert!(MODULE.starts_with(b"\x7fELF"), "{WHY}");
        if let CudaStatus::Absent { why } = cuda_status().unwrap() {
            let said = graphs().unwrap_err().to_string();
            assert!(said.contains("no graphs") && said.contains(why), "{said}");
        }
    }

    #[test]
    fn a_file_in_memory_holds_what_it_was_given() {
        let file = in_memory(b"some bytes").unwrap();
        let path = format!("/proc/self/fd/{}", file.as_raw_fd());
        assert_eq!(std::fs::read(path).unwrap(), b"some bytes");
    }
}
