//! Conditioning inputs besides prompts: signals, from the command line or a prompt file.

use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use serde::Serialize;
use tch::Tensor;
use vd_text_cond::{GivenSignal, SignalValue, read_embeddings};
use vd_unet3d::{Backbone, SignalConfig};

use super::files::{Files, is_table, video};

/// A signal as requested.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Told {
    /// Its origin: a flag, or a line of a file.
    #[serde(skip)]
    pub(crate) by: String,
    pub(crate) name: String,
    pub(crate) value: SignalValue,
    pub(crate) scale: f64,
}

impl Told {
    /// The value for one clip with these frames, height and width.
    pub(crate) fn signal(
        &self,
        network: &dyn Backbone,
        shape: [i64; 3],
        files: &mut Files,
    ) -> Result<GivenSignal> {
        let Told { by, name, scale, .. } = self;
        let config = config(network, name).with_context(|| by.clone())?;
        let values = self.values(config, files).with_context(|| by.clone())?;
        let signal = GivenSignal { name: name.clone(), values, scale: *scale };
        signal.check(network, 1, shape).with_context(|| by.clone())?;
        Ok(signal)
    }

    fn values(&self, config: &SignalConfig, files: &mut Files) -> Result<Tensor> {
        let SignalValue::Name(text) = &self.value else {
            return Ok(self.value.tensor(&self.name, config)?);
        };
        let is_table = is_table(Path::new(text));
        match config {
            SignalConfig::Video { channels } => {
                files.read(&self.name, text, |path| video(path, *channels))
            }
            SignalConfig::Scalar { .. } if is_table => files.read(&self.name, text, one_a_frame),
            SignalConfig::Series { .. } if is_table => files.read(&self.name, text, |path| {
                let rows = read_embeddings(path)?;
                // A single row is the vector of the whole clip.
                Ok(if rows.size()[0] == 1 { rows } else { rows.f_unsqueeze(0)? })
            }),
            SignalConfig::Class { classes } if classes.contains(text) => {
                Ok(self.value.tensor(&self.name, config)?)
            }
            _ => Ok(numbers(text).as_ref().unwrap_or(&self.value).tensor(&self.name, config)?),
        }
    }
}

/// A file's column or row of numbers, one per frame.
fn one_a_frame(path: &Path) -> Result<Tensor> {
    let rows = read_embeddings(path)?;
    ensure!(
        rows.size().contains(&1),
        "{}: shape {:?}, expected one number for each frame",
        path.display(),
        rows.size()
    );
    Ok(rows.f_view([1, -1])?)
}

/// The network's config of a signal.
fn config<'a>(network: &'a dyn Backbone, name: &str) -> Result<&'a SignalConfig> {
    let known = network.signals();
    if let Some((_, config)) = known.iter().find(|(known, _)| *known == name) {
        return Ok(config);
    }
    let names: Vec<_> = known.iter().map(|(name, _)| *name).collect();
    match names.is_empty() {
        true => bail!(
            "this model takes no signals; leave it out, or use a model trained with \
             [model.signals.{name}]"
        ),
        false => bail!("this model has no signal `{name}`, expected one of {}", names.join(", ")),
    }
}

/// One number, or several separated by commas.
fn numbers(text: &str) -> Option<SignalValue> {
    let numbers: Option<Vec<f64>> =
        text.split(',').map(|number| number.trim().parse().ok()).collect();
    let numbers = numbers?;
    match numbers[..] {
        [number] => Some(SignalValue::Number(number)),
        _ => Some(SignalValue::Numbers(numbers)),
    }
}

/// The frames of a window of a longer video: selects them in a value that has one entry per frame.
pub(crate) fn of_frames(
    signal: &GivenSignal,
    network: &dyn Backbone,
    frames: &[i64],
) -> Result<GivenSignal> {
    let dim = signal.values.dim();
    let axis = match config(network, &signal.name)? {
        SignalConfig::Class { .. } | SignalConfig::Scalar { .. } if dim == 2 => Some(1),
        SignalConfig::Series { .. } if dim == 3 => Some(1),
        SignalConfig::Video { .. } => Some(2),
        _ => None,
    };
    let values = match axis {
        Some(axis) => signal.values.f_index_select(axis, &Tensor::f_from_slice(frames)?)?,
        None => signal.values.shallow_clone(),
    };
    Ok(GivenSignal { name: signal.name.clone(), values, scale: signal.scale })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::collections::BTreeMap;

    use super::*;
    use tch::{Device, Kind};
    use vd_tensor_ops::{FrameMask, Noise, SeededNoise};
    use vd_unet3d::Cond;

    const SHAPE: [i64; 3] = [3, 2, 4];

    /// A network with these signals.
    #[derive(Debug)]
    struct Takes(BTreeMap<&'static str, SignalConfig>);

    impl Takes {
        fn all() -> Takes {
            let classes = ["sun", "fog", "rain"].map(str::to_owned).to_vec();
            let digits = ["2", "7"].map(str::to_owned).to_vec();
            Takes(BTreeMap::from([
                ("weather", SignalConfig::Class { classes }),
                ("digit", SignalConfig::Class { classes: digits }),
                ("speed", SignalConfig::Scalar { mean: 0.0, std: 1.0 }),
                ("pose", SignalConfig::Series { width: 2 }),
                ("low", SignalConfig::Video { channels: 1 }),
            ]))
        }
    }

    impl Backbone for Takes {
        fn forward(
            &self,
            x: &Tensor,
            _: &Tensor,
            _: &Cond,
            _: &FrameMask,
            _: Option<&mut dyn Noise>,
        ) -> vd_unet3d::Result<Tensor> {
            Ok(x.shallow_clone())
        }

        fn signals(&self) -> Vec<(&str, &SignalConfig)> {
            self.0.iter().map(|(name, config)| (*name, config)).collect()
        }
    }

    fn told(name: &str, value: &str) -> Told {
        let by = format!("--signal {name}={value}");
        let value = SignalValue::Name(value.to_owned());
        Told { by, name: name.to_owned(), value, scale: 2.0 }
    }

    fn values(name: &str, value: &str) -> Tensor {
        let signal = told(name, value).signal(&Takes::all(), SHAPE, &mut Files::default()).unwrap();
        assert_eq!((signal.name.as_str(), signal.scale), (name, 2.0));
        signal.values
    }

    fn refused(name: &str, value: &str) -> String {
        let read = told(name, value).signal(&Takes::all(), SHAPE, &mut Files::default());
        format!("{:#}", read.unwrap_err())
    }

    fn random(seed: u64, shape: &[i64]) -> Tensor {
        SeededNoise::new(seed, 0).normal(&Tensor::empty(shape, (Kind::Float, Device::Cpu)))
    }

    #[test]
    fn the_config_says_what_a_value_means() {
        assert_eq!(values("weather", "rain"), Tensor::from_slice(&[2i64]));
        assert_eq!(values("weather", "2"), Tensor::from_slice(&[2i64]));
        assert_eq!(values("weather", "0,1,2").size(), [1, 3]);
        // If class names are numbers, a number is a name, not an index.
        assert_eq!(values("digit", "7"), Tensor::from_slice(&[1i64]));
        assert_eq!(values("digit", "2,7, 2"), Tensor::from_slice(&[0i64, 1, 0]).unsqueeze(0));
        assert!(refused("digit", "0").contains("a class by its name: 2, 7"));
        assert_eq!(values("speed", "-.5"), Tensor::from_slice(&[-0.5f32]));
        assert_eq!(values("speed", "1, 2,3").size(), [1, 3]);
        assert_eq!(values("pose", "1,2"), Tensor::from_slice(&[1f32, 2.0]).unsqueeze(0));
    }

    #[test]
    fn files_hold_what_a_line_does_not() {
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str, x: &Tensor| {
            let path = dir.path().join(name);
            Tensor::write_safetensors(&[("values", x)], &path).unwrap();
            path.display().to_string()
        };
        let (column, rows) = (random(1, &[3, 1]), random(2, &[3, 2]));
        let (vector, video) = (random(3, &[1, 2]), random(4, &[1, 3, 2, 4]).clamp(-1.0, 1.0));
        assert_eq!(values("speed", &file("a.safetensors", &column)), column.view([1, 3]));
        assert_eq!(values("pose", &file("b.safetensors", &rows)), rows.unsqueeze(0));
        assert_eq!(values("pose", &file("c.safetensors", &vector)), vector);
        assert_eq!(values("low", &file("d.safetensors", &video)), video.unsqueeze(0));
        let message = refused("low", &file("e.safetensors", &random(5, &[1, 3, 2, 5]).tanh()));
        assert!(
            message.contains("[1, 1, 3, 2, 5]") && message.contains("[1, 1, 3, 2, 4]"),
            "{message}"
        );
        let message = refused("low", &file("f.safetensors", &(&video * 2.0 + 1.5)));
        assert!(
            message.contains("pixels in [-1, 1], got") && message.contains("f.safe"),
            "{message}"
        );
    }

    #[test]
    fn a_file_is_read_once_whatever_number_of_clips_is_told_of_it() {
        let dir = tempfile::tempdir().unwrap();
        let takes = Takes::all();
        let mut files = Files::default();
        for (name, shape) in
            [("low", vec![1, 3, 2, 4]), ("speed", vec![3, 1]), ("pose", vec![3, 2])]
        {
            let path = dir.path().join("a.safetensors");
            Tensor::write_safetensors(&[("values", &random(6, &shape).tanh())], &path).unwrap();
            let told = told(name, &path.display().to_string());
            let first = told.signal(&takes, SHAPE, &mut files).unwrap();
            std::fs::remove_file(&path).unwrap();
            let again = told.signal(&takes, SHAPE, &mut files).unwrap();
            assert_eq!(again.values, first.values, "{name}");
            assert!(told.signal(&takes, SHAPE, &mut Files::default()).is_err());
            // With another length the same file is read differently.
            let message = told.signal(&takes, [4, 2, 4], &mut files).unwrap_err();
            assert!(format!("{message:#}").contains("shape"), "{message:#}");
        }
    }

    #[test]
    fn what_is_not_understood_is_told_by_its_flag() {
        for (name, value, expected) in [
            ("wether", "rain", "expected one of digit, low, pose, speed, weather"),
            ("weather", "snow", "sun, fog, rain"),
            ("speed", "fast", "a number for each clip"),
            ("pose", "1,2,3", "a vector of 2"),
            ("pose", "nowhere.npy", "nowhere.npy"),
            ("low", "nowhere.gif", "nowhere.gif"),
            ("low", "a.npy", ".safetensors, GIF"),
        ] {
            let message = refused(name, value);
            assert!(message.contains(expected), "{name}={value}: {message}");
            assert!(message.contains(&format!("--signal {name}={value}")), "{message}");
        }
        let takes = Takes(BTreeMap::new());
        let nothing = told("a", "1").signal(&takes, SHAPE, &mut Files::default()).unwrap_err();
        assert!(format!("{nothing:#}").contains("takes no signals"));
    }

    #[test]
    fn a_part_of_a_video_is_told_of_its_frames() {
        let takes = Takes::all();
        for (name, values, expected) in [
            ("speed", random(1, &[1]), vec![1]),
            ("speed", random(2, &[1, 9]), vec![1, 3]),
            ("pose", random(3, &[1, 2]), vec![1, 2]),
            ("pose", random(4, &[1, 9, 2]), vec![1, 3, 2]),
            ("low", random(5, &[1, 1, 9, 2, 4]), vec![1, 1, 3, 2, 4]),
        ] {
            let signal = GivenSignal { name: name.to_owned(), values, scale: 3.0 };
            let part = of_frames(&signal, &takes, &[8, 0, 4]).unwrap();
            assert_eq!((part.values.size(), part.scale), (expected, 3.0));
        }
        let signal = GivenSignal::new("speed", random(2, &[1, 9]));
        let part = of_frames(&signal, &takes, &[8, 0, 4]).unwrap().values;
        assert_eq!(part.double_value(&[0, 0]), signal.values.double_value(&[0, 8]));
    }
}
