//! The `[train]` section of a run.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use vd_data::{ClipFormat, Ffmpeg};
use vd_tensor_ops::kernels::Precision;
use vd_torch::{Autocast, DeviceChoice};

use crate::ema::EmaDecay;
use crate::lr::{LearningRate, LrSchedule};
use crate::{Error, Result};

/// The maximum number of clips, micro-batches, sampling steps and cosines: far larger values would
/// abort the process.
const MOST: usize = 65_536;
/// The maximum number of clips in a preview, which are placed side by side.
const MOST_CLIPS: usize = 256;
/// The maximum number of threads.
const MOST_THREADS: usize = 1024;

/// The `[train]` section of a run; everything except `out` has a default.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TrainConfig {
    /// The run's folder; a relative path starts at the current directory.
    pub out: PathBuf,
    /// Steps of the whole run, including those before a resume.
    pub steps: u64,
    /// Clips per micro-batch.
    pub batch: usize,
    /// Micro-batches per step: a step uses `batch * accumulate` clips.
    pub accumulate: usize,
    /// The learning rate after the warm-up.
    pub lr: f64,
    /// The schedule of the learning rate after the warm-up.
    pub lr_schedule: LrSchedule,
    /// Steps over which the learning rate rises; 0 is no warm-up.
    pub warmup: u64,
    /// AdamW's decoupled weight decay.
    pub weight_decay: f64,
    /// AdamW's decay rates of the first and second moment.
    pub betas: [f64; 2],
    /// The maximum global norm of the gradients; 0 disables clipping.
    pub clip: f64,
    /// The decay of the moving average of the weights.
    pub ema: f64,
    /// Whether that decay starts lower: min(ema, (1 + step) / (10 + step)).
    pub ema_warmup: bool,
    /// Steps between checkpoints; 0 saves only the last step.
    pub checkpoint_every: u64,
    /// How many checkpoints are kept; the newest ones.
    pub keep_last: usize,
    /// Steps between previews, which the last step has too; 0 disables previews.
    pub preview_every: u64,
    /// Clips in a preview.
    pub preview_count: usize,
    /// Sampling steps of a preview.
    pub preview_steps: usize,
    /// Guidance scale of a preview; 1 disables guidance.
    pub preview_scale: f64,
    /// Prompts of a preview, one per clip in turn; if empty, captions of the data.
    pub preview_prompts: Vec<String>,
    /// The format of previews, `gif`, `webp` or `mp4`; GIF is omitted when the config is written.
    #[serde(skip_serializing_if = "is_gif")]
    pub preview_format: ClipFormat,
    /// The seed of every random draw of the run.
    pub seed: u64,
    /// The probability that a clip's frames are trained as independent images; 0 if there are
    /// images beside the clips (`data.images`).
    pub focus_present: f64,
    /// Whether a network that couples frames regardless of the mask, for instance by a group norm,
    /// may be trained with images beside the clips (`data.images`), which are then not independent.
    /// `false` refuses it, and is omitted when the config is written.
    #[serde(skip_serializing_if = "is_false")]
    pub coupled_images: bool,
    /// The number of cosines of the log-SNR in a learned [`Uncertainty`](vd_diffusion::Uncertainty)
    /// of the loss, which gives all noise levels equal weight in the end; 0 disables it, and is
    /// omitted when the config is written.
    ///
    /// It is updated with the network, at the same learning rate, but without weight decay,
    /// clipping and moving average: with n cosines, a step moves the logarithm that it learns by at
    /// most about sqrt(2 n) times the learning rate. Metrics show the loss without it, and the
    /// gradient norm of the network alone.
    #[serde(skip_serializing_if = "is_zero")]
    pub uncertainty: usize,
    /// The device to compute on.
    pub device: DeviceChoice,
    /// Threads of libtorch's operators; 0 leaves the number to libtorch.
    pub threads: usize,
    /// The precision of the network on a CPU.
    pub precision: Precision,
    /// The dtype of the network's matrix products and convolutions: `off` (that of the weights,
    /// f32), `bf16` or `fp16`. Weights, gradients, optimiser and average stay in f32. With `fp16`
    /// the loss is scaled so that its gradients stay in range, and a step whose gradients overflow
    /// is skipped. On a CPU libtorch does the casting, without the kernels. `off` is omitted when
    /// the config is written.
    #[serde(skip_serializing_if = "Autocast::is_off")]
    pub autocast: Autocast,
    /// Whether on CUDA the network's forward and backward are recorded once and replayed as a whole
    /// ([`UNet3d::set_graphs`](vd_unet3d::UNet3d::set_graphs)); a network with dropout is never
    /// recorded. `true` is omitted when the config is written.
    #[serde(skip_serializing_if = "is_true")]
    pub graphs: bool,
    /// The number of levels, counted from the outermost one, whose activations are recomputed in
    /// the backward instead of kept. This saves memory, costs time, and gives the same bytes. The
    /// network's number of levels keeps none; 0 keeps all, and is omitted when the config is
    /// written.
    #[serde(skip_serializing_if = "is_zero")]
    pub recompute: usize,
    /// Steps between lines of metrics.jsonl; the last step always has one.
    pub log_every: u64,
}

impl Default for TrainConfig {
    fn default() -> Self {
        TrainConfig {
            out: PathBuf::new(),
            steps: 1000,
            batch: 8,
            accumulate: 1,
            lr: 2e-4,
            lr_schedule: LrSchedule::default(),
            warmup: 0,
            weight_decay: 0.0,
            betas: [0.9, 0.999],
            clip: 1.0,
            ema: 0.995,
            ema_warmup: true,
            checkpoint_every: 200,
            keep_last: 3,
            preview_every: 500,
            preview_count: 4,
            preview_steps: 32,
            preview_scale: 1.0,
            preview_prompts: Vec::new(),
            preview_format: ClipFormat::Gif,
            seed: 0,
            focus_present: 0.0,
            coupled_images: false,
            uncertainty: 0,
            device: DeviceChoice::default(),
            threads: 0,
            precision: Precision::default(),
            autocast: Autocast::default(),
            graphs: true,
            recompute: 0,
            log_every: 1,
        }
    }
}

impl TrainConfig {
    /// The learning rate as a function of the step.
    pub fn learning_rate(&self) -> LearningRate {
        LearningRate { peak: self.lr, schedule: self.lr_schedule, warmup: self.warmup }
    }

    /// The decay of the moving average as a function of the step.
    pub fn ema_decay(&self) -> EmaDecay {
        EmaDecay { decay: self.ema, warmup: self.ema_warmup }
    }

    /// Checks every number against its range.
    ///
    /// # Errors
    /// Names the first one that is outside.
    pub fn validate(&self) -> Result<()> {
        if self.out.as_os_str().is_empty() {
            return Err(Error::config("train.out", "a folder for the run", "nothing"));
        }
        self.check_counts()?;
        self.check_numbers()?;
        self.check_lr_steps()
    }

    fn check_counts(&self) -> Result<()> {
        let counts = [
            ("train.steps", self.steps),
            ("train.batch", self.batch as u64),
            ("train.accumulate", self.accumulate as u64),
            ("train.keep_last", self.keep_last as u64),
            ("train.log_every", self.log_every),
        ];
        if let Some((key, n)) = counts.into_iter().find(|(_, n)| *n < 1) {
            return Err(Error::config(key, "at least 1", n));
        }
        let most = [
            ("train.batch", self.batch, MOST),
            ("train.accumulate", self.accumulate, MOST),
            ("train.preview_count", self.preview_count, MOST_CLIPS),
            ("train.preview_steps", self.preview_steps, MOST),
            ("train.threads", self.threads, MOST_THREADS),
            ("train.uncertainty", self.uncertainty, MOST),
        ];
        if let Some((key, n, most)) = most.into_iter().find(|(_, n, most)| n > most) {
            return Err(Error::config(key, format!("at most {most}"), n));
        }
        if self.preview_every > 0 && (self.preview_count < 1 || self.preview_steps < 1) {
            let got = format!("{} clips in {} steps", self.preview_count, self.preview_steps);
            let expected = "at least 1 clip and 1 step, or train.preview_every = 0";
            return Err(Error::config("train.preview_count", expected, got));
        }
        if !matches!(self.preview_format, ClipFormat::Gif | ClipFormat::WebP | ClipFormat::Mp4) {
            let got = self.preview_format.name();
            return Err(Error::config("train.preview_format", "gif, webp or mp4", got));
        }
        Ok(())
    }

    /// Refuses previews that cannot be written on this machine.
    pub(crate) fn check_programs(&self) -> Result<()> {
        match (self.preview_format, Ffmpeg::find()) {
            (ClipFormat::Mp4, Err(why)) if self.preview_every > 0 => {
                let expected = format!("gif or webp on this machine: {why}");
                Err(Error::config("train.preview_format", expected, "mp4"))
            }
            _ => Ok(()),
        }
    }

    fn check_numbers(&self) -> Result<()> {
        let finite = |x: f64| x.is_finite() && x >= 0.0;
        let share = |x: f64| (0.0..=1.0).contains(&x);
        let below_one = |x: f64| (0.0..1.0).contains(&x);
        let rules: [(_, _, _, f64); 8] = [
            ("train.lr", "a number above 0", finite(self.lr) && self.lr > 0.0, self.lr),
            ("train.weight_decay", "a number from 0", finite(self.weight_decay), self.weight_decay),
            ("train.betas", "two numbers in [0, 1)", below_one(self.betas[0]), self.betas[0]),
            ("train.betas", "two numbers in [0, 1)", below_one(self.betas[1]), self.betas[1]),
            ("train.clip", "a norm, or 0 for no clipping", finite(self.clip), self.clip),
            ("train.ema", "a decay in [0, 1)", below_one(self.ema), self.ema),
            (
                "train.focus_present",
                "a probability in [0, 1]",
                share(self.focus_present),
                self.focus_present,
            ),
            (
                "train.preview_scale",
                "a finite number",
                self.preview_scale.is_finite(),
                self.preview_scale,
            ),
        ];
        match rules.into_iter().find(|(_, _, fits, _)| !fits) {
            Some((key, expected, _, got)) => Err(Error::config(key, expected, got)),
            None => Ok(()),
        }
    }

    fn check_lr_steps(&self) -> Result<()> {
        match self.lr_schedule.lr_steps() {
            Some(n) if n <= self.warmup => {
                let expected = format!("more than train.warmup = {}", self.warmup);
                Err(Error::config("train.lr_schedule.lr_steps", expected, n))
            }
            _ => Ok(()),
        }
    }
}

/// By reference, as serde requires.
fn is_gif(format: &ClipFormat) -> bool {
    *format == ClipFormat::Gif
}

/// Whether a setting is off; by reference, as serde requires.
fn is_false(on: &bool) -> bool {
    !on
}

/// Whether a setting is on; by reference, as serde requires.
fn is_true(on: &bool) -> bool {
    *on
}

/// Whether a setting is off; by reference, as serde requires.
fn is_zero(n: &usize) -> bool {
    *n == 0
}
