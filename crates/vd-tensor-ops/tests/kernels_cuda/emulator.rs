//! A machine that runs the kernels' own text on the CPU.

use std::collections::HashMap;
use std::collections::hash_map::DefaultHasher;
use std::ffi::{CStr, CString, c_char, c_void};
use std::hash::{Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, OnceLock};

use vd_tensor_ops::kernels::cuda::{Machine, Unit};
use vd_tensor_ops::torch::cuda::Launch;

const EMULATOR: &str = include_str!("emulator.h");

/// A GPU of few multiprocessors, so that blocks have several rounds to do.
#[derive(Debug)]
pub(crate) struct Emulator;

/// The machine of all tests.
pub(crate) fn machine() -> Arc<dyn Machine> {
    Arc::new(Emulator)
}

type Kernel = unsafe extern "C" fn(*const c_void, *const u32) -> *const c_char;

/// A loaded library, for good.
#[derive(Clone, Copy)]
struct Library(*mut c_void);

// SAFETY: the handle is only asked for names.
unsafe impl Send for Library {}

fn library(unit: Unit) -> Library {
    static ALL: OnceLock<Mutex<HashMap<&'static str, Library>>> = OnceLock::new();
    let mut all = ALL.get_or_init(Mutex::default).lock().unwrap_or_else(|e| e.into_inner());
    *all.entry(unit.name).or_insert_with(|| {
        let file = CString::new(compiled(unit).to_str().unwrap()).unwrap();
        // SAFETY: a NUL-terminated name; the handle is kept open.
        let handle = unsafe { libc::dlopen(file.as_ptr(), libc::RTLD_NOW) };
        assert!(!handle.is_null(), "{} does not open", unit.name);
        Library(handle)
    })
}

/// Where files may be left: cargo's own folder, which is only where the program was built.
pub(crate) fn folder() -> PathBuf {
    let built = Path::new(env!("CARGO_TARGET_TMPDIR"));
    if built.is_dir() { built.to_path_buf() } else { std::env::temp_dir() }
}

/// The unit as a library for this CPU; one that was compiled before is taken again.
fn compiled(unit: Unit) -> PathBuf {
    let text = format!("{EMULATOR}\n{}", unit.text());
    let mut hash = DefaultHasher::new();
    text.hash(&mut hash);
    let stem = format!("{}-{:x}", unit.name, hash.finish());
    let dir = folder();
    let library = dir.join(format!("{stem}.so"));
    if library.exists() {
        return library;
    }
    let mine = |end: &str| dir.join(format!("{stem}.{}.{end}", std::process::id()));
    let (source, made) = (mine("cpp"), mine("so"));
    std::fs::write(&source, text).unwrap();
    let mut cxx = Command::new(std::env::var_os("CXX").unwrap_or_else(|| "c++".into()));
    // Fibers jump between stacks, which the fortified longjmp takes for an attack.
    cxx.args(["-std=c++17", "-O1", "-fPIC", "-shared", "-w", "-U_FORTIFY_SOURCE"]);
    cxx.args(["-fno-strict-aliasing", "-o"]).arg(&made).arg(&source);
    let output = cxx.output().expect("a C++ compiler");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{}: {said}", unit.name);
    std::fs::rename(&made, &library).unwrap();
    let _ = std::fs::remove_file(&source);
    library
}

impl Machine for Emulator {
    fn multiprocessors(&self) -> u32 {
        1
    }

    fn prepare(&self, unit: Unit) -> vd_tensor_ops::torch::Result<()> {
        library(unit);
        Ok(())
    }

    unsafe fn run(
        &self,
        unit: Unit,
        kernel: &str,
        launch: Launch,
        params: *const c_void,
    ) -> vd_tensor_ops::torch::Result<()> {
        let name = CString::new(kernel).unwrap();
        // SAFETY: an open library, a NUL-terminated name.
        let found = unsafe { libc::dlsym(library(unit).0, name.as_ptr()) };
        assert!(!found.is_null(), "{} has no kernel {kernel}", unit.name);
        // SAFETY: all that the library gives out are kernels.
        let run: Kernel = unsafe { std::mem::transmute::<*mut c_void, Kernel>(found) };
        let launch = [launch.blocks, launch.threads, launch.shared];
        // SAFETY: the caller's.
        let wrong = unsafe { run(params, launch.as_ptr()) };
        if wrong.is_null() {
            return Ok(());
        }
        // SAFETY: a constant string.
        let why = unsafe { CStr::from_ptr(wrong) }.to_string_lossy().into_owned();
        Err(vd_tensor_ops::torch::Error::Driver { what: kernel.to_owned(), why })
    }
}
