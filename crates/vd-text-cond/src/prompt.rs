//! Prompts of several weighted parts, which may change towards the last frame.
//!
//! The grammar of [`Text::parse`], which the command line and prompt files share:
//!
//! ```text
//! text   = parts [ -> parts ]          what the first frame shows, and what the last one shows
//! parts  = part { | part }             combined by weight
//! part   = prompt [ :: weight ]        its weight, 1 by default
//! ```
//!
//! A mark is a separate word: `|`, `::` or `->`, with white space or an end of the text on both
//! sides. `a|b` and `x->y` contain no marks. A word of backslashes and a mark (`\|`, `\\->`) is no
//! mark, and loses one backslash. A text with neither is one prompt, byte for byte; otherwise white
//! space around each part is removed.

use std::fmt;
use std::str::FromStr;

use crate::{Error, Result};

const BESIDE: &str = "|";
const WEIGHT: &str = "::";
const THEN: &str = "->";

/// One of the prompts of a text.
#[derive(Debug, Clone, PartialEq)]
pub struct Part {
    /// The prompt, as passed to the encoder.
    pub prompt: String,
    /// Its weight relative to the others; only ratios matter.
    ///
    /// # Range
    /// finite, above 0
    pub weight: f64,
}

/// What a clip is to show, in words.
///
/// Several parts form one condition: its embedding is the weighted mean of theirs, and its tokens
/// are theirs concatenated, each part's tokens weighted by weight / (sum of the weights). A single
/// part of any weight is equivalent to that prompt alone, and a repeated prompt to that prompt
/// once.
#[derive(Debug, Clone, PartialEq)]
pub struct Text {
    /// What is shown; at the first frame, if there is an `until`. At least one part.
    pub parts: Vec<Part>,
    /// What the last frame shows; in between, frame k of f has a fraction k / (f - 1) of it.
    pub until: Option<Vec<Part>>,
    /// What guidance moves away from, instead of the network's null embedding; without effect at
    /// scale 1.
    pub negative: Option<Vec<Part>>,
}

impl Part {
    /// A prompt of weight 1.
    pub fn new(prompt: impl Into<String>) -> Part {
        Part { prompt: prompt.into(), weight: 1.0 }
    }
}

impl Text {
    /// A single prompt, without interpreting marks.
    pub fn plain(prompt: impl Into<String>) -> Text {
        Text { parts: vec![Part::new(prompt)], until: None, negative: None }
    }

    /// Parses a text such as `A :: 2 | B -> C`; a text without marks is one prompt, unchanged.
    ///
    /// ```
    /// use vd_text_cond::Text;
    ///
    /// # fn main() -> vd_text_cond::Result<()> {
    /// let text = Text::parse("a red firework :: 2 | a gold one -> night")?;
    /// assert_eq!((text.parts[0].prompt.as_str(), text.parts[0].weight), ("a red firework", 2.0));
    /// assert_eq!((text.parts[1].prompt.as_str(), text.parts[1].weight), ("a gold one", 1.0));
    /// assert_eq!(text.until.unwrap()[0].prompt, "night");
    /// assert_eq!(Text::parse(" a|b ")?, Text::plain(" a|b "));
    /// assert_eq!(Text::parse(r"left \| right")?, Text::plain("left | right"));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// A part without words; an invalid weight; more than one `->`.
    pub fn parse(text: &str) -> Result<Text> {
        if !words(text).any(|word| is_mark(word) || is_escaped(word)) {
            return Ok(Text::plain(text));
        }
        let sides = split(text, THEN);
        let mut sides = sides.into_iter().map(|side| parse_parts(text, side));
        let parts = sides.next().transpose()?.unwrap_or_default();
        let until = sides.next().transpose()?;
        if sides.next().is_some() {
            return Err(refused(
                text,
                "at most one `->`, followed by what the last frame shows",
                "several",
            ));
        }
        Ok(Text { parts, until, negative: None })
    }

    /// The same with a negative prompt (of the same grammar, except for `->`).
    ///
    /// # Errors
    /// As [`Text::parse`]; a `->`.
    pub fn against(self, negative: &str) -> Result<Text> {
        let Text { parts, until, .. } = Text::parse(negative)?;
        if until.is_some() {
            return Err(refused(negative, "a negative prompt for all frames", "a `->`"));
        }
        Ok(Text { negative: Some(parts), ..self })
    }

    /// Every part, including those of `until` and of `negative`.
    pub(crate) fn all(&self) -> impl Iterator<Item = &Part> {
        self.parts.iter().chain(self.until.iter().flatten()).chain(self.negative.iter().flatten())
    }

    pub(crate) fn validate(&self) -> Result<()> {
        let groups = [Some(&self.parts), self.until.as_ref(), self.negative.as_ref()];
        if groups.into_iter().flatten().any(Vec::is_empty) {
            return Err(refused(&self.to_string(), "at least one part", "none"));
        }
        match self.all().find(|part| !is_weight(part.weight)) {
            None => Ok(()),
            Some(Part { prompt, weight }) => {
                Err(refused(prompt, "a finite weight above 0", &weight.to_string()))
            }
        }
    }
}

/// In the grammar of [`Text::parse`]; without `negative`.
impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_parts(f, &self.parts)?;
        let Some(until) = &self.until else { return Ok(()) };
        write!(f, " {THEN} ")?;
        write_parts(f, until)
    }
}

impl FromStr for Text {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Text::parse(text)
    }
}

fn write_parts(f: &mut fmt::Formatter<'_>, parts: &[Part]) -> fmt::Result {
    for (i, Part { prompt, weight }) in parts.iter().enumerate() {
        if i > 0 {
            write!(f, " {BESIDE} ")?;
        }
        f.write_str(&rewritten(prompt, |word| match is_mark(word) || is_escaped(word) {
            true => format!("\\{word}"),
            false => word.to_owned(),
        }))?;
        if parts.len() > 1 && *weight != 1.0 {
            write!(f, " {WEIGHT} {weight}")?;
        }
    }
    Ok(())
}

fn parse_parts(text: &str, side: &str) -> Result<Vec<Part>> {
    split(side, BESIDE).into_iter().map(|part| parse_part(text, part)).collect()
}

fn parse_part(text: &str, part: &str) -> Result<Part> {
    let pieces = split(part, WEIGHT);
    let prompt = pieces.first().map_or("", |prompt| prompt.trim());
    if prompt.is_empty() {
        let expected = "words between the marks `|`, `::` and `->` (`\\|` is the character itself)";
        return Err(refused(text, expected, "nothing"));
    }
    let number = match &pieces[1..] {
        [] => "1".to_owned(),
        numbers => numbers.join(WEIGHT).trim().to_owned(),
    };
    let Some(weight) = number.parse().ok().filter(|weight| is_weight(*weight)) else {
        let expected = "a weight above 0 after `::` (`\\::` is the characters themselves)";
        return Err(refused(text, expected, &format!("\"{number}\"")));
    };
    let prompt = rewritten(prompt, |word| match is_escaped(word) {
        true => word[1..].to_owned(),
        false => word.to_owned(),
    });
    Ok(Part { prompt, weight })
}

fn is_weight(weight: f64) -> bool {
    weight.is_finite() && weight > 0.0
}

fn is_mark(word: &str) -> bool {
    [BESIDE, WEIGHT, THEN].contains(&word)
}

/// Whether it is a mark preceded by backslashes.
fn is_escaped(word: &str) -> bool {
    word.starts_with('\\') && is_mark(word.trim_start_matches('\\'))
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split_whitespace()
}

/// The text between marks of one kind.
fn split<'a>(text: &'a str, mark: &str) -> Vec<&'a str> {
    let (mut pieces, mut from) = (Vec::new(), 0);
    for word in words(text).filter(|word| *word == mark) {
        // A word is a subslice of its text.
        let at = word.as_ptr() as usize - text.as_ptr() as usize;
        pieces.push(&text[from..at]);
        from = at + mark.len();
    }
    pieces.push(&text[from..]);
    pieces
}

/// The same text with words replaced; white space is unchanged.
fn rewritten(text: &str, change: impl Fn(&str) -> String) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find(|c: char| !c.is_whitespace()) {
        let word = &rest[start..];
        let end = word.find(char::is_whitespace).unwrap_or(word.len());
        out.push_str(&rest[..start]);
        out.push_str(&change(&word[..end]));
        rest = &word[end..];
    }
    out.push_str(rest);
    out
}

fn refused(text: &str, expected: &str, got: &str) -> Error {
    Error::Prompt { text: text.to_owned(), expected: expected.to_owned(), got: got.to_owned() }
}
