//! Sets an rpath to libtorch, so that the programs built here find it at run time.

fn main() {
    // Without this line, any edit in the folder would rebuild the crate.
    println!("cargo::rerun-if-changed=build.rs");
    if let Ok(lib) = std::env::var("DEP_VD_TRAIN_LIBTORCH_LIB") {
        println!("cargo::rustc-link-arg=-Wl,-rpath,{lib}");
    }
}
