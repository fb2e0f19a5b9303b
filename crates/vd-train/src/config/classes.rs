//! Completes class names that a config leaves out.

use std::collections::{BTreeMap, BTreeSet};

use vd_data::{DataConfig, Folder, Source};
use vd_unet3d::SignalConfig;

use super::signals::{SignalFrom, SignalSource, check_data};
use crate::checkpoint::{Use, newest_unwarned};
use crate::{Error, Result, RunConfig};

/// Fills in missing class names of signals: those of the run that already exists in `train.out` and
/// would be resumed, else those found in the data, sorted.
pub(super) fn complete_classes(config: &mut RunConfig) -> Result<()> {
    let left_out =
        |kind: &SignalConfig| matches!(kind, SignalConfig::Class { classes } if classes.is_empty());
    if !config.model.signals.values().any(left_out) {
        return Ok(());
    }
    // A class is identified by its index, so an added or removed folder must not shift classes that
    // are already learned.
    let before =
        newest_unwarned(&config.train.out, Use::Resume)?.map(|found| found.config.model.signals);
    let mut folders: Option<Vec<Folder>> = None;
    for (name, signal) in &mut config.model.signals {
        let SignalConfig::Class { classes } = signal else { continue };
        let Some(SignalSource { from, .. }) = config.signals.get(name) else { continue };
        if !classes.is_empty() {
            continue;
        }
        check_data(name, from, &config.data)?;
        if let Some(SignalConfig::Class { classes: learned }) =
            before.as_ref().and_then(|signals| signals.get(name))
        {
            classes.clone_from(learned);
            continue;
        }
        let folders = match &mut folders {
            Some(folders) => folders,
            none => none.insert(listed(&config.data)?),
        };
        let Some(own) = folders.first() else { continue };
        *classes = found(folders, from)?.into_iter().collect();
        if classes.is_empty() {
            let expected = "a class for at least one clip";
            let got = format!("none in {}{}", own.root().display(), columns(own, from));
            return Err(Error::config(format!("signals.{name}.from"), expected, got));
        }
    }
    Ok(())
}

/// The folder of the clips, and that of the images beside them.
fn listed(data: &DataConfig) -> Result<Vec<Folder>> {
    let mut folders = Vec::new();
    folders.extend(data.list()?);
    let images = data.images.as_ref().and_then(|images| images.source.as_ref());
    match images {
        Some(Source::Folder { path, captions }) => {
            folders.push(Folder::list_images(path, captions)?);
        }
        other => folders.extend(other.map(Source::list).transpose()?.flatten()),
    }
    Ok(folders)
}

/// The distinct classes in some folders.
fn found(folders: &[Folder], from: &SignalFrom) -> Result<BTreeSet<String>> {
    let mut classes = BTreeSet::new();
    for entry in folders.iter().flat_map(Folder::entries) {
        let class = match from.column() {
            Some(column) => entry.row.as_ref().map(|row| row.name(column)).transpose()?.flatten(),
            None => entry.folder().map(str::to_owned),
        };
        classes.extend(class);
    }
    Ok(classes)
}

/// The columns of a table, as a hint in error messages; empty for other sources.
pub(crate) fn columns(folder: &Folder, from: &SignalFrom) -> String {
    let Some(wanted) = from.column() else { return String::new() };
    let mut count = BTreeMap::<&str, usize>::new();
    let rows = folder.entries().iter().filter_map(|entry| entry.row.as_ref());
    for name in rows.flat_map(|row| row.columns.keys()) {
        *count.entry(name).or_default() += 1;
    }
    let listed: Vec<_> = count.iter().map(|(name, n)| format!("{name} ({n} clips)")).collect();
    let listed = if listed.is_empty() { "none".to_owned() } else { listed.join(", ") };
    format!(", column `{wanted}`; the columns are: {listed}")
}
