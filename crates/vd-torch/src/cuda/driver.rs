//! The part of the CUDA driver API that is needed to run a kernel.

use std::collections::HashMap;
use std::ffi::{CStr, CString, c_char, c_int, c_uint, c_void};
use std::path::Path;
use std::sync::{Mutex, OnceLock, PoisonError};

use super::library::Library;
use super::nvrtc::Arch;
use crate::{Error, Result, shim};

type Handle = *mut c_void;
type Code = c_int;
/// Constants of cuda.h.
const COMPUTE_CAPABILITY_MAJOR: c_int = 75;
const COMPUTE_CAPABILITY_MINOR: c_int = 76;
const MULTIPROCESSOR_COUNT: c_int = 16;
const MAX_DYNAMIC_SHARED_SIZE_BYTES: c_int = 8;
/// Shared memory that a block may use without opting in to more.
const SHARED: u32 = 48 << 10;
#[derive(Debug, Clone, Copy)]
struct Functions {
    error_name: unsafe extern "C" fn(Code, *mut *const c_char) -> Code,
    device: unsafe extern "C" fn(*mut c_int, c_int) -> Code,
    attribute: unsafe extern "C" fn(*mut c_int, c_int, c_int) -> Code,
    retain: unsafe extern "C" fn(*mut Handle, c_int) -> Code,
    push: unsafe extern "C" fn(Handle) -> Code,
    pop: unsafe extern "C" fn(*mut Handle) -> Code,
    load: unsafe extern "C" fn(*mut Handle, *const c_void) -> Code,
    function: unsafe extern "C" fn(*mut Handle, Handle, *const c_char) -> Code,
    set: unsafe extern "C" fn(Handle, c_int, c_int) -> Code,
    launch: unsafe extern "C" fn(
        Handle,
        c_uint,
        c_uint,
        c_uint,
        c_uint,
        c_uint,
        c_uint,
        c_uint,
        Handle,
        *mut *mut c_void,
        *mut *mut c_void,
    ) -> Code,
}

impl Functions {
    fn get() -> Result<&'static Functions> {
        static FOUND: OnceLock<std::result::Result<Functions, String>> = OnceLock::new();
        let found = FOUND.get_or_init(|| Functions::open(Path::new("libcuda.so.1")));
        found.as_ref().map_err(|why| driver("the NVIDIA driver", why))
    }

    fn open(file: &Path) -> std::result::Result<Self, String> {
        let library = Library::open(file)?;
        // SAFETY: the types are those of cuda.h for these versions of the functions.
        unsafe {
            let init: unsafe extern "C" fn(c_uint) -> Code = library.function(c"cuInit")?;
            let functions = Functions {
                error_name: library.function(c"cuGetErrorName")?,
                device: library.function(c"cuDeviceGet")?,
                attribute: library.function(c"cuDeviceGetAttribute")?,
                retain: library.function(c"cuDevicePrimaryCtxRetain")?,
                push: library.function(c"cuCtxPushCurrent_v2")?,
                pop: library.function(c"cuCtxPopCurrent_v2")?,
                load: library.function(c"cuModuleLoadData")?,
                function: library.function(c"cuModuleGetFunction")?,
                set: library.function(c"cuFuncSetAttribute")?,
                launch: library.function(c"cuLaunchKernel")?,
            };
            functions.check(init(0))?;
            Ok(functions)
        }
    }

    fn check(&self, code: Code) -> std::result::Result<(), String> {
        if code == 0 {
            return Ok(());
        }
        let mut name = std::ptr::null();
        // SAFETY: room for a pointer to a constant string.
        if unsafe { (self.error_name)(code, &mut name) } != 0 || name.is_null() {
            return Err(format!("error {code}"));
        }
        // SAFETY: not null, and NUL-terminated.
        Err(unsafe { CStr::from_ptr(name) }.to_string_lossy().into_owned())
    }
}

fn driver(what: impl Into<String>, why: impl Into<String>) -> Error {
    Error::Driver { what: what.into(), why: why.into() }
}

/// A GPU, by libtorch's number, with the context that libtorch uses too.
#[derive(Debug, Clone, Copy)]
pub struct Gpu {
    functions: &'static Functions,
    number: usize,
    device: c_int,
    context: Handle,
}

// SAFETY: a context may be pushed by any thread.
unsafe impl Send for Gpu {}
// SAFETY: as above.
unsafe impl Sync for Gpu {}

impl Gpu {
    /// The GPU with this number.
    ///
    /// # Errors
    /// No driver; no such GPU.
    pub fn new(number: usize) -> Result<Self> {
        let functions = Functions::get()?;
        let failed = |why: String| driver(format!("cuda:{number}"), why);
        let ordinal = c_int::try_from(number).map_err(|e| failed(e.to_string()))?;
        let (mut device, mut context) = (0, std::ptr::null_mut());
        // SAFETY: room for a number and for a handle; the primary context stays for good, as
        // libtorch's own hold on it does.
        unsafe {
            functions.check((functions.device)(&mut device, ordinal)).map_err(failed)?;
            functions.check((functions.retain)(&mut context, device)).map_err(failed)?;
        }
        Ok(Gpu { functions, number, device, context })
    }

    fn attribute(&self, which: c_int) -> Result<u32> {
        let mut value = 0;
        // SAFETY: room for a number.
        let code = unsafe { (self.functions.attribute)(&mut value, which, self.device) };
        self.functions.check(code).map_err(|why| driver(format!("cuda:{}", self.number), why))?;
        Ok(u32::try_from(value).unwrap_or(0))
    }

    /// Its architecture.
    ///
    /// # Errors
    /// Any error of the driver.
    pub fn arch(&self) -> Result<Arch> {
        let (major, minor) = (COMPUTE_CAPABILITY_MAJOR, COMPUTE_CAPABILITY_MINOR);
        Ok(Arch(10 * self.attribute(major)? + self.attribute(minor)?))
    }

    /// The number of its multiprocessors: at least so many blocks run at the same time.
    ///
    /// # Errors
    /// Any error of the driver.
    pub fn multiprocessors(&self) -> Result<u32> {
        self.attribute(MULTIPROCESSOR_COUNT)
    }

    /// Runs `f` with this GPU's context current on this thread.
    fn within<R>(&self, f: impl FnOnce() -> std::result::Result<R, String>) -> Result<R> {
        let failed = |why: String| driver(format!("cuda:{}", self.number), why);
        // SAFETY: a context that is retained.
        self.functions.check(unsafe { (self.functions.push)(self.context) }).map_err(failed)?;
        let done = f();
        let mut popped = std::ptr::null_mut();
        // SAFETY: what was pushed above is popped, into room for a handle.
        self.functions.check(unsafe { (self.functions.pop)(&mut popped) }).map_err(failed)?;
        done.map_err(failed)
    }
}

/// Machine code loaded on a GPU.
#[derive(Debug)]
pub struct Module {
    gpu: Gpu,
    handle: Handle,
    functions: Mutex<HashMap<String, Function>>,
}

// SAFETY: any thread may query a module.
unsafe impl Send for Module {}
// SAFETY: as above.
unsafe impl Sync for Module {}

impl Module {
    /// Loads machine code onto a GPU, where it stays.
    ///
    /// # Errors
    /// Code for another architecture.
    pub fn load(gpu: Gpu, cubin: &[u8]) -> Result<Self> {
        let mut handle = std::ptr::null_mut();
        gpu.within(|| {
            // SAFETY: the image of an ELF file, which contains its own length.
            gpu.functions.check(unsafe { (gpu.functions.load)(&mut handle, cubin.as_ptr().cast()) })
        })?;
        Ok(Module { gpu, handle, functions: Mutex::default() })
    }

    /// A kernel that may use `shared` bytes of shared memory.
    ///
    /// # Errors
    /// No kernel of this name; more shared memory than the GPU has.
    pub fn function(&self, name: &str, shared: u32) -> Result<Function> {
        let mut known = self.functions.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(function) = known.get(name).filter(|function| function.shared >= shared) {
            return Ok(*function);
        }
        let c_name = CString::new(name).map_err(|e| driver(name, e.to_string()))?;
        let (gpu, mut handle) = (self.gpu, std::ptr::null_mut());
        let shared = shared.max(SHARED);
        gpu.within(|| {
            let calls = gpu.functions;
            // SAFETY: a loaded module, a NUL-terminated name, and room for a handle.
            calls.check(unsafe { (calls.function)(&mut handle, self.handle, c_name.as_ptr()) })?;
            if shared == SHARED {
                return Ok(());
            }
            let bytes = c_int::try_from(shared).map_err(|e| e.to_string())?;
            // SAFETY: a function of a loaded module.
            calls.check(unsafe { (calls.set)(handle, MAX_DYNAMIC_SHARED_SIZE_BYTES, bytes) })
        })?;
        let function = Function { gpu, handle, shared };
        known.insert(name.to_owned(), function);
        Ok(function)
    }
}

/// The launch configuration of a kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Launch {
    /// Blocks.
    pub blocks: u32,
    /// Threads per block.
    pub threads: u32,
    /// Bytes of dynamic shared memory per block.
    pub shared: u32,
}

/// A kernel on a GPU.
#[derive(Debug, Clone, Copy)]
pub struct Function {
    gpu: Gpu,
    handle: Handle,
    shared: u32,
}

// SAFETY: functions may be launched by any thread.
unsafe impl Send for Function {}

impl Function {
    /// Runs the kernel on libtorch's current stream of this GPU, after everything queued there.
    ///
    /// # Errors
    /// Errors that the driver reports at launch; later ones are returned by a later call.
    /// # Safety
    /// `params` is the struct that the kernel takes. Until the kernel has run, what it points to
    /// stays alive and is accessed in stream order only.
    pub unsafe fn launch(&self, launch: Launch, params: *const c_void) -> Result<()> {
        let stream = current_stream(self.gpu.number)?;
        let mut arguments = [params.cast_mut()];
        let Launch { blocks, threads, shared } = launch;
        self.gpu.within(|| {
            // SAFETY: guaranteed by the caller; one argument, as the kernel has.
            self.gpu.functions.check(unsafe {
                let (to, none) = (arguments.as_mut_ptr(), std::ptr::null_mut());
                let run = self.gpu.functions.launch;
                run(self.handle, blocks, 1, 1, threads, 1, 1, shared, stream, to, none)
            })
        })
    }
}

/// The stream on which libtorch launches kernels from this thread.
fn current_stream(number: usize) -> Result<Handle> {
    let number = c_int::try_from(number).map_err(|e| Error::Torch(e.to_string()))?;
    let mut stream = std::ptr::null_mut();
    // SAFETY: room for a handle.
    shim::call(|error| unsafe { shim::vd_current_stream(number, &mut stream, error) })?;
    Ok(stream)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn without_a_driver_and_without_its_functions_there_is_an_error_that_says_so() {
        let why = Functions::open(Path::new("libcuda-of-nobody.so.1")).unwrap_err();
        assert!(why.contains("libcuda-of-nobody"), "{why}");
        let why = Functions::open(Path::new("libc.so.6")).unwrap_err();
        assert!(why.contains("cuInit"), "{why}");
        if Library::open(Path::new("libcuda.so.1")).is_err() {
            let error = Gpu::new(0).unwrap_err().to_string();
            assert!(error.contains("NVIDIA driver") && error.contains("libcuda.so.1"), "{error}");
        }
    }

    #[test]
    fn a_libtorch_without_cuda_has_no_stream_and_says_so() {
        if Library::open(Path::new("libcuda.so.1")).is_err() {
            let error = current_stream(0).unwrap_err().to_string();
            assert!(error.to_lowercase().contains("cuda"), "{error}");
        }
    }
}
