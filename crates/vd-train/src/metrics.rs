//! `metrics.jsonl`: one line for every logged step.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};
use vd_diffusion::{Bin, Loss};
use vd_tensor_ops::write_atomically;

use crate::{Error, Result};

/// The numbers of one step.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct StepReport {
    /// The number of the step, counted from 1.
    pub step: u64,
    /// The mean loss of its micro-batches, without the effect of a learned uncertainty.
    pub loss: f64,
    /// The mean loss of the clips (or frames, if each has its own time) in each of eight bins of
    /// the log-SNR, from the noisiest to the cleanest, with edges at -6, -4, -2, 0, 2, 4 and 6;
    /// `None` for an empty bin.
    #[serde(default)]
    pub loss_by_log_snr: [Option<f64>; 8],
    /// Its learning rate.
    pub lr: f64,
    /// The norm of the network's gradients before clipping; 0 for a skipped step.
    pub grad_norm: f64,
    /// The factor on the loss for the backward pass; only with fp16.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loss_scale: Option<f64>,
    /// Whether it changed no weight, because its gradients overflowed fp16; written only if true.
    #[serde(default, skip_serializing_if = "is_false")]
    pub skipped: bool,
    /// Its duration, loading included.
    pub seconds: f64,
    /// Clips per second.
    pub samples_per_second: f64,
    /// Files of the data set that could not be read up to now.
    pub skipped_files: usize,
    /// The peak memory of tensors on a CUDA device up to now, in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peak_memory: Option<u64>,
}

/// By reference, as serde requires.
fn is_false(yes: &bool) -> bool {
    !yes
}

/// The edges of [`StepReport::loss_by_log_snr`]: the same for every schedule, so that runs can be
/// compared.
const EDGES: [f64; 9] = [f64::NEG_INFINITY, -6.0, -4.0, -2.0, 0.0, 2.0, 4.0, 6.0, f64::INFINITY];

/// The losses of a step by noise level.
#[derive(Debug, Default)]
pub(crate) struct LevelLosses {
    pub(crate) log_snr: Vec<f64>,
    /// The number of values behind each mean.
    pub(crate) counts: Vec<f64>,
    /// The mean loss of each level, f64, on the device: one tensor per micro-batch.
    pub(crate) means: Vec<Tensor>,
}

impl LevelLosses {
    /// Adds the losses of a micro-batch.
    pub(crate) fn push(&mut self, loss: &Loss) -> Result<()> {
        let flat = |x: &Tensor| x.f_reshape([-1]);
        self.log_snr.extend(Vec::<f64>::try_from(&flat(&loss.log_snr)?)?);
        self.counts.extend(Vec::<f64>::try_from(&flat(&loss.counts)?)?);
        self.means.push(flat(&loss.per_level.f_to_kind(Kind::Double)?)?);
        Ok(())
    }

    /// Bins the means, which were read from the device, as in [`StepReport::loss_by_log_snr`].
    pub(crate) fn binned(&self, means: &[f64]) -> Result<[Option<f64>; 8]> {
        let bins = Bin::of(&self.log_snr, means, &self.counts, &EDGES)?;
        let mut out = [None; 8];
        for (mean, bin) in out.iter_mut().zip(bins) {
            *mean = (bin.count > 0).then_some(bin.mean);
        }
        Ok(out)
    }
}

/// The open file.
#[derive(Debug)]
pub(crate) struct Metrics {
    path: PathBuf,
    file: File,
}

/// Makes room for a new run: an older file becomes `metrics.jsonl.old`, replacing an existing one.
pub(crate) fn put_aside(path: &Path) -> Result<()> {
    if path.exists() {
        let old = path.with_extension("jsonl.old");
        std::fs::rename(path, &old).map_err(Error::io(path))?;
        tracing::info!("moved the metrics of an earlier run to {}", old.display());
    }
    Ok(())
}

impl Metrics {
    /// Opens the file; removes the lines of steps after `step` and an incomplete last line.
    pub(crate) fn open(path: &Path, step: u64) -> Result<Self> {
        let text = match std::fs::read(path) {
            Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
            Err(error) => return Err(Error::io(path)(error)),
        };
        let kept: String =
            text.split_inclusive('\n').take_while(|line| belongs(line, step)).collect();
        if kept != text || !path.exists() {
            write_atomically(path, kept.as_bytes())?;
        }
        let file = OpenOptions::new().append(true).open(path).map_err(Error::io(path))?;
        Ok(Metrics { path: path.to_path_buf(), file })
    }

    /// Appends one line, in one write.
    pub(crate) fn write(&mut self, report: &StepReport) -> Result<()> {
        let mut line = serde_json::to_string(report)
            .map_err(|e| Error::io(&self.path)(std::io::Error::other(e)))?;
        line.push('\n');
        self.file.write_all(line.as_bytes()).map_err(Error::io(&self.path))
    }

    /// Flushes the file to the disk.
    pub(crate) fn sync(&mut self) -> Result<()> {
        self.file.sync_data().map_err(Error::io(&self.path))
    }
}

/// Whether a line is complete and belongs to a step up to `step`.
fn belongs(line: &str, step: u64) -> bool {
    let whole = line.ends_with('\n');
    whole && serde_json::from_str::<StepReport>(line).is_ok_and(|report| report.step <= step)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn report(step: u64) -> StepReport {
        StepReport {
            step,
            loss: 0.5 / step as f64,
            loss_by_log_snr: [
                None,
                Some(0.1 * step as f64),
                None,
                Some(0.25),
                None,
                None,
                None,
                None,
            ],
            lr: 1e-3,
            grad_norm: 2.5,
            loss_scale: None,
            skipped: false,
            seconds: 0.25,
            samples_per_second: 32.0,
            skipped_files: 1,
            peak_memory: None,
        }
    }

    fn steps(path: &Path) -> Vec<u64> {
        let text = std::fs::read_to_string(path).unwrap();
        let line = |line: &str| serde_json::from_str::<StepReport>(line).unwrap();
        text.lines().map(|l| line(l).step).collect()
    }

    #[test]
    fn reopening_drops_the_lines_after_a_step_and_a_torn_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("metrics.jsonl");
        let mut metrics = Metrics::open(&path, 0).unwrap();
        for step in 1..=5 {
            metrics.write(&report(step)).unwrap();
        }
        metrics.sync().unwrap();
        metrics.file.write_all(b"{\"step\": 6, \"lo").unwrap();
        assert_eq!(steps_of(&Metrics::open(&path, 9).unwrap()), [1, 2, 3, 4, 5]);
        let mut metrics = Metrics::open(&path, 3).unwrap();
        metrics.write(&report(4)).unwrap();
        assert_eq!(steps(&path), [1, 2, 3, 4]);
    }

    #[test]
    fn lines_without_bins_are_lines() {
        let mut line = serde_json::to_value(report(2)).unwrap();
        line.as_object_mut().unwrap().remove("loss_by_log_snr");
        let read: StepReport = serde_json::from_value(line).unwrap();
        assert_eq!(read, StepReport { loss_by_log_snr: [None; 8], ..report(2) });
        assert!(belongs(&format!("{}\n", serde_json::to_string(&report(2)).unwrap()), 2));
    }

    #[test]
    fn bins_run_from_noise_to_clean() {
        let log_snr = vec![-20.0, 0.0, 1.9, 6.0, f64::NEG_INFINITY];
        let levels = LevelLosses { log_snr, counts: vec![1.0; 5], means: Vec::new() };
        let got = levels.binned(&[1.0, 2.0, 5.0, 3.0, 4.0]);
        let expected = [Some(2.5), None, None, None, Some(3.5), None, None, Some(3.0)];
        assert_eq!(got.unwrap(), expected);
    }

    #[test]
    fn a_new_run_puts_older_metrics_aside() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("metrics.jsonl");
        let old = dir.path().join("metrics.jsonl.old");
        put_aside(&path).unwrap();
        assert!(!old.exists());
        Metrics::open(&path, 0).unwrap().write(&report(1)).unwrap();
        put_aside(&path).unwrap();
        assert_eq!(steps(&old), [1]);
        assert!(!path.exists());
    }

    fn steps_of(metrics: &Metrics) -> Vec<u64> {
        steps(&metrics.path)
    }
}
