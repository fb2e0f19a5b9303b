//! The conditioning of clips: prompts, rows of embeddings, or none.

use std::collections::BTreeSet;
use std::ops::Range;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use tch::Tensor;
use vd_text_cond::{
    Condition, GivenSignal, PromptLine, SignalValue, Text, read_embeddings, read_prompts,
};
use vd_unet3d::Backbone;

use super::Asked;
use super::checks::textless;
use super::files::Files;
use super::told::Told;
use crate::args::{DrawArgs, LARGEST_SCALE, MOST_FRAMES};
use crate::model::Model;
use crate::output::Usage;

/// The request for one group of clips: a prompt of the command line, or a line of a file.
#[derive(Debug, Default)]
pub(crate) struct Ask {
    pub(crate) text: Option<Text>,
    pub(crate) seed: Option<u64>,
    /// The guidance scale of the text.
    pub(crate) scale: Option<f64>,
    pub(crate) frames: Option<i64>,
    /// The other conditioning inputs in a line, with their scales if given.
    told: Vec<(Told, Option<f64>)>,
}

/// The conditioning of each group of clips.
#[derive(Debug)]
pub(crate) struct Groups {
    shown: Shown,
    /// Signals for all clips.
    told: Vec<Told>,
    /// Scales of signals.
    scales: Vec<(String, f64)>,
}

#[derive(Debug)]
enum Shown {
    /// Unconditional.
    Nothing,
    Asks(Vec<Ask>),
    /// n d
    Rows(Tensor),
}

/// The flags for the conditioning.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Flags<'a> {
    pub(crate) prompts: &'a [Text],
    pub(crate) file: Option<&'a Path>,
    pub(crate) cond: Option<&'a Path>,
}

impl Groups {
    /// Reads the flags, and checks that the model supports them.
    pub(crate) fn new(flags: Flags<'_>, args: &DrawArgs, model: &Model) -> Result<Self> {
        let shown = shown(flags, args, model)?;
        check_scales(&shown, args)?;
        let scale = |name: &str| {
            let found = args.signal_scale.iter().find(|(scaled, _)| scaled == name);
            found.map_or(1.0, |(_, scale)| *scale)
        };
        let told = args.signal.iter().map(|(name, value)| Told {
            by: format!("--signal {name}={value}"),
            name: name.clone(),
            value: SignalValue::Name(value.clone()),
            scale: scale(name),
        });
        Ok(Groups { shown, told: told.collect(), scales: args.signal_scale.clone() })
    }

    /// Whether the clips are unconditional.
    pub(crate) fn is_nothing(&self) -> bool {
        matches!(self.shown, Shown::Nothing)
    }

    /// Whether the clips are conditioned on rows of embeddings.
    pub(crate) fn is_rows(&self) -> bool {
        matches!(self.shown, Shown::Rows(_))
    }

    /// The number of groups.
    pub(crate) fn count(&self) -> usize {
        match &self.shown {
            Shown::Nothing => 0,
            Shown::Asks(asks) => asks.len(),
            Shown::Rows(rows) => rows.size()[0] as usize,
        }
    }

    /// The group's own request.
    pub(crate) fn ask(&self, group: usize) -> Option<&Ask> {
        self.asks().get(group)
    }

    /// The requests of all groups, if there are prompts.
    pub(crate) fn asks(&self) -> &[Ask] {
        match &self.shown {
            Shown::Asks(asks) => asks,
            Shown::Nothing | Shown::Rows(_) => &[],
        }
    }

    /// Whether some clips have no value for a signal.
    pub(crate) fn miss(&self, name: &str) -> bool {
        let told = |ask: &Ask| ask.told.iter().any(|(told, _)| told.name == name);
        let asks = self.asks();
        let all = self.told.iter().any(|told| told.name == name);
        !all && (asks.is_empty() || !asks.iter().all(told))
    }

    /// Whether a signal has a scale other than 1.
    pub(crate) fn guides_signals(&self) -> bool {
        let own = self.asks().iter().flat_map(|ask| &ask.told);
        let mut own = own.map(|(told, scale)| self.scale(told, *scale));
        self.told.iter().any(|told| told.scale != 1.0) || own.any(|scale| scale != 1.0)
    }

    /// The scale of a signal in a line, which may have its own.
    fn scale(&self, told: &Told, own: Option<f64>) -> f64 {
        let flag = self.scales.iter().find(|(name, _)| *name == told.name);
        own.or(flag.map(|(_, scale)| *scale)).unwrap_or(1.0)
    }

    /// The conditioning inputs of a group in the order given; its own override those for all clips.
    fn told(&self, group: usize) -> Vec<Told> {
        let own = self.ask(group).map_or(&[][..], |ask| &ask.told);
        let of_all =
            self.told.iter().filter(|told| own.iter().all(|(own, _)| own.name != told.name));
        let own = own
            .iter()
            .map(|(told, scale)| Told { scale: self.scale(told, *scale), ..told.clone() });
        of_all.cloned().chain(own).collect()
    }

    /// The signals of a group.
    pub(crate) fn signals(
        &self,
        group: usize,
        network: &dyn Backbone,
        shape: [i64; 3],
        files: &mut Files,
    ) -> Result<Vec<GivenSignal>> {
        self.told(group).iter().map(|told| told.signal(network, shape, files)).collect()
    }

    /// The conditioning of a group, for reports.
    pub(crate) fn asked(&self, group: usize) -> Asked {
        let text = self.ask(group).and_then(|ask| ask.text.as_ref());
        let negative = text.and_then(|text| text.negative.clone());
        let negative = negative.map(|parts| Text { parts, until: None, negative: None });
        Asked {
            prompt: text.map(ToString::to_string),
            negative: negative.map(|text| text.to_string()),
            signals: self.told(group),
        }
    }

    /// The condition of these clips, `num` of which are in each group; all have a text, or none.
    pub(crate) fn condition(&self, clips: Range<usize>, num: usize) -> Result<Condition> {
        let n = clips.len();
        Ok(match &self.shown {
            Shown::Nothing => Condition::Nothing { clips: n },
            Shown::Asks(asks) => {
                let texts: Option<Vec<_>> =
                    clips.map(|clip| asks[clip / num].text.clone()).collect();
                texts.map_or(Condition::Nothing { clips: n }, Condition::Texts)
            }
            Shown::Rows(rows) => {
                let picked: Vec<_> = clips.map(|clip| (clip / num) as i64).collect();
                Condition::Embeddings(rows.f_index_select(0, &Tensor::f_from_slice(&picked)?)?)
            }
        })
    }
}

/// Refuses the scale of a signal that has no value.
fn check_scales(shown: &Shown, args: &DrawArgs) -> Result<(), Usage> {
    let asks = if let Shown::Asks(asks) = shown { &asks[..] } else { &[] };
    let lines = asks.iter().flat_map(|ask| &ask.told).map(|(told, _)| &told.name);
    let told: BTreeSet<_> = args.signal.iter().map(|(name, _)| name).chain(lines).collect();
    match args.signal_scale.iter().find(|(name, _)| !told.contains(name)) {
        None => Ok(()),
        Some((name, scale)) => Err(Usage(format!(
            "--signal-scale {name}={scale}: neither --signal nor a line of --prompts gives {name}; \
             omit it, or give --signal {name}=VALUE"
        ))),
    }
}

fn shown(flags: Flags<'_>, args: &DrawArgs, model: &Model) -> Result<Shown> {
    let Flags { prompts, file, cond } = flags;
    let flag = match (prompts, file, cond) {
        ([], None, None) => {
            ensure!(args.negative.is_none(), "--negative: requires --prompt or --prompts");
            return Ok(Shown::Nothing);
        }
        (_, _, Some(_)) => "--cond",
        (_, Some(_), _) => "--prompts",
        _ => "--prompt",
    };
    let asks = match file {
        Some(path) => lines(path, args.cfg_scale)?,
        None => {
            prompts.iter().map(|text| Ask { text: Some(text.clone()), ..Ask::default() }).collect()
        }
    };
    if asks.iter().any(|ask| ask.text.is_some()) || cond.is_some() {
        takes_text(flag, model)?;
    }
    if let Some(path) = cond {
        ensure!(
            args.negative.is_none(),
            "--negative: requires --prompt; guidance of --cond pushes away from the null embedding"
        );
        return Ok(Shown::Rows(rows(path, model)?));
    }
    let negative = |text: Text| match &args.negative {
        Some(parts) if text.negative.is_none() => Text { negative: Some(parts.clone()), ..text },
        _ => text,
    };
    let asks = asks.into_iter().map(|ask| Ask { text: ask.text.map(negative), ..ask });
    Ok(Shown::Asks(asks.collect()))
}

fn takes_text(flag: &str, model: &Model) -> Result<()> {
    if !model.loaded.network.takes_text() {
        let (why, advice) = textless(&model.loaded.network);
        bail!("{flag}: {why} and takes no prompts; omit {flag}, or {advice}");
    }
    if flag == "--cond" && model.config().tokens.is_some() {
        bail!(
            "--cond: this model attends to the tokens of its prompts ([model.tokens]), which rows of \
             embeddings do not have; give --prompt instead"
        );
    }
    if flag != "--cond" && model.checkpoint.config.text.is_none() {
        let width =
            model.config().cond_dim.map_or(String::new(), |d| format!(", {d} numbers per row"));
        bail!(
            "{flag}: it is unknown how this converted model's prompts were encoded; give their \
             embeddings with --cond instead{width}"
        );
    }
    Ok(())
}

/// The lines of a file of prompts.
fn lines(path: &Path, usual: f64) -> Result<Vec<Ask>> {
    let lines = read_prompts(path).context("--prompts")?;
    lines.into_iter().map(|line| ask(path, line, usual)).collect()
}

/// The request in a line, with the default scale if it has none of its own.
fn ask(path: &Path, line: PromptLine, usual: f64) -> Result<Ask> {
    let PromptLine { line, text, seed, scale, frames, signals } = line;
    let at = format!("--prompts {}, line {line}", path.display());
    let scales = scale.iter().chain(signals.values().filter_map(|signal| signal.scale.as_ref()));
    if let Some(scale) = scales.copied().find(|scale| !(0.0..=LARGEST_SCALE).contains(scale)) {
        bail!("{at}: scale: expected a number from 0 to {LARGEST_SCALE}, got {scale}");
    }
    if let Some(frames) = frames.filter(|frames| *frames > MOST_FRAMES) {
        bail!("{at}: frames: expected at most {MOST_FRAMES}, got {frames}");
    }
    let negative = text.as_ref().is_some_and(|text| text.negative.is_some());
    if negative && scale.unwrap_or(usual) == 1.0 {
        bail!(
            "{at}: negative: has no effect at scale 1; give the line \"scale\": 2, or \
             --cfg-scale 2, or omit it"
        );
    }
    let told = signals.into_iter().map(|(name, signal)| {
        let by = format!("{at}: signals.{name}");
        (Told { by, name, value: signal.value, scale: 1.0 }, signal.scale)
    });
    Ok(Ask { text, seed, scale, frames, told: told.collect() })
}

fn rows(path: &Path, model: &Model) -> Result<Tensor> {
    let rows = read_embeddings(path).context("--cond")?;
    let got = rows.size()[1];
    if let Some(width) = model.config().cond_dim.filter(|width| *width != got) {
        bail!("--cond {}: rows of {got} numbers, but this model takes {width}", path.display());
    }
    Ok(rows)
}
