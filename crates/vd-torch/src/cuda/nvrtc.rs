//! NVRTC, NVIDIA's kernel compiler, as a library; it needs no GPU.

use std::ffi::{CStr, CString, c_char, c_int};
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use super::library::Library;
use super::report::{KernelReport, parse};
use crate::{Error, Result, libtorch_dir};

/// A GPU architecture: 90 is `sm_90`, Hopper.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Arch(pub u32);

impl fmt::Display for Arch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sm_{}", self.0)
    }
}

/// The result of compiling a text.
#[derive(Debug, Clone)]
pub struct Compiled {
    /// Machine code, an ELF file.
    pub cubin: Vec<u8>,
    /// The resources that each kernel takes.
    pub kernels: Vec<KernelReport>,
}

type Program = *mut std::ffi::c_void;
type Strings = *const *const c_char;

/// The functions of the loaded compiler.
#[derive(Debug, Clone, Copy)]
struct Functions {
    version: unsafe extern "C" fn(*mut c_int, *mut c_int) -> c_int,
    error: unsafe extern "C" fn(c_int) -> *const c_char,
    create: unsafe extern "C" fn(
        *mut Program,
        *const c_char,
        *const c_char,
        c_int,
        Strings,
        Strings,
    ) -> c_int,
    compile: unsafe extern "C" fn(Program, c_int, Strings) -> c_int,
    destroy: unsafe extern "C" fn(*mut Program) -> c_int,
    cubin_size: unsafe extern "C" fn(Program, *mut usize) -> c_int,
    cubin: unsafe extern "C" fn(Program, *mut c_char) -> c_int,
    log_size: unsafe extern "C" fn(Program, *mut usize) -> c_int,
    log: unsafe extern "C" fn(Program, *mut c_char) -> c_int,
}

impl Functions {
    fn of(library: Library) -> std::result::Result<Self, String> {
        // SAFETY: the types are those of nvrtc.h, the same in releases 12 and 13.
        unsafe {
            Ok(Functions {
                version: library.function(c"nvrtcVersion")?,
                error: library.function(c"nvrtcGetErrorString")?,
                create: library.function(c"nvrtcCreateProgram")?,
                compile: library.function(c"nvrtcCompileProgram")?,
                destroy: library.function(c"nvrtcDestroyProgram")?,
                cubin_size: library.function(c"nvrtcGetCUBINSize")?,
                cubin: library.function(c"nvrtcGetCUBIN")?,
                log_size: library.function(c"nvrtcGetProgramLogSize")?,
                log: library.function(c"nvrtcGetProgramLog")?,
            })
        }
    }
}

/// The kernel compiler.
#[derive(Debug)]
pub struct Nvrtc {
    functions: Functions,
    version: (u32, u32),
    file: PathBuf,
}

/// The releases to look for, newest first.
const NAMES: [&str; 2] = ["libnvrtc.so.13", "libnvrtc.so.12"];
/// Options for every text, besides the architecture.
pub(super) const OPTIONS: [&str; 3] =
    ["--std=c++17", "--extra-device-vectorization", "--ptxas-options=-v"];

impl Nvrtc {
    /// The compiler of this machine, looked for once: where `VD_NVRTC` points (the library or its
    /// folder), beside libtorch, in the project's folder of the user's cache, then wherever the
    /// linker looks.
    ///
    /// # Errors
    /// No compiler was found.
    pub fn get() -> Result<&'static Nvrtc> {
        static FOUND: OnceLock<std::result::Result<Nvrtc, String>> = OnceLock::new();
        let found = FOUND.get_or_init(|| {
            let named = std::env::var_os("VD_NVRTC").filter(|name| !name.is_empty());
            find(&places(named.map(PathBuf::from)))
        });
        found.as_ref().map_err(|why| Error::NoNvrtc(why.clone()))
    }

    /// The release: (13, 0).
    pub fn version(&self) -> (u32, u32) {
        self.version
    }

    /// The file of the library.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// Compiles a text that includes nothing.
    ///
    /// # Errors
    /// Compile errors; an unknown architecture.
    pub fn compile(&self, name: &str, text: &str, arch: Arch) -> Result<Compiled> {
        let failed = |why: String| Error::Kernel { name: name.to_owned(), arch, why };
        let (source, title) = (CString::new(text), CString::new(name));
        let (Ok(source), Ok(title)) = (source, title) else {
            return Err(failed("its text or its name holds a NUL byte".to_owned()));
        };
        let mut program = OwnProgram { functions: self.functions, program: std::ptr::null_mut() };
        let none = std::ptr::null();
        // SAFETY: two NUL-terminated strings, no headers, and room for the handle.
        self.check(unsafe {
            let to = &mut program.program;
            (self.functions.create)(to, source.as_ptr(), title.as_ptr(), 0, none, none)
        })
        .map_err(failed)?;
        let mut options = vec![format!("--gpu-architecture={arch}")];
        options.extend(OPTIONS.map(str::to_owned));
        let options: Vec<_> = options.into_iter().filter_map(|o| CString::new(o).ok()).collect();
        let pointers: Vec<_> = options.iter().map(|o| o.as_ptr()).collect();
        // SAFETY: a live program, and NUL-terminated strings, as many as stated.
        let done = self.check(unsafe {
            let count = pointers.len() as c_int;
            (self.functions.compile)(program.program, count, pointers.as_ptr())
        });
        let log = program.log();
        done.map_err(|why| failed(format!("{why}: {}", log.trim())))?;
        let cubin =
            program.cubin().ok_or_else(|| failed("it returned no machine code".to_owned()))?;
        Ok(Compiled { cubin, kernels: parse(&log) })
    }

    fn check(&self, code: c_int) -> std::result::Result<(), String> {
        if code == 0 {
            return Ok(());
        }
        // SAFETY: returns a constant string for any number.
        let words = unsafe { (self.functions.error)(code) };
        if words.is_null() {
            return Err(format!("error {code}"));
        }
        // SAFETY: not null, and NUL-terminated.
        Err(unsafe { CStr::from_ptr(words) }.to_string_lossy().into_owned())
    }
}

/// A program that is destroyed on drop.
struct OwnProgram {
    functions: Functions,
    program: Program,
}

impl OwnProgram {
    fn log(&self) -> String {
        let Functions { log_size, log, .. } = self.functions;
        // SAFETY: of the same library, for this program.
        let bytes = unsafe { self.bytes(log_size, log) }.unwrap_or_default();
        String::from_utf8_lossy(&bytes).trim_end_matches('\0').to_owned()
    }

    fn cubin(&self) -> Option<Vec<u8>> {
        let Functions { cubin_size, cubin, .. } = self.functions;
        // SAFETY: of the same library, for this program.
        unsafe { self.bytes(cubin_size, cubin) }.filter(|bytes| !bytes.is_empty())
    }

    /// # Safety
    /// `size` and `fill` are a matching pair of functions.
    unsafe fn bytes(
        &self,
        size: unsafe extern "C" fn(Program, *mut usize) -> c_int,
        fill: unsafe extern "C" fn(Program, *mut c_char) -> c_int,
    ) -> Option<Vec<u8>> {
        let mut length = 0;
        // SAFETY: a live program, and room for a number.
        if unsafe { size(self.program, &mut length) } != 0 {
            return None;
        }
        let mut bytes = vec![0; length];
        // SAFETY: room for as many bytes as the library wants.
        let done = unsafe { fill(self.program, bytes.as_mut_ptr().cast()) };
        (done == 0).then_some(bytes)
    }
}

impl Drop for OwnProgram {
    fn drop(&mut self) {
        if !self.program.is_null() {
            // SAFETY: made by `create`, destroyed once.
            unsafe { (self.functions.destroy)(&mut self.program) };
        }
    }
}

/// The folder of the wheel below pip's target folder.
const IN_WHEEL: [&str; 2] = ["nvidia/cu13/lib", "nvidia/cuda_nvrtc/lib"];

/// Where `cargo xtask kernels` installs it.
const IN_CACHE: &str = "nvrtc-13.0.88";

/// The candidate files, in order.
fn places(named: Option<PathBuf>) -> Vec<PathBuf> {
    if let Some(named) = named {
        let inside = named.is_dir();
        return if inside { NAMES.map(|name| named.join(name)).into() } else { vec![named] };
    }
    let mut folders = Vec::new();
    // lib, torch, site-packages
    if let Some(site) = libtorch_dir().as_deref().and_then(|lib| lib.ancestors().nth(2)) {
        folders.extend(IN_WHEEL.map(|inside| site.join(inside)));
    }
    if let Some(cache) = super::cache::folder() {
        folders.extend(IN_WHEEL.map(|inside| cache.join(IN_CACHE).join(inside)));
    }
    let files = folders.iter().flat_map(|dir| NAMES.map(|name| dir.join(name)));
    files.filter(|file| file.exists()).chain(NAMES.map(PathBuf::from)).collect()
}

/// The first of the files that opens.
fn find(files: &[PathBuf]) -> std::result::Result<Nvrtc, String> {
    let mut first = None;
    for file in files {
        match open(file) {
            Ok(found) => return Ok(found),
            Err(why) => first = first.or(Some(why)),
        }
    }
    Err(first.unwrap_or_else(|| "there is no folder to search".to_owned()))
}

fn open(file: &Path) -> std::result::Result<Nvrtc, String> {
    // NVRTC opens these by bare name, which the linker resolves if they are open already.
    for entry in file.parent().and_then(|dir| fs::read_dir(dir).ok()).into_iter().flatten() {
        let Ok(entry) = entry else { continue };
        if entry.file_name().to_string_lossy().starts_with("libnvrtc-builtins.so") {
            // Without them, compiling reports what is missing.
            let _ = Library::open(&entry.path());
        }
    }
    let functions = Functions::of(Library::open(file)?)
        .map_err(|why| format!("{} is not NVRTC: {why}", file.display()))?;
    let (mut major, mut minor) = (0, 0);
    // SAFETY: room for two numbers.
    let code = unsafe { (functions.version)(&mut major, &mut minor) };
    match (code, u32::try_from(major), u32::try_from(minor)) {
        (0, Ok(major), Ok(minor)) => {
            Ok(Nvrtc { functions, version: (major, minor), file: file.to_path_buf() })
        }
        _ => Err(format!("{} reports no version", file.display())),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_place_that_is_named_is_the_only_one_and_what_is_wrong_with_it_is_said() {
        let nowhere = PathBuf::from("/nowhere/libnvrtc.so.13");
        assert_eq!(places(Some(nowhere.clone())), std::slice::from_ref(&nowhere));
        let why = find(&[nowhere]).unwrap_err();
        assert!(why.contains("/nowhere/libnvrtc.so.13"), "{why}");
        let why = find(&[PathBuf::from("libc.so.6")]).unwrap_err();
        assert!(why.contains("libc.so.6 is not NVRTC") && why.contains("nvrtcVersion"), "{why}");
    }

    #[test]
    fn a_folder_that_is_named_is_looked_into() {
        let dir = std::env::temp_dir();
        assert_eq!(places(Some(dir.clone())), NAMES.map(|name| dir.join(name)));
    }
}
