//! Compiles the C++ shim against the headers of the libtorch that torch-sys found, and hands the
//! directory of its libraries on to the crates above.

use std::path::{Path, PathBuf};

fn main() {
    println!("cargo::rerun-if-changed=cpp");
    println!("cargo::rerun-if-env-changed=LIBTORCH_INCLUDE");
    println!("cargo::rerun-if-env-changed=LIBTORCH_CXX11_ABI");
    let Ok(lib) = std::env::var("DEP_TCH_LIBTORCH_LIB") else {
        println!("cargo::error=torch-sys names no libtorch; run `cargo xtask setup`");
        return;
    };
    compile_shim(Path::new(&lib));
    println!("cargo::rustc-link-arg=-Wl,-rpath,{lib}");
    println!("cargo::metadata=LIBTORCH_LIB={lib}");
}

fn compile_shim(lib: &Path) {
    let root = std::env::var_os("LIBTORCH_INCLUDE")
        .map(PathBuf::from)
        .or_else(|| lib.parent().map(Path::to_path_buf))
        .unwrap_or_default();
    let include = root.join("include");
    let abi = std::env::var("LIBTORCH_CXX11_ABI").unwrap_or_else(|_| "1".to_owned());
    cc::Build::new()
        .cpp(true)
        .std("c++17")
        // The headers are not ours to warn about.
        .flag("-isystem")
        .flag(&include)
        .flag("-isystem")
        .flag(include.join("torch/csrc/api/include"))
        .define("_GLIBCXX_USE_CXX11_ABI", abi.as_str())
        // Refuses the two to three times heavier ATen/Functions.h.
        .define("AT_PER_OPERATOR_HEADERS", None)
        // As libtorch was compiled: some of its structs have more fields without.
        .define("NDEBUG", None)
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
