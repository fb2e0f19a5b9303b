//! Projects that use the public crates from outside: one per crate, which depends on that crate
//! alone, one that swaps the sampler and one with its own schedule.
//!
//! They are generated in a temporary folder, follow exactly what `setup --print-env` tells a user,
//! and are started without LD_LIBRARY_PATH and without LIBTORCH.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::error::{Error, Result, at, failed};
use crate::paths;
use crate::setup;
use crate::stage;

/// A project: its name, the one crate that it depends on, and its program.
struct Project {
    name: &'static str,
    krate: &'static str,
    program: &'static str,
}

const PROJECTS: [Project; 6] = [
    Project {
        name: "uses-tensor-ops",
        krate: "vd-tensor-ops",
        program: include_str!("../downstream/tensor_ops.rs"),
    },
    Project {
        name: "uses-unet3d",
        krate: "vd-unet3d",
        program: include_str!("../downstream/unet3d.rs"),
    },
    Project {
        name: "uses-diffusion",
        krate: "vd-diffusion",
        program: include_str!("../downstream/diffusion.rs"),
    },
    Project {
        name: "uses-text-cond",
        krate: "vd-text-cond",
        program: include_str!("../downstream/text_cond.rs"),
    },
    Project {
        name: "swap_sampler",
        krate: "vd-diffusion",
        program: include_str!("../downstream/swap_sampler.rs"),
    },
    Project {
        name: "own_schedule",
        krate: "vd-diffusion",
        program: include_str!("../downstream/own_schedule.rs"),
    },
];

pub(crate) fn run() -> Result<()> {
    build_and_run(&setup::ensure()?)
}

/// The output of `setup --print-env`: the `.cargo/config.toml` of a project, and its build.rs.
pub(crate) fn print_env(libtorch: &Path) -> String {
    let path = libtorch.to_string_lossy().replace('\\', "\\\\").replace('"', "\\\"");
    format!(
        "# .cargo/config.toml of your project:\n\
         [env]\n\
         LIBTORCH = \"{path}\"\n\
         \n\
         # build.rs of your project (this one for vd-diffusion: the variable is named for the crate\n\
         # that Cargo.toml names, VD_TENSOR_OPS, VD_UNET3D, VD_DIFFUSION or VD_TEXT_COND):\n\
         # {}\n",
        build_rs("vd-diffusion").trim_end()
    )
}

/// A build script that passes the folder of the libraries on to the linker.
fn build_rs(krate: &str) -> String {
    let links = krate.replace('-', "_").to_uppercase();
    format!(
        "fn main() {{ println!(\"cargo::rustc-link-arg=-Wl,-rpath,{{}}\", \
         std::env::var(\"DEP_{links}_LIBTORCH_LIB\").unwrap()); }}\n"
    )
}

/// Generates, builds and starts each project; the folder is removed if all succeed.
pub(crate) fn build_and_run(libtorch: &Path) -> Result<()> {
    let outside = env::temp_dir().join(format!("vd-downstream-{}", std::process::id()));
    if outside.starts_with(paths::root()?) {
        return failed("the temporary folder is inside the workspace: set TMPDIR to one outside");
    }
    for project in &PROJECTS {
        let dir = outside.join(project.name);
        project.write(&dir, libtorch)?;
        let heading = format!("downstream: {} ({} alone)", project.name, project.krate);
        stage::run(&heading, &mut project.build(&dir)?)?;
        project.start(&dir)?;
    }
    fs::remove_dir_all(&outside).map_err(at("remove", &outside))
}

/// Shared with the workspace: the dependencies of the public crates are the same, built alike.
pub(crate) fn target_dir() -> Result<PathBuf> {
    let root = paths::root()?;
    let set = env::var_os("CARGO_TARGET_DIR").filter(|dir| !dir.is_empty());
    Ok(root.join(set.map_or_else(|| PathBuf::from("target"), PathBuf::from)))
}

impl Project {
    fn write(&self, dir: &Path, libtorch: &Path) -> Result<()> {
        let root = paths::root()?;
        let manifest = root.join("Cargo.toml");
        let workspace = fs::read_to_string(&manifest).map_err(at("read", &manifest))?;
        let lock = root.join("Cargo.lock");
        let files = [
            ("Cargo.toml", self.manifest(&root, &workspace)),
            ("Cargo.lock", fs::read_to_string(&lock).map_err(at("read", &lock))?),
            (".cargo/config.toml", print_env(libtorch)),
            ("build.rs", build_rs(self.krate)),
            ("src/main.rs", self.program.to_owned()),
        ];
        for (name, text) in files {
            let file = dir.join(name);
            if let Some(folder) = file.parent() {
                fs::create_dir_all(folder).map_err(at("create", folder))?;
            }
            fs::write(&file, text).map_err(at("write", &file))?;
        }
        Ok(())
    }

    fn manifest(&self, root: &Path, workspace: &str) -> String {
        format!(
            "[package]\nname = \"{}\"\nversion = \"0.1.0\"\nedition = \"2024\"\n\n\
             [dependencies]\n{} = {{ path = {:?} }}\n\n{}",
            self.name,
            self.krate,
            root.join("crates").join(self.krate),
            profiles(workspace)
        )
    }

    fn build(&self, dir: &Path) -> Result<Command> {
        let mut cargo = stage::bare_cargo();
        // Everything was downloaded for the workspace, in the versions of the lock file beside it.
        cargo.current_dir(dir).args(["build", "--quiet", "--offline"]);
        cargo.env("CARGO_TARGET_DIR", target_dir()?).env_remove("LIBTORCH");
        Ok(cargo)
    }

    fn start(&self, dir: &Path) -> Result<()> {
        let program = target_dir()?.join("debug").join(self.name);
        let mut program = Command::new(program);
        program.current_dir(dir).env_remove("LD_LIBRARY_PATH").env_remove("LIBTORCH");
        let cannot = |e| Error::Failed(format!("cannot start {}: {e}", self.name));
        let status = program.status().map_err(cannot)?;
        if status.success() {
            return Ok(());
        }
        failed(format!("{} failed ({status}); the project is in {}", self.name, dir.display()))
    }
}

/// The `[profile]` tables of the workspace: with other profiles no build could be shared.
fn profiles(workspace: &str) -> String {
    let mut inside = false;
    let mut text = String::new();
    for line in workspace.lines() {
        if line.starts_with('[') {
            inside = line.starts_with("[profile");
        }
        if inside && !line.starts_with('#') {
            text.push_str(line);
            text.push('\n');
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_printed_lines_are_a_cargo_configuration_as_they_stand() {
        let printed = print_env(Path::new("/a \"b\"/.libtorch"));
        let code: Vec<&str> = printed.lines().filter(|l| !l.starts_with('#')).collect();
        assert_eq!(code, ["[env]", "LIBTORCH = \"/a \\\"b\\\"/.libtorch\"", ""]);
    }

    #[test]
    fn the_build_script_asks_for_the_variable_of_its_crate() {
        assert!(build_rs("vd-text-cond").contains("\"DEP_VD_TEXT_COND_LIBTORCH_LIB\""));
    }

    #[test]
    fn profiles_are_copied_and_nothing_else() {
        let workspace = "[workspace]\na = 1\n\n# why\n[profile.dev]\nopt-level = 1\n\n\
                         [profile.dev.package.\"*\"]\ndebug = false\n[lints]\nb = 2\n";
        let wanted = "[profile.dev]\nopt-level = 1\n\n[profile.dev.package.\"*\"]\ndebug = false\n";
        assert_eq!(profiles(workspace), wanted);
    }
}
