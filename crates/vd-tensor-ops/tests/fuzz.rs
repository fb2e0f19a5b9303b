//! Damaged weight files by the hundred thousand: an error or a value, never a panic, a hang or much memory.
//!
//! `VD_FUZZ=1000000` makes as many inputs for each parser.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

#[path = "fixtures/mod.rs"]
mod fixtures;

use std::fs;
use std::path::Path;

use fixtures::{fixture, scratch};
use tch::Device;
use vd_tensor_ops::pt::PtFile;
use vd_tensor_ops::{Result, Weights};
use vd_torch::fuzz::{Counting, Fuzz};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The files of Python that are read.
fn seeds(folder: &str, ending: &str, read: impl Fn(&Path) -> Result<()>) -> Vec<Vec<u8>> {
    let entries = fs::read_dir(fixture(folder)).unwrap().map(|entry| entry.unwrap().path());
    let mut paths: Vec<_> = entries
        .filter(|path| path.extension().is_some_and(|end| end == ending))
        .filter(|path| read(path).is_ok())
        .collect();
    paths.sort();
    paths.iter().map(|path| fs::read(path).unwrap()).collect()
}

/// The structure and the tensors of its first level.
fn checkpoint(path: &Path) -> Result<()> {
    let file = PtFile::open(path)?;
    let entries = file.root().as_dict().unwrap_or_default();
    let tensors = entries.iter().filter_map(|(_, value)| value.as_tensor());
    tensors.into_iter().try_for_each(|info| file.tensor(info).map(drop))
}

#[test]
fn python_checkpoints() {
    let dir = scratch();
    let path = dir.path().join("x.pt");
    let seeds = seeds("pt", "pt", checkpoint);
    // an opcode of one byte may make a value
    Fuzz::new(seeds).allocation(512, 4 << 20).run(|bytes| {
        fs::write(&path, bytes).unwrap();
        checkpoint(&path)
    });
}

#[test]
fn safetensors() {
    let dir = scratch();
    let path = dir.path().join("x.safetensors");
    let read = |path: &Path| Weights::read(path, Device::Cpu).map(drop);
    let seeds = seeds("weights", "safetensors", read);
    Fuzz::new(seeds).allocation(128, 1 << 20).run(|bytes| {
        fs::write(&path, bytes).unwrap();
        read(&path)
    });
}
