//! Checks whether a run may resume from a checkpoint.

use std::collections::BTreeMap;

use toml::{Table, Value};

use crate::checkpoint::{Checkpoint, Machine};
use crate::{Error, Result, RunConfig};

/// The settings that may change at a resume: the length of the run; how often it saves, logs and
/// draws previews; how many checkpoints it keeps; its number of workers; its recomputation; whether
/// it replays graphs; and the location of its text encoder and of the encoder's cache, since a
/// moved encoder is the same. `train.out` is where the checkpoint was found, whatever its path is
/// now. Another device or number of threads gives a warning.
const FREE: [&str; 18] = [
    "data.workers",
    "text.encoder.cache",
    "text.encoder.path",
    "train.checkpoint_every",
    "train.device",
    "train.graphs",
    "train.keep_last",
    "train.log_every",
    "train.out",
    "train.preview_count",
    "train.preview_every",
    "train.preview_format",
    "train.preview_prompts",
    "train.preview_scale",
    "train.preview_steps",
    "train.recompute",
    "train.steps",
    "train.threads",
];

/// Refuses a config or an encoder that differs from those the run started with, and warns about
/// another machine.
pub(crate) fn check_resume(
    checkpoint: &Checkpoint,
    now: &RunConfig,
    encoder: Option<&str>,
    machine: &Machine,
) -> Result<()> {
    check_config(checkpoint, now)?;
    checkpoint.check_encoder(encoder)?;
    if let Some(state) = &checkpoint.state {
        warn_of_machine(&state.machine, machine);
    }
    Ok(())
}

/// Compares the configs key by key.
fn check_config(checkpoint: &Checkpoint, now: &RunConfig) -> Result<()> {
    let then = leaves(&checkpoint.config.to_toml()?)?;
    let now = leaves(&now.to_toml()?)?;
    let keys = then.keys().chain(now.keys().filter(|key| !then.contains_key(*key)));
    let shown = |value: Option<&Value>| value.map_or("nothing".to_owned(), Value::to_string);
    let mut differences: Vec<_> = keys
        .filter(|key| !FREE.contains(&key.as_str()) && then.get(*key) != now.get(*key))
        .map(|key| {
            let (then, now) = (shown(then.get(key)), shown(now.get(key)));
            format!("{key}: {then} in the checkpoint, {now} now")
        })
        .collect();
    differences.sort();
    if differences.is_empty() {
        return Ok(());
    }
    Err(Error::ResumeDiffers { checkpoint: checkpoint.dir.clone(), differences })
}

/// Warns if the bytes of the resumed run may differ from those of an uninterrupted one.
fn warn_of_machine(then: &Machine, now: &Machine) {
    let differences = now.differences(then);
    if !differences.is_empty() {
        tracing::warn!(
            "resuming under different conditions: the last bits may differ from those of an \
             uninterrupted run: {}",
            differences.join("; ")
        );
    }
}

/// Every value with its key, `section.key`.
fn leaves(text: &str) -> Result<BTreeMap<String, Value>> {
    let table: Table = toml::from_str(text)
        .map_err(|e| Error::Parse { path: "the config".into(), message: e.to_string() })?;
    let mut leaves = BTreeMap::new();
    collect("", table, &mut leaves);
    Ok(leaves)
}

fn collect(prefix: &str, table: Table, into: &mut BTreeMap<String, Value>) {
    for (key, value) in table {
        let key = if prefix.is_empty() { key } else { format!("{prefix}.{key}") };
        match value {
            Value::Table(below) => collect(&key, below, into),
            value => {
                into.insert(key, value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_text_encoder_that_was_moved_or_given_a_cache_is_the_same() {
        let text = |encoder: &str| {
            format!(
                "[model]\n[diffusion]\n[text]\nencoder = {{ kind = \"pretrained\", {encoder} }}\n\
                 [data]\nsource = {{ kind = \"fireworks\" }}\n[train]\nout = \"runs/x\"\n"
            )
        };
        let config = toml::from_str(&text("path = \"models/one\"")).unwrap();
        let checkpoint =
            Checkpoint { dir: "runs/x/checkpoints/step-00000004".into(), config, state: None };
        let check = |encoder| check_config(&checkpoint, &toml::from_str(&text(encoder)).unwrap());
        check("path = \"models/one\"").unwrap();
        check("path = \"other/place\", cache = \"texts\"").unwrap();
        let error = check("path = \"models/one\", pooling = \"cls\"").unwrap_err().to_string();
        assert!(error.contains("text.encoder.pooling: \"mean\" in the checkpoint"), "{error}");
        assert!(error.contains("`vd train runs/x/config.toml --resume` resumes"), "{error}");
    }
}
