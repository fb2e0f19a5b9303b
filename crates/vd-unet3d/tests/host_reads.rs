//! Operations that a forward or backward pass on a device must avoid, since they cannot be
//! recorded: reading a value on the host, which synchronises with the device, or copying between
//! them. Each place in the sources that looks like one is listed here, with the reason why
//! recordings do not include it.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use vd_unet3d::ops::torch::testing::folder;

/// Operations that read or copy.
const WORDS: [&str; 10] = [
    "int64_value",
    "double_value",
    "Vec::try_from",
    "Vec::<",
    "copy_data",
    "from_slice(",
    "to_device(",
    "there(",
    "nonzero(",
    "masked_select(",
];

/// The layers, the GPU side of the kernels, and the network.
const SOURCES: [&str; 4] = [
    "../vd-tensor-ops/src/frame_mask.rs",
    "../vd-tensor-ops/src/layers",
    "../vd-tensor-ops/src/kernels/cuda",
    "src",
];

/// File, number of occurrences, and why recordings do not include them.
const KNOWN: [(&str, usize, &str); 8] = [
    ("frame_mask.rs", 1, "a focus mask, which is on the device by then"),
    ("layers/dropout.rs", 2, "dropout is not recorded"),
    ("cuda/dropout.rs", 1, "dropout is not recorded"),
    ("layers/indices.rs", 2, "done by the first evaluation, which is not recorded"),
    ("layers/temporal_conv.rs", 1, "for the kernels of the CPU"),
    ("src/signals.rs", 2, "checks, for values on the CPU"),
    ("src/text.rs", 2, "checks, for values on the CPU"),
    ("unet/question.rs", 1, "what brings a focus mask to the device, before"),
];

fn files(at: &Path, into: &mut Vec<PathBuf>) {
    if at.is_dir() {
        fs::read_dir(at).unwrap().for_each(|entry| files(&entry.unwrap().path(), into));
    } else if at.extension().is_some_and(|end| end == "rs") {
        into.push(at.to_path_buf());
    }
}

#[test]
fn a_forward_reads_nothing_on_the_host_and_copies_nothing_from_it() {
    let mut all = Vec::new();
    SOURCES.iter().for_each(|at| files(&folder(env!("CARGO_MANIFEST_DIR")).join(at), &mut all));
    assert!(all.len() > 40, "{}", all.len());
    let mut found = BTreeMap::new();
    for file in all {
        let name = file.to_string_lossy().replace('\\', "/");
        if name.ends_with("tests.rs") {
            continue;
        }
        let text = fs::read_to_string(&file).unwrap();
        let code = text.split("#[cfg(test)]").next().unwrap();
        let lines = code.lines().map(str::trim_start).filter(|line| !line.starts_with("//"));
        let count = lines.flat_map(|line| WORDS.map(|word| line.matches(word).count())).sum();
        if count > 0_usize {
            found.insert(name, count);
        }
    }
    for (end, times, why) in KNOWN {
        let name = found.keys().find(|name| name.ends_with(end)).cloned();
        let count = name.and_then(|name| found.remove(&name));
        assert_eq!(count, Some(times), "{end} ({why})");
    }
    assert!(found.is_empty(), "not known to stay out of recordings: {found:?}");
}
