//! `check`: what CI requires besides the tests.

use std::fs;
use std::process::Command;

use crate::bundle;
use crate::downstream;
use crate::error::{Result, at};
use crate::kernels;
use crate::layering;
use crate::libav;
use crate::paths;
use crate::setup;
use crate::stage;

pub(crate) fn run() -> Result<()> {
    let libtorch = setup::ensure()?;
    let cargo = || stage::cargo(&libtorch);
    stage::run("cargo fmt", cargo()?.args(["fmt", "--all", "--check"]))?;
    stage::run("rustfmt of the downstream programs", &mut downstream_format()?)?;
    stage::timed("layering", layering::run)?;
    deny()?;
    let clippy = ["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"];
    stage::run("cargo clippy", cargo()?.args(clippy))?;
    libav::check(&libtorch)?;
    let mut doc = cargo()?;
    doc.args(["doc", "--workspace", "--no-deps"]).env("RUSTDOCFLAGS", "-D warnings");
    stage::run("cargo doc", &mut doc)?;
    stage::run("cargo bench --no-run", cargo()?.args(["bench", "--workspace", "--no-run"]))?;
    kernels::compile(&libtorch, false)?;
    // Reuses what the tests and benches above have built, except for a few programs.
    bundle::run(&downstream::target_dir()?.join("gpu-bundle-packed"))
}

/// The programs of the generated projects belong to no package, so cargo skips them.
fn downstream_format() -> Result<Command> {
    let dir = paths::root()?.join("crates/xtask/downstream");
    let entries = fs::read_dir(&dir).map_err(at("read", &dir))?;
    let files = entries.flatten().map(|entry| entry.path());
    let mut rustfmt = Command::new("rustfmt");
    rustfmt.args(["--check", "--edition", "2024"]);
    rustfmt.args(files.filter(|file| file.extension().is_some_and(|e| e == "rs")));
    Ok(rustfmt)
}

/// Checks licences, bans and sources, if the tool is installed.
fn deny() -> Result<()> {
    if paths::which("cargo-deny").is_none() {
        eprintln!("\n== cargo-deny is not installed: licences, bans and sources were not checked");
        return Ok(());
    }
    let mut deny = stage::bare_cargo();
    deny.current_dir(paths::root()?).args(["deny", "check", "licenses", "bans", "sources"]);
    stage::run("cargo deny", &mut deny)
}
