//! `kernels`: compiles the GPU kernels, which needs none, and says what they take.

use std::path::{Path, PathBuf};

use crate::error::Result;
use crate::install;
use crate::paths;
use crate::setup;
use crate::stage;

const LIBRARY: &str = "libnvrtc.so.13";
/// Its location in the wheel, beside the package torch.
const FOLDER: &str = "nvidia/cu13/lib";

pub(crate) fn run() -> Result<()> {
    compile(&setup::ensure()?, true)
}

/// Compiles every kernel for every GPU generation; fails on one that does not compile, or that
/// spills registers.
pub(crate) fn compile(libtorch: &Path, show: bool) -> Result<()> {
    let nvrtc = compiler(libtorch)?;
    let mut cargo = stage::cargo(libtorch)?;
    cargo.args(["test", "--workspace", "--test", "kernels_cuda", "compiled::"]);
    if show {
        cargo.args(["--", "--nocapture", "--test-threads", "1"]);
    }
    cargo.env("VD_REQUIRE_NVRTC", "1").env("VD_NVRTC", nvrtc);
    stage::run("GPU kernels", &mut cargo)
}

/// The folder of NVRTC: beside libtorch, or the project's own, which is filled if it is empty.
fn compiler(libtorch: &Path) -> Result<PathBuf> {
    let beside = libtorch.canonicalize().ok().map(|torch| torch.with_file_name(FOLDER));
    if let Some(folder) = beside.filter(|folder| folder.join(LIBRARY).is_file()) {
        return Ok(folder);
    }
    let inside = Path::new(FOLDER).join(LIBRARY);
    let site = install::nvrtc(&paths::cache()?, &inside)?;
    Ok(site.join(FOLDER))
}
