//! Prompts to tokens.

use std::path::{Path, PathBuf};

use tokenizers::{Encoding, PostProcessor, Tokenizer, TruncationDirection};

use super::directory::missing;
use super::settings::Settings;
use super::vocabulary;
use crate::{Error, Result};

const TOKENIZER: &str = "tokenizer.json";

/// How to convert the files of other models to tokenizer.json.
const HOW: &str = "in Python, AutoTokenizer.from_pretrained(DIR).save_pretrained(DIR) writes it";

/// SentencePiece files, whose vocabulary is not supported.
const PIECES: [&str; 3] = ["spiece.model", "sentencepiece.bpe.model", "sentencepiece.model"];

/// The tokenizer of a model.
#[derive(Debug)]
pub(super) struct Text {
    tokenizer: Tokenizer,
    /// The files it was read from.
    pub(super) files: Vec<PathBuf>,
}

/// The tokens of a prompt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Tokenized {
    pub(super) ids: Vec<i64>,
    /// Whether a token is the prompt's own, rather than one added to every prompt.
    pub(super) own: Vec<bool>,
    /// The number of tokens before truncation, if truncated.
    pub(super) of: Option<usize>,
}

impl Text {
    /// Reads the tokenizer of a model's directory: tokenizer.json, or older vocabulary files.
    pub(super) fn open(path: &Path, config: &Settings) -> Result<Self> {
        let whole = path.join(TOKENIZER);
        if whole.is_file() {
            let bytes = std::fs::read(&whole);
            let bytes = bytes.map_err(|source| Error::Io { path: whole.clone(), source })?;
            return Text::parse(&bytes, vec![whole]);
        }
        let options = path.join("tokenizer_config.json");
        let options = options.is_file().then_some(options);
        let [words, pieces, merges] =
            ["vocab.txt", "vocab.json", "merges.txt"].map(|name| path.join(name));
        let (json, mut files) = if words.is_file() {
            (vocabulary::word_piece(&words, options.as_deref())?, vec![words])
        } else if pieces.is_file() && merges.is_file() {
            let clip = config.text("model_type")?.starts_with("clip");
            let json = match clip {
                true => vocabulary::clip(&pieces, &merges)?,
                false => vocabulary::byte_level(&pieces, &merges, options.as_deref())?,
            };
            (json, vec![pieces, merges])
        } else {
            let found = PIECES.into_iter().find(|name| path.join(name).is_file());
            return Err(missing(
                path,
                TOKENIZER,
                match found {
                    Some(name) => format!("{name} alone is not supported; {HOW}"),
                    None => format!(
                        "vocab.txt (of a BERT) or vocab.json with merges.txt (of a RoBERTa or a CLIP) \
                     also works; {HOW}"
                    ),
                },
            ));
        };
        files.extend(options);
        Text::parse(json.to_string().as_bytes(), files)
    }

    fn parse(json: &[u8], files: Vec<PathBuf>) -> Result<Self> {
        let refused = |source| Error::Tokenizer { path: first(&files), source };
        let mut tokenizer = Tokenizer::from_bytes(json).map_err(refused)?;
        // A file may request a fixed length; here prompts are padded to the longest, and truncated
        // only if requested.
        tokenizer.with_padding(None);
        tokenizer.with_truncation(None).map_err(refused)?;
        Ok(Text { tokenizer, files })
    }

    /// The tokens of a prompt, at most `longest` of them.
    ///
    /// # Errors
    /// A prompt that is longer, unless truncation is on.
    pub(super) fn tokenize(
        &self,
        prompt: &str,
        longest: Option<i64>,
        truncate: bool,
    ) -> Result<Tokenized> {
        let refused = |source| Error::Tokenizer { path: first(&self.files), source };
        let mut encoding = self.tokenizer.encode_fast(prompt, true).map_err(refused)?;
        let tokens = encoding.get_ids().len();
        let most = longest.map_or(usize::MAX, |n| usize::try_from(n).unwrap_or(0));
        let of = (tokens > most).then_some(tokens);
        if of.is_some() {
            if !truncate {
                let longest = most as i64;
                return Err(Error::TooLong { prompt: brief(prompt), tokens, longest });
            }
            encoding = self.cut(prompt, most).map_err(refused)?;
        }
        let ids = encoding.get_ids().iter().map(|id| i64::from(*id)).collect();
        let own = encoding.get_special_tokens_mask().iter().map(|special| *special == 0).collect();
        Ok(Tokenized { ids, own, of })
    }

    /// Refuses ids of another model's tokenizer.
    pub(super) fn check_ids(&self, ids: &[i64], words: i64) -> Result<()> {
        let Some(id) = ids.iter().find(|id| **id >= words) else { return Ok(()) };
        let token = u32::try_from(*id).ok().and_then(|id| self.tokenizer.id_to_token(id));
        Err(Error::Pretrained {
            path: first(&self.files),
            what: format!("token \"{}\"", token.unwrap_or_default()),
            expected: format!("an id below {words}, the vocab_size of config.json"),
            got: format!("{id}; use the tokenizer that came with the model"),
        })
    }

    /// The first tokens of a prompt, with the special ones around them.
    fn cut(&self, prompt: &str, most: usize) -> tokenizers::Result<Encoding> {
        let special = self.tokenizer.get_post_processor().map_or(0, |p| p.added_tokens(false));
        let mut encoding = self.tokenizer.encode_fast(prompt, false)?;
        encoding.truncate(most.saturating_sub(special), 0, TruncationDirection::Right);
        encoding.take_overflowing();
        self.tokenizer.post_process(encoding, None, true)
    }
}

/// The beginning of a prompt, for a message.
pub(super) fn brief(prompt: &str) -> String {
    const MOST: usize = 60;
    match prompt.char_indices().nth(MOST) {
        Some((end, _)) => format!("{}...", &prompt[..end]),
        None => prompt.to_owned(),
    }
}

fn first(files: &[PathBuf]) -> PathBuf {
    files.first().cloned().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn a_clip_without_tokenizer_json_takes_prompts_apart_as_transformers_does() {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/encoders/clip_vocabulary");
        let config = Settings::read(&dir.join("config.json")).unwrap();
        let text = Text::open(&dir, &config).unwrap();
        let expected = std::fs::read(dir.join("expected.json")).unwrap();
        let expected: BTreeMap<String, Vec<i64>> = serde_json::from_slice(&expected).unwrap();
        for (prompt, ids) in expected {
            assert_eq!(text.tokenize(&prompt, None, false).unwrap().ids, ids, "{prompt:?}");
        }
    }

    #[test]
    fn a_message_quotes_the_beginning_of_a_long_prompt() {
        assert_eq!(brief("caf\u{e9}"), "caf\u{e9}");
        assert_eq!(brief(&"\u{e9}".repeat(61)), format!("{}...", "\u{e9}".repeat(60)));
    }
}
