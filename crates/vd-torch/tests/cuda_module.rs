//! The module that is opened behind libtorch's CUDA library: each of its symbols is found somewhere.
#![allow(clippy::unwrap_used)]

use std::ffi::CString;
use std::path::Path;

/// As the build made it.
static MODULE: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/cuda_module.so"));

/// What it takes of libtorch_cuda.so, by the names that the library of 2.11 exports. Most machines that
/// build have not got that library, of 1 GB.
const OF_LIBTORCH_CUDA: [&str; 7] = [
    "_ZN2at4cuda17graph_pool_handleEv",
    "_ZN2at4cuda9CUDAGraph11capture_endEv",
    "_ZN2at4cuda9CUDAGraph13capture_beginESt4pairIyyE21cudaStreamCaptureMode",
    "_ZN2at4cuda9CUDAGraph4poolEv",
    "_ZN2at4cuda9CUDAGraph6replayEv",
    "_ZN2at4cuda9CUDAGraphC1Eb",
    "_ZN2at4cuda9CUDAGraphD1Ev",
];

fn number(bytes: &[u8], at: usize, count: usize) -> usize {
    bytes[at..at + count].iter().rev().fold(0, |n, byte| n << 8 | usize::from(*byte))
}

fn text(bytes: &[u8], at: usize) -> String {
    let end = bytes[at..].iter().position(|byte| *byte == 0).unwrap();
    String::from_utf8(bytes[at..at + end].to_vec()).unwrap()
}

/// The names that a library of ELF, 64 bits, looks up in others, but for those that may be missing.
fn undefined(elf: &[u8]) -> Vec<String> {
    let (first, size, count) = (number(elf, 0x28, 8), number(elf, 0x3a, 2), number(elf, 0x3c, 2));
    let field = |section: usize, at, count| number(elf, first + section * size + at, count);
    // Of the type SHT_DYNSYM.
    let dynamic = (0..count).find(|section| field(*section, 4, 4) == 11).unwrap();
    let names = field(field(dynamic, 0x28, 4), 0x18, 8);
    let (start, length) = (field(dynamic, 0x18, 8), field(dynamic, 0x20, 8));
    let symbols = (start..start + length).step_by(24).skip(1);
    let wanted = symbols.filter(|at| number(elf, at + 6, 2) == 0 && elf[at + 4] >> 4 == 1);
    wanted.map(|at| text(elf, names + number(elf, at, 4))).collect()
}

fn is_found(name: &str) -> bool {
    let name = CString::new(name).unwrap();
    // SAFETY: a NUL-terminated name.
    !unsafe { libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr()) }.is_null()
}

fn open(file: &Path) -> bool {
    let name = CString::new(file.as_os_str().as_encoded_bytes()).unwrap();
    // SAFETY: a NUL-terminated name; the library stays.
    !unsafe { libc::dlopen(name.as_ptr(), libc::RTLD_NOW | libc::RTLD_GLOBAL) }.is_null()
}

#[test]
fn every_symbol_is_found() {
    let _ = tch::Tensor::from_slice(&[1.0f32]);
    let lib = vd_torch::libtorch_dir().unwrap();
    let whole = lib.join("libtorch_cuda.so");
    let complete = whole.exists() && open(&whole);
    // A libtorch without any part for CUDA has not got this one either.
    let some = complete || open(&lib.join("libc10_cuda.so"));
    let undefined = undefined(MODULE);
    assert!(undefined.iter().any(|name| name == OF_LIBTORCH_CUDA[2]), "{undefined:?}");
    for name in undefined {
        let known = !complete && OF_LIBTORCH_CUDA.contains(&name.as_str());
        let missing = !some && name.contains("c104cuda");
        assert!(known || missing || is_found(&name), "{name}");
    }
    if complete {
        let file = std::env::temp_dir().join(format!("vd-cuda-module-{}.so", std::process::id()));
        std::fs::write(&file, MODULE).unwrap();
        let opened = open(&file);
        std::fs::remove_file(&file).unwrap();
        assert!(opened && is_found("vd_graph_replay"));
    }
}
