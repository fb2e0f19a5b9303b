//! Installs libtorch from its Python wheels atomically.
//!
//! pip works in a separate folder, `NAME.partial-PID`, which becomes `NAME` by one rename. An
//! interrupted run leaves only a partial folder, which the next run removes.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use crate::disk;
use crate::error::{Error, Result, at, failed};
use crate::find::{self, Needs, VERSION};
use crate::pip::Install;
use crate::python;

const TORCH: &str = "torch==2.11.0";
/// The libraries that libtorch_cpu.so of the CUDA build requires from the dynamic linker.
const NEEDED_BY_CPU: [&str; 2] = ["nvidia-cuda-cupti==13.0.85", "nvidia-cuda-runtime==13.0.96"];
/// The compiler of CUDA kernels and the headers that it includes.
const NVRTC: [&str; 2] = ["nvidia-cuda-nvrtc==13.0.88", "nvidia-cuda-crt==13.0.88"];
/// The folder of the compiler if libtorch came without it; vd-torch also looks there.
const NVRTC_FOLDER: &str = "nvrtc-13.0.88";
/// Used only by libtorch_cuda.so: half of the wheel.
const CUDA_ONLY: [&str; 3] = ["libtorch_cuda.so", "libtorch_cuda_linalg.so", "libtorch_nvshmem.so"];

/// Disk space that a full installation takes while it runs: the wheels and their unpacked content.
const SPACE: u64 = 2_500_000_000;
const SPACE_CUDA: u64 = 9_000_000_000;
const SPACE_NVRTC: u64 = 500_000_000;

/// The owner of the folder to install into.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Owner {
    /// The project's cache: broken content may be replaced.
    Project,
    /// `--dir`: existing content is never changed.
    User,
}

/// Installs into `target`, which then contains `torch`, `nvidia` and so on; returns `target/torch`
/// and its version.
pub(crate) fn install(target: &Path, needs: Needs, owner: Owner) -> Result<(PathBuf, String)> {
    let (Some(parent), Some(name)) = (target.parent(), target.file_name()) else {
        return failed(format!("libtorch cannot be installed in {}", target.display()));
    };
    let name = name.to_string_lossy();
    fs::create_dir_all(parent).map_err(|e| {
        let shown = parent.display();
        Error::Failed(format!("cannot create {shown}: {e}; give `--dir DIR` to install elsewhere"))
    })?;
    let _lock = lock(parent)?;
    let torch = target.join("torch");
    if let Ok(version) = find::inspect(&torch, needs) {
        return Ok((torch, version)); // another run was faster, or `--dir` was there before
    }
    clear_partials(parent, &name);
    if owner == Owner::User {
        refuse_to_replace(target)?;
    }
    let space = if needs.cuda { SPACE_CUDA } else { SPACE };
    disk::check_free(parent, space, "give `--dir DIR` on another disk")?;
    let partial = Partial::new(parent.join(format!("{name}.partial-{}", std::process::id())))?;
    fetch(&partial.0, needs, &parent.join(format!("{name}.pip.log")))?;
    let site = partial.0.join("site");
    let version = find::inspect(&site.join("torch"), needs)
        .map_err(|why| Error::Failed(format!("pip's installation is unusable: {why}")))?;
    if owner == Owner::Project && target.exists() {
        // It was found unusable, and its replacement is complete.
        fs::remove_dir_all(target).map_err(at("replace", target))?;
    }
    fs::rename(&site, target).map_err(at("move the installation to", target))?;
    Ok((torch, version))
}

/// Installs only the compiler of CUDA kernels into the project's cache, unless `wanted` is already
/// in its folder there; returns that folder.
pub(crate) fn nvrtc(cache: &Path, wanted: &Path) -> Result<PathBuf> {
    fs::create_dir_all(cache).map_err(at("create", cache))?;
    let target = cache.join(NVRTC_FOLDER);
    let _lock = lock(cache)?;
    if target.join(wanted).is_file() {
        return Ok(target);
    }
    clear_partials(cache, NVRTC_FOLDER);
    disk::check_free(cache, SPACE_NVRTC, "set XDG_CACHE_HOME to another disk")?;
    let partial = format!("{NVRTC_FOLDER}.partial-{}", std::process::id());
    let partial = Partial::new(cache.join(partial))?;
    let python = python::with_pip(&partial.0.join("venv"))?;
    eprintln!("xtask: installing the compiler of CUDA kernels (a download of 90 MB):");
    let (site, scratch) = (partial.0.join("site"), partial.0.join("tmp"));
    fs::create_dir(&scratch).map_err(at("create", &scratch))?;
    let log = &cache.join(format!("{NVRTC_FOLDER}.pip.log"));
    let (python, wheels, site, scratch) = (&python, &NVRTC[..1], &site, &scratch);
    Install { python, wheels, dependencies: false, site, scratch, log }.run()?;
    if !site.join(wanted).is_file() {
        return failed(format!("pip's installation has no {}", wanted.display()));
    }
    if target.exists() {
        fs::remove_dir_all(&target).map_err(at("replace", &target))?;
    }
    fs::rename(site, &target).map_err(at("move the installation to", &target))?;
    Ok(target)
}

/// Turns an empty partial folder into one with a complete `site`.
fn fetch(partial: &Path, needs: Needs, log: &Path) -> Result<()> {
    let python = python::with_pip(&partial.join("venv"))?;
    let mut wheels = vec![TORCH];
    if !needs.cuda {
        wheels.extend(NEEDED_BY_CPU);
    }
    if needs.nvrtc {
        wheels.extend(NVRTC);
    }
    let size = if needs.cuda { "2.5 GB" } else { "0.55 GB" };
    eprintln!("xtask: installing libtorch {VERSION} (a download of about {size}):");
    let (site, scratch) = (partial.join("site"), partial.join("tmp"));
    fs::create_dir(&scratch).map_err(at("create", &scratch))?;
    let dependencies = needs.cuda;
    let (wheels, site, scratch) = (&wheels[..], &site, &scratch);
    Install { python: &python, wheels, dependencies, site, scratch, log }.run()?;
    if !needs.cuda {
        for library in CUDA_ONLY.map(|file| site.join("torch/lib").join(file)) {
            match fs::remove_file(&library) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => {
                    return Err(at("remove", &library)(e));
                }
                _ => {}
            }
        }
    }
    Ok(())
}

/// Allows one installation at a time in a folder: the system releases the lock however a run ends.
fn lock(parent: &Path) -> Result<File> {
    let folder = File::open(parent).map_err(at("open", parent))?;
    match folder.try_lock() {
        Err(TryLockError::WouldBlock) => {
            eprintln!("xtask: waiting for another setup in {}", parent.display());
            folder.lock().map_err(at("lock", parent))?;
        }
        // A file system without locks (some network ones): partial folders still differ by process.
        Err(TryLockError::Error(_)) | Ok(()) => {}
    }
    Ok(folder)
}

/// Removes what interrupted runs left; the lock guarantees that no other run is active.
fn clear_partials(parent: &Path, name: &str) {
    let start = format!("{name}.partial-");
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with(&start) {
            eprintln!("xtask: removing an interrupted setup: {}", entry.path().display());
            // What cannot be removed is in nobody's way: the next partial folder has its own name.
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

/// A rename may only replace an empty folder, or create a new one.
fn refuse_to_replace(target: &Path) -> Result<()> {
    let is_empty = || fs::read_dir(target).is_ok_and(|mut entries| entries.next().is_none());
    if fs::symlink_metadata(target).is_err() || is_empty() {
        return Ok(());
    }
    let shown = target.display();
    failed(format!("{shown} exists but holds no usable libtorch {VERSION}: choose another folder"))
}

/// A folder that is removed when the run that made it ends.
struct Partial(PathBuf);

impl Partial {
    fn new(path: PathBuf) -> Result<Self> {
        fs::create_dir(&path).map_err(at("create", &path))?;
        Ok(Self(path))
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        // The next run tries again.
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    fn empty(name: &str) -> PathBuf {
        let dir = std::env::temp_dir().join(format!("xtask-{name}-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        dir
    }

    #[test]
    fn what_an_interrupted_setup_left_is_cleared_away_and_nothing_else() {
        let dir = empty("partials");
        for name in ["a.partial-1/site/torch", "a.partial-22", "a", "b.partial-1", "aa.partial-1"] {
            fs::create_dir_all(dir.join(name)).unwrap();
        }
        clear_partials(&dir, "a");
        let mut left: Vec<_> =
            fs::read_dir(&dir).unwrap().map(|e| e.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, ["a", "aa.partial-1", "b.partial-1"]);
        fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn a_users_folder_that_holds_something_is_never_replaced() {
        let dir = empty("users");
        assert_eq!(refuse_to_replace(&dir), Ok(()));
        assert_eq!(refuse_to_replace(&dir.join("not there")), Ok(()));
        fs::write(dir.join("thesis.tex"), "").unwrap();
        assert!(refuse_to_replace(&dir).is_err());
        fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn a_second_setup_waits_for_the_first() {
        let dir = empty("lock");
        let first = lock(&dir).unwrap();
        let other = File::open(&dir).unwrap();
        assert!(matches!(other.try_lock(), Err(TryLockError::WouldBlock)));
        drop(first);
        assert!(other.try_lock().is_ok());
        fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn a_partial_folder_goes_away_with_its_run() {
        let dir = empty("drop");
        let partial = Partial::new(dir.join("a.partial-1")).unwrap();
        fs::write(partial.0.join("wheel"), "").unwrap();
        drop(partial);
        assert!(!dir.join("a.partial-1").exists());
        fs::remove_dir_all(dir).unwrap();
    }
}
