//! Why a run did not start, or stopped.

use std::borrow::Cow;
use std::path::{Path, PathBuf};

/// Errors of this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A config file that is not TOML, or has keys or values that a run does not know.
    #[error("{}: {message}", path.display())]
    Parse {
        /// Which file.
        path: PathBuf,
        /// What is wrong, where, and what is expected.
        message: String,
    },
    /// A setting given beside the config file.
    #[error("--set {text}: {message}")]
    Override {
        /// The setting as it was given.
        text: String,
        /// What is wrong with it.
        message: String,
    },
    /// A setting out of its range, or at odds with another.
    #[error("{key}: expected {expected}, got {got}")]
    Config {
        /// The setting, as it is written in the config.
        key: Cow<'static, str>,
        /// What is allowed.
        expected: String,
        /// What was given.
        got: String,
    },
    /// A file or folder that the operating system refuses.
    #[error("{}: {source}", path.display())]
    Io {
        /// Which file or folder.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// A checkpoint that is missing or not whole.
    #[error("{}: {what}", path.display())]
    Checkpoint {
        /// Where it was looked for.
        path: PathBuf,
        /// What is wrong, expected and got.
        what: String,
    },
    /// A new run where an older one has left its checkpoints.
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
    /// A resumed run whose config is not the one it began with.
    #[error(
        "{}: cannot be resumed with a different config:\n  {}\nrestore these settings, or start a new run in another train.out",
        checkpoint.display(),
        differences.join("\n  ")
    )]
    ResumeDiffers {
        /// The checkpoint.
        checkpoint: PathBuf,
        /// Each key with both values.
        differences: Vec<String>,
    },
    /// A text encoder that is not the one of the training, though it may be of the same shape.
    #[error(
        "{}: the text encoder is not the one that the model was trained with: expected {expected} (the hash of its files and kind), got {got}; give the original one: text.encoder.path in a run's config, --encoder DIR of `vd sample`",
        checkpoint.display()
    )]
    OtherEncoder {
        /// The checkpoint.
        checkpoint: PathBuf,
        /// The identity of the encoder that it was trained with.
        expected: String,
        /// That of the encoder that was found.
        got: String,
    },
    /// Two runs in one folder.
    #[error("{}: another process is training into this folder", out.display())]
    Locked {
        /// The run's folder.
        out: PathBuf,
    },
    /// A parameter, a loss or a gradient that is no number.
    #[error(
        "step {step}: {tensor} is not finite; start a new run in another train.out with a lower train.lr, a longer train.warmup or a smaller train.clip{}",
        began(batch.as_deref())
    )]
    NotFinite {
        /// The step, counted from 1, that was given up.
        step: u64,
        /// The first bad tensor: a parameter by its name, else the loss, else a gradient by its name.
        tensor: String,
        /// Where the batch of that step begins, in words, if it is known.
        batch: Option<String>,
    },
    /// Memory that runs out in the midst of a step.
    #[error(
        "step {step}: {device} is out of memory with train.batch = {batch} clips of {clip} ({said}); lower train.batch and raise train.accumulate to compensate{}",
        advice(*recompute, *levels)
    )]
    OutOfMemory {
        /// The step, counted from 1, that was given up.
        step: u64,
        /// Whose memory.
        device: String,
        /// Clips in a micro-batch.
        batch: usize,
        /// What a clip is, in words.
        clip: String,
        /// Levels that compute their activations again already.
        recompute: usize,
        /// Levels that there are.
        levels: usize,
        /// What libtorch said.
        said: String,
    },
    /// A step in which something panicked: an operator that libtorch refused, or a kernel that a GPU did.
    #[error("step {step} failed: {said}")]
    Step {
        /// The step, counted from 1, that was given up.
        step: u64,
        /// The message.
        said: String,
    },
    /// The data refused something.
    #[error(transparent)]
    Data(#[from] vd_data::Error),
    /// The encoder, or the call that draws previews, refused something.
    #[error(transparent)]
    Text(#[from] vd_text_cond::Error),
    /// The diffusion process refused something.
    #[error(transparent)]
    Diffusion(#[from] vd_diffusion::Error),
    /// The network refused something.
    #[error(transparent)]
    Network(#[from] vd_unet3d::Error),
    /// A weight file or a tensor was refused.
    #[error(transparent)]
    Ops(#[from] vd_tensor_ops::Error),
    /// The device or the optimiser was refused.
    #[error(transparent)]
    Device(#[from] vd_torch::Error),
    /// libtorch refused the operation.
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

    /// For `map_err`: an error of the operating system about `path`.
    pub(crate) fn io(path: &Path) -> impl FnOnce(std::io::Error) -> Self + '_ {
        |source| Error::Io { path: path.to_path_buf(), source }
    }

    pub(crate) fn checkpoint(path: &Path, what: impl Into<String>) -> Self {
        Error::Checkpoint { path: path.to_path_buf(), what: what.into() }
    }
}

/// Which clips a bad step had.
fn began(batch: Option<&str>) -> String {
    batch.map_or_else(String::new, |batch| format!(" (its batch begins with {batch})"))
}

/// The other way to need less memory, while there is one.
fn advice(recompute: usize, levels: usize) -> String {
    if recompute >= levels {
        return String::new();
    }
    format!(
        ", or raise train.recompute from {recompute} (at most {levels}): the activations of that many \
         levels are then recomputed instead of kept"
    )
}

/// Result of this crate.
pub type Result<T> = std::result::Result<T, Error>;
