//! The identifiers of a Rust source, without comments and literals.

/// One identifier, its line (from 1) and the next non-blank character after it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Word<'a> {
    pub(super) text: &'a str,
    pub(super) line: usize,
    pub(super) next: Option<char>,
}

/// The identifiers in source that [`mask`] has cleared.
pub(super) fn words(masked: &str) -> Vec<Word<'_>> {
    let mut found = Vec::new();
    for (index, text) in masked.lines().enumerate() {
        let line = index + 1;
        for (start, word) in identifiers(text) {
            let after = text.get(start + word.len()..).unwrap_or_default();
            found.push(Word { text: word, line, next: after.trim_start().chars().next() });
        }
    }
    found
}

fn identifiers(line: &str) -> impl Iterator<Item = (usize, &str)> {
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    let pieces = line.split(move |c| !is_part(c)).filter(|piece| !piece.is_empty());
    pieces.map(move |piece| (piece.as_ptr() as usize - line.as_ptr() as usize, piece))
}

/// The source with every comment and literal replaced by blanks; line numbers stay the same.
pub(super) fn mask(source: &str) -> String {
    let mut rest = source;
    let mut masked = String::with_capacity(source.len());
    let mut previous = ' ';
    while let Some(c) = rest.chars().next() {
        let length = literal_or_comment(rest, previous);
        let (taken, after) = rest.split_at(length.unwrap_or(c.len_utf8()));
        if length.is_some() {
            masked.extend(taken.chars().map(|c| if c == '\n' { '\n' } else { ' ' }));
            previous = ' ';
        } else {
            masked.push(c);
            previous = c;
        }
        rest = after;
    }
    masked
}

/// The length of the literal or comment at the start of `rest`.
fn literal_or_comment(rest: &str, previous: char) -> Option<usize> {
    if rest.starts_with("//") {
        return Some(rest.find('\n').unwrap_or(rest.len()));
    }
    if rest.starts_with("/*") {
        return Some(block_comment(rest));
    }
    if rest.starts_with('"') {
        return Some(quoted(rest));
    }
    if rest.starts_with('\'') {
        return character(rest);
    }
    // A prefix counts only if it is not the end of an identifier.
    if previous.is_alphanumeric() || previous == '_' {
        return None;
    }
    let after = ["br", "cr", "r", "b", "c"].iter().find_map(|p| rest.strip_prefix(p))?;
    let prefix = rest.len() - after.len();
    if rest[..prefix].ends_with('r') {
        return raw(after).map(|length| prefix + length);
    }
    after.starts_with('"').then(|| prefix + quoted(after))
}

/// Block comments nest.
fn block_comment(rest: &str) -> usize {
    let mut depth = 0_usize;
    let mut at = 0;
    while at < rest.len() {
        let here = &rest.as_bytes()[at..];
        if here.starts_with(b"/*") {
            depth += 1;
            at += 2;
        } else if here.starts_with(b"*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    rest.len()
}

/// A string from its opening to its closing quote.
fn quoted(rest: &str) -> usize {
    let mut escaped = false;
    for (at, c) in rest.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return at + 1,
            _ => {}
        }
    }
    rest.len()
}

/// `#"..."#` with any number of hashes; `None` for a raw identifier.
fn raw(after: &str) -> Option<usize> {
    let signs = after.len() - after.trim_start_matches('#').len();
    let body = after[signs..].strip_prefix('"')?;
    let end = format!("\"{}", "#".repeat(signs));
    let length = body.find(&end).map_or(body.len(), |at| at + end.len());
    Some(signs + 1 + length)
}

/// A character literal; `None` for a lifetime.
fn character(rest: &str) -> Option<usize> {
    let mut chars = rest.char_indices().skip(1);
    let (_, first) = chars.next()?;
    if first == '\\' {
        chars.next()?; // the escaped character, which may be a quote itself
        return chars.find(|(_, c)| *c == '\'').map(|(at, _)| at + 1);
    }
    chars.next().filter(|(_, c)| *c == '\'').map(|(at, _)| at + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(source: &str) -> Vec<String> {
        words(&mask(source)).iter().map(|word| word.text.to_owned()).collect()
    }

    #[test]
    fn comments_hold_no_words() {
        assert_eq!(texts("a // unsafe\nb /* unsafe /* unsafe */ unsafe */ c"), ["a", "b", "c"]);
        assert_eq!(texts("//! unsafe\n/// ```\n/// unsafe { x }\nfn f"), ["fn", "f"]);
    }

    #[test]
    fn literals_hold_no_words() {
        assert_eq!(texts(r#"a("unsafe \" unsafe") b"#), ["a", "b"]);
        assert_eq!(texts(r##"a(r#"unsafe " unsafe"#) b(br"unsafe\") c"##), ["a", "b", "c"]);
        assert_eq!(texts(r#"a(b"unsafe", c"unsafe") d"#), ["a", "d"]);
        assert_eq!(texts(r"a('u', '\'', '\u{e9}', b'x') d"), ["a", "b", "d"]);
    }

    #[test]
    fn lifetimes_and_raw_identifiers_are_no_literals() {
        assert_eq!(
            texts("fn f<'a>(x: &'a str) { unsafe }").last().map(String::as_str),
            Some("unsafe")
        );
        assert_eq!(texts("let r#type = attr; unsafe").last().map(String::as_str), Some("unsafe"));
        assert_eq!(
            texts("'outer: loop { break 'outer } unsafe").last().map(String::as_str),
            Some("unsafe")
        );
    }

    #[test]
    fn a_name_that_ends_like_a_prefix_is_no_literal() {
        assert_eq!(texts(r#"attr"unsafe" x"#), ["attr", "x"]);
    }

    #[test]
    fn lines_stay_where_they_were() {
        let source = "/* 1\n2 */ \"3\n4\" r#\"5\n6\"# unsafe";
        let masked = mask(source);
        let found = words(&masked);
        assert_eq!(found, [Word { text: "unsafe", line: 4, next: None }]);
    }

    #[test]
    fn the_next_character_tells_a_macro_from_a_name() {
        let masked = mask("println !(x); let println = 1;");
        let next: Vec<_> =
            words(&masked).iter().filter(|w| w.text == "println").map(|w| w.next).collect();
        assert_eq!(next, [Some('!'), Some('=')]);
    }

    #[test]
    fn unfinished_sources_end_the_scan() {
        for source in ["/* unsafe", "\"unsafe", "r#\"unsafe", "'\\", "'"] {
            assert!(!texts(source).iter().any(|word| word == "unsafe"), "{source}");
        }
    }
}
