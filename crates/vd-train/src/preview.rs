//! Preview clips during training, always from the same noise.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use vd_data::{Clip, Dataset, Normaliser, picture, tile};
use vd_diffusion::{Diffusion, Ranges, Threshold};
use vd_text_cond::{Condition, GenerateRequest, Generator, NullEmbedding, generate};

use crate::streams::{Stream, seed_of};
use crate::trainer::Trainer;
use crate::{Result, RunConfig};

/// How many clips of a generator are searched for distinct captions, for each one wanted.
const SEARCH: u64 = 16;

/// Samples a preview with the current average of the weights and writes it, clips side by side.
///
/// Clips of numbers are shown as [`picture`] describes. Of the conditioning inputs only the text is
/// used: signals are replaced by their null embeddings, which the config check has found to be
/// trained.
///
/// Returns whether it was finished: `stop` interrupts it.
pub(crate) fn write_preview(
    trainer: &Trainer,
    config: &RunConfig,
    path: &Path,
    stop: &AtomicBool,
) -> Result<bool> {
    let (train, data) = (&config.train, &config.data);
    let encoder = trainer.preparation.text.as_ref().map(|(encoder, _)| encoder.as_ref());
    let condition = condition(config, trainer.loader.dataset())?;
    let guided = matches!(condition, Condition::Prompts(_));
    let [height, width] = data.size;
    let shape = [data.frames, height, width].map(|n| n as i64);
    let normaliser = trainer.loader.dataset().normaliser();
    let ranges = normaliser.and_then(Normaliser::limits).map(Ranges::new).transpose()?;
    let known = normaliser.is_none() || ranges.is_some();
    let request = GenerateRequest {
        threshold: if known { Threshold::Static } else { Threshold::None },
        ranges,
        clamp: known,
        channels: data.channels as i64,
        steps: steps(train.preview_steps, &trainer.diffusion),
        guidance: if guided { train.preview_scale } else { 1.0 },
        seed: seed_of(train.seed, Stream::Preview),
        batch: train.batch.max(1),
        device: trainer.device,
        ..GenerateRequest::new(condition, shape)
    };
    let model = Generator {
        backbone: &trainer.ema_network,
        diffusion: &trainer.diffusion,
        encoder,
        null: config.text.as_ref().map_or(NullEmbedding::Untrained, |text| text.null()),
        signals: &[],
    };
    let mut on_step = |_| match stop.load(Ordering::Relaxed) {
        true => ControlFlow::Break(()),
        false => ControlFlow::Continue(()),
    };
    let videos = match generate(&model, &request, &mut on_step) {
        Err(_) if stop.load(Ordering::Relaxed) => return Ok(false),
        videos => videos?,
    };
    let fps = trainer.fps.unwrap_or(vd_data::UNSTATED_FPS);
    // A single row, however many clips there are.
    let row = tile(&picture(&videos, normaliser)?, usize::MAX)?;
    let format = train.preview_format;
    format.write(path, &Clip::from_tensor(&row, format.fps(fps))?)?;
    Ok(true)
}

/// The requested number of steps, limited to the steps of a discrete schedule.
fn steps(wanted: usize, diffusion: &Diffusion) -> usize {
    diffusion.schedule().steps().map_or(wanted, |entries| entries.min(wanted))
}

/// The conditioning of the clips: the prompts of the config, else captions of the data.
fn condition(config: &RunConfig, dataset: &Dataset) -> Result<Condition> {
    let count = config.train.preview_count;
    if config.text.is_none() {
        return Ok(Condition::Nothing { clips: count });
    }
    let prompts = prompts(config, dataset)?;
    if prompts.is_empty() {
        return Ok(Condition::Nothing { clips: count });
    }
    Ok(Condition::Prompts(prompts.into_iter().cycle().take(count).collect()))
}

/// The prompts of the config, else captions of the data, which may have none.
pub(crate) fn prompts(config: &RunConfig, dataset: &Dataset) -> Result<Vec<String>> {
    let train = &config.train;
    match train.preview_prompts.is_empty() {
        true => captions(config, dataset, train.preview_count),
        false => Ok(train.preview_prompts.clone()),
    }
}

/// The first distinct captions of the data.
fn captions(config: &RunConfig, dataset: &Dataset, count: usize) -> Result<Vec<String>> {
    let mut found: Vec<String> = Vec::new();
    let mut add = |caption: String| {
        if !found.contains(&caption) {
            found.push(caption);
        }
        found.len() >= count
    };
    match dataset.folder() {
        Some(folder) => {
            let mut captions = folder.entries().iter().filter_map(|entry| entry.caption.clone());
            let _ = captions.any(&mut add);
        }
        None => {
            for index in 0..SEARCH * count as u64 {
                let sample = dataset.sample(config.train.seed, 0, index)?;
                if sample.and_then(|sample| sample.caption).is_some_and(&mut add) {
                    break;
                }
            }
        }
    }
    Ok(found)
}
