//! A model's directory: the files that it needs, and the tensors in them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use tch::{Device, Kind, Tensor};
use vd_tensor_ops::Weights;

use super::settings::Settings;
use crate::{Error, Result};

/// Identifies the kind of model.
pub(super) const CONFIG: &str = "config.json";
const WEIGHTS: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";

/// Prefixes of tensor names, depending on the class that was saved.
const PREFIXES: [&str; 6] = ["", "bert.", "roberta.", "distilbert.", "encoder.", "text_model."];

/// Alternative names of a norm's parameters, in checkpoints from TensorFlow.
const OLD_NAMES: [(&str, &str); 2] =
    [("LayerNorm.weight", "LayerNorm.gamma"), ("LayerNorm.bias", "LayerNorm.beta")];

/// A directory of the Hugging Face layout.
#[derive(Debug)]
pub(super) struct Directory {
    pub(super) settings: Settings,
    /// The weight files, sorted by name.
    pub(super) weights: Vec<PathBuf>,
}

impl Directory {
    /// Finds the files in the directory; the tensors are not read yet.
    pub(super) fn open(path: &Path) -> Result<Self> {
        let settings = settings(path)?;
        let weights = weight_files(path)?;
        for file in &weights {
            Weights::check(file)?;
        }
        Ok(Directory { settings, weights })
    }

    /// Reads the tensors, to be converted to a device and precision later.
    pub(super) fn load(&self, kind: Kind, device: Device) -> Result<Loaded> {
        let mut tensors = BTreeMap::new();
        for (file, path) in self.weights.iter().enumerate() {
            for (name, tensor) in Weights::read(path, Device::Cpu)?.tensors {
                tensors.insert(name, (tensor, file));
            }
        }
        Ok(Loaded { files: self.weights.clone(), tensors, kind, device })
    }
}

/// The content of the directory's config.json.
pub(super) fn settings(path: &Path) -> Result<Settings> {
    let config = path.join(CONFIG);
    if !config.is_file() {
        return Err(missing(
            path,
            CONFIG,
            "give the directory of a model in the Hugging Face layout: config.json, \
             tokenizer.json and model.safetensors",
        ));
    }
    Settings::read(&config)
}

pub(super) fn missing(path: &Path, file: impl Into<String>, advice: impl Into<String>) -> Error {
    Error::MissingFile { path: path.to_path_buf(), file: file.into(), advice: advice.into() }
}

fn weight_files(path: &Path) -> Result<Vec<PathBuf>> {
    let single = path.join(WEIGHTS);
    if single.is_file() {
        return Ok(vec![single]);
    }
    let index = path.join(INDEX);
    if index.is_file() {
        return shards(path, &index);
    }
    let pickled = ["pytorch_model.bin", "pytorch_model.bin.index.json", "tf_model.h5"];
    let advice = match pickled.into_iter().find(|name| path.join(name).is_file()) {
        Some(name) => format!(
            "found {name}, but only safetensors are read; in Python, \
             AutoModel.from_pretrained(DIR).save_pretrained(DIR) writes them"
        ),
        None => format!("{INDEX} with its shards also works"),
    };
    Err(missing(path, WEIGHTS, advice))
}

/// The files named by an index.
fn shards(path: &Path, index: &Path) -> Result<Vec<PathBuf>> {
    let settings = Settings::read(index)?;
    let map = settings.texts("weight_map")?;
    let mut names: Vec<_> = map.into_values().collect();
    names.sort();
    names.dedup();
    for name in &names {
        // A name with a path component is not a shard.
        if Path::new(name).file_name().is_none_or(|file| file != name.as_str()) {
            return Err(settings.refuse("weight_map", "names of files in the directory", name));
        }
        if !path.join(name).is_file() {
            return Err(missing(path, name, format!("it is listed in {INDEX}")));
        }
    }
    if names.is_empty() {
        return Err(settings.refuse("weight_map", "at least one file", "none"));
    }
    Ok(names.iter().map(|name| path.join(name)).collect())
}

/// The tensors of a model; each can be taken once.
#[derive(Debug)]
pub(super) struct Loaded {
    files: Vec<PathBuf>,
    /// By name, with the index of the file.
    tensors: BTreeMap<String, (Tensor, usize)>,
    kind: Kind,
    device: Device,
}

impl Loaded {
    /// Takes a tensor, in the requested precision and on the requested device.
    ///
    /// The name in the file may have a known prefix, such as `bert.`.
    ///
    /// # Errors
    /// A tensor that is missing, has another shape, or is not floating-point.
    pub(super) fn take(&mut self, name: &str, shape: &[i64]) -> Result<Tensor> {
        self.take_in(self.kind, name, shape)
    }

    /// The same in another precision.
    pub(super) fn take_in(&mut self, kind: Kind, name: &str, shape: &[i64]) -> Result<Tensor> {
        let Some(found) = self.find(name) else {
            let files: Vec<_> = self.files.iter().map(|file| file.display().to_string()).collect();
            return Err(Error::Pretrained {
                path: self.files.first().cloned().unwrap_or_default(),
                what: format!("tensor `{name}`"),
                expected: format!("one of shape {shape:?}"),
                got: format!("none of this name in {}", files.join(", ")),
            });
        };
        let refused = |file: usize, expected: String, got: String| Error::Pretrained {
            path: self.files[file].clone(),
            what: format!("tensor `{found}`"),
            expected,
            got,
        };
        let (tensor, file) = &self.tensors[&found];
        if tensor.size() != shape {
            let expected = format!("shape {shape:?}, which follows from config.json");
            return Err(refused(*file, expected, format!("{:?}", tensor.size())));
        }
        if !tensor.is_floating_point() {
            let expected = "floating-point numbers".to_owned();
            return Err(refused(*file, expected, format!("{:?}", tensor.kind())));
        }
        let tensor = tensor.f_to_kind(kind)?.f_to_device(self.device)?;
        self.tensors.remove(&found);
        Ok(tensor)
    }

    /// The requested precision.
    pub(super) fn kind(&self) -> Kind {
        self.kind
    }

    /// Whether there is a tensor of this name.
    pub(super) fn has(&self, name: &str) -> bool {
        self.find(name).is_some()
    }

    /// The name in the file.
    fn find(&self, name: &str) -> Option<String> {
        let old = OLD_NAMES
            .iter()
            .find_map(|(new, old)| name.strip_suffix(new).map(|start| format!("{start}{old}")));
        let names: Vec<_> = [Some(name.to_owned()), old].into_iter().flatten().collect();
        let all = PREFIXES.iter().flat_map(|p| names.iter().map(move |name| format!("{p}{name}")));
        all.into_iter().find(|name| self.tensors.contains_key(name))
    }
}
