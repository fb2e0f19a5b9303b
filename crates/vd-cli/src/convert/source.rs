//! The content of a Python checkpoint: networks, the step, the betas.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use tch::{Kind, Tensor};
use vd_tensor_ops::pt::{PtFile, Value};
use vd_train::WeightKind;

use crate::infer::Shapes;

/// A tensor that every Unet3D has; the part before this name is the network's prefix.
const MARK: &str = "init_conv.weight";
/// The prefix of the network within a GaussianDiffusion.
const NETWORK: &str = "denoise_fn.";

/// The content of a Python checkpoint.
#[derive(Debug)]
pub(crate) struct Source {
    /// The kind of file, in words.
    pub(crate) kind: &'static str,
    /// The step at which it was saved, if known.
    pub(crate) step: Option<u64>,
    /// The trained weights, or those of a bare state dict.
    pub(crate) model: Option<Network>,
    /// The moving average.
    pub(crate) ema: Option<Network>,
}

/// The weights of one network, and the schedule that was saved with them.
#[derive(Debug)]
pub(crate) struct Network {
    /// By the network's own names, f32.
    pub(crate) tensors: BTreeMap<String, Tensor>,
    /// The betas in the file, if there are any.
    pub(crate) betas: Option<Vec<f32>>,
    /// The number of tensors that were converted to f32.
    pub(crate) converted: usize,
}

impl Source {
    /// Reads a Trainer's checkpoint or a bare state dict.
    pub(crate) fn read(path: &Path) -> Result<Source> {
        ensure!(
            !is_safetensors(path)?,
            "{}: these are safetensors weights already, expected a file of torch.save; give the \
             folder that holds them to `vd sample` if vd wrote it, else the .pt file they were \
             made from",
            path.display()
        );
        let file = PtFile::open(path)?;
        let root = file.root();
        let read = |value: &Value, what: &str| {
            Network::read(&file, value).with_context(|| format!("{}: {what}", path.display()))
        };
        let part = |key: &str| root.get(key).filter(|value| is_dict(value));
        let (model, ema) = (part("model"), part("ema"));
        if model.is_none() && ema.is_none() {
            ensure!(
                is_dict(root),
                "{}: expected a Trainer's checkpoint or a state dict, got {root:?}",
                path.display()
            );
            let network = read(root, "as a state dict")?;
            let kind = match network.betas {
                Some(_) => "a state dict of a GaussianDiffusion",
                None => "a state dict of a Unet3D",
            };
            return Ok(Source { kind, step: None, model: Some(network), ema: None });
        }
        Ok(Source {
            kind: "a Trainer's checkpoint",
            step: root.get("step").and_then(Value::as_i64).and_then(|n| u64::try_from(n).ok()),
            model: model.map(|value| read(value, "`model`")).transpose()?,
            ema: ema.map(|value| read(value, "`ema`")).transpose()?,
        })
    }
}

/// Whether a file begins as safetensors do: the length of a header, and the header.
fn is_safetensors(path: &Path) -> Result<bool> {
    let mut head = Vec::new();
    let read = File::open(path).and_then(|file| file.take(9).read_to_end(&mut head));
    read.with_context(|| path.display().to_string())?;
    Ok(head.get(8) == Some(&b'{'))
}

impl Source {
    /// The sets of weights in the file, in order of preference.
    pub(crate) fn sets(&self) -> BTreeMap<WeightKind, &Network> {
        let both = [(WeightKind::Ema, &self.ema), (WeightKind::Model, &self.model)];
        both.into_iter().filter_map(|(kind, set)| Some((kind, set.as_ref()?))).collect()
    }
}

impl Network {
    fn read(file: &PtFile, value: &Value) -> Result<Network> {
        let all = file.state_dict(value)?;
        let prefix = prefix(all.keys().map(String::as_str))?;
        let beside = prefix.strip_suffix(NETWORK).unwrap_or(&prefix);
        let betas = all.get(&format!("{beside}betas")).map(betas).transpose()?;
        let (mut tensors, mut converted) = (BTreeMap::new(), 0);
        for (name, tensor) in &all {
            let Some(name) = name.strip_prefix(prefix.as_str()) else { continue };
            if prefix.is_empty() && is_buffer(name, &all) {
                continue;
            }
            let kind = tensor.f_kind()?;
            ensure!(
                matches!(kind, Kind::Float | Kind::Double | Kind::Half | Kind::BFloat16),
                "`{name}` has dtype {kind:?}, expected a float"
            );
            converted += usize::from(kind != Kind::Float);
            tensors.insert(name.to_owned(), tensor.f_to_kind(Kind::Float)?);
        }
        Ok(Network { tensors, betas, converted })
    }

    /// The shapes of the tensors.
    pub(crate) fn shapes(&self) -> Shapes {
        self.tensors.iter().map(|(name, tensor)| (name.clone(), tensor.size())).collect()
    }

    /// The first tensor with a value that is not finite.
    pub(crate) fn first_not_finite(&self) -> Result<Option<&str>> {
        for (name, tensor) in &self.tensors {
            if tensor.f_isfinite()?.f_all()?.f_int64_value(&[])? == 0 {
                return Ok(Some(name));
            }
        }
        Ok(None)
    }
}

fn is_dict(value: &Value) -> bool {
    value.as_dict().is_some()
}

/// The prefix of the network's own names.
fn prefix<'a>(names: impl Iterator<Item = &'a str>) -> Result<String> {
    let mut found = names.filter_map(|name| name.strip_suffix(MARK));
    let first = found.next().with_context(|| {
        format!("no tensor `...{MARK}`: this is no Unet3D of video-diffusion-pytorch")
    })?;
    if let Some(second) = found.next() {
        bail!("two networks, `{first}{MARK}` and `{second}{MARK}`: expected one");
    }
    Ok(first.to_owned())
}

/// Whether a name without prefix is one of a schedule's tables stored beside a bare network.
fn is_buffer(name: &str, all: &BTreeMap<String, Tensor>) -> bool {
    !name.contains('.') && name != "null_cond_emb" && all.contains_key("betas")
}

fn betas(tensor: &Tensor) -> Result<Vec<f32>> {
    let (kind, size) = (tensor.f_kind()?, tensor.size());
    ensure!(
        size.len() == 1 && matches!(kind, Kind::Float | Kind::Double),
        "`betas` is {kind:?} of shape {size:?}, expected one axis of floats"
    );
    Ok(Vec::<f32>::try_from(tensor.f_to_kind(Kind::Float)?)?)
}
