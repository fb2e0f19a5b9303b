//! Files of prompts.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::PathBuf;

use vd_text_cond::{Error, Part, PromptLine, SignalValue, Text, read_prompts};

/// A file in its own folder.
struct File(tempfile::TempDir, &'static str);

impl File {
    fn new(name: &'static str, content: impl AsRef<[u8]>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(name), content).unwrap();
        File(dir, name)
    }

    fn path(&self) -> PathBuf {
        self.0.path().join(self.1)
    }

    fn read(&self) -> Vec<PromptLine> {
        read_prompts(&self.path()).unwrap()
    }

    fn refused(&self) -> String {
        read_prompts(&self.path()).unwrap_err().to_string()
    }
}

#[test]
fn a_text_file_holds_a_prompt_a_line_byte_for_byte_and_blank_lines_are_passed_over() {
    let file = File::new("a.txt", "\n a red one \nb|c\r\n  \t\na :: 2 | b -> c\n\n");
    let lines = file.read();
    let texts =
        [Text::plain(" a red one "), Text::plain("b|c"), Text::parse("a :: 2 | b -> c").unwrap()];
    for ((line, text), number) in lines.iter().zip(texts).zip([2, 3, 5]) {
        let expected = PromptLine { line: number, text: Some(text), ..PromptLine::default() };
        assert_eq!(*line, expected);
    }
    assert_eq!(lines.len(), 3);
    let marked = File::new("a.TXT", "\u{feff}caf\u{e9}\n").read();
    assert_eq!(marked[0].text, Some(Text::plain("caf\u{e9}")));
}

#[test]
fn json_lines_have_settings_of_their_own() {
    let file = File::new(
        "a.jsonl",
        r#"{"prompt": "a | b :: 2 -> c", "negative": "dim", "seed": 7, "scale": 2.5, "frames": 4, "note": [1]}

{"parts": [{"prompt": "a | b", "weight": 3}, {"prompt": "->"}], "until": [{"prompt": "d"}]}
{"signals": {"kind": "rain", "wind": 2, "pose": {"value": [[1, 2], [3, 4]], "scale": 3}}}
"#,
    );
    let lines = file.read();
    assert_eq!(lines.iter().map(|line| line.line).collect::<Vec<_>>(), [1, 3, 4]);
    let text = Text::parse("a | b :: 2 -> c").unwrap().against("dim").unwrap();
    let first = PromptLine {
        line: 1,
        text: Some(text),
        seed: Some(7),
        scale: Some(2.5),
        frames: Some(4),
        ..PromptLine::default()
    };
    assert_eq!(lines[0], first);
    let second = lines[1].text.clone().unwrap();
    let a = Part { prompt: "a | b".to_owned(), weight: 3.0 };
    assert_eq!(
        (second.parts, second.until),
        (vec![a, Part::new("->")], Some(vec![Part::new("d")]))
    );
    let third = &lines[2];
    assert_eq!(third.text, None);
    let value = |name: &str| (third.signals[name].value.clone(), third.signals[name].scale);
    assert_eq!(value("kind"), (SignalValue::Name("rain".to_owned()), None));
    assert_eq!(value("wind"), (SignalValue::Number(2.0), None));
    let rows = SignalValue::Rows(vec![vec![1.0, 2.0], vec![3.0, 4.0]]);
    assert_eq!(value("pose"), (rows, Some(3.0)));
}

#[test]
fn a_bad_line_is_told_with_file_number_key_and_what_was_expected() {
    let cases = [
        ("{\"prompt\": 3}", "prompt: expected text, got 3"),
        ("{\"prompt\": \"a\", \"sead\": 3}", "expected the keys prompt, parts, until"),
        ("{\"prompt\": \"a\", \"sead\": 3}", "got `sead`"),
        ("{\"prompt\": \"a\"", "expected a JSON object"),
        ("[1]", "expected a JSON object, got [1]"),
        ("{}", "`prompt`, `parts` or `signals`"),
        ("{\"prompt\": \"a\", \"parts\": []}", "got both"),
        ("{\"prompt\": \"a\", \"seed\": -1}", "seed: expected a whole number from 0, got -1"),
        ("{\"prompt\": \"a\", \"seed\": \"1\"}", "seed: expected a whole number"),
        ("{\"prompt\": \"a\", \"frames\": 0}", "frames: expected a whole number from 1, got 0"),
        ("{\"prompt\": \"a\", \"scale\": \"two\"}", "scale: expected a number, got \"two\""),
        ("{\"prompt\": \"a :: b\"}", "prompt: expected a weight above 0"),
        ("{\"prompt\": \"a -> b\", \"until\": \"c\"}", "until: expected no `->`"),
        ("{\"prompt\": \"a\", \"negative\": \"c -> d\"}", "negative: expected a text without"),
        ("{\"negative\": \"c\"}", "negative: expected a `prompt`"),
        ("{\"scale\": 2, \"signals\": {\"a\": 1}}", "scale: expected a `prompt` or `parts`"),
        ("{\"parts\": []}", "parts: expected a list"),
        ("{\"parts\": [{\"prompt\": \"a\", \"wait\": 1}]}", "unknown field `wait`"),
        ("{\"parts\": [{\"prompt\": \"a\", \"weight\": 0}]}", "a finite weight above 0, got 0"),
        ("{\"signals\": [1]}", "signals: expected an object"),
        ("{\"signals\": {\"a\": null}}", "signals.a: expected a number, a class"),
        ("{\"signals\": {\"a\": {\"value\": 1, \"weight\": 2}}}", "signals.a: expected the keys"),
    ];
    for (line, expected) in cases {
        let file = File::new("many.jsonl", format!("{{\"prompt\": \"fine\"}}\n\n{line}\n"));
        let message = file.refused();
        assert!(message.contains(expected), "{line}: {message}");
        assert!(message.contains("many.jsonl, line 3: "), "{message}");
    }
    let message = File::new("a.txt", "fine\na | \n").refused();
    assert!(message.contains("a.txt, line 2: prompt: expected words"), "{message}");
}

#[test]
fn files_without_prompts_are_refused() {
    for (name, content, expected) in [
        ("a.csv", &b"a"[..], "NAME.txt or NAME.jsonl"),
        ("a.txt", b"\n \n", "at least one prompt, got none"),
        ("a.txt", b"caf\xe9", "text in UTF-8"),
    ] {
        let message = File::new(name, content).refused();
        assert!(message.contains(expected) && message.contains(name), "{message}");
    }
    let missing = read_prompts(&PathBuf::from("nowhere.txt"));
    assert!(matches!(missing, Err(Error::Io { .. })));
}
