//! Self-contained checkpoint directories: config, weights, optimiser and state.

mod config;
mod network;
mod save;
mod state;
mod steps;

use std::path::{Path, PathBuf};

pub use config::{CheckpointConfig, Origin};
pub use network::{ASSUMED_SHAPE, Geometry, LoadedNetwork, WeightKind};
pub use save::write_imported;
pub use state::{Machine, State};

pub(crate) use save::{Parts, save};
pub(crate) use steps::{Use, clean, newest, newest_unwarned, prune};

use crate::{Error, Result};

const CONFIG: &str = "config.toml";
const OPTIMIZER: &str = "optimizer.safetensors";
const STATE: &str = "state.json";
/// Exists only if the config has an uncertainty.
const UNCERTAINTY: &str = "uncertainty.safetensors";
/// The folder of a run's checkpoints.
const CHECKPOINTS: &str = "checkpoints";

/// A checkpoint on disk.
#[derive(Debug)]
#[non_exhaustive]
pub struct Checkpoint {
    /// Its directory.
    pub dir: PathBuf,
    /// Its config.
    pub config: CheckpointConfig,
    /// The state for resuming, if a run wrote it.
    pub state: Option<State>,
}

impl Checkpoint {
    /// Opens a checkpoint's directory, or a run's (or its `checkpoints`), for its newest checkpoint.
    ///
    /// The config and the weights suffice: the optimiser and the state may be missing.
    ///
    /// # Errors
    /// A path that is neither; files that are missing or damaged.
    pub fn open(path: &Path) -> Result<Checkpoint> {
        if path.is_file() {
            let what = "is a file; expected the directory of a checkpoint or of a run";
            return Err(Error::checkpoint(path, what));
        }
        if !path.is_dir() {
            return Err(Error::checkpoint(path, "there is no such directory"));
        }
        if WeightKind::ALL.iter().any(|kind| path.join(kind.file()).exists()) {
            return Checkpoint::read(path);
        }
        let run = match path.parent() {
            Some(run) if path.ends_with(CHECKPOINTS) => run,
            _ => path,
        };
        newest(run, Use::Sample)?.ok_or_else(|| Error::checkpoint(path, missing(run)))
    }

    /// Reads the checkpoint in `dir`, except its weights.
    fn read(dir: &Path) -> Result<Checkpoint> {
        let config = dir.join(CONFIG);
        if !config.exists() {
            return Err(Error::checkpoint(dir, "expected a config.toml next to the weights"));
        }
        let state = dir.join(STATE);
        Ok(Checkpoint {
            dir: dir.to_path_buf(),
            config: CheckpointConfig::read(&config)?,
            state: if state.exists() { Some(State::read(&state)?) } else { None },
        })
    }

    /// The number of steps that the weights were trained for, if known.
    pub fn step(&self) -> Option<u64> {
        let origin = || self.config.origin.as_ref().and_then(|origin| origin.step);
        self.state.as_ref().map(|state| state.step).or_else(origin)
    }
}

/// Why nothing can be read from a directory without checkpoints.
fn missing(run: &Path) -> String {
    let config = CheckpointConfig::read(&run.join(CONFIG)).ok();
    match config.and_then(|config| config.train) {
        Some(train) => {
            let first = match train.checkpoint_every {
                0 => train.steps,
                every => every.min(train.steps),
            };
            format!("this run has saved nothing yet; its first checkpoint comes at step {first}")
        }
        None => "holds no checkpoint: expected config.toml with model.safetensors or \
                 ema.safetensors, or checkpoints/step-..."
            .to_owned(),
    }
}
