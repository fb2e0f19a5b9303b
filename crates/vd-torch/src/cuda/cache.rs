//! A cache of compiled machine code.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use sha2::{Digest, Sha256};

use super::nvrtc::{Arch, Nvrtc, OPTIONS};
use crate::Result;

/// The first bytes of every file of machine code.
const ELF: &[u8] = b"\x7fELF";

/// The project's folder in the user's cache.
pub(super) fn folder() -> Option<PathBuf> {
    let absolute = |name: &str| {
        let path = std::env::var_os(name).map(PathBuf::from);
        path.filter(|path| path.is_absolute())
    };
    let cache = absolute("XDG_CACHE_HOME").or_else(|| Some(absolute("HOME")?.join(".cache")));
    Some(cache?.join("video-diffusion"))
}

/// The machine code of a kernel text: from the folder `VD_KERNEL_CACHE`, or `kernels` in the
/// project's folder of the user's cache; otherwise it is compiled and stored there.
///
/// # Errors
/// As [`Nvrtc::get`] and [`Nvrtc::compile`].
pub fn cubin(name: &str, text: &str, arch: Arch) -> Result<Vec<u8>> {
    let named = std::env::var_os("VD_KERNEL_CACHE").filter(|dir| !dir.is_empty());
    let dir = named.map(PathBuf::from).or_else(|| Some(folder()?.join("kernels")));
    match dir {
        Some(dir) => cubin_in(&dir, name, text, arch),
        None => Ok(Nvrtc::get()?.compile(name, text, arch)?.cubin),
    }
}

/// The same with another folder.
///
/// # Errors
/// As [`cubin()`]; if the folder cannot be written, the code is compiled without being stored.
pub fn cubin_in(dir: &Path, name: &str, text: &str, arch: Arch) -> Result<Vec<u8>> {
    let nvrtc = Nvrtc::get()?;
    let file = dir.join(file_name(name, text, arch, nvrtc.version()));
    if let Ok(bytes) = fs::read(&file)
        && bytes.starts_with(ELF)
    {
        return Ok(bytes);
    }
    let bytes = nvrtc.compile(name, text, arch)?.cubin;
    // On failure the next process compiles it again.
    let _ = keep(&file, &bytes);
    Ok(bytes)
}

/// The name contains everything that the machine code depends on.
fn file_name(name: &str, text: &str, arch: Arch, (major, minor): (u32, u32)) -> String {
    let mut hash = Sha256::new();
    for option in OPTIONS {
        hash.update(option);
        hash.update([0]);
    }
    hash.update(text);
    let digest: String = hash.finalize().iter().take(16).map(|b| format!("{b:02x}")).collect();
    format!("{name}-{arch}-nvrtc{major}.{minor}-{digest}.cubin")
}

/// Writes a file atomically, also while other processes do the same.
fn keep(file: &Path, bytes: &[u8]) -> io::Result<()> {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    if let Some(dir) = file.parent() {
        fs::create_dir_all(dir)?;
    }
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let partial = file.with_extension(format!("{}-{number}.partial", std::process::id()));
    let done = fs::write(&partial, bytes).and_then(|()| fs::rename(&partial, file));
    if done.is_err() {
        // It may not even exist.
        let _ = fs::remove_file(&partial);
    }
    done
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_name_tells_text_generation_and_compiler_apart() {
        let name = |text, arch, version| file_name("k", text, Arch(arch), version);
        let one = name("a", 90, (13, 0));
        assert!(one.starts_with("k-sm_90-nvrtc13.0-") && one.ends_with(".cubin"), "{one}");
        assert_eq!(one, name("a", 90, (13, 0)));
        for other in [name("b", 90, (13, 0)), name("a", 80, (13, 0)), name("a", 90, (12, 9))] {
            assert_ne!(one, other);
        }
    }

    #[test]
    fn a_file_is_there_as_a_whole_and_nothing_beside_it() {
        let dir = std::env::temp_dir().join(format!("vd-kernels-{}", std::process::id()));
        let file = dir.join("deeper/k.cubin");
        for bytes in [&b"one"[..], b"two"] {
            keep(&file, bytes).unwrap();
            assert_eq!(fs::read(&file).unwrap(), bytes);
        }
        assert_eq!(fs::read_dir(dir.join("deeper")).unwrap().count(), 1);
        assert!(keep(&file.join("below a file"), b"x").is_err());
        fs::remove_dir_all(dir).unwrap();
    }
}
