//! The `[train]` section of a run.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use vd_data::{ClipFormat, Ffmpeg};
use vd_tensor_ops::kernels::Precision;
use vd_torch::{Autocast, DeviceChoice};

use crate::ema::EmaDecay;
use crate::lr::{LearningRate, LrSchedule};
use crate::{Error, Result};

/// The most clips, micro-batches, sampling steps and cosines: far more would be refused by an abort.
const MOST: usize = 65_536;
/// The most clips in a preview, which are side by side.
const MOST_CLIPS: usize = 256;
/// The most threads.
const MOST_THREADS: usize = 1024;

/// The `[train]` section of a run; all of it but `out` has defaults.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TrainConfig {
    /// The run's folder; a relative path starts at the current directory.
    pub out: PathBuf,
    /// Steps of the whole run, those before a resume included.
    pub steps: u64,
    /// Clips in a micro-batch.
    pub batch: usize,
    /// Micro-batches in a step: it learns from `batch * accumulate` clips.
    pub accumulate: usize,
    /// The learning rate after the warm-up.
    pub lr: f64,
    /// How the learning rate goes on after the warm-up.
    pub lr_schedule: LrSchedule,
    /// Steps over which the learning rate rises.
    pub warmup: u64,
    /// AdamW's decoupled decay.
    pub weight_decay: f64,
    /// AdamW's decays of the first and second moment.
    pub betas: [f64; 2],
    /// The largest norm of all gradients together; 0 leaves them as they are.
    pub clip: f64,
    /// The decay of the moving average of the weights.
    pub ema: f64,
    /// Whether that decay starts lower: min(ema, (1 + step) / (10 + step)).
    pub ema_warmup: bool,
    /// Steps between checkpoints; 0 saves the last step only.
    pub checkpoint_every: u64,
    /// How many checkpoints are kept, the newest ones.
    pub keep_last: usize,
    /// Steps between previews, the last step included; 0 draws none.
    pub preview_every: u64,
    /// Clips in a preview.
    pub preview_count: usize,
    /// Sampling steps of a preview.
    pub preview_steps: usize,
    /// Guidance scale of a preview; 1 is none.
    pub preview_scale: f64,
    /// Prompts of a preview, clip after clip; where empty, captions of the data.
    pub preview_prompts: Vec<String>,
    /// The format of previews, `gif`, `webp` or `mp4`; GIF is left out where the config is written.
    #[serde(skip_serializing_if = "is_gif")]
    pub preview_format: ClipFormat,
    /// What every random draw of the run derives from.
    pub seed: u64,
    /// The probability that a clip's frames are trained as independent images; 0 where there are
    /// images beside the clips (`data.images`).
    pub focus_present: f64,
    /// Whether a network that couples frames whatever their mask says, as one with a group norm does,
    /// may be trained with images beside the clips (`data.images`), which are then not independent;
    /// `false` refuses it, and is left out where the config is written.
    #[serde(skip_serializing_if = "is_false")]
    pub coupled_images: bool,
    /// Cosines of the log-SNR of which a learned [`Uncertainty`](vd_diffusion::Uncertainty) of the
    /// loss is made, so that every noise level comes to weigh as much as any other; 0 is none, and
    /// is left out where the config is written.
    ///
    /// It is stepped as the network is, at the same learning rate, but without weight decay,
    /// clipping and moving average: with n cosines a step moves the logarithm that it learns by
    /// about sqrt(2 n) times the learning rate at most. Metrics have the loss without it, and the
    /// norm of the network's gradient alone.
    #[serde(skip_serializing_if = "is_zero")]
    pub uncertainty: usize,
    /// Where to compute.
    pub device: DeviceChoice,
    /// Threads of libtorch's operators; 0 leaves the number to libtorch.
    pub threads: usize,
    /// How exactly the network computes on a CPU.
    pub precision: Precision,
    /// What the network's products and convolutions compute in: `off` (the dtype of the weights, f32),
    /// `bf16` or `fp16`. Weights, gradients, optimiser and average stay in f32; with `fp16` the loss is
    /// scaled so that its gradients stay in range, and a step whose gradients leave it is skipped.
    /// On a CPU libtorch does it without the kernels. Off is left out where the config is written.
    #[serde(skip_serializing_if = "Autocast::is_off")]
    pub autocast: Autocast,
    /// Whether on CUDA the network's forward and backward are recorded once and replayed as a whole
    /// ([`UNet3d::set_graphs`](vd_unet3d::UNet3d::set_graphs)); a network with dropout never is. On is
    /// left out where the config is written.
    #[serde(skip_serializing_if = "is_true")]
    pub graphs: bool,
    /// Of how many levels, the outermost ones, activations are computed again in the backward
    /// instead of kept: less memory for more time, and the same bytes. As many as the network has
    /// keep none; 0 keeps all, and is left out where the config is written.
    #[serde(skip_serializing_if = "is_zero")]
    pub recompute: usize,
    /// Steps between lines of metrics.jsonl; the last step has one too.
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
    /// The learning rate over the steps.
    pub fn learning_rate(&self) -> LearningRate {
        LearningRate { peak: self.lr, schedule: self.lr_schedule, warmup: self.warmup }
    }

    /// The decay of the moving average over the steps.
    pub fn ema_decay(&self) -> EmaDecay {
        EmaDecay { decay: self.ema, warmup: self.ema_warmup }
    }

    /// Checks every number against its range.
    ///
    /// # Errors
    /// Names the first that is outside.
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

    /// Refuses previews that this machine cannot write.
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

/// By reference, as serde asks.
fn is_gif(format: &ClipFormat) -> bool {
    *format == ClipFormat::Gif
}

/// Whether a setting is off; by reference, as serde asks.
fn is_false(on: &bool) -> bool {
    !on
}

/// Whether a setting is on; by reference, as serde asks.
fn is_true(on: &bool) -> bool {
    *on
}

/// Whether a setting is off; by reference, as serde asks.
fn is_zero(n: &usize) -> bool {
    *n == 0
}
