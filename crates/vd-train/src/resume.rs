//! Whether a run may go on from a checkpoint.

use std::collections::BTreeMap;

use toml::{Table, Value};

use crate::checkpoint::{Checkpoint, Machine};
use crate::{Error, Result, RunConfig};

/// What may change at a resume: how long the run is, how often it saves, logs and shows itself, how many
/// checkpoints it keeps, how many workers read its data, how much it recomputes, whether it replays
/// graphs, and where its text encoder lies and keeps its cache: one that was moved is the same.
/// `train.out` is where the checkpoint was found, whatever its path is called now. Another device or
/// number of threads gives a warning.
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

/// Refuses another config than the one that a run began with, or another encoder, and warns of another
/// machine.
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

/// Key by key.
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

/// Says where the bytes of a resumed run may come to differ from those of an uninterrupted one.
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
        let checkpoint = Checkpoint { dir: "runs/x".into(), config, state: None };
        let check = |encoder| check_config(&checkpoint, &toml::from_str(&text(encoder)).unwrap());
        check("path = \"models/one\"").unwrap();
        check("path = \"other/place\", cache = \"texts\"").unwrap();
        let error = check("path = \"models/one\", pooling = \"cls\"").unwrap_err().to_string();
        assert!(error.contains("text.encoder.pooling: \"mean\" in the checkpoint"), "{error}");
    }
}
