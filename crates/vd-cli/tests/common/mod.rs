//! Runs the actual binary.
#![allow(dead_code, reason = "each test file uses its part")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

/// A run that takes a second: moving digits of 8 x 8 pixels.
pub(crate) const CONFIG: &str = r#"
[model]
dim = 8
dim_mults = [1, 2]
attn_heads = 2
attn_dim_head = 8
init_kernel_size = 3
[diffusion]
schedule = { kind = "cosine-discrete", steps = 60 }
parameterization = "v"
[text]
encoder = { kind = "hashed", width = 6 }
drop = 0.2
[data]
source = { kind = "digits" }
frames = 2
size = [8, 8]
workers = 1
[train]
out = "run"
steps = 4
batch = 2
checkpoint_every = 2
preview_every = 0
seed = 3
device = "cpu"
threads = 1
"#;

/// A separate folder in which `vd` is run.
pub(crate) struct Place(tempfile::TempDir);

/// The result of a command.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Place {
    pub(crate) fn new() -> Self {
        let place = Place(tempfile::tempdir().unwrap());
        place.write("config.toml", CONFIG);
        place
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        std::fs::write(self.path(name), content).unwrap();
    }

    pub(crate) fn exists(&self, name: &str) -> bool {
        self.path(name).exists()
    }

    /// `vd` with these arguments, separated by white space.
    pub(crate) fn command(&self, args: &str) -> Command {
        let args: Vec<_> = args.split_whitespace().collect();
        self.command_of(&args)
    }

    pub(crate) fn command_of(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_vd"));
        // The machine is shared with other tests, and may have a GPU.
        command.env("VD_CUDA", "off").env("OMP_NUM_THREADS", "1").env_remove("VD_LOG");
        command.env_remove("VD_REQUIRE_FFMPEG");
        command.current_dir(self.0.path()).args(args);
        command
    }

    pub(crate) fn vd(&self, args: &str) -> Ran {
        Ran::of(self.command(args).output().unwrap())
    }

    pub(crate) fn vd_of(&self, args: &[&str]) -> Ran {
        Ran::of(self.command_of(args).output().unwrap())
    }

    /// The JSON object of a command that succeeds.
    pub(crate) fn json(&self, args: &str) -> Value {
        let ran = self.vd(&format!("{args} --json"));
        assert_eq!(ran.code, Some(0), "vd {args}: {ran:?}");
        ran.object()
    }

    /// The message of a command that fails with this code, on stderr and as JSON.
    pub(crate) fn error(&self, args: &str, code: i32) -> String {
        let split: Vec<_> = args.split_whitespace().collect();
        self.error_of(&split, code)
    }

    pub(crate) fn error_of(&self, args: &[&str], code: i32) -> String {
        let ran = self.vd_of(&[args, &["--json"]].concat());
        assert_eq!(ran.code, Some(code), "vd {args:?}: {ran:?}");
        let object = ran.object();
        assert_eq!(object.as_object().unwrap().len(), 1, "{object}");
        let message = object["error"].as_str().unwrap();
        let first = message.lines().next().unwrap();
        assert!(ran.stderr.contains(&format!("error: {first}")), "{ran:?}");
        ran.stderr
    }
}

impl Ran {
    pub(crate) fn of(output: Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Ran { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
    }

    /// Stdout, which must contain exactly one JSON object on one line.
    pub(crate) fn object(&self) -> Value {
        assert_eq!(self.stdout.lines().count(), 1, "{self:?}");
        let value: Value = serde_json::from_str(&self.stdout).unwrap();
        assert!(value.is_object(), "{self:?}");
        value
    }
}

/// The number under a key.
pub(crate) fn number(value: &Value, key: &str) -> f64 {
    value[key].as_f64().unwrap_or_else(|| panic!("no number `{key}` in {value}"))
}

/// Frames of a GIF and its size, height first.
pub(crate) fn gif_shape(path: &Path) -> (usize, [u16; 2]) {
    let bytes = std::fs::read(path).unwrap();
    assert_eq!(&bytes[..6], b"GIF89a", "{}", path.display());
    let side = |at| u16::from_le_bytes([bytes[at], bytes[at + 1]]);
    // Before each image there is a graphic control extension: 21 F9 04.
    let frames = bytes.windows(3).filter(|window| window == &[0x21, 0xF9, 0x04]).count();
    (frames, [side(8), side(6)])
}
