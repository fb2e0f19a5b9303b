//! The encoder built from a directory.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tch::{Device, Kind, Tensor};
use vd_tensor_ops::torch::upload;
use vd_unet3d::{Cond, Tokens};

use super::directory::{CONFIG, Directory};
use super::pooling::Batch;
use super::text::{Text, Tokenized, brief};
use super::{Architecture, Model, PretrainedConfig, architecture};
use crate::Result;
use crate::encoder::TextEncoder;
use crate::encoder::cache::{Cache, Entry, FileHash, Identity, hash_of};

/// Lower bound of the norm by which a vector is divided, so that 0 stays 0.
const SHORTEST: f64 = 1e-12;

/// A language model in a directory of the Hugging Face layout.
///
/// The directory holds config.json, tokenizer.json (or the vocabularies of a BERT, RoBERTa or CLIP)
/// and model.safetensors, in one file or in shards. `model_type` in config.json selects the model:
/// BERT, DistilBERT, RoBERTa and XLM-RoBERTa, the encoder of a T5, or the text encoder of a CLIP.
///
/// It returns a pooled vector of each prompt and all its tokens, including special ones. Results
/// are cached for each kind of device: in memory up to 256 MiB, with the oldest dropped first, and
/// all of them on disk if the config names a cache. Prompts in neither are encoded again. Prompts
/// that are encoded together are padded to the longest, which affects only the last bits of the
/// others. The weights are read when a prompt is first encoded, onto the requested device.
#[derive(Debug)]
pub struct Pretrained {
    config: PretrainedConfig,
    directory: Directory,
    architecture: Box<dyn Architecture>,
    text: Text,
    /// The hashes of its files, computed on first use.
    hashes: Mutex<Option<Vec<FileHash>>>,
    cache: Mutex<Cache>,
    model: Mutex<Option<(Device, Box<dyn Model>)>>,
}

impl Pretrained {
    /// Opens the model described by a config.
    ///
    /// # Errors
    /// A directory without the required files; an unknown kind of model; a tokenizer that cannot be
    /// read; a cache that cannot be written.
    pub fn open(config: &PretrainedConfig) -> Result<Self> {
        config.validate()?;
        let directory = Directory::open(&config.path)?;
        let architecture = architecture(&directory.settings)?;
        let text = Text::open(&config.path, &directory.settings)?;
        let mut encoder = Pretrained {
            config: config.clone(),
            directory,
            architecture,
            text,
            hashes: Mutex::new(None),
            cache: Mutex::new(Cache::in_memory()),
            model: Mutex::new(None),
        };
        if let Some(folder) = &config.cache {
            let identity = Identity::of_embeddings(&settings(config), &encoder.hashes()?);
            encoder.cache = Mutex::new(Cache::open(folder, identity)?);
        }
        Ok(encoder)
    }

    /// The hashes of all files that have been or will be read.
    fn hashes(&self) -> Result<Vec<FileHash>> {
        let mut known = lock(&self.hashes);
        if let Some(hashes) = &*known {
            return Ok(hashes.clone());
        }
        let config = self.config.path.join(CONFIG);
        let files = [&config].into_iter().chain(&self.text.files).chain(&self.directory.weights);
        let hashes: Vec<_> = files.map(|file| hash_of(file)).collect::<Result<_>>()?;
        Ok(known.insert(hashes).clone())
    }

    /// The ids of a prompt's tokens, including special ones.
    ///
    /// # Errors
    /// As [`TextEncoder::encode`]
    pub fn token_ids(&self, prompt: &str) -> Result<Vec<i64>> {
        Ok(self.tokenize(prompt)?.ids)
    }

    /// The most tokens of a prompt, including special ones; `None` if there is no limit.
    pub fn longest(&self) -> Option<i64> {
        self.architecture.longest()
    }

    fn tokenize(&self, prompt: &str) -> Result<Tokenized> {
        let longest = self.architecture.longest();
        let tokens = self.text.tokenize(prompt, longest, self.config.truncate)?;
        self.text.check_ids(&tokens.ids, self.architecture.words())?;
        Ok(tokens)
    }

    /// The encoded prompts, from the cache or from the model, in their order.
    fn entries(&self, prompts: &[&str], device: Device) -> Result<Vec<Entry>> {
        let mut cache = lock(&self.cache);
        let mut found = BTreeMap::new();
        let mut absent = BTreeMap::new();
        for prompt in prompts {
            if found.contains_key(prompt) || absent.contains_key(prompt) {
                continue;
            }
            // Before the cache lookup: a prompt that is too long is refused even if another run
            // truncated it.
            let tokens = self.tokenize(prompt)?;
            warn_of_cut(prompt, &tokens);
            match cache.get(prompt, device, [tokens.ids.len() as i64, self.architecture.width()]) {
                Some(entry) => drop(found.insert(*prompt, entry)),
                None => drop(absent.insert(*prompt, tokens)),
            }
        }
        let mut absent: Vec<_> = absent.into_iter().collect();
        // Sorted by length, to reduce padding.
        absent.sort_by_key(|(_, tokens)| tokens.ids.len());
        for batch in absent.chunks(self.config.batch) {
            for ((prompt, _), entry) in batch.iter().zip(self.run(batch, device)?) {
                cache.put(prompt, device, &entry)?;
                found.insert(*prompt, entry);
            }
        }
        Ok(prompts.iter().filter_map(|p| found.get(p).map(Entry::shallow_clone)).collect())
    }

    /// Runs the model on prompts that are encoded together.
    fn run(&self, prompts: &[(&str, Tokenized)], device: Device) -> Result<Vec<Entry>> {
        let mut model = lock(&self.model);
        let ready = model.take().filter(|(at, _)| *at == device);
        let (_, model) = model.insert(match ready {
            Some(ready) => ready,
            None => (device, self.load(device)?),
        });
        let tokenized: Vec<_> = prompts.iter().map(|(_, tokens)| tokens).collect();
        let batch = Batch::new(&tokenized, self.architecture.pad(), device)?;
        let tokens = model.forward(&batch.ids, &batch.mask, self.config.layer)?;
        let tokens = tokens.f_to_kind(Kind::Float)?;
        let mut pooled = batch.pool(&tokens, self.config.pooling, self.architecture.end())?;
        if self.config.normalize {
            let length = pooled.f_norm_scalaropt_dim(2.0, [1], true)?;
            pooled = pooled.f_div(&length.f_clamp_min(SHORTEST)?)?;
        }
        let (tokens, pooled) = (tokens.f_to_device(Device::Cpu)?, pooled.f_to_device(Device::Cpu)?);
        let entry = |(row, prompt): (i64, &&Tokenized)| -> Result<Entry> {
            let own = tokens.f_select(0, row)?.f_narrow(0, 0, prompt.ids.len() as i64)?;
            // Copied: a view would keep the whole batch alive.
            Ok(Entry { pooled: pooled.f_select(0, row)?.copy(), tokens: own.copy() })
        };
        (0..).zip(&tokenized).map(entry).collect()
    }

    fn load(&self, device: Device) -> Result<Box<dyn Model>> {
        let mut weights = self.directory.load(self.config.precision.kind(), device)?;
        self.architecture.load(&mut weights)
    }
}

impl TextEncoder for Pretrained {
    fn width(&self) -> i64 {
        self.architecture.width()
    }

    fn token_width(&self) -> Option<i64> {
        Some(self.architecture.width())
    }

    fn identity(&self) -> Result<Option<String>> {
        Ok(Some(Identity::of_encoder("pretrained", &self.hashes()?).hex()))
    }

    fn check(&self, prompt: &str) -> Result<()> {
        self.tokenize(prompt).map(drop)
    }

    fn encode(&self, prompts: &[&str], device: Device) -> Result<Cond> {
        let _guard = tch::no_grad_guard();
        let entries = self.entries(prompts, device)?;
        let longest = entries.iter().map(Entry::len).max().unwrap_or(0).max(1);
        let (mut values, mut weights, mut pooled) = (Vec::new(), Vec::new(), Vec::new());
        for entry in &entries {
            let padding = longest - entry.len();
            values.push(entry.tokens.f_constant_pad_nd([0, 0, 0, padding])?);
            let ones = Tensor::f_ones([entry.len()], (Kind::Float, Device::Cpu))?;
            weights.push(ones.f_constant_pad_nd([0, padding])?);
            pooled.push(entry.pooled.shallow_clone());
        }
        let stack = |rows: &[Tensor], shape: &[i64]| -> Result<Tensor> {
            match rows.is_empty() {
                true => Ok(Tensor::f_zeros(shape, (Kind::Float, device))?),
                false => Ok(upload(&Tensor::f_stack(rows, 0)?, device)?),
            }
        };
        let d = self.architecture.width();
        let tokens = Tokens {
            values: stack(&values, &[0, longest, d])?,
            weight: stack(&weights, &[0, longest])?,
        };
        Ok(Cond::pooled(stack(&pooled, &[0, d])?).with_tokens(tokens))
    }
}

/// Prompts that were already warned about, with the number of tokens kept.
static WARNED: Mutex<BTreeSet<(String, usize)>> = Mutex::new(BTreeSet::new());

/// Warns of a truncated prompt, once.
fn warn_of_cut(prompt: &str, tokens: &Tokenized) {
    let kept = tokens.ids.len();
    if let Some(of) = tokens.of
        && lock(&WARNED).insert((prompt.to_owned(), kept))
    {
        tracing::warn!("the prompt \"{}\" is truncated to {kept} of {of} tokens", brief(prompt));
    }
}

/// The settings that affect the values.
fn settings(config: &PretrainedConfig) -> String {
    let PretrainedConfig { pooling, layer, normalize, truncate, precision, batch, .. } = config;
    format!(
        "{pooling:?} {layer:?} normalize {normalize} truncate {truncate} {precision:?} batch {batch}"
    )
}

/// Locks; a panic while it was held leaves the content usable.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
