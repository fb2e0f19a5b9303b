//! Hands the libtorch directory on, so that what is built here and above finds it at run time.

fn main() {
    if let Ok(lib) = std::env::var("DEP_VD_TRAIN_LIBTORCH_LIB") {
        println!("cargo::rustc-link-arg=-Wl,-rpath,{lib}");
    }
}
