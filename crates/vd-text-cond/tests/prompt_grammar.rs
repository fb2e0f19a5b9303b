//! The grammar of prompts.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use proptest::prelude::*;
use vd_text_cond::{Part, Text};

/// Whether a word is a mark, or one preceded by backslashes.
fn is_mark(word: &str) -> bool {
    ["|", "::", "->"].contains(&word.trim_start_matches('\\'))
}

fn part(prompt: &str, weight: f64) -> Part {
    Part { prompt: prompt.to_owned(), weight }
}

#[test]
fn parts_weights_and_the_last_frame_are_told_apart() {
    let text = Text::parse("a :: 2 | b c|d\t-> e :: .5 | f").unwrap();
    assert_eq!(text.parts, [part("a", 2.0), part("b c|d", 1.0)]);
    assert_eq!(text.until.unwrap(), [part("e", 0.5), part("f", 1.0)]);
    let lone = Text::parse("  a red  one :: 3 ").unwrap();
    assert_eq!(lone.parts, [part("a red  one", 3.0)]);
}

#[test]
fn what_has_no_marks_stays_as_it_is() {
    for plain in ["", " ", " a ", "a|b", "x->y :::", "a\\ b", "10::2", "\\", "|| a \n", "-->"] {
        assert_eq!(Text::parse(plain).unwrap(), Text::plain(plain), "{plain:?}");
    }
}

#[test]
fn a_backslash_makes_a_mark_a_word() {
    let text = Text::parse(r"a \:: 2 | \\-> b \| \ c").unwrap();
    assert_eq!(text.parts, [part("a :: 2", 1.0), part(r"\-> b | \ c", 1.0)]);
}

#[test]
fn what_makes_no_sense_is_told() {
    let cases = [
        ("a | ", "nothing"),
        ("| a", "nothing"),
        (":: 2", "nothing"),
        ("a ->", "nothing"),
        ("a -> b -> c", "one `->`"),
        ("a :: two", "\"two\""),
        ("a :: 0", "above 0"),
        ("a :: -1", "above 0"),
        ("a :: inf", "above 0"),
        ("a :: 1 :: 2", "\"1 :: 2\""),
        ("a :: 2 b", "\"2 b\""),
        ("a ::", "\"\""),
    ];
    for (bad, expected) in cases {
        let message = Text::parse(bad).unwrap_err().to_string();
        assert!(message.contains(expected) && message.contains(bad), "{bad}: {message}");
    }
    let message = Text::plain("a").against("b -> c").unwrap_err().to_string();
    assert!(message.contains("for all frames"), "{message}");
}

fn parts() -> impl Strategy<Value = Vec<Part>> {
    let prompt = r"[a|:\\>-]{1,4}( [a|:\\>-]{1,3}){0,3}";
    prop::collection::vec((prompt, 1u32..9), 2..4)
        .prop_map(|parts| parts.into_iter().map(|(p, w)| part(&p, f64::from(w) / 4.0)).collect())
}

proptest! {
    #[test]
    fn what_is_written_reads_back(parts in parts(), until in prop::option::of(parts())) {
        let text = Text { parts, until, negative: None };
        prop_assert_eq!(Text::parse(&text.to_string()).unwrap(), text);
    }

    #[test]
    fn one_prompt_reads_back_with_its_white_space_unless_it_holds_a_mark(
        prompt in r"[ab|:>\\ -]{0,12}"
    ) {
        let text = Text::plain(prompt.as_str());
        let again = Text::parse(&text.to_string()).unwrap();
        prop_assert_eq!(again.parts.len(), 1);
        let marked = prompt.split_whitespace().any(is_mark);
        let expected = if marked { prompt.trim() } else { prompt.as_str() };
        prop_assert_eq!(again.parts[0].prompt.as_str(), expected);
    }
}
