//! Checks which options a model supports together, and warns about questionable ones.

use std::path::PathBuf;

use anyhow::{Context, Result, bail, ensure};
use vd_diffusion::GuidanceConfig;
use vd_text_cond::{EncoderConfig, NullEmbedding, PretrainedConfig};
use vd_unet3d::Backbone;

use super::groups::{Ask, Groups};
use crate::args::DrawArgs;
use crate::model::Model;
use crate::output::Usage;

/// Why a network takes no text, and which conditioning inputs it has instead.
pub(super) fn textless(network: &dyn Backbone) -> (String, String) {
    let names: Vec<_> = network.signals().iter().map(|(name, _)| (*name).to_owned()).collect();
    match names.first() {
        None => (
            "this model is unconditional".to_owned(),
            "use a model trained with a [text] section".to_owned(),
        ),
        Some(name) => (
            format!("this model was trained without text, on signals only ({})", names.join(", ")),
            format!("give --signal {name}=VALUE, guided by --signal-scale {name}=2"),
        ),
    }
}

/// Warns on stderr about questionable settings at this scale.
pub(super) fn announce(scale: f64, groups: &Groups, model: &Model) {
    for (name, null) in model.checkpoint.signal_nulls() {
        if groups.miss(&name) {
            match null {
                NullEmbedding::Trained => tracing::info!(
                    "no --signal {name}=VALUE: sampling without this condition, from all that the model has learned"
                ),
                NullEmbedding::Untrained => tracing::warn!(
                    "no --signal {name}=VALUE: sampling without this condition, but training never dropped it (drop = 0); expect poor clips"
                ),
                NullEmbedding::Unknown => tracing::warn!(
                    "no --signal {name}=VALUE: sampling without this condition, for which a converted model may be untrained"
                ),
            }
        }
    }
    if !model.loaded.network.takes_text() {
        return;
    }
    let null = model.checkpoint.null();
    if groups.is_nothing() {
        match null {
            NullEmbedding::Trained => tracing::info!(
                "neither --prompt nor --cond: sampling from the null embedding, that is, from all that the model has learned"
            ),
            NullEmbedding::Untrained => tracing::warn!(
                "neither --prompt nor --cond: sampling from the null embedding, which this model's training (text.drop = 0) never used; expect poor clips"
            ),
            NullEmbedding::Unknown => tracing::warn!(
                "neither --prompt nor --cond: sampling from the null embedding, which may be untrained in a converted model"
            ),
        }
    } else if scale != 1.0 && null == NullEmbedding::Unknown {
        tracing::warn!(
            "--cfg-scale {scale}: it is unknown whether the training of this converted model ever dropped its conditioning; if not, its null embedding is untrained and guidance gives poor clips"
        );
    }
}

/// The checkpoint to guide away from.
pub(super) fn guide(args: &DrawArgs, model: &Model) -> Result<Option<(Model, f64)>> {
    let Some(path) = &args.guide else { return Ok(None) };
    let guide = Model::open(path, None, model.device, model.loaded.network.precision())
        .context("--guide")?
        .with_autocast(model.loaded.network.autocast())
        .with_graphs(model.loaded.network.graphs());
    let (name, config) = (path.display(), guide.config());
    let (found, wanted) = (config.channels, model.config().channels);
    ensure!(
        found == wanted && config.out_channels() == wanted,
        "--guide {name}: has {found} channels, expected {wanted} like the model"
    );
    let (own, others) = (&model.checkpoint.config, &guide.checkpoint.config);
    ensure!(
        others.diffusion.schedule == own.diffusion.schedule,
        "--guide {name}: trained with a different noise schedule than the model; give one trained \
         with the same"
    );
    // Both get the same text, so it must mean the same to both.
    let texts = guide.loaded.network.takes_text() && model.loaded.network.takes_text();
    let encoder = |text: &Option<vd_text_cond::TextConfig>| {
        text.as_ref().map(|text| wherever(text.encoder.clone()))
    };
    let identity = |of: &Model| of.checkpoint.state.as_ref().and_then(|it| it.encoder.clone());
    let identities = identity(model).zip(identity(&guide));
    ensure!(
        !texts
            || encoder(&own.text) == encoder(&others.text)
                && identities.is_none_or(|(own, other)| own == other),
        "--guide {name}: its prompts were encoded differently from the model's (text.encoder), so \
         they would not fit it; give one trained with the same encoder"
    );
    let other = config.signals.iter().find(|(name, signal)| {
        model.config().signals.get(*name).is_none_or(|known| known != *signal)
    });
    if let Some((signal, _)) = other {
        bail!(
            "--guide {name}: its signal `{signal}` (model.signals) differs from the model's; give one \
             trained with the same"
        );
    }
    Ok(Some((guide, args.guide_scale)))
}

/// An encoder's config without its path.
fn wherever(encoder: EncoderConfig) -> EncoderConfig {
    match encoder {
        EncoderConfig::Pretrained(config) => EncoderConfig::Pretrained(PretrainedConfig {
            path: PathBuf::new(),
            cache: None,
            ..config
        }),
        EncoderConfig::File { .. } => EncoderConfig::File { path: PathBuf::new(), prompts: None },
        hashed @ EncoderConfig::Hashed { .. } => hashed,
    }
}

/// Refuses guidance that the model does not support, or that has no condition to guide towards.
pub(super) fn guidance(args: &DrawArgs, groups: &Groups, model: &Model) -> Result<()> {
    let (scale, network) = (args.cfg_scale, &model.loaded.network);
    if scale != 1.0 && !network.takes_text() {
        let (why, advice) = textless(network);
        bail!(
            "--cfg-scale {scale}: {why}, there is no prompt to guide towards; leave --cfg-scale out, \
             or {advice}"
        );
    }
    if scale != 1.0 && groups.is_nothing() {
        bail!(
            "--cfg-scale {scale}: guidance needs a target to guide towards; give --prompt or --cond"
        );
    }
    let guided: Vec<_> = groups.asks().iter().filter(|ask| ask.text.is_some()).collect();
    if scale != 1.0 && guided.is_empty() && !groups.is_rows() {
        bail!(
            "--cfg-scale {scale}: no line of --prompts has a text to guide towards; omit it, or \
             give the signals a scale"
        );
    }
    let scale_of = |ask: &Ask| ask.scale.unwrap_or(scale);
    let pulls = guided.iter().any(|ask| scale_of(ask) != 1.0);
    if args.negative.is_some() && !pulls {
        let why = "--negative: has no effect, because no prompt has a scale other than \
                   1; give --cfg-scale 2, or omit --negative";
        return Err(Usage(why.to_owned()).into());
    }
    let rows = groups.is_rows() && scale != 1.0;
    let any = pulls || rows || groups.guides_signals() || args.guide.is_some();
    if !any && args.guidance != GuidanceConfig::default() {
        return Err(Usage(format!(
            "--guidance {}: no rule has any effect, because no prompt or signal has a scale other \
             than 1; give --cfg-scale 2 or --signal-scale NAME=2, or omit --guidance",
            args.guidance.name()
        ))
        .into());
    }
    shown(scale, groups, model)
}

/// Refuses guidance away from an untrained null embedding.
fn shown(scale: f64, groups: &Groups, model: &Model) -> Result<()> {
    if model.checkpoint.null() != NullEmbedding::Untrained {
        return Ok(());
    }
    let texts = groups.asks().iter().filter_map(|ask| Some((ask, ask.text.as_ref()?)));
    let shows_null = texts.filter(|(_, text)| text.negative.is_none());
    let mut scales: Vec<_> = shows_null.map(|(ask, _)| ask.scale.unwrap_or(scale)).collect();
    if groups.is_rows() {
        scales.push(scale);
    }
    match scales.into_iter().find(|scale| *scale != 1.0) {
        None => Ok(()),
        Some(scale) => bail!(
            "--cfg-scale {scale}: guidance pushes away from the null embedding, but this model was \
             trained with text.drop = 0 and has never seen it; omit --cfg-scale, give --negative \
             to push away from that text instead, or train with text.drop = 0.1"
        ),
    }
}
