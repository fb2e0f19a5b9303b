//! Hands the libtorch directory on, so that what is built here and above finds it at run time.

fn main() {
    // Else every edit of a test or a benchmark would build the crate and all above it anew.
    println!("cargo::rerun-if-changed=build.rs");
    if let Ok(lib) = std::env::var("DEP_VD_DIFFUSION_LIBTORCH_LIB") {
        println!("cargo::rustc-link-arg=-Wl,-rpath,{lib}");
        println!("cargo::metadata=LIBTORCH_LIB={lib}");
    }
}
