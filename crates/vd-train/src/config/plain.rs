//! Messages about TOML in the words of TOML: serde names the types of Rust.

/// What serde says it expected or found, and what that is to one who writes TOML.
const WORDS: [(&str, &str); 14] = [
    ("expected u64", "expected a whole number, 0 or more"),
    ("expected u32", "expected a whole number, 0 or more"),
    ("expected u16", "expected a whole number, 0 or more"),
    ("expected u8", "expected a whole number, 0 to 255"),
    ("expected usize", "expected a whole number, 0 or more"),
    ("expected i64", "expected a whole number"),
    ("expected f64", "expected a number"),
    ("expected a boolean", "expected true or false"),
    ("expected a string", "expected a text in quotes"),
    ("expected a sequence", "expected a list, such as [1, 2]"),
    ("expected a map", "expected a table"),
    ("invalid type: sequence", "invalid type: list"),
    ("invalid type: map", "invalid type: table"),
    ("invalid type: floating point", "invalid type: number"),
];

/// The same message in those words.
pub(super) fn plain(message: &str) -> String {
    message.lines().map(line).collect::<Vec<_>>().join("\n")
}

/// Only lines that are messages are changed: others quote the file.
fn line(text: &str) -> String {
    if !text.starts_with("invalid ") {
        return text.to_owned();
    }
    let mut text = text.to_owned();
    for (rust, toml) in WORDS {
        let (head, tail) = (text.strip_prefix(rust), text.strip_suffix(rust));
        if let Some(rest) = head {
            text = format!("{toml}{rest}");
        } else if let Some(rest) = tail {
            text = format!("{rest}{toml}");
        }
    }
    for (tagged, toml) in [("internally tagged enum", "table with its `kind`"), ("struct", "table")]
    {
        if let Some((found, _)) = text.split_once(&format!(", expected {tagged} ")) {
            return format!("{found}, expected a {toml}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::plain;

    #[test]
    fn types_are_named_as_toml_names_them() {
        let cases = [
            (
                "invalid type: string \"abc\", expected u64\nin `train.steps`",
                "invalid type: string \"abc\", expected a whole number, 0 or more\nin `train.steps`",
            ),
            ("invalid type: sequence, expected i64", "invalid type: list, expected a whole number"),
            (
                "invalid type: string \"a\", expected internally tagged enum Source",
                "invalid type: string \"a\", expected a table with its `kind`",
            ),
            (
                "invalid type: integer `3`, expected struct Text",
                "invalid type: integer `3`, expected a table",
            ),
            (
                "invalid type: floating point `1.5`, expected usize",
                "invalid type: number `1.5`, expected a whole number, 0 or more",
            ),
        ];
        for (serde, expected) in cases {
            assert_eq!(plain(serde), expected);
        }
    }

    #[test]
    fn quoted_lines_of_the_file_stay_as_they_are() {
        let text = "TOML parse error at line 2\n2 | name = expected u64\n  | ^\nunknown field `x`";
        assert_eq!(plain(text), text);
    }
}
