//! Consistency of a config's sections with each other and the data.

use vd_data::Source;

use super::{SIGNALS, clips, config};
use crate::RunConfig;

#[test]
fn sections_that_do_not_fit_each_other_are_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    clips(dir.path());
    let scalar = "[model.signals.a]\nkind = \"scalar\"\n";
    let class = "[model.signals.a]\nkind = \"class\"\n";
    let video =
        |channels: u8| format!("[model.signals.a]\nkind = \"video\"\nchannels = {channels}\n");
    let from = |from: &str| format!("[signals.a]\nfrom = {{ {from} }}\n");
    let column = from("kind = \"column\", name = \"speed\"");
    let cases = [
        (scalar.to_owned(), "signals.a: expected a section with the source of [model.signals.a]"),
        (class.to_owned(), "signals.a: expected a section with the source of [model.signals.a]"),
        (
            format!("{class}{}", from("kind = \"low-resolution\", factor = 2")),
            "signals.a.from.kind: expected column or folder, for a signal of kind class, got low-resolution",
        ),
        (
            format!("{class}{}", from("kind = \"array\", name = \"sky\"")),
            "signals.a.from.kind: expected column or folder, for a signal of kind class, got array",
        ),
        (column.clone(), "model.signals.a: expected [model.signals.a] for [signals.a], got none"),
        (format!("{scalar}{column}drop = 1.0\n"), "signals.a.drop: expected a share in [0, 1)"),
        (
            format!("{scalar}{}", from("kind = \"folder\"")),
            "signals.a.from.kind: expected column or array, for a signal of kind scalar, got folder",
        ),
        (
            format!("{}{}", video(3), column),
            "signals.a.from.kind: expected low-resolution or masked",
        ),
        (
            format!("{}{}", video(3), from("kind = \"low-resolution\", factor = 3")),
            "signals.a.from.factor: expected 2 or more, dividing data.size = [8, 8], got 3",
        ),
        (
            format!("{}{}", video(3), from("kind = \"masked\", first_frames = 1")),
            "model.signals.a.channels: expected 4, as signals.a.from gives",
        ),
        (
            format!("{}{}", video(4), from("kind = \"masked\", first_frames = 3")),
            "first_frames: expected 1 to less than data.frames = 3, got 3",
        ),
        (
            format!("{}{}", video(4), from("kind = \"masked\"")),
            "expected either first_frames or hidden_box, got neither",
        ),
        (
            format!("{}{}", video(4), from("kind = \"masked\", hidden_box = [0.5, 0.2]")),
            "hidden_box: expected [smallest, largest]",
        ),
    ];
    for (text, expected) in cases {
        let message = config(dir.path(), &text).resolved().unwrap_err().to_string();
        assert!(message.contains(expected), "{text}: {message}");
    }
    let untrained = format!("{scalar}{column}drop = 0\n");
    let mut previews = config(dir.path(), &untrained);
    previews.train.preview_every = 5;
    let message = previews.clone().resolved().unwrap_err().to_string();
    let expected = "train.preview_every: expected 0, or signals.a.drop above 0";
    assert!(message.starts_with(expected), "{message}");
    previews.signals.get_mut("a").unwrap().drop = 0.1;
    assert!(previews.resolved().is_ok());
    let mut fireworks = config(dir.path(), &format!("{scalar}{column}"));
    fireworks.data.source = Source::default();
    let message = fireworks.resolved().unwrap_err().to_string();
    assert!(message.starts_with("data.source: expected a folder with captions"), "{message}");
    let tokens = "[model.tokens]\ncross = [\"space\"]\n";
    let message = config(dir.path(), tokens).resolved().unwrap_err().to_string();
    assert!(message.starts_with("text: expected an encoder"), "{message}");
    let text = "[text]\nencoder = { kind = \"hashed\", width = 4 }\n";
    let both = format!("{tokens}{text}");
    let message = config(dir.path(), &both).resolved().unwrap_err().to_string();
    assert!(
        message.starts_with("text.encoder: expected an encoder that gives tokens"),
        "{message}"
    );
}

#[test]
fn classes_that_are_left_out_are_written_into_the_config() {
    let dir = tempfile::tempdir().unwrap();
    clips(dir.path());
    let config = config(dir.path(), SIGNALS).resolved().unwrap();
    let text = config.to_toml().unwrap();
    assert!(text.contains("classes = [\"cat\", \"dog\"]"), "{text}");
    assert!(text.contains("classes = [\"rain\", \"sun\"]"), "{text}");
    let back: RunConfig = toml::from_str(&text).unwrap();
    assert_eq!(back, config);
    // the data are not read again
    std::fs::remove_dir_all(dir.path().join("dog")).unwrap();
    std::fs::write(dir.path().join("t.jsonl"), "{}").unwrap();
    assert_eq!(back.resolved().unwrap(), config);
}
