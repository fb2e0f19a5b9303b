//! Tokenizers from the vocabulary files that preceded tokenizer.json.
//!
//! Each is converted to the equivalent tokenizer.json.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Value, json};

use super::settings::Settings;
use crate::{Error, Result};

/// The pattern by which CLIP splits text before byte-pair encoding.
const CLIP_SPLIT: &str =
    r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+";

/// The WordPiece tokenizer of a BERT; its vocabulary has one piece per line.
pub(super) fn word_piece(file: &Path, options: Option<&Path>) -> Result<Value> {
    let text = read(file)?;
    let ids = text.lines().map(|line| line.trim_end().to_owned()).zip(0..).collect();
    let vocab = Vocabulary { file, ids };
    let options = options.map(Settings::read).transpose()?;
    let flag = |key: &str, default| match &options {
        Some(options) => options.flag_or(key, default),
        None => Ok(default),
    };
    let (cls, sep) = (vocab.id("[CLS]")?, vocab.id("[SEP]")?);
    let lower = flag("do_lower_case", true)?;
    Ok(json!({
        "version": "1.0",
        "added_tokens": vocab.special(&["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"], ""),
        "normalizer": {
            "type": "BertNormalizer",
            "clean_text": true,
            "handle_chinese_chars": flag("tokenize_chinese_chars", true)?,
            // Unless specified, accents are stripped if text is lower-cased.
            "strip_accents": flag("strip_accents", lower)?,
            "lowercase": lower,
        },
        "pre_tokenizer": { "type": "BertPreTokenizer" },
        "post_processor": { "type": "BertProcessing", "sep": ["[SEP]", sep], "cls": ["[CLS]", cls] },
        "decoder": null,
        "model": {
            "type": "WordPiece",
            "unk_token": "[UNK]",
            "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100,
            "vocab": vocab.ids,
        },
    }))
}

/// The byte-level BPE tokenizer of a RoBERTa.
pub(super) fn byte_level(file: &Path, merges: &Path, options: Option<&Path>) -> Result<Value> {
    let vocab = Vocabulary { file, ids: parse(file, &read(file)?)? };
    let merges = read_merges(merges)?;
    let options = options.map(Settings::read).transpose()?;
    let prefix = options.map_or(Ok(false), |options| options.flag_or("add_prefix_space", false))?;
    let (cls, sep) = (vocab.id("<s>")?, vocab.id("</s>")?);
    let special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"];
    Ok(json!({
        "version": "1.0",
        "added_tokens": vocab.special(&special, "<mask>"),
        "normalizer": null,
        "pre_tokenizer": byte_level_pieces(prefix),
        "post_processor": around(["</s>", "<s>"], [sep, cls], prefix),
        "decoder": null,
        "model": pairs(&vocab, &merges, "", None),
    }))
}

/// The byte-level BPE tokenizer of a CLIP, with words split and lower-cased.
pub(super) fn clip(file: &Path, merges: &Path) -> Result<Value> {
    let vocab = Vocabulary { file, ids: parse(file, &read(file)?)? };
    let merges = read_merges(merges)?;
    let [start, end] = ["<|startoftext|>", "<|endoftext|>"];
    let (cls, sep) = (vocab.id(start)?, vocab.id(end)?);
    Ok(json!({
        "version": "1.0",
        "added_tokens": vocab.special(&[start, end], ""),
        "normalizer": { "type": "Sequence", "normalizers": [
            { "type": "NFC" },
            { "type": "Replace", "pattern": { "Regex": r"\s+" }, "content": " " },
            { "type": "Lowercase" },
        ] },
        "pre_tokenizer": { "type": "Sequence", "pretokenizers": [
            { "type": "Split", "pattern": { "Regex": CLIP_SPLIT }, "behavior": "Removed",
              "invert": true },
            byte_level_pieces(false),
        ] },
        "post_processor": around([end, start], [sep, cls], false),
        "decoder": null,
        "model": pairs(&vocab, &merges, "</w>", Some(end)),
    }))
}

/// Tokens and their ids.
struct Vocabulary<'a> {
    file: &'a Path,
    ids: BTreeMap<String, u32>,
}

impl Vocabulary<'_> {
    /// The id of a required token.
    fn id(&self, token: &str) -> Result<u32> {
        self.ids.get(token).copied().ok_or_else(|| Error::Pretrained {
            path: self.file.to_path_buf(),
            what: "tokens".to_owned(),
            expected: format!("a vocabulary with {token}"),
            got: format!("{} other tokens", self.ids.len()),
        })
    }

    /// Special tokens, which are never split; one of them also includes the space before it.
    fn special(&self, tokens: &[&str], greedy: &str) -> Vec<Value> {
        let mut known: Vec<_> =
            tokens.iter().filter_map(|t| Some((*self.ids.get(*t)?, *t))).collect();
        known.sort_unstable();
        let entry = |(id, token): (u32, &str)| {
            json!({
                "id": id, "content": token, "single_word": false, "lstrip": token == greedy,
                "rstrip": false, "normalized": false, "special": true,
            })
        };
        known.into_iter().map(entry).collect()
    }
}

fn byte_level_pieces(prefix: bool) -> Value {
    json!({
        "type": "ByteLevel", "add_prefix_space": prefix, "trim_offsets": true, "use_regex": true,
    })
}

fn around([sep, cls]: [&str; 2], [sep_id, cls_id]: [u32; 2], prefix: bool) -> Value {
    json!({
        "type": "RobertaProcessing", "sep": [sep, sep_id], "cls": [cls, cls_id],
        "trim_offsets": false, "add_prefix_space": prefix,
    })
}

fn pairs(vocab: &Vocabulary<'_>, merges: &[[String; 2]], suffix: &str, unk: Option<&str>) -> Value {
    json!({
        "type": "BPE", "dropout": null, "unk_token": unk, "continuing_subword_prefix": "",
        "end_of_word_suffix": suffix, "fuse_unk": false, "byte_fallback": false,
        "ignore_merges": false, "vocab": vocab.ids, "merges": merges,
    })
}

fn read(file: &Path) -> Result<String> {
    std::fs::read_to_string(file).map_err(|source| Error::Io { path: file.to_path_buf(), source })
}

fn parse(file: &Path, text: &str) -> Result<BTreeMap<String, u32>> {
    serde_json::from_str(text).map_err(|e| Error::Pretrained {
        path: file.to_path_buf(),
        what: "content".to_owned(),
        expected: "a JSON object of tokens and their ids".to_owned(),
        got: e.to_string(),
    })
}

/// One pair per line, most frequent first; the first line may give a version.
fn read_merges(file: &Path) -> Result<Vec<[String; 2]>> {
    let text = read(file)?;
    let lines = text.lines().enumerate();
    let lines = lines.filter(|(_, line)| !line.starts_with("#version") && !line.is_empty());
    let pair = |(i, line): (usize, &str)| match line.split_once(' ') {
        Some((a, b)) if !b.contains(' ') => Ok([a.to_owned(), b.to_owned()]),
        _ => Err(Error::Pretrained {
            path: file.to_path_buf(),
            what: format!("line {}", i + 1),
            expected: "two tokens with a space between them".to_owned(),
            got: format!("\"{line}\""),
        }),
    };
    lines.map(pair).collect()
}
