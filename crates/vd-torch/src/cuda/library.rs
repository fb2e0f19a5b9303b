//! Shared libraries that may be missing.

use std::ffi::{CStr, CString, c_void};
use std::path::Path;
use std::ptr::NonNull;

/// A library that stays loaded in this process.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Library(NonNull<c_void>);

// SAFETY: the handle is only used to look up names, which the linker allows any thread.
unsafe impl Send for Library {}
// SAFETY: as above.
unsafe impl Sync for Library {}

impl Library {
    /// Opens a file, or what the linker finds if the name has no folder.
    pub(crate) fn open(file: &Path) -> Result<Self, String> {
        let name = CString::new(file.as_os_str().as_encoded_bytes())
            .map_err(|_| format!("{} holds a NUL byte", file.display()))?;
        // SAFETY: `name` is NUL-terminated; the handle is kept open for good.
        let handle = unsafe { libc::dlopen(name.as_ptr(), libc::RTLD_NOW | libc::RTLD_GLOBAL) };
        NonNull::new(handle).map(Library).ok_or_else(|| {
            last_error().unwrap_or_else(|| format!("{} could not be loaded", file.display()))
        })
    }

    /// A function of the library.
    ///
    /// # Safety
    /// `F` is the type of a pointer to the function of this name.
    pub(crate) unsafe fn function<F: Copy>(self, name: &CStr) -> Result<F, String> {
        const { assert!(size_of::<F>() == size_of::<*mut c_void>()) };
        // SAFETY: an open handle, a NUL-terminated name.
        let found = unsafe { libc::dlsym(self.0.as_ptr(), name.as_ptr()) };
        if found.is_null() {
            return Err(format!("it has no function {}", name.to_string_lossy()));
        }
        // SAFETY: not null, and of the type that the caller names.
        Ok(unsafe { std::mem::transmute_copy::<*mut c_void, F>(&found) })
    }
}

fn last_error() -> Option<String> {
    // SAFETY: returns null or a string that lives until the next dl call of this thread.
    let why = unsafe { libc::dlerror() };
    // SAFETY: not null, and NUL-terminated by contract of dlerror.
    (!why.is_null()).then(|| unsafe { CStr::from_ptr(why) }.to_string_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_library_that_is_missing_and_a_function_that_is_missing_are_named() {
        let why = Library::open(Path::new("libnothing-of-this-name.so.7")).unwrap_err();
        assert!(why.contains("libnothing-of-this-name"), "{why}");
        let libc = Library::open(Path::new("libc.so.6")).unwrap();
        // SAFETY: not called.
        let found = unsafe { libc.function::<unsafe extern "C" fn() -> i32>(c"getpid") };
        assert!(found.is_ok());
        // SAFETY: not called.
        let none = unsafe { libc.function::<unsafe extern "C" fn()>(c"no_such_function") };
        assert!(none.unwrap_err().contains("no_such_function"));
    }
}
