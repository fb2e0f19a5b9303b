//! `setup`: finds or installs libtorch, and links it as `.libtorch`.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use crate::args::SetupOptions;
use crate::downstream;
use crate::error::{Error, Result, at, failed};
use crate::find::{self, Needs, VERSION};
use crate::install::{self, Owner};
use crate::paths;

/// Settings that torch-sys prefers to LIBTORCH, or that do not fit the wheels.
pub(crate) const OVERRIDES: [&str; 5] = [
    "LIBTORCH_USE_PYTORCH",
    "LIBTORCH_INCLUDE",
    "LIBTORCH_LIB",
    "LIBTORCH_STATIC",
    "LIBTORCH_CXX11_ABI",
];

pub(crate) fn run(options: &SetupOptions) -> Result<()> {
    let libtorch = prepare(options)?;
    if options.print_env {
        print!("{}", downstream::print_env(&libtorch));
    }
    Ok(())
}

/// Sets up what is missing; returns the LIBTORCH that every build must use.
pub(crate) fn ensure() -> Result<PathBuf> {
    prepare(&SetupOptions::default())
}

fn prepare(options: &SetupOptions) -> Result<PathBuf> {
    if !cfg!(target_os = "linux") {
        return failed(format!(
            "setup supports only Linux, but this is {}: set LIBTORCH to a libtorch {VERSION}",
            env::consts::OS
        ));
    }
    check_compiler()?;
    for name in OVERRIDES.iter().filter(|name| env::var_os(name).is_some()) {
        eprintln!(
            "xtask: {name} is set but ignored here; unset it, because plain cargo would use it"
        );
    }
    let needs = Needs { cuda: options.cuda, nvrtc: options.nvrtc };
    if let Some(set) = find::users_libtorch()? {
        return from_variable(set, options, needs);
    }
    let link = paths::link()?;
    if fs::symlink_metadata(&link).is_ok_and(|m| !m.is_symlink()) {
        return failed(format!(
            "{} is not a link and is not replaced: move it away",
            link.display()
        ));
    }
    let found = match &options.dir {
        Some(dir) => in_dir(dir, needs)?,
        None => match search(&link, needs) {
            Some(found) => found,
            None => in_cache(needs)?,
        },
    };
    let torch = make_link(&link, &found.torch)?;
    eprintln!("xtask: libtorch {} from {}: {}", found.version, found.from, torch.display());
    Ok(link)
}

/// A usable libtorch.
struct Found {
    from: &'static str,
    torch: PathBuf,
    version: String,
}

/// LIBTORCH in the environment takes precedence in every plain cargo command, so it must be usable.
fn from_variable(set: OsString, options: &SetupOptions, needs: Needs) -> Result<PathBuf> {
    let torch = PathBuf::from(set);
    let shown = torch.display();
    if options.dir.is_some() {
        return failed(format!(
            "LIBTORCH={shown} takes precedence over --dir: unset it or omit --dir"
        ));
    }
    if !torch.is_absolute() {
        return failed(format!("LIBTORCH={shown} is not an absolute path: set one, or unset it"));
    }
    let version = find::inspect(&torch, needs).map_err(|why| {
        let remedy = "set it to a suitable libtorch, or unset it and run this again";
        Error::Failed(format!("LIBTORCH={shown} is unsuitable: {why}; {remedy}"))
    })?;
    let link = paths::link()?;
    if find::inspect(&link, Needs::default()).is_err() {
        make_link(&link, &torch)?;
    }
    eprintln!("xtask: libtorch {version} from LIBTORCH: {shown}");
    Ok(torch)
}

fn in_dir(dir: &Path, needs: Needs) -> Result<Found> {
    let dir = std::path::absolute(dir).map_err(at("find", dir))?;
    let (torch, version) = install::install(&dir, needs, Owner::User)?;
    Ok(Found { from: "--dir", torch, version })
}

/// Searches the possible locations in order; reports why one was skipped.
fn search(link: &Path, needs: Needs) -> Option<Found> {
    let mut places = Vec::new();
    match find::in_virtual_env() {
        Some(Ok(torch)) => places.push(("VIRTUAL_ENV", torch)),
        Some(Err(why)) => eprintln!("xtask: skipped VIRTUAL_ENV: {why}"),
        None => {}
    }
    if fs::symlink_metadata(link).is_ok() {
        places.push((".libtorch", link.to_path_buf()));
    }
    let cache = paths::cache();
    for folder in cache.iter().flat_map(|cache| folders(needs).map(|name| cache.join(name))) {
        if folder.exists() {
            places.push(("the cache", folder.join("torch")));
        }
    }
    for (from, torch) in places {
        match find::inspect(&torch, needs) {
            Ok(version) => return Some(Found { from, torch, version }),
            Err(why) => eprintln!("xtask: skipped {from} ({}): {why}", torch.display()),
        }
    }
    None
}

fn in_cache(needs: Needs) -> Result<Found> {
    eprintln!(
        "xtask: found no libtorch in LIBTORCH, a virtual environment, .libtorch or the cache"
    );
    let folder = paths::cache()?.join(folder(needs));
    let (torch, version) = install::install(&folder, needs, Owner::Project)?;
    Ok(Found { from: "a new installation", torch, version })
}

/// One folder per set of components: an installation never changes once it is complete.
fn folder(needs: Needs) -> String {
    let cuda = if needs.cuda { "-cuda" } else { "" };
    let nvrtc = if needs.nvrtc { "-nvrtc" } else { "" };
    format!("libtorch-{VERSION}{cuda}{nvrtc}")
}

/// The folders whose set covers what is needed, the smallest first.
fn folders(needs: Needs) -> impl Iterator<Item = String> {
    let all = [(false, false), (false, true), (true, false), (true, true)];
    let covers = move |(cuda, nvrtc)| (cuda || !needs.cuda) && (nvrtc || !needs.nvrtc);
    let covering = all.into_iter().filter(move |set| covers(*set));
    covering.map(|(cuda, nvrtc)| folder(Needs { cuda, nvrtc }))
}

/// Points the link at `torch` in one step, and returns the resolved path.
fn make_link(link: &Path, torch: &Path) -> Result<PathBuf> {
    let real = torch.canonicalize().map_err(at("find", torch))?;
    if link.canonicalize().is_ok_and(|now| now == real) {
        return Ok(real);
    }
    let new = link.with_file_name(format!(".libtorch.{}", std::process::id()));
    std::os::unix::fs::symlink(&real, &new).map_err(at("create", &new))?;
    fs::rename(&new, link).map_err(at("replace", link))?;
    Ok(real)
}

/// torch-sys and the shim are C++: reports a missing compiler before minutes of download and
/// compilation.
fn check_compiler() -> Result<()> {
    let target = format!("CXX_{}_unknown_linux_gnu", env::consts::ARCH);
    let set = [target.as_str(), "HOST_CXX", "CXX"].into_iter().find_map(|name| {
        let value = env::var(name).ok()?;
        let program = value.split_whitespace().next()?.to_owned();
        Some((format!("{name}={value}"), program))
    });
    let (shown, program) = set.unwrap_or_else(|| ("c++".to_owned(), "c++".to_owned()));
    match paths::which(&program) {
        Some(_) => Ok(()),
        None => failed(format!(
            "there is no C++ compiler ({shown} is not on the PATH): \
             install one (Debian: apt install g++), or set CXX"
        )),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    #[test]
    fn a_larger_set_in_the_cache_serves_a_smaller_need() {
        let names = |cuda, nvrtc| folders(Needs { cuda, nvrtc }).collect::<Vec<_>>();
        assert_eq!(names(false, false).len(), 4);
        assert_eq!(names(false, false)[0], "libtorch-2.11.0");
        assert_eq!(names(false, true), ["libtorch-2.11.0-nvrtc", "libtorch-2.11.0-cuda-nvrtc"]);
        assert_eq!(names(true, true), ["libtorch-2.11.0-cuda-nvrtc"]);
    }

    #[test]
    fn the_link_follows_the_last_one_that_was_wanted() {
        let base = env::temp_dir().join(format!("xtask-link-{}", std::process::id()));
        let (one, two, link) = (base.join("one"), base.join("two"), base.join(".libtorch"));
        for dir in [&one, &two] {
            fs::create_dir_all(dir).unwrap();
        }
        for wanted in [&one, &two, &two] {
            make_link(&link, wanted).unwrap();
            assert_eq!(link.canonicalize().unwrap(), wanted.canonicalize().unwrap());
        }
        fs::remove_dir_all(base).unwrap();
    }
}
