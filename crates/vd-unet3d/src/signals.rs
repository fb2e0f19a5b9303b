//! The conditioning inputs besides the text.
//!
//! A class, a number or a series is added to the embedding of time; a video is concatenated with
//! the noisy one. All of these parameters, including the null embeddings, start at zero: a network
//! that gains a signal initially gives the same output as without it.

use tch::{Device, Kind, Tensor};
use vd_tensor_ops::layers::{Linear, look_up, or_stand_in};
use vd_tensor_ops::{Init, Scope};

use crate::cond::Given;
use crate::{Cond, Error, Result, SignalConfig, UNet3dConfig, check};

/// The signals of a network, by name.
#[derive(Debug)]
pub(crate) struct Signals {
    signals: Vec<Signal>,
    kind: Kind,
    device: Device,
}

#[derive(Debug)]
struct Signal {
    name: String,
    config: SignalConfig,
    /// Its contribution to the embedding of time; `None` for a video.
    added: Option<Added>,
}

/// A signal as a vector of the width of the embedding of time.
#[derive(Debug)]
struct Added {
    /// The null embedding: 1 d.
    null: Tensor,
    value: Value,
}

#[derive(Debug)]
enum Value {
    /// A row for each class.
    Table(Tensor),
    /// Two layers; the second starts at zero.
    Perceptron { first: Linear, weight: Tensor, bias: Tensor },
}

impl Signals {
    /// Below `signals`: NAME.null (1 d) for all but videos; NAME.table.weight (classes d) for
    /// classes, NAME.mlp.0 and NAME.mlp.2 for numbers and series; d is the width of the embedding
    /// of time.
    pub(crate) fn new(scope: &mut Scope, config: &UNet3dConfig) -> Result<Self> {
        let (kind, device) = (scope.kind(), scope.device());
        let mut scope = scope.sub("signals");
        let mut signals = Vec::new();
        for (name, signal) in &config.signals {
            let added = Added::new(&mut scope.sub(name), signal, config.time_width())?;
            signals.push(Signal { name: name.clone(), config: signal.clone(), added });
        }
        Ok(Signals { signals, kind, device })
    }

    /// The sum of the embeddings of time and of the signals.
    ///
    /// # Shapes
    /// `time`: b (1 or f) d -> the same, with one row per frame if a signal has them
    pub(crate) fn add(&self, time: Tensor, cond: &Cond) -> Tensor {
        let added = self.signals.iter().filter_map(|s| Some((s.added.as_ref()?, s)));
        added.fold(time, |time, (added, signal)| {
            let given = cond.signals.get(&signal.name);
            time + given.map_or_else(|| added.null.unsqueeze(0), |given| signal.embed(added, given))
        })
    }

    /// The video concatenated with those of the signals, each followed by a channel that is 1 where
    /// it is given; a video that is not given is zero.
    ///
    /// # Shapes
    /// `x`: b c f h w -> b (c + extra channels) f h w
    pub(crate) fn beside(&self, x: Tensor, cond: &Cond) -> Tensor {
        let mut parts = Vec::new();
        for signal in &self.signals {
            if let SignalConfig::Video { channels } = signal.config {
                let mut size = x.size();
                size[1] = channels + 1;
                parts.push(match cond.signals.get(&signal.name) {
                    Some(given) => shown(given, self.kind),
                    None => x.new_zeros(&size, (self.kind, self.device)),
                });
            }
        }
        if parts.is_empty() {
            return x;
        }
        parts.insert(0, x);
        Tensor::cat(&parts, 1)
    }

    /// Checks the given conditioning against a video of `size`: b f h w.
    pub(crate) fn validate(&self, cond: &Cond, size: [i64; 4]) -> Result<()> {
        for (name, given) in &cond.signals {
            let what = format!("signal `{name}`");
            match self.signals.iter().find(|signal| signal.name == *name) {
                Some(signal) => signal.validate(&what, given, size, self.device)?,
                None => {
                    let known: Vec<_> =
                        self.signals.iter().map(|s| format!("`{}`", s.name)).collect();
                    let expected = if known.is_empty() {
                        "none: this network takes no signals".to_owned()
                    } else {
                        format!("one of this network's signals: {}", known.join(", "))
                    };
                    return Err(Error::input(what, expected, "an unknown name".to_owned()));
                }
            }
        }
        Ok(())
    }
}

impl Signal {
    /// b (1 or f) d, of the kind of the parameters.
    fn embed(&self, added: &Added, given: &Given) -> Tensor {
        let Given { value, null } = given;
        let kind = added.null.kind();
        let rows = match (&added.value, &self.config) {
            (Value::Table(table), _) => {
                let index = classes(given);
                let rows = look_up(table, &index.flatten(0, -1));
                rows.unflatten(0, index.size())
            }
            (Value::Perceptron { .. }, SignalConfig::Scalar { mean, std }) => {
                // Large, close numbers, such as times, must be normalised in double precision to
                // remain distinct.
                let number = (value.to_kind(Kind::Double) - *mean) / *std;
                added.value.perceptron(&number.to_kind(kind).unsqueeze(-1))
            }
            (Value::Perceptron { .. }, _) => added.value.perceptron(&value.to_kind(kind)),
        };
        let rows = if rows.dim() == 2 { rows.unsqueeze(1) } else { rows };
        match null {
            Some(null) => or_stand_in(&rows, &added.null, &check::over_rows(null)),
            None => rows,
        }
    }

    fn validate(&self, what: &str, given: &Given, size: [i64; 4], device: Device) -> Result<()> {
        let [b, f, h, w] = size;
        let value = &given.value;
        let (clip, frames) = match self.config {
            SignalConfig::Class { .. } | SignalConfig::Scalar { .. } => (vec![b], vec![b, f]),
            SignalConfig::Series { width } => (vec![b, width], vec![b, f, width]),
            SignalConfig::Video { channels: c } => (vec![b, c, f, h, w], vec![]),
        };
        if value.size() != clip && (frames.is_empty() || value.size() != frames) {
            let mut expected = format!("shape {clip:?}");
            if !frames.is_empty() {
                expected.push_str(&format!(", or {frames:?} for one per frame"));
            }
            return Err(Error::input(what, expected, format!("{:?}", value.size())));
        }
        match &self.config {
            SignalConfig::Class { .. } if !matches!(value.kind(), Kind::Int64 | Kind::Int) => {
                let got = format!("{:?}", value.kind());
                return Err(Error::input(what, "class numbers, Int64", got));
            }
            SignalConfig::Class { .. } | SignalConfig::Scalar { .. } => {
                check::steps(what, value, device)?;
            }
            SignalConfig::Series { .. } | SignalConfig::Video { .. } => {
                check::floats(what, value, device)?;
            }
        }
        if let Some(null) = &given.null {
            check::null_mask(&format!("null mask of {what}"), null, [b, f], device)?;
        }
        match &self.config {
            SignalConfig::Class { classes } => in_range(what, given, classes),
            _ => Ok(()),
        }
    }
}

impl Added {
    fn new(scope: &mut Scope, config: &SignalConfig, d: i64) -> Result<Option<Self>> {
        let zero = Init::Const(0.0);
        let inputs = match config {
            SignalConfig::Video { .. } => return Ok(None),
            SignalConfig::Class { .. } => 0,
            SignalConfig::Scalar { .. } => 1,
            SignalConfig::Series { width } => *width,
        };
        let null = scope.param("null", &[1, d], zero)?;
        let value = if let SignalConfig::Class { classes } = config {
            Value::Table(scope.sub("table").param("weight", &[classes.len() as i64, d], zero)?)
        } else {
            let mut mlp = scope.sub("mlp");
            let first = Linear::new(&mut mlp.sub(0), inputs, d)?;
            let mut second = mlp.sub(2);
            let weight = second.param("weight", &[d, d], zero)?;
            Value::Perceptron { first, weight, bias: second.param("bias", &[d], zero)? }
        };
        Ok(Some(Added { null, value }))
    }
}

impl Value {
    fn perceptron(&self, x: &Tensor) -> Tensor {
        match self {
            Value::Table(table) => table.shallow_clone(),
            Value::Perceptron { first, weight, bias } => {
                first.forward(x).gelu("none").linear(weight, Some(bias))
            }
        }
    }
}

/// The classes, with 0 where they are null: the value there is not used.
fn classes(given: &Given) -> Tensor {
    let index = given.value.to_kind(Kind::Int64);
    let Some(null) = &given.null else { return index };
    let null = match (index.dim(), null.dim()) {
        (2, 1) => null.unsqueeze(1),
        // Used by the frames that are not null
        (1, 2) => null.all_dim(1, false),
        _ => null.shallow_clone(),
    };
    index.masked_fill(&null, 0)
}

/// Checks that classes exist, but only where their values can be read without synchronising with a
/// device.
fn in_range(what: &str, given: &Given, names: &[String]) -> Result<()> {
    if given.value.device() != Device::Cpu {
        return Ok(());
    }
    let (index, most) = (classes(given), names.len() as i64 - 1);
    let ends = [index.min().int64_value(&[]), index.max().int64_value(&[])];
    match ends.into_iter().find(|end| !(0..=most).contains(end)) {
        Some(end) => {
            let expected = format!("classes from 0 to {most}");
            Err(Error::input(what, expected, end.to_string()))
        }
        None => Ok(()),
    }
}

/// The video of a signal, and a mask of where it is given: b (c + 1) f h w.
fn shown(given: &Given, kind: Kind) -> Tensor {
    let value = given.value.to_kind(kind);
    let mut one = value.size();
    one[1] = 1;
    let Some(null) = &given.null else {
        return Tensor::cat(&[&value, &value.new_ones(&one, (kind, value.device()))], 1);
    };
    let null = check::over_rows(null).unsqueeze(1).unsqueeze(-1); // b 1 (1 or f) 1 1
    let there = null.logical_not().to_kind(kind).expand(&one, false);
    Tensor::cat(&[value.masked_fill(&null, 0.0), there], 1)
}
