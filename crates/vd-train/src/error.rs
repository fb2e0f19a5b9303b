//! Why a run did not start, or stopped.

use std::borrow::Cow;
use std::path::{Path, PathBuf};

/// The errors of this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A config file that is not TOML, or has unknown keys or invalid values.
    #[error("{}: {message}", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// What is wrong, where, and what is expected.
        message: String,
    },
    /// A setting given in addition to the config file.
    #[error("--set {text}: {message}")]
    Override {
        /// The setting as it was given.
        text: String,
        /// What is wrong with it.
        message: String,
    },
    /// A setting that is outside its range, or inconsistent with another.
    #[error("{key}: expected {expected}, got {got}")]
    Config {
        /// The setting, as it is written in the config.
        key: Cow<'static, str>,
        /// The valid values.
        expected: String,
        /// The value given.
        got: String,
    },
    /// An I/O error of a file or folder.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The operating system's error.
        source: std::io::Error,
    },
    /// A checkpoint that is missing or incomplete.
    #[error("{}: {what}", path.display())]
    Checkpoint {
        /// Where it was expected.
        path: PathBuf,
        /// What is wrong: expected and found.
        what: String,
    },
    /// A new run in a folder with the checkpoints of an older one.
    #[error(
        "{}: holds the checkpoints of an earlier run, the newest of step {step}; resume it with --resume, or choose another train.out",
        out.display()
    )]
    WouldOverwrite {
        /// The run's folder.
        out: PathBuf,
        /// The newest step in it.
        step: u64,
    },
    /// A resumed run whose config differs from the one it started with.
    #[error(
        "{}: cannot be resumed with a different config:\n  {}\nrestore these settings, or start a new run in another train.out; `vd train {} --resume` resumes with the run's own settings",
        checkpoint.display(),
        differences.join("\n  "),
        own_config(checkpoint).display()
    )]
    ResumeDiffers {
        /// The checkpoint.
        checkpoint: PathBuf,
        /// Each key with both values.
        differences: Vec<String>,
    },
    /// A text encoder that differs from the one used in training, though its shapes may agree.
    #[error(
        "{}: the text encoder is not the one that the model was trained with: expected {expected} (the hash of its files and kind), got {got}; give the original one: text.encoder.path in a run's config, --encoder DIR of `vd sample`",
        checkpoint.display()
    )]
    OtherEncoder {
        /// The checkpoint.
        checkpoint: PathBuf,
        /// The identity of the encoder used in training.
        expected: String,
        /// The identity of the encoder found.
        got: String,
    },
    /// Two runs in one folder.
    #[error("{}: another process is training into this folder", out.display())]
    Locked {
        /// The run's folder.
        out: PathBuf,
    },
    /// A parameter, a loss or a gradient that is not finite.
    #[error(
        "step {step}: {tensor} is not finite; start a new run in another train.out with a lower train.lr, a longer train.warmup or a smaller train.clip{}",
        began(batch.as_deref())
    )]
    NotFinite {
        /// The step, counted from 1, that was abandoned.
        step: u64,
        /// The first bad tensor: a parameter by its name, else the loss, else a gradient by its
        /// name.
        tensor: String,
        /// Where the batch of that step begins, in words, if known.
        batch: Option<String>,
    },
    /// Out of memory during a step.
    #[error(
        "step {step}: {device} is out of memory with train.batch = {batch} clips of {clip} ({said}); lower train.batch and raise train.accumulate to compensate{}",
        advice(*recompute, *levels)
    )]
    OutOfMemory {
        /// The step, counted from 1, that was abandoned.
        step: u64,
        /// The device whose memory is exhausted.
        device: String,
        /// Clips per micro-batch.
        batch: usize,
        /// The shape of a clip, in words.
        clip: String,
        /// Levels whose activations are already recomputed.
        recompute: usize,
        /// The number of levels.
        levels: usize,
        /// libtorch's message.
        said: String,
    },
    /// A panic during a step: an operator that libtorch refused, or a kernel that failed on the
    /// GPU.
    #[error("step {step} failed: {said}")]
    Step {
        /// The step, counted from 1, that was abandoned.
        step: u64,
        /// The panic's message.
        said: String,
    },
    /// An error of the data.
    #[error(transparent)]
    Data(#[from] vd_data::Error),
    /// An error of the encoder, or of the call that draws previews.
    #[error(transparent)]
    Text(#[from] vd_text_cond::Error),
    /// An error of the diffusion process.
    #[error(transparent)]
    Diffusion(#[from] vd_diffusion::Error),
    /// An error of the network.
    #[error(transparent)]
    Network(#[from] vd_unet3d::Error),
    /// An error of a weight file or a tensor.
    #[error(transparent)]
    Ops(#[from] vd_tensor_ops::Error),
    /// An error of the device or the optimiser.
    #[error(transparent)]
    Device(#[from] vd_torch::Error),
    /// An error of libtorch.
    #[error("libtorch: {}", vd_torch::brief(.0))]
    Torch(#[from] tch::TchError),
}

impl Error {
    pub(crate) fn config(
        key: impl Into<Cow<'static, str>>,
        expected: impl Into<String>,
        got: impl ToString,
    ) -> Self {
        Error::Config { key: key.into(), expected: expected.into(), got: got.to_string() }
    }

    /// For `map_err`: an I/O error concerning `path`.
    pub(crate) fn io(path: &Path) -> impl FnOnce(std::io::Error) -> Self + '_ {
        |source| Error::Io { path: path.to_path_buf(), source }
    }

    pub(crate) fn checkpoint(path: &Path, what: impl Into<String>) -> Self {
        Error::Checkpoint { path: path.to_path_buf(), what: what.into() }
    }
}

/// The config of the run that a checkpoint belongs to, which is `RUN/checkpoints/step-...`.
fn own_config(checkpoint: &Path) -> PathBuf {
    let run = checkpoint.parent().and_then(Path::parent);
    run.unwrap_or(Path::new("RUN")).join("config.toml")
}

/// The clips of a bad step.
fn began(batch: Option<&str>) -> String {
    batch.map_or_else(String::new, |batch| format!(" (its batch begins with {batch})"))
}

/// Recommends recomputation, the other way to save memory, while there is any left.
fn advice(recompute: usize, levels: usize) -> String {
    if recompute >= levels {
        return String::new();
    }
    format!(
        ", or raise train.recompute from {recompute} (at most {levels}): the activations of that many \
         levels are then recomputed instead of kept"
    )
}

/// The result of fallible functions of this crate.
pub type Result<T> = std::result::Result<T, Error>;
