//! Builds the network's conditioning inputs besides the text from a batch.

mod images;
#[cfg(test)]
mod tests;
mod video;

use tch::{Device, Kind, Tensor};
use vd_data::{Batch, Dataset, Entry, Folder, Row, Taken};
use vd_tensor_ops::Noise;
use vd_torch::upload;
use vd_unet3d::{Given, SignalConfig};

pub use video::{known_part, low_resolution};

use crate::batch::chosen;
use crate::config::columns;
use crate::joint::one_behind_the_other;
use crate::streams::{Place, Stream};
use crate::{Error, Result, RunConfig, SignalFrom, SignalSource};

/// A signal of the network and the source of its values.
#[derive(Debug)]
pub(crate) struct Signal {
    pub(crate) name: String,
    kind: SignalConfig,
    source: SignalSource,
}

/// The value of a signal for one clip.
enum Told {
    Class(i64),
    Numbers(Vec<f64>),
}

impl Signal {
    /// All signals of a run.
    pub(crate) fn all(config: &RunConfig) -> Vec<Signal> {
        let signals = config.model.signals.iter().filter_map(|(name, kind)| {
            let source = config.signals.get(name)?.clone();
            Some(Signal { name: name.clone(), kind: kind.clone(), source })
        });
        signals.collect()
    }

    /// The signal of a batch. It is null for clips without a value, and for those that are dropped.
    /// Images beside the clips have their own values and draws.
    ///
    /// # Shapes
    /// `x0`: b c (f + k) h w, the batch's clips and images in [-1, 1]
    pub(crate) fn given(&self, batch: &Batch, x0: &Tensor, at: Place) -> Result<Given> {
        let f = batch.clip_frames as i64;
        let k = x0.size()[2] - f;
        let given = match k {
            0 => self.of_clips(batch, x0, at)?,
            _ => {
                let clips = self.of_clips(batch, &x0.f_narrow(2, 0, f)?, at)?;
                let images = self.of_images(batch, &x0.f_narrow(2, f, k)?, at)?;
                one_behind_the_other(&clips, &images, f)?
            }
        };
        let device = x0.device();
        let null = given.null.map(|null| upload(&null, device)).transpose()?;
        Ok(Given { value: upload(&given.value, device)?, null })
    }

    /// The signal of the clips alone; `x0`: b c f h w.
    fn of_clips(&self, batch: &Batch, x0: &Tensor, at: Place) -> Result<Given> {
        let (b, _, f, h, w) = x0.size5()?;
        let noise = |stream| at.named_noise(stream, &self.name);
        let dropped = chosen(self.source.drop, &[b], noise(Stream::SignalDrop))?;
        let (value, null) = match &self.source.from {
            SignalFrom::LowResolution { factor, upsampling } => {
                (low_resolution(x0, *factor as i64, *upsampling)?, dropped)
            }
            SignalFrom::Masked { first_frames, hidden_box } => {
                let known = match (first_frames, hidden_box) {
                    (Some(n), _) => video::first_frames(*n, f)?,
                    (None, sides) => {
                        let like = Tensor::f_empty([b, 4], (Kind::Float, Device::Cpu))?;
                        let draws = noise(Stream::SignalBox).uniform(&like);
                        video::outside_of_boxes(&draws, sides.unwrap_or([1.0; 2]), [h, w])?
                    }
                };
                (known_part(x0, &known)?, dropped)
            }
            _ => {
                let told = (0..batch.rows.len()).map(|k| {
                    let about = (batch.rows[k].as_deref(), batch.folders[k].as_deref());
                    self.told_in(about, (&batch.taken[k], f), &format!("clip {k} of a batch"))
                });
                let (value, missing) = self.stacked(told.collect::<Result<_>>()?, f)?;
                (value, dropped.f_logical_or(&Tensor::f_from_slice(&missing)?)?)
            }
        };
        Ok(Given { value, null: Some(null) })
    }

    /// The value for a clip, or for the `frames` frames that were taken from it.
    fn told_in(
        &self,
        (row, folder): (Option<&Row>, Option<&str>),
        (taken, frames): (&Taken, i64),
        clip: &str,
    ) -> Result<Option<Told>> {
        match (&self.source.from, row) {
            (SignalFrom::Array { name }, Some(row)) => {
                let series = row.series(name, self.width(), taken, frames as usize)?;
                Ok(series.map(Told::Numbers))
            }
            (SignalFrom::Array { .. }, None) => Ok(None),
            _ => self.told(row, folder, clip),
        }
    }

    /// Stacks the values of all clips of `f` frames, and marks clips without a value, whose numbers
    /// are placeholders.
    fn stacked(&self, told: Vec<Option<Told>>, f: i64) -> Result<(Tensor, Vec<bool>)> {
        let b = told.len();
        let missing = told.iter().map(Option::is_none).collect();
        let rows = told.into_iter();
        if matches!(self.kind, SignalConfig::Class { .. }) {
            let number = |told| if let Some(Told::Class(number)) = told { number } else { 0 };
            let classes: Vec<i64> = rows.map(number).collect();
            return Ok((Tensor::f_from_slice(&classes)?, missing));
        }
        let mut shape = vec![b as i64];
        shape.extend(matches!(self.source.from, SignalFrom::Array { .. }).then_some(f));
        shape.extend(matches!(self.kind, SignalConfig::Series { .. }).then(|| self.width() as i64));
        let each = shape[1..].iter().product::<i64>() as usize;
        let numbers = |told| match told {
            Some(Told::Numbers(numbers)) => numbers,
            _ => vec![0.0; each],
        };
        let numbers: Vec<f64> = rows.flat_map(numbers).collect();
        let mut value = Tensor::f_from_slice(&numbers)?.f_view(shape.as_slice())?;
        // Keeps full precision until the network has scaled the number to order 1.
        if !matches!(self.kind, SignalConfig::Scalar { .. }) {
            value = value.f_to_kind(Kind::Float)?;
        }
        Ok((value, missing))
    }

    /// The number of values per frame.
    fn width(&self) -> usize {
        match self.kind {
            SignalConfig::Series { width } => width as usize,
            _ => 1,
        }
    }

    /// The value for a clip as a whole.
    fn told(&self, row: Option<&Row>, folder: Option<&str>, clip: &str) -> Result<Option<Told>> {
        let column = self.source.from.column();
        match (&self.kind, column, row) {
            (SignalConfig::Class { classes }, None, _) => {
                let Some(class) = folder else { return Ok(None) };
                let number = number_of(classes, class).ok_or_else(|| {
                    let key = format!("model.signals.{}.classes", self.name);
                    Error::config(key, listed(classes), format!("{class:?}, the folder of {clip}"))
                })?;
                Ok(Some(Told::Class(number)))
            }
            (_, Some(_), None) | (_, None, _) => Ok(None),
            (SignalConfig::Class { classes }, Some(column), Some(row)) => {
                let Some(class) = row.name(column)? else { return Ok(None) };
                let number = number_of(classes, &class)
                    .ok_or_else(|| row.refuse(column, listed(classes), format!("{class:?}")))?;
                Ok(Some(Told::Class(number)))
            }
            (SignalConfig::Series { .. }, Some(column), Some(row)) => {
                Ok(row.vector(column, self.width())?.map(|numbers| Told::Numbers(numbers.to_vec())))
            }
            (_, Some(column), Some(row)) => {
                Ok(row.number(column)?.map(|number| Told::Numbers(vec![number])))
            }
        }
    }

    /// Whether a clip of the data has a value.
    ///
    /// # Errors
    /// A value of the wrong kind; more or fewer values than the file has frames.
    fn is_told(&self, entry: &Entry) -> Result<bool> {
        let (row, folder) = (entry.row.as_deref(), entry.folder());
        let SignalFrom::Array { name } = &self.source.from else {
            let clip = entry.name.display().to_string();
            return Ok(self.told(row, folder, &clip)?.is_some());
        };
        let list = row.map(|row| Ok::<_, Error>((row, row.list(name, self.width())?)));
        let Some((row, Some(numbers))) = list.transpose()? else { return Ok(false) };
        // a file that cannot be read is counted when it is loaded
        let (rows, Ok(probe)) = (numbers.len() / self.width(), entry.media.probe()) else {
            return Ok(true);
        };
        row.one_a_frame(name, rows, probe.f)?;
        Ok(true)
    }
}

/// Reports values of the data that a signal cannot use, and counts the clips without a value.
pub(crate) fn check_signals(config: &RunConfig, dataset: &Dataset) -> Result<()> {
    let Some(folder) = dataset.folder() else { return Ok(()) };
    for signal in Signal::all(config) {
        let from = &signal.source.from;
        if from.column().is_none() && !matches!(from, SignalFrom::Folder {}) {
            continue;
        }
        // Images without a value are not reported, like those without a caption.
        let images = dataset.image_folder().map(Folder::entries).unwrap_or_default();
        images.iter().try_for_each(|entry| signal.is_told(entry).map(|_| ()))?;
        let mut without = 0;
        for entry in folder.entries() {
            without += usize::from(!signal.is_told(entry)?);
        }
        let (name, clips) = (&signal.name, folder.entries().len());
        if without == clips {
            let got = format!("none{}", columns(folder, from));
            let expected = "a value for at least one clip";
            return Err(Error::config(format!("signals.{name}.from"), expected, got));
        }
        if without > 0 {
            tracing::warn!(
                "{without} of {clips} clips have no value for signals.{name}: they are trained without it, \
                 like those chosen by signals.{name}.drop"
            );
        }
    }
    Ok(())
}

fn number_of(classes: &[String], class: &str) -> Option<i64> {
    (0i64..).zip(classes).find(|(_, known)| *known == class).map(|(number, _)| number)
}

fn listed(classes: &[String]) -> String {
    const SHOWN: usize = 20;
    let shown: Vec<_> = classes.iter().take(SHOWN).map(String::as_str).collect();
    let more = classes.len().saturating_sub(SHOWN);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("one of the classes {}{more}", shown.join(", "))
}
