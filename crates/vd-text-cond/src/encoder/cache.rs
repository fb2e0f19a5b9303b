//! Cache of encoded prompts, in memory and on disk.

use std::collections::{HashMap, VecDeque};
use std::fmt::Write as _;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use tch::{Device, Kind, Tensor};
use vd_tensor_ops::{Weights, write_atomically};

use crate::{Error, Result};

/// The most that memory holds; the oldest entry is dropped first.
const MOST_BYTES: usize = 256 << 20;
/// Changes with the content of an entry's file, or with the embedding that a model gives a prompt.
const VERSION: &str = "vd text embeddings 1";
/// Never changes: checkpoints identify their encoders by it.
const ENCODER: &str = "vd text encoder 1";

const POOLED: &str = "pooled";
const TOKENS: &str = "tokens";
const PROMPT: &str = "prompt";
const SUM: &str = "sha256";

/// An encoded prompt, on the CPU.
#[derive(Debug)]
pub(crate) struct Entry {
    /// # Shapes
    /// d
    pub(crate) pooled: Tensor,
    /// # Shapes
    /// l d
    pub(crate) tokens: Tensor,
}

impl Entry {
    /// The number of tokens.
    pub(crate) fn len(&self) -> i64 {
        self.tokens.size().first().copied().unwrap_or(0)
    }

    pub(crate) fn shallow_clone(&self) -> Entry {
        Entry { pooled: self.pooled.shallow_clone(), tokens: self.tokens.shallow_clone() }
    }

    fn bytes(&self) -> usize {
        (self.pooled.numel() + self.tokens.numel()) * size_of::<f32>()
    }
}

/// The hash of a file's content.
pub(crate) type FileHash = [u8; 32];

/// The hash of a file's content, read in chunks.
pub(crate) fn hash_of(path: &Path) -> Result<FileHash> {
    let io_error = |source| Error::Io { path: path.to_path_buf(), source };
    let mut file = File::open(path).map_err(io_error)?;
    let mut hasher = Sha256::new();
    io::copy(&mut file, &mut hasher).map_err(io_error)?;
    Ok(hasher.finalize().into())
}

/// Identity of an encoder: a hash of its settings and of the content of its files.
#[derive(Debug)]
pub(crate) struct Identity(Sha256);

impl Identity {
    /// Everything that an embedding depends on, except the prompt and the kind of device.
    pub(crate) fn of_embeddings(settings: &str, files: &[FileHash]) -> Self {
        Identity::new(VERSION, settings, files)
    }

    /// The encoder itself, however it is used.
    pub(crate) fn of_encoder(kind: &str, files: &[FileHash]) -> Self {
        Identity::new(ENCODER, kind, files)
    }

    fn new(version: &str, words: &str, files: &[FileHash]) -> Self {
        let words = Sha256::new().chain_update(version).chain_update("\n").chain_update(words);
        // The hashes, not the bytes, so that file boundaries count.
        Identity(files.iter().fold(words, |hasher, file| hasher.chain_update(file)))
    }

    /// The hash as 64 hex digits.
    pub(crate) fn hex(self) -> String {
        hex(&self.0.finalize())
    }
}

/// Encoded prompts of one encoder.
#[derive(Debug)]
pub(crate) struct Cache {
    /// Keyed by [`key`].
    memory: HashMap<String, Entry>,
    /// The keys in memory, oldest first.
    order: VecDeque<String>,
    bytes: usize,
    folder: Option<PathBuf>,
}

impl Cache {
    pub(crate) fn in_memory() -> Self {
        Cache { memory: HashMap::new(), order: VecDeque::new(), bytes: 0, folder: None }
    }

    /// The cache below `root`, in a separate folder for this encoder.
    ///
    /// # Errors
    /// A folder that cannot be created or written to.
    pub(crate) fn open(root: &Path, identity: Identity) -> Result<Self> {
        let name = identity.hex();
        let folder = root.join(&name[..16]);
        std::fs::create_dir_all(&folder).map_err(|source| unwritable(&folder, source))?;
        // Checks that results can be stored before a model runs for an hour.
        write(&folder.join("encoder"), |path| write_atomically(path, name.as_bytes()))?;
        Ok(Cache { folder: Some(folder), ..Cache::in_memory() })
    }

    /// The entry of a prompt for this kind of device, of `size` l d, if present.
    ///
    /// A damaged file counts as missing, with a warning.
    pub(crate) fn get(&mut self, prompt: &str, device: Device, size: [i64; 2]) -> Option<Entry> {
        let key = key(prompt, device);
        if let Some(entry) = self.memory.get(&key) {
            return Some(entry.shallow_clone());
        }
        let path = self.path(&key)?;
        if !path.exists() {
            return None;
        }
        match read(&path, prompt, size) {
            Ok(entry) => {
                self.remember(key, entry.shallow_clone());
                Some(entry)
            }
            Err(why) => {
                tracing::warn!("{}: {why}; this prompt is encoded again", path.display());
                None
            }
        }
    }

    /// Stores an entry.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub(crate) fn put(&mut self, prompt: &str, device: Device, entry: &Entry) -> Result<()> {
        let key = key(prompt, device);
        if let Some(path) = self.path(&key) {
            let mut weights = Weights::default();
            weights.tensors.insert(POOLED.to_owned(), entry.pooled.shallow_clone());
            weights.tensors.insert(TOKENS.to_owned(), entry.tokens.shallow_clone());
            weights.metadata.insert(PROMPT.to_owned(), prompt.to_owned());
            weights.metadata.insert(SUM.to_owned(), sum(entry)?);
            write(&path, |path| weights.write(path))?;
        }
        self.remember(key, entry.shallow_clone());
        Ok(())
    }

    fn remember(&mut self, key: String, entry: Entry) {
        self.bytes += entry.bytes();
        self.order.push_back(key.clone());
        if let Some(old) = self.memory.insert(key, entry) {
            self.bytes -= old.bytes();
        }
        while self.bytes > MOST_BYTES
            && let Some(oldest) = self.order.pop_front()
        {
            self.bytes -= self.memory.remove(&oldest).map_or(0, |entry| entry.bytes());
        }
    }

    fn path(&self, key: &str) -> Option<PathBuf> {
        let name = hex(&Sha256::digest(key));
        self.folder.as_ref().map(|folder| folder.join(format!("{name}.safetensors")))
    }
}

/// A prompt and the kind of device that encoded it: results of different kinds differ in the last
/// digits.
fn key(prompt: &str, device: Device) -> String {
    let kind = match device {
        Device::Cpu => "cpu",
        Device::Cuda(_) => "cuda",
        Device::Mps => "mps",
        Device::Vulkan => "vulkan",
    };
    format!("{kind} {prompt}")
}

/// Reads an entry; the error is a description.
fn read(path: &Path, prompt: &str, [l, d]: [i64; 2]) -> std::result::Result<Entry, String> {
    let Weights { mut tensors, metadata } =
        Weights::read(path, Device::Cpu).map_err(|error| match error {
            // The caller's message already starts with the path.
            vd_tensor_ops::Error::Format { what, .. } => what,
            vd_tensor_ops::Error::Io { source, .. } => source.to_string(),
            error => error.to_string(),
        })?;
    let mut take = |name: &str, shape: &[i64]| match tensors.remove(name) {
        Some(x) if x.size() == shape && x.kind() == Kind::Float => Ok(x),
        Some(x) => Err(format!("tensor `{name}`: expected f32 {shape:?}, got {:?}", x.size())),
        None => Err(format!("no tensor `{name}`")),
    };
    let entry = Entry { pooled: take(POOLED, &[d])?, tokens: take(TOKENS, &[l, d])? };
    if metadata.get(PROMPT).is_none_or(|of| of != prompt) {
        return Err("it belongs to another prompt".to_owned());
    }
    let sum = sum(&entry).map_err(|error| error.to_string())?;
    if metadata.get(SUM) != Some(&sum) {
        return Err("its checksum does not match".to_owned());
    }
    Ok(entry)
}

/// The hash of an entry's values.
fn sum(entry: &Entry) -> Result<String> {
    let mut hasher = Sha256::new();
    for tensor in [&entry.pooled, &entry.tokens] {
        let mut bytes = vec![0; tensor.numel() * size_of::<f32>()];
        tensor.f_copy_data_u8(&mut bytes, tensor.numel())?;
        hasher.update(&bytes);
    }
    Ok(hex(&hasher.finalize()))
}

fn write(path: &Path, write: impl FnOnce(&Path) -> vd_tensor_ops::Result<()>) -> Result<()> {
    write(path).map_err(|error| match error {
        vd_tensor_ops::Error::Io { source, .. } => unwritable(path, source),
        error => Error::Ops(error),
    })
}

fn unwritable(path: &Path, source: io::Error) -> Error {
    Error::Cache { path: path.to_path_buf(), source }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use vd_tensor_ops::{Noise, SeededNoise};

    #[test]
    fn what_one_kind_of_device_made_is_not_given_for_another() {
        let root = tempfile::tempdir().unwrap();
        let open = || Cache::open(root.path(), Identity::of_embeddings("of a test", &[])).unwrap();
        let draw = |n, shape: &[i64]| {
            SeededNoise::new(n, 0).normal(&Tensor::empty(shape, (Kind::Float, Device::Cpu)))
        };
        let entry = Entry { pooled: draw(1, &[4]), tokens: draw(2, &[3, 4]) };
        let mut first = open();
        first.put("gold", Device::Cuda(0), &entry).unwrap();
        for cache in [&mut first, &mut open()] {
            assert!(cache.get("gold", Device::Cpu, [3, 4]).is_none());
            let got = cache.get("gold", Device::Cuda(1), [3, 4]).unwrap();
            assert_eq!((got.pooled, got.tokens), (draw(1, &[4]), draw(2, &[3, 4])));
        }
    }
}
