#![allow(clippy::unwrap_used)]
use super::*;

#[test]
fn four_lines_are_enough_and_the_rest_has_defaults() {
    let text = "source = { kind = \"folder\", path = \"videos\" }\nframes = 8\nsize = [32, 32]\nstride = 1\n";
    let config: DataConfig = toml::from_str(text).unwrap();
    assert_eq!(config, DataConfig { source: Source::folder("videos"), ..DataConfig::default() });
    for kind in ["fireworks", "digits"] {
        let text = format!("source = {{ kind = \"{kind}\" }}");
        toml::from_str::<DataConfig>(&text).unwrap().validate().unwrap();
    }
}

#[test]
fn unknown_keys_are_refused_with_the_expected_names() {
    for (text, expected) in [
        ("source = { kind = \"fireworks\" }\nframe = 8", "frames"),
        ("source = { kind = \"fireworks\", two_burst = 1.0 }", "two_bursts"),
        ("source = { kind = \"folder\", path = \"a\", deep = 1 }", "path"),
        ("source = { kind = \"firework\" }", "fireworks"),
        ("source = { kind = \"digits\", digit = 1 }", "digits"),
        ("frames = 8", "source"),
        ("source = { kind = \"digits\" }\ncrop = \"left\"", "centre"),
    ] {
        let error = toml::from_str::<DataConfig>(text).unwrap_err().to_string();
        assert!(error.contains(expected), "{text}: {error}");
    }
}

#[test]
fn captions_come_from_beside_from_a_table_or_from_folders() {
    let read = |captions: &str| {
        let text = format!("source = {{ kind = \"folder\", path = \"v\"{captions} }}");
        toml::from_str::<DataConfig>(&text).map_err(|e| e.to_string())
    };
    let table = Captions::Table(PathBuf::from("a.csv"));
    for (text, expected) in [
        ("", Captions::Beside),
        (", captions = \"beside\"", Captions::Beside),
        (", captions = \"folders\"", Captions::Folders),
        (", captions = { table = \"a.csv\" }", table),
    ] {
        let config = read(text).unwrap();
        let source = Source::Folder { path: PathBuf::from("v"), captions: expected };
        assert_eq!(config.source, source);
        let written = toml::to_string(&config).unwrap();
        // a config that does not use the setting serialises as it did before the setting existed
        assert_eq!(
            written.contains("captions"),
            text.contains("folders") || text.contains("table")
        );
        assert_eq!(toml::from_str::<DataConfig>(&written).unwrap(), config);
    }
    assert!(read(", captions = \"folder\"").unwrap_err().contains("folders"));
    assert!(read(", captions = { tables = \"a.csv\" }").unwrap_err().contains("table"));
    let empty = read(", captions = { table = \"\" }").unwrap().validate().unwrap_err();
    assert!(empty.to_string().starts_with("data.source.captions.table"));
}

#[test]
fn a_config_survives_being_written_and_read() {
    let config = DataConfig {
        crop: Crop::Random,
        short: Short::Skip,
        source: Source::Digits(DigitsConfig::default()),
        ..DataConfig::default()
    };
    let text = toml::to_string(&config).unwrap();
    assert_eq!(toml::from_str::<DataConfig>(&text).unwrap(), config);
}

#[test]
fn numbers_outside_their_range_are_named() {
    let base = DataConfig::default;
    let bad = [
        (DataConfig { frames: 0, ..base() }, "data.frames"),
        (DataConfig { size: [32, 0], ..base() }, "data.size"),
        (DataConfig { size: [1 << 20, 8], ..base() }, "data.size"),
        (DataConfig { stride: 0, ..base() }, "data.stride"),
        (DataConfig { frames: 65_537, ..base() }, "data.frames"),
        (DataConfig { stride: usize::MAX, ..base() }, "data.stride"),
        (DataConfig { size: [8, 16_385], ..base() }, "data.size"),
        (DataConfig { channels: 4, ..base() }, "data.channels"),
        (DataConfig { workers: 1000, ..base() }, "data.workers"),
    ];
    for (config, key) in bad {
        assert!(config.validate().unwrap_err().to_string().starts_with(key));
    }
}
