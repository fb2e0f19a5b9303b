//! Compiles the C++ shim against the headers of the libtorch that torch-sys found, and hands the
//! directory of its libraries on to the crates above.

use std::fs;
use std::path::{Path, PathBuf};

fn main() {
    println!("cargo::rerun-if-changed=cpp");
    println!("cargo::rerun-if-env-changed=LIBTORCH_INCLUDE");
    println!("cargo::rerun-if-env-changed=LIBTORCH_CXX11_ABI");
    let Ok(lib) = std::env::var("DEP_TCH_LIBTORCH_LIB") else {
        println!("cargo::error=torch-sys names no libtorch; run `cargo xtask setup`");
        return;
    };
    let include = include(Path::new(&lib));
    compile_shim(Path::new(&lib), &include);
    let why = compile_cuda_module(&include).err().unwrap_or_default();
    println!("cargo::rustc-env=VD_NO_CUDA_MODULE={why}");
    println!("cargo::rustc-link-arg=-Wl,-rpath,{lib}");
    println!("cargo::metadata=LIBTORCH_LIB={lib}");
}

/// The folder of libtorch's headers.
fn include(lib: &Path) -> PathBuf {
    let root = std::env::var_os("LIBTORCH_INCLUDE")
        .map(PathBuf::from)
        .or_else(|| lib.parent().map(Path::to_path_buf))
        .unwrap_or_default();
    root.join("include")
}

/// A compiler of what includes them.
fn compiler(include: &Path) -> cc::Build {
    let abi = std::env::var("LIBTORCH_CXX11_ABI").unwrap_or_else(|_| "1".to_owned());
    let mut compiler = cc::Build::new();
    compiler
        .cpp(true)
        .std("c++17")
        // The headers are not ours to warn about.
        .flag("-isystem")
        .flag(include)
        .flag("-isystem")
        .flag(include.join("torch/csrc/api/include"))
        .define("_GLIBCXX_USE_CXX11_ABI", abi.as_str())
        // Refuses the two to three times heavier ATen/Functions.h.
        .define("AT_PER_OPERATOR_HEADERS", None)
        // As libtorch was compiled: some of its structs have more fields without.
        .define("NDEBUG", None);
    compiler
}

/// Makes the library that is opened behind libtorch's CUDA library: `cuda_module.so`, which is empty
/// where it cannot be made, for the reason that comes back then.
fn compile_cuda_module(include: &Path) -> Result<(), String> {
    let out = std::env::var_os("OUT_DIR").map(PathBuf::from).unwrap_or_default();
    let file = out.join("cuda_module.so");
    fs::write(&file, []).map_err(|e| format!("{}: {e}", file.display()))?;
    let needed = ["ATen/cuda/CUDAGraph.h", "c10/cuda/CUDACachingAllocator.h"];
    if let Some(header) = needed.iter().find(|header| !include.join(header).is_file()) {
        return Err(format!("the libtorch that it was built with has no {header}"));
    }
    let mut command = compiler(include).get_compiler().to_command();
    command.args(["-shared", "-fPIC", "-s", "-isystem", "cpp/cuda_stub", "cpp/cuda_module.cpp"]);
    let output = command.arg("-o").arg(&file).output();
    let output = output.map_err(|e| format!("the C++ compiler does not run: {e}"))?;
    if output.status.success() {
        return Ok(());
    }
    let _ = fs::write(&file, []);
    let said = String::from_utf8_lossy(&output.stderr);
    let first = said.lines().find(|line| line.contains("error")).unwrap_or("no reason given");
    println!("cargo::warning=graphs of CUDA are left out: {first}");
    Err(format!("it was built without, as its C++ did not compile: {first}"))
}

fn compile_shim(lib: &Path, include: &Path) {
    compiler(include)
        .file("cpp/autograd.cpp")
        .file("cpp/modes.cpp")
        .file("cpp/optim.cpp")
        .file("cpp/record.cpp")
        .file("cpp/stream.cpp")
        .file("cpp/transfer.cpp")
        .compile("vd_torch_shim");
    println!("cargo::rustc-link-search=native={}", lib.display());
    println!("cargo::rustc-link-lib=torch_cpu");
    println!("cargo::rustc-link-lib=c10");
}
