//! Conditioning of clips besides their text.

use tch::{Device, Kind, Tensor};
use vd_unet3d::{Backbone, SignalConfig};

use crate::{Error, GenerateRequest, Result};

/// Upper bound of pixel values: upsampling may round a white one to above 1.
const MOST: f64 = 1.0 + 1e-6;

/// A signal for every clip.
#[derive(Debug)]
pub struct GivenSignal {
    /// Its name in the network's config.
    pub name: String,
    /// Its values, on any device; a first axis of 1 is shared by all clips.
    ///
    /// # Shapes
    /// Those of its [`SignalConfig`]: n or n f for classes (integers) and scalars, n d or n f d for
    /// a series, n c f h w for a video
    /// # Range
    /// a video: [-1, 1]
    pub values: Tensor,
    /// Guidance scale; at 1 it is given without guidance.
    pub scale: f64,
}

/// The value of a signal for one clip, as written on a command line or in a prompt file.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(
    untagged,
    expecting = "a number, a class by its name, or a list of numbers (or of lists, one per frame)"
)]
pub enum SignalValue {
    /// A number; for a class, its name, or its index if no class name is a number.
    Number(f64),
    /// The name of a class.
    Name(String),
    /// A number for each frame, or a vector.
    Numbers(Vec<f64>),
    /// A vector for each frame.
    Rows(Vec<Vec<f64>>),
}

impl GivenSignal {
    /// A signal at scale 1.
    pub fn new(name: impl Into<String>, values: Tensor) -> GivenSignal {
        GivenSignal { name: name.into(), values, scale: 1.0 }
    }

    /// Checks that a network accepts it for this number of clips of these frames, height and width,
    /// as [`generate`](crate::generate) also does.
    ///
    /// # Errors
    /// A name unknown to the network; values of the wrong shape or out of range.
    pub fn check(&self, network: &dyn Backbone, clips: usize, shape: [i64; 3]) -> Result<()> {
        self.fitted(network, clips, shape).map(drop)
    }

    /// The values in the kind that the network takes.
    fn fitted(&self, network: &dyn Backbone, clips: usize, shape: [i64; 3]) -> Result<Tensor> {
        let (name, known) = (&self.name, network.signals());
        let Some((_, config)) = known.iter().find(|(known, _)| known == name) else {
            let names: Vec<_> = known.iter().map(|(name, _)| format!("`{name}`")).collect();
            let expected = match names.is_empty() {
                true => "none: this network takes no signals".to_owned(),
                false => format!("one of {}", names.join(", ")),
            };
            return Err(refused(name, expected, "another name"));
        };
        let (n, size, [f, h, w]) = (clips as i64, self.values.size(), shape);
        let fits = |rest: &[i64]| size.get(1..) == Some(rest) && (size[0] == n || size[0] == 1);
        let shapes = match config {
            SignalConfig::Class { .. } | SignalConfig::Scalar { .. } => vec![vec![], vec![f]],
            SignalConfig::Series { width } => vec![vec![*width], vec![f, *width]],
            SignalConfig::Video { channels } => vec![vec![*channels, f, h, w]],
        };
        if !shapes.iter().any(|rest| fits(rest)) {
            let shapes = shapes.iter().map(|rest| format!("{:?}", [&[n], &rest[..]].concat()));
            let expected = format!(
                "{}; shape {} ({n} for the number of clips, or 1 for all)",
                takes(config),
                shapes.collect::<Vec<_>>().join(" or ")
            );
            return Err(refused(name, expected, format!("shape {size:?}")));
        }
        sound(name, config, &self.values)
    }
}

impl SignalValue {
    /// The value of one clip, as a tensor for the signal's config.
    ///
    /// # Shapes
    /// 1 or 1 f for classes and scalars; 1 d or 1 f d for a series
    ///
    /// # Errors
    /// A class that is not in the config; numbers that do not fit it; a video, which cannot be
    /// written as numbers.
    pub fn tensor(&self, name: &str, config: &SignalConfig) -> Result<Tensor> {
        let refuse = || refused(name, takes(config), self.to_string());
        let floats = |numbers: &[f64]| -> Result<Tensor> {
            Ok(Tensor::f_from_slice(numbers)?.f_to_kind(float_kind(config))?)
        };
        match (config, self) {
            (SignalConfig::Class { classes }, value) => {
                let known = |class: &SignalValue| match class {
                    SignalValue::Name(class) => classes.iter().position(|known| known == class),
                    SignalValue::Number(n) => numbered(classes, *n),
                    _ => None,
                };
                let found: Option<Vec<_>> = match value {
                    SignalValue::Numbers(numbers) => {
                        numbers.iter().map(|n| known(&SignalValue::Number(*n))).collect()
                    }
                    one => known(one).map(|class| vec![class]),
                };
                let found = found.filter(|found| !found.is_empty()).ok_or_else(refuse)?;
                let found: Vec<_> = found.into_iter().map(|class| class as i64).collect();
                let classes = Tensor::f_from_slice(&found)?;
                Ok(if found.len() == 1 { classes } else { classes.f_unsqueeze(0)? })
            }
            (SignalConfig::Scalar { .. }, SignalValue::Number(number)) => floats(&[*number]),
            (SignalConfig::Scalar { .. }, SignalValue::Numbers(numbers)) => {
                Ok(floats(numbers)?.f_unsqueeze(0)?)
            }
            (SignalConfig::Series { width: 1 }, SignalValue::Number(number)) => {
                Ok(floats(&[*number])?.f_unsqueeze(0)?)
            }
            // A vector of one element is a number, so a list means one number per frame.
            (SignalConfig::Series { width: 1 }, SignalValue::Numbers(numbers))
                if numbers.len() > 1 =>
            {
                Ok(floats(numbers)?.f_view([1, -1, 1])?)
            }
            (SignalConfig::Series { width }, SignalValue::Numbers(vector))
                if vector.len() as i64 == *width =>
            {
                Ok(floats(vector)?.f_unsqueeze(0)?)
            }
            (SignalConfig::Series { width }, SignalValue::Rows(rows))
                if !rows.is_empty() && rows.iter().all(|row| row.len() as i64 == *width) =>
            {
                Ok(floats(&rows.concat())?.f_view([1, rows.len() as i64, *width])?)
            }
            _ => Err(refuse()),
        }
    }
}

/// The class given by a number: the one with that name, as in training, or the one at that index if
/// no class name is a number.
fn numbered(classes: &[String], n: f64) -> Option<usize> {
    // An integral value is formatted without a fraction.
    let name = n.to_string();
    if let Some(class) = classes.iter().position(|known| *known == name) {
        return Some(class);
    }
    let places = !any_number(classes);
    (0..classes.len()).find(|class| places && *class as f64 == n)
}

/// Whether any class name is a number, so that numbers are never indices.
fn any_number(classes: &[String]) -> bool {
    classes.iter().any(|class| class.parse::<f64>().is_ok_and(f64::is_finite))
}

/// As written on a command line.
impl std::fmt::Display for SignalValue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            SignalValue::Number(number) => write!(f, "{number}"),
            SignalValue::Name(name) => write!(f, "\"{name}\""),
            SignalValue::Numbers(numbers) => {
                let numbers: Vec<_> = numbers.iter().map(f64::to_string).collect();
                f.write_str(&numbers.join(","))
            }
            SignalValue::Rows(rows) => {
                let of = rows.first().map_or(0, Vec::len);
                write!(f, "{} lists of {of} numbers", rows.len())
            }
        }
    }
}

/// Checks the signals of a call against the network's, and moves them to its device: one value per
/// clip.
pub(crate) fn checked(
    backbone: &dyn Backbone,
    request: &GenerateRequest,
) -> Result<Vec<(String, Tensor)>> {
    let (n, size) = (request.condition.clips(), [request.frames, request.height, request.width]);
    let mut found: Vec<(String, Tensor)> = Vec::new();
    for signal in &request.signals {
        if found.iter().any(|(before, _)| *before == signal.name) {
            return Err(refused(&signal.name, "it given once", "it given twice"));
        }
        let values = signal.fitted(backbone, n, size)?.f_to_device(request.device)?;
        let mut whole = vec![-1; values.dim()];
        whole[0] = n as i64;
        found.push((signal.name.clone(), values.f_expand(whole.as_slice(), false)?));
    }
    Ok(found)
}

/// The kind of numbers, as in training: a scalar keeps its precision until the network has
/// normalised it.
fn float_kind(config: &SignalConfig) -> Kind {
    match config {
        SignalConfig::Scalar { .. } => Kind::Double,
        _ => Kind::Float,
    }
}

/// The values in the kind that the network takes.
fn sound(name: &str, config: &SignalConfig, values: &Tensor) -> Result<Tensor> {
    let (kind, all) = (values.kind(), |ok: Tensor| -> Result<bool> {
        Ok(ok.f_all()?.f_to_device(Device::Cpu)?.f_int64_value(&[])? == 1)
    });
    let SignalConfig::Class { classes } = config else {
        if !all(values.f_isfinite()?)? {
            return Err(refused(name, "finite numbers", "NaN or infinity"));
        }
        if matches!(config, SignalConfig::Video { .. }) && !all(values.f_abs()?.f_le(MOST)?)? {
            let [least, most] = [values.f_min()?, values.f_max()?].map(|end| end.double_value(&[]));
            return Err(refused(name, "pixels in [-1, 1]", format!("{least} to {most}")));
        }
        return Ok(values.f_to_kind(float_kind(config))?);
    };
    if !matches!(kind, Kind::Int64 | Kind::Int | Kind::Int16 | Kind::Int8 | Kind::Uint8) {
        return Err(refused(name, takes(config), format!("values of kind {kind:?}")));
    }
    let values = values.f_to_kind(Kind::Int64)?;
    let inside = values.f_ge(0)?.f_logical_and(&values.f_lt(classes.len() as i64)?)?;
    if all(inside)? {
        return Ok(values);
    }
    let (least, most) = (values.f_min()?.f_int64_value(&[])?, values.f_max()?.f_int64_value(&[])?);
    Err(refused(name, takes(config), format!("{least} to {most}")))
}

/// What a signal accepts, in words.
fn takes(config: &SignalConfig) -> String {
    match config {
        SignalConfig::Class { classes } => {
            let (last, names) = (classes.len().saturating_sub(1), classes.join(", "));
            match any_number(classes) {
                true => format!("a class by its name: {names}"),
                false => format!("a class: {names}, or its number from 0 to {last}"),
            }
        }
        SignalConfig::Scalar { .. } => "a number for each clip, or for each frame".to_owned(),
        SignalConfig::Series { width } => {
            format!("a vector of {width} for each clip, or for each frame")
        }
        SignalConfig::Video { channels } => {
            format!("a video of {channels} channels with the frames and the size of the clips")
        }
    }
}

pub(crate) fn refused(name: &str, expected: impl Into<String>, got: impl Into<String>) -> Error {
    Error::Signal { name: name.to_owned(), expected: expected.into(), got: got.into() }
}
