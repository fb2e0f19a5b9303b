//! Prompts whose embeddings are stored in a file.

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};

use tch::{Device, Tensor};
use vd_tensor_ops::torch::upload;
use vd_unet3d::Cond;

use super::TextEncoder;
use crate::embeddings::{self, refused};
use crate::{Error, Result};

/// How many similar prompts are suggested for an unknown one.
const OFFERED: usize = 3;

/// Embeddings looked up in a file made by another model.
///
/// The file is a .safetensors file with the f32 tensor `embeddings` (n d), or a .npy file with one
/// f32 array (n d). The n prompts, in the order of the rows, are a JSON list in the metadata entry
/// `prompts` of the safetensors file, or the lines of a text file next to it, `NAME.txt`. Prompts
/// are compared without surrounding white space.
#[derive(Debug)]
pub struct EmbeddingFile {
    path: PathBuf,
    rows: Tensor, // n d, on the CPU
    index: HashMap<String, i64>,
}

impl EmbeddingFile {
    /// Reads a file of embeddings, with its prompts from `prompts` if given.
    ///
    /// # Errors
    /// A file that is not as described; numbers of prompts and rows that differ; a prompt that
    /// occurs twice with different embeddings.
    pub fn open(path: &Path, prompts: Option<&Path>) -> Result<Self> {
        let read = embeddings::read(path)?;
        let (source, prompts) = match (prompts, &read.prompts) {
            (Some(file), _) => (file.to_path_buf(), read_lines(file, path)?),
            (None, Some(json)) => (path.to_path_buf(), parse_list(path, json)?),
            (None, None) => {
                let beside = path.with_extension("txt");
                let lines = read_lines(&beside, path)?;
                (beside, lines)
            }
        };
        let n = read.rows.size()[0];
        if prompts.len() as i64 != n {
            let expected = format!("{n}, one for each row of {}", path.display());
            return Err(refused(&source, "prompts", expected, prompts.len().to_string()));
        }
        let mut index = HashMap::new();
        for (row, prompt) in prompts.into_iter().enumerate() {
            let prompt = prompt.trim().to_owned();
            let row = row as i64;
            // A repeated prompt with the same embedding is harmless.
            if let Some(first) = index.insert(prompt.clone(), row)
                && read.rows.get(first) != read.rows.get(row)
            {
                let got = format!("\"{prompt}\" as numbers {} and {}", first + 1, row + 1);
                return Err(refused(&source, "prompts", "each prompt once", got));
            }
        }
        Ok(EmbeddingFile { path: path.to_path_buf(), rows: read.rows, index })
    }

    /// The number of prompts in the file.
    pub fn len(&self) -> usize {
        self.index.len()
    }

    /// Whether it has no prompts; never true for a file that was opened.
    pub fn is_empty(&self) -> bool {
        self.index.is_empty()
    }

    fn row(&self, prompt: &str) -> Result<i64> {
        self.index.get(prompt.trim()).copied().ok_or_else(|| Error::UnknownPrompt {
            path: self.path.clone(),
            prompt: prompt.trim().to_owned(),
            near: self.near(prompt),
        })
    }

    /// The prompts that share the most letter trigrams with an unknown one.
    fn near(&self, prompt: &str) -> Vec<String> {
        let wanted = triples(prompt);
        let likeness = |other: &str| {
            let other = triples(other);
            // Dice's coefficient
            let both = 2.0 * wanted.intersection(&other).count() as f64;
            both / (wanted.len() + other.len()).max(1) as f64
        };
        let mut all: Vec<_> = self.index.keys().map(|p| (likeness(p), p)).collect();
        all.retain(|(score, _)| *score > 0.0);
        all.sort_by(|a, b| b.0.total_cmp(&a.0).then_with(|| a.1.cmp(b.1)));
        all.into_iter().take(OFFERED).map(|(_, p)| p.clone()).collect()
    }
}

impl TextEncoder for EmbeddingFile {
    fn width(&self) -> i64 {
        self.rows.size()[1]
    }

    fn check(&self, prompt: &str) -> Result<()> {
        self.row(prompt).map(drop)
    }

    fn encode(&self, prompts: &[&str], device: Device) -> Result<Cond> {
        let rows: Vec<_> = prompts.iter().map(|p| self.row(p)).collect::<Result<_>>()?;
        let picked = self.rows.f_index_select(0, &Tensor::f_from_slice(&rows)?)?;
        Ok(Cond::pooled(upload(&picked, device)?))
    }
}

fn read_lines(file: &Path, embeddings: &Path) -> Result<Vec<String>> {
    match std::fs::read_to_string(file) {
        Ok(text) => {
            // Some editors start a file with a byte order mark.
            let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
            Ok(text.lines().map(str::to_owned).collect())
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let expected = format!("{} with one prompt per line", file.display());
            Err(refused(embeddings, "prompts", expected, "no such file"))
        }
        Err(error) if error.kind() == std::io::ErrorKind::InvalidData => {
            Err(refused(file, "prompts", "text in UTF-8", "other bytes"))
        }
        Err(source) => Err(Error::Io { path: file.to_path_buf(), source }),
    }
}

fn parse_list(path: &Path, json: &str) -> Result<Vec<String>> {
    serde_json::from_str(json).map_err(|e| {
        refused(path, "metadata entry `prompts`", "a JSON list of strings", e.to_string())
    })
}

fn triples(text: &str) -> BTreeSet<[char; 3]> {
    let padded: Vec<char> = format!("  {} ", text.trim().to_lowercase()).chars().collect();
    padded.windows(3).filter_map(|w| w.try_into().ok()).collect()
}
