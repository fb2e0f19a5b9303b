//! A training run: steps, checkpoints, previews and metrics.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use tch::Device;
use vd_data::Dataset;
use vd_tensor_ops::kernels::cpu::Isa;
use vd_tensor_ops::write_atomically;
use vd_torch::device_memory;

use crate::begin::{check_captions, check_room};
use crate::behind::Launched;
use crate::checkpoint::{Machine, Parts, State, Use, newest, prune, save};
use crate::clips::check_clips;
use crate::event::{Event, Resume, Summary};
use crate::folder::RunFolder;
use crate::metrics::{Metrics, StepReport, put_aside};
use crate::preview::write_preview;
use crate::resume::check_resume;
use crate::signals::check_signals;
use crate::step::Outcome;
use crate::trainer::Trainer;
use crate::uncertainty::Learned;
use crate::{Result, RunConfig, TrainConfig};

/// Trains a model as a config says, in the folder `train.out`.
///
/// `stop` is checked after each step: the run then saves its last step and returns. On a GPU the
/// host is one step ahead, and that step is the last one. A run that is stopped or killed and then
/// resumed writes, on the CPU, checkpoints with the same bytes as an uninterrupted run. A run that
/// ends with an error saves its last good step first.
///
/// # Errors
/// A config outside its ranges; checkpoints of another run in the folder; a resume with another
/// config or text encoder; data or files that cannot be read or written; a loss or gradient that is
/// not finite.
pub fn train(
    config: &RunConfig,
    resume: Resume,
    stop: &AtomicBool,
    on_event: &mut dyn FnMut(&Event<'_>),
) -> Result<Summary> {
    let config = config.clone().resolved()?;
    // Checked before the data is opened, which may take long.
    let device = check_start(&config.train, resume)?;
    let dataset = Dataset::open(&config.data)?;
    // Includes the statistics that were measured: they belong to the weights.
    let config = RunConfig { data: dataset.config().clone(), ..config };
    begin(&config, dataset, (device, resume), stop, on_event)
}

/// Like [`train`], on a data set that a program has opened, for instance one with its own generator
/// ([`Dataset::endless`]). The run's `[data]` is the data set's config; `config.data` is ignored.
///
/// # Errors
/// As [`train`].
pub fn train_on(
    config: &RunConfig,
    dataset: Dataset,
    resume: Resume,
    stop: &AtomicBool,
    on_event: &mut dyn FnMut(&Event<'_>),
) -> Result<Summary> {
    let config = RunConfig { data: dataset.config().clone(), ..config.clone() }.resolved()?;
    let device = check_start(&config.train, resume)?;
    begin(&config, dataset, (device, resume), stop, on_event)
}

/// Refuses a run that would soon fail, and applies settings that hold for the whole process.
fn check_start(train: &TrainConfig, resume: Resume) -> Result<Device> {
    check_room(&train.out, resume)?;
    train.check_programs()?;
    let device = train.device.resolve()?;
    Isa::named()?;
    if train.threads > 0 {
        vd_torch::set_threads(train.threads);
    }
    Ok(device)
}

fn begin(
    config: &RunConfig,
    dataset: Dataset,
    (device, resume): (Device, Resume),
    stop: &AtomicBool,
    on_event: &mut dyn FnMut(&Event<'_>),
) -> Result<Summary> {
    let out = &config.train.out;
    // Opened once: for a language model this reads its tokenizer and hashes its files.
    let encoder = config.text.as_ref().map(|text| text.encoder.build()).transpose()?;
    check_captions(config, &dataset, encoder.as_deref())?;
    check_signals(config, &dataset)?;
    let folder = RunFolder::open(out)?;
    check_room(out, resume)?;
    let from = newest(out, Use::Resume)?;
    let identity = match &encoder {
        Some(encoder) => encoder.identity()?,
        None => None,
    };
    let fps = check_clips(&dataset);
    let machine = Machine::here(device, config.train.precision, config.train.autocast);
    if let Some(checkpoint) = &from {
        check_resume(checkpoint, config, identity.as_deref(), &machine)?;
    }
    let mut trainer = Trainer::new(config, dataset, encoder, device, from.as_ref())?;
    trainer.fps = trainer.fps.or(fps);
    let text = config.to_toml()?;
    write_atomically(&folder.config(), text.as_bytes())?;
    if resume == Resume::No {
        put_aside(&folder.metrics())?;
    }
    let metrics = Metrics::open(&folder.metrics(), trainer.step)?;
    let checkpoint = from.map(|checkpoint| checkpoint.dir);
    let saved = trainer.step;
    let (behind, looked, last) = (VecDeque::new(), None, None);
    let run = Run {
        config,
        text,
        machine,
        identity,
        folder,
        metrics,
        trainer,
        behind,
        looked,
        last,
        checkpoint,
        saved,
    };
    run.go(stop, on_event)
}

struct Run<'a> {
    config: &'a RunConfig,
    /// The config as stored in its checkpoints.
    text: String,
    machine: Machine,
    /// The identity of its text encoder.
    identity: Option<String>,
    folder: RunFolder,
    metrics: Metrics,
    trainer: Trainer,
    /// Steps whose results have not been read yet, with their start times; the oldest first.
    behind: VecDeque<(Instant, Launched)>,
    /// When the last result was read.
    looked: Option<Instant>,
    /// The last report.
    last: Option<StepReport>,
    /// The newest checkpoint.
    checkpoint: Option<PathBuf>,
    /// The step of that checkpoint, or 0.
    saved: u64,
}

impl Run<'_> {
    fn go(mut self, stop: &AtomicBool, on_event: &mut dyn FnMut(&Event<'_>)) -> Result<Summary> {
        let steps = self.config.train.steps;
        let from_step = self.trainer.step;
        on_event(&Event::Started {
            step: from_step,
            steps,
            parameters: self.trainer.params.count(),
            device: self.trainer.device,
            threads: self.machine.threads,
        });
        let begun = Instant::now();
        let ended = self.steps(stop, on_event);
        // Steps still in flight came first.
        let ended = self.look(0, on_event).and(ended);
        if self.saved < self.trainer.step && self.trainer.sound {
            let saved = self.save(on_event);
            match &ended {
                Ok(()) => saved?,
                // The first error is the one to report.
                Err(_) => saved.unwrap_or_else(|error| {
                    tracing::warn!("step {} could not be saved: {error}", self.trainer.step);
                }),
            }
        }
        ended?;
        Ok(Summary {
            from_step,
            step: self.trainer.step,
            stopped: self.trainer.step < steps,
            checkpoint: self.checkpoint,
            last: self.last,
            seconds: begun.elapsed().as_secs_f64(),
        })
    }

    fn steps(&mut self, stop: &AtomicBool, on_event: &mut dyn FnMut(&Event<'_>)) -> Result<()> {
        let train = &self.config.train;
        while self.trainer.step < train.steps && !stop.load(Ordering::Relaxed) {
            let begun = Instant::now();
            let launched = self.trainer.launch()?;
            self.behind.push_back((begun, launched));
            // The host prepares one step while the device computes another, but no more.
            self.look(1, on_event)?;
            let step = self.trainer.step;
            let due = is_due(step, train.checkpoint_every);
            if due || step == train.steps || stop.load(Ordering::Relaxed) {
                // Only steps with known good results are saved.
                self.look(0, on_event)?;
                self.save(on_event)?;
            }
            self.preview(stop, on_event)?;
        }
        Ok(())
    }

    /// Reports the steps that are done, and waits for all others except the last `left`.
    fn look(&mut self, left: usize, on_event: &mut dyn FnMut(&Event<'_>)) -> Result<()> {
        while let Some((_, first)) = self.behind.front()
            && (self.behind.len() > left || first.is_done())
        {
            let Some((begun, launched)) = self.behind.pop_front() else { break };
            match self.trainer.look(launched) {
                Ok(outcome) => self.report(begun, outcome, on_event)?,
                Err(error) => {
                    // Steps after a bad one do not count.
                    self.behind.clear();
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    fn report(
        &mut self,
        begun: Instant,
        outcome: Outcome,
        on_event: &mut dyn FnMut(&Event<'_>),
    ) -> Result<()> {
        let train = &self.config.train;
        let Outcome { step, loss, loss_by_log_snr, lr, grad_norm, loss_scale, skipped } = outcome;
        // Steps overlap: count from the end of the previous one.
        let since = self.looked.map_or(begun, |looked| looked.max(begun));
        let now = Instant::now();
        self.looked = Some(now);
        let seconds = now.duration_since(since).as_secs_f64();
        if let Some(why) = self.trainer.news_of_graphs() {
            tracing::warn!("training continues without CUDA graphs, more slowly: {why}");
        }
        let peak_memory = device_memory(self.trainer.device)?.map(|memory| memory.peak_allocated);
        let report = StepReport {
            step,
            loss,
            loss_by_log_snr,
            lr,
            grad_norm,
            loss_scale,
            skipped,
            seconds,
            samples_per_second: (train.batch * train.accumulate) as f64 / seconds.max(1e-9),
            skipped_files: self.trainer.loader.bad_files().len(),
            peak_memory,
        };
        if is_due(report.step, train.log_every) || report.step == train.steps {
            self.metrics.write(&report)?;
        }
        on_event(&Event::Step(&report));
        self.last = Some(report);
        Ok(())
    }

    fn save(&mut self, on_event: &mut dyn FnMut(&Event<'_>)) -> Result<()> {
        self.trainer.check_parameters()?;
        let trainer = &self.trainer;
        self.metrics.sync()?;
        let fps = trainer.fps.unwrap_or(vd_data::UNSTATED_FPS);
        let (seed, machine) = (self.config.train.seed, self.machine.clone());
        let state = State {
            encoder: self.identity.clone(),
            loss_scale: trainer.loss_scale,
            ..State::new(trainer.step, seed, trainer.cursor, fps, machine)
        };
        let parts = Parts {
            config: &self.text,
            model: trainer.params.tensors(),
            ema: trainer.ema.tensors(),
            optimizer: trainer.optimizer.state(),
            uncertainty: trainer.learned.as_ref().map(Learned::state),
            state: &state,
        };
        let path = save(&self.folder.out, parts)?;
        self.saved = trainer.step;
        prune(&self.folder.out, self.config.train.keep_last, trainer.step)?;
        on_event(&Event::Saved { step: trainer.step, path: &path });
        self.checkpoint = Some(path);
        Ok(())
    }

    fn preview(&mut self, stop: &AtomicBool, on_event: &mut dyn FnMut(&Event<'_>)) -> Result<()> {
        let (train, step) = (&self.config.train, self.trainer.step);
        let last = train.preview_every > 0 && step == train.steps;
        if !last && !is_due(step, train.preview_every) || stop.load(Ordering::Relaxed) {
            return Ok(());
        }
        self.look(0, on_event)?;
        let path = self.folder.preview(step, train.preview_format)?;
        if write_preview(&self.trainer, self.config, &path, stop)? {
            on_event(&Event::Preview { step, path: &path });
        }
        Ok(())
    }
}

/// Whether an event with the period `every` is due at this step; a period of 0 means never.
fn is_due(step: u64, every: u64) -> bool {
    every > 0 && step.is_multiple_of(every)
}
