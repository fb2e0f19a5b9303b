//! Reader of the checkpoints that Python's `torch.save` writes.
//!
//! A checkpoint is a zip archive with a pickle in it, a small program that builds the saved object.
//! This reader interprets the program without ever running code: containers, numbers, texts and
//! tensors get their meaning, and every other class is kept as a name with its arguments
//! ([`Opaque`]). Tensors stay in the file until requested. A damaged or hostile file gives an
//! error, whatever its bytes: lengths, depths and counts are bounded, and no memory is allocated
//! for a size that the file merely claims.
//!
//! ```no_run
//! use vd_tensor_ops::pt::PtFile;
//! let file = PtFile::open("model-10.pt".as_ref())?;
//! let step = file.root().get("step").and_then(|v| v.as_i64());
//! if let Some(model) = file.root().get("model") {
//!     let tensors = file.state_dict(model)?;
//! }
//! # Ok::<(), vd_tensor_ops::Error>(())
//! ```
//!
//! # Reference
//! `torch/serialization.py` and `torch/_utils.py` of PyTorch 2.11, and Python's `pickletools`.

mod archive;
mod cursor;
mod heap;
mod opcode;
mod pickle;
mod rebuild;
mod resolve;
mod scalar;
mod tensor;
mod value;

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tch::{Kind, Tensor};

use crate::weights::{map, tensor_from_bytes};
use crate::{Error, Result};
use archive::Archive;
use value::Shown;

pub use tensor::TensorInfo;
pub use value::{Class, Opaque, Value};

/// Why a file was refused; [`PtFile`] adds the path.
type Parse<T> = std::result::Result<T, String>;

/// A checkpoint of Python's `torch.save`.
///
/// The file stays mapped while this lives: it must not be overwritten in place meanwhile.
pub struct PtFile {
    path: PathBuf,
    archive: Archive,
    root: Value,
}

impl PtFile {
    /// Opens a checkpoint and reads its structure, but no tensor.
    ///
    /// # Errors
    /// [`Error::Io`] if the file cannot be opened; [`Error::Format`] if it is not an archive of
    /// torch.save (the format before PyTorch 1.6, TorchScript, something else), or is compressed,
    /// big-endian, truncated or damaged, or larger in structure than any checkpoint.
    pub fn open(path: &Path) -> Result<Self> {
        let bytes = map(path)?;
        let read = || {
            let (archive, pickle) = Archive::open(bytes)?;
            Ok((archive, pickle::parse(&pickle)?))
        };
        let (archive, root) =
            read().map_err(|what| Error::Format { path: path.to_owned(), what })?;
        Ok(PtFile { path: path.to_owned(), archive, root })
    }

    /// The saved object.
    pub fn root(&self) -> &Value {
        &self.root
    }

    /// Reads one tensor, contiguous and on the CPU.
    ///
    /// # Errors
    /// [`Error::Format`] if the tensor does not lie in its storage, the storage is damaged or
    /// missing, the dtype is not supported, or a view repeats a small storage excessively.
    pub fn tensor(&self, info: &TensorInfo) -> Result<Tensor> {
        let mut budget = self.budget();
        self.read(info, &mut budget, &mut None).map_err(|what| self.format(what))
    }

    /// Reads every tensor of a state dict, a dict of tensors by name.
    ///
    /// Entries that are the same view of the same storage (tied parameters) share memory, as they
    /// do in Python.
    ///
    /// # Errors
    /// [`Error::Format`] if the value is not a dict, a key is not a text or an entry is not a
    /// tensor; errors of [`PtFile::tensor`].
    pub fn state_dict(&self, value: &Value) -> Result<BTreeMap<String, Tensor>> {
        let entries = value.as_dict().ok_or_else(|| {
            self.format(format!("expected a state dict, a dict of tensors by name, got {value:?}"))
        })?;
        let mut named = Vec::with_capacity(entries.len());
        for (key, value) in entries {
            match (key.as_str(), value.as_tensor()) {
                (Some(name), Some(info)) => named.push((name, info)),
                _ => return Err(self.format(not_a_tensor(entries, key, value))),
            }
        }
        // Views of one storage are adjacent, so that it need be copied only once.
        named.sort_by_key(|(_, info)| (&info.layout().storage.key, info.dtype()));
        let (mut budget, mut flat) = (self.budget(), None);
        let mut done: HashMap<&TensorInfo, Tensor> = HashMap::new();
        let mut tensors = BTreeMap::new();
        for (name, info) in named {
            let tensor = match done.get(info) {
                Some(tensor) => tensor.shallow_clone(),
                None => self
                    .read(info, &mut budget, &mut flat)
                    .map_err(|what| self.format(format!("tensor `{}`: {what}", Shown(name))))?,
            };
            done.entry(info).or_insert_with(|| tensor.shallow_clone());
            tensors.insert(name.to_owned(), tensor);
        }
        Ok(tensors)
    }

    fn format(&self, what: String) -> Error {
        Error::Format { path: self.path.clone(), what }
    }

    /// Bytes that one call may copy. Views may repeat their storages, but only within a limit: a
    /// file of a few bytes could otherwise ask for a tensor of terabytes.
    fn budget(&self) -> usize {
        self.archive.len().saturating_mul(4).saturating_add(64 << 20)
    }

    /// `flat` keeps the storage available between strided views of it.
    fn read(
        &self,
        info: &TensorInfo,
        budget: &mut usize,
        flat: &mut Option<Flat>,
    ) -> Parse<Tensor> {
        let layout = info.layout();
        let kind = layout.supported_kind()?;
        let item_bytes = kind.elt_size_in_bytes();
        let window = layout.window(item_bytes)?;
        // Cannot overflow: the window's own check has computed this product.
        *budget = budget.checked_sub(window.numel * item_bytes).ok_or_else(|| {
            format!(
                "the shape {:?} is implausible for this file: its {} bytes would \
                 be repeated more than four times",
                info.shape(),
                self.archive.len()
            )
        })?;
        let content = self.archive.storage(&layout.storage.key)?;
        let bytes = layout.bytes(window, content)?;
        if window.contiguous {
            return tensor_from_bytes(bytes, info.shape(), kind);
        }
        let flat = match flat {
            Some(flat) if flat.key == layout.storage.key && flat.kind == kind => flat,
            _ => flat.insert(Flat::new(layout, kind, content)?),
        };
        layout.view(&flat.tensor)
    }
}

/// All elements of one storage.
struct Flat {
    key: Arc<str>,
    kind: Kind,
    tensor: Tensor,
}

impl Flat {
    fn new(layout: &tensor::Layout, kind: Kind, content: &[u8]) -> Parse<Flat> {
        let numel = content.len() / kind.elt_size_in_bytes();
        let whole = content.get(..numel * kind.elt_size_in_bytes()).unwrap_or_default();
        let tensor = tensor_from_bytes(whole, &[numel as i64], kind)?;
        Ok(Flat { key: layout.storage.key.clone(), kind, tensor })
    }
}

impl fmt::Debug for PtFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PtFile").field("path", &self.path).field("root", &self.root).finish()
    }
}

/// Names the entry that is not a tensor, and nested dicts that may be the intended state dict.
fn not_a_tensor(entries: &[(Value, Value)], key: &Value, value: &Value) -> String {
    let dicts: Vec<String> = entries
        .iter()
        .filter(|(_, value)| value.as_dict().is_some())
        .filter_map(|(key, _)| Some(format!("`{}`", Shown(key.as_str()?))))
        .take(8)
        .collect();
    let hint = if dicts.is_empty() {
        String::new()
    } else {
        format!("; its entries {} are dicts: is it one of these?", dicts.join(", "))
    };
    format!("expected a state dict, but its entry {key:?} is {value:?}, not a tensor{hint}")
}
