//! The guidance branches: which parts of the conditioning each one gets.

use tch::Tensor;
use vd_diffusion::{Diffusion, FrameMask, GuidanceConfig, Guided, Signal, Signals};
use vd_unet3d::{Backbone, Cond};

use crate::signal::checked;
use crate::texts::{Encoded, encode};
use crate::{
    Condition, Error, GenerateRequest, Generator, NullEmbedding, Result, Text, TextEncoder,
};

/// The conditioning of all clips of a call, with its guidance scales.
///
/// A signal or text at scale 1 is given in every branch; the others are given separately, or
/// cumulatively, according to the rule, with the text last.
#[derive(Debug)]
pub(crate) struct Conditioning {
    /// All conditioning together.
    whole: Cond,
    /// Replaces the null embedding in branches without the text.
    negative: Option<Cond>,
    /// The guided parts, in order.
    guided: Vec<(Part, f64)>,
    chained: bool,
}

/// A part of the conditioning with a guidance scale.
#[derive(Debug, PartialEq, Eq)]
enum Part {
    Signal(String),
    Text,
}

impl Conditioning {
    pub(crate) fn new(model: &Generator<'_>, request: &GenerateRequest) -> Result<Self> {
        let Encoded { mut given, negative } = text(model, request)?;
        for (name, values) in checked(model.backbone, request)? {
            given = given.with_signal(name, values);
        }
        let mut guided: Vec<_> = request
            .signals
            .iter()
            .map(|signal| (Part::Signal(signal.name.clone()), signal.scale))
            .collect();
        if given.has_text() || given.is_none() {
            guided.push((Part::Text, request.guidance));
        } else if request.guidance != 1.0 {
            return Err(Error::Value {
                what: "guidance scale",
                expected: "1 for clips without text; signals have their own scales".to_owned(),
                got: request.guidance.to_string(),
            });
        }
        guided.retain(|(_, scale)| *scale != 1.0);
        let chained = matches!(
            request.rule,
            GuidanceConfig::ClassifierFree { signals: Signals::Chained, .. }
        );
        let all = Conditioning { whole: given, negative, guided, chained };
        all.check(model)?;
        Ok(all)
    }

    /// Refuses guidance away from a null embedding that was never used in training.
    fn check(&self, model: &Generator<'_>) -> Result<()> {
        // Other errors are reported by guidance itself.
        if !model.backbone.is_conditional() || self.whole.is_none() {
            return Ok(());
        }
        let shows_null = match &self.negative {
            None => true,
            Some(negative) => negative.null.is_some(),
        };
        for (part, scale) in &self.guided {
            match part {
                Part::Text if shows_null && model.null == NullEmbedding::Untrained => {
                    return Err(Error::NeverDropped { scale: *scale });
                }
                Part::Signal(name) if model.without(name) == NullEmbedding::Untrained => {
                    let (name, scale) = (name.clone(), *scale);
                    return Err(Error::SignalNeverDropped { name, scale });
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// The conditioning of some consecutive clips.
    pub(crate) fn rows(&self, first: usize, len: usize) -> Result<Rows<'_>> {
        let rows = |cond: &Cond| cond.rows(first as i64, len as i64);
        let negative = self.negative.as_ref().map(rows).transpose()?;
        Ok(Rows { all: self, whole: rows(&self.whole)?, negative })
    }
}

/// The conditioning of the clips of one batch.
#[derive(Debug)]
pub(crate) struct Rows<'a> {
    all: &'a Conditioning,
    whole: Cond,
    negative: Option<Cond>,
}

impl Rows<'_> {
    /// The guided network.
    pub(crate) fn guide<'a>(
        &self,
        diffusion: &'a Diffusion,
        backbone: &'a dyn Backbone,
        rule: &GuidanceConfig,
    ) -> Result<Guided<'a>> {
        let guided = &self.all.guided;
        let given = |i: usize| -> Result<Signal> {
            let cond = self.keeping(|k| k == i || (self.all.chained && k < i))?;
            Ok(Signal { cond, scale: guided[i].1 })
        };
        let signals = match guided.len() {
            0 => vec![Signal { cond: self.whole.shallow_clone(), scale: 1.0 }],
            n => (0..n).map(given).collect::<Result<_>>()?,
        };
        let null = self.keeping(|_| false)?;
        Ok(diffusion.guided_against(backbone, signals, null, FrameMask::All, rule)?)
    }

    /// The conditioning for another network of the same clips, limited to the inputs that it takes.
    pub(crate) fn known_to(&self, backbone: &dyn Backbone) -> Cond {
        if !backbone.is_conditional() {
            return Cond::none();
        }
        let (mut cond, known) = (self.whole.shallow_clone(), backbone.signals());
        cond.signals.retain(|name, _| known.iter().any(|(known, _)| known == name));
        cond
    }

    /// The branch with all unguided parts, and those guided parts for which `kept` returns true.
    fn keeping(&self, kept: impl Fn(usize) -> bool) -> Result<Cond> {
        let keeps = |part: &Part| {
            let place = self.all.guided.iter().position(|(guided, _)| guided == part);
            place.is_none_or(&kept)
        };
        let text = keeps(&Part::Text);
        let cond = self.whole.keeping(text, |name| keeps(&Part::Signal(name.to_owned())));
        Ok(match &self.negative {
            Some(negative) if !text => Cond { signals: cond.signals, ..negative.shallow_clone() },
            _ => cond,
        })
    }
}

impl Generator<'_> {
    /// Whether training has used the null embedding of a signal.
    fn without(&self, signal: &str) -> NullEmbedding {
        let known = self.signals.iter().find(|(name, _)| name == signal);
        known.map_or(NullEmbedding::Unknown, |(_, null)| *null)
    }
}

/// The text of all clips.
fn text(model: &Generator<'_>, request: &GenerateRequest) -> Result<Encoded> {
    let given = |given| Ok(Encoded { given, negative: None });
    match &request.condition {
        Condition::Nothing { .. } => given(Cond::none()),
        Condition::Prompts(prompts) => {
            takes_text(model, "prompts")?;
            let texts: Vec<_> = prompts.iter().map(Text::plain).collect();
            encoded(model, request, &texts)
        }
        Condition::Texts(texts) => {
            takes_text(model, "prompts")?;
            encoded(model, request, texts)
        }
        Condition::Embeddings(rows) => {
            takes_text(model, "embeddings")?;
            given(embeddings(model, request, rows)?)
        }
    }
}

fn takes_text(model: &Generator<'_>, what: &'static str) -> Result<()> {
    if model.backbone.takes_text() {
        return Ok(());
    }
    let names: Vec<_> = model.backbone.signals().iter().map(|(name, _)| name.to_string()).collect();
    match names.is_empty() {
        true => Err(Error::Unconditional(what)),
        false => Err(Error::NoText(what, names.join(", "))),
    }
}

fn encoded(model: &Generator<'_>, request: &GenerateRequest, texts: &[Text]) -> Result<Encoded> {
    let encoder = model.encoder.ok_or(Error::NoEncoder)?;
    encode(encoder, texts, &request.along()?, request.device)
}

fn embeddings(model: &Generator<'_>, request: &GenerateRequest, rows: &Tensor) -> Result<Cond> {
    let width = model.encoder.map(TextEncoder::width);
    let size = rows.size();
    if size.len() != 2 || width.is_some_and(|width| size[1] != width) {
        let d = width.map_or("d".to_owned(), |width| width.to_string());
        return Err(Error::Value {
            what: "embeddings",
            expected: format!("n rows of {d} values, one row per clip"),
            got: format!("shape {size:?}"),
        });
    }
    Ok(Cond::pooled(rows.f_to_kind(tch::Kind::Float)?.f_to_device(request.device)?))
}
