//! Passes the libtorch directory on, so that programs built here and in dependent crates find it at
//! run time.

fn main() {
    // Otherwise every edit of a test or a benchmark would rebuild the crate and all its dependents.
    println!("cargo::rerun-if-changed=build.rs");
    if let Ok(lib) = std::env::var("DEP_VD_TENSOR_OPS_LIBTORCH_LIB") {
        println!("cargo::rustc-link-arg=-Wl,-rpath,{lib}");
        println!("cargo::metadata=LIBTORCH_LIB={lib}");
    }
}
