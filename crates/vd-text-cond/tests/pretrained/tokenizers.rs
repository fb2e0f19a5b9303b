//! Tokenizers without tokenizer.json, and tokenizer.json with unusual settings.

use serde_json::{Value, json};

use super::*;

fn read(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn write(path: &Path, value: &Value) {
    std::fs::write(path, value.to_string()).unwrap();
}

/// Splits a tokenizer.json into the older vocabulary files.
fn take_apart(dir: &Path) {
    let whole = dir.join("tokenizer.json");
    let model = &read(&whole)["model"];
    let vocab = model["vocab"].as_object().unwrap();
    if model["type"] == "WordPiece" {
        let mut words: Vec<_> = vocab.iter().map(|(w, id)| (id.as_u64().unwrap(), w)).collect();
        words.sort();
        let lines: Vec<_> = words.into_iter().map(|(_, word)| word.as_str()).collect();
        std::fs::write(dir.join("vocab.txt"), lines.join("\n") + "\n").unwrap();
    } else {
        write(&dir.join("vocab.json"), &model["vocab"]);
        let pair = |pair: &Value| {
            let parts = pair.as_array().unwrap().iter().map(|part| part.as_str().unwrap());
            parts.collect::<Vec<_>>().join(" ")
        };
        let merges: Vec<_> = model["merges"].as_array().unwrap().iter().map(pair).collect();
        let text = format!("#version: 0.2\n{}\n", merges.join("\n"));
        std::fs::write(dir.join("merges.txt"), text).unwrap();
    }
    std::fs::remove_file(whole).unwrap();
}

#[test]
fn the_older_vocabularies_give_the_same_tokens() {
    for name in NAMES {
        let (dir, expected) = (copy(name), Expected::of(name));
        take_apart(dir.path());
        let bare = encoder(&PretrainedConfig::new(dir.path()));
        for (i, prompt) in expected.prompts().into_iter().enumerate() {
            assert_eq!(bare.token_ids(prompt).unwrap(), expected.ids(i), "{name}: {prompt:?}");
        }
        let far = distance(&pooled(&bare, &expected.prompts()), &expected.tensors["mean"]);
        assert!(far < 1e-5, "{name}: {far}");
    }
}

#[test]
fn a_cased_vocabulary_keeps_capitals_and_accents() {
    let dir = copy("bert");
    take_apart(dir.path());
    let cased = json!({ "do_lower_case": false });
    write(&dir.path().join("tokenizer_config.json"), &cased);
    let (cased, uncased) = (encoder(&PretrainedConfig::new(dir.path())), encoder(&config("bert")));
    let ids = |encoder: &Pretrained, text: &str| encoder.token_ids(text).unwrap();
    let unknown = ids(&cased, "[UNK]");
    assert_eq!(ids(&uncased, "Red"), ids(&uncased, "red"));
    assert_eq!(ids(&cased, "red"), ids(&uncased, "red"));
    assert_eq!(ids(&cased, "Red"), unknown);
    assert_eq!(ids(&cased, "r\u{e9}d"), unknown);
}

#[test]
fn padding_and_truncation_that_the_file_asks_for_are_passed_over() {
    let (dir, expected) = (copy("bert"), Expected::of("bert"));
    let path = dir.path().join("tokenizer.json");
    let mut whole = read(&path);
    whole["truncation"] = json!({
        "direction": "Right", "max_length": 5, "strategy": "LongestFirst", "stride": 0,
    });
    whole["padding"] = json!({
        "strategy": { "Fixed": 30 }, "direction": "Right", "pad_to_multiple_of": null,
        "pad_id": 0, "pad_type_id": 0, "pad_token": "[PAD]",
    });
    write(&path, &whole);
    let other = encoder(&PretrainedConfig::new(dir.path()));
    for (i, prompt) in expected.prompts().into_iter().enumerate() {
        assert_eq!(other.token_ids(prompt).unwrap(), expected.ids(i));
    }
    let cond = other.encode(&["red"], Device::Cpu).unwrap();
    assert_eq!(cond.tokens.unwrap().values.size(), [1, 3, 16]);
}

#[test]
fn a_text_in_place_of_a_tokenizer_is_named() {
    let dir = copy("bert");
    std::fs::write(dir.path().join("tokenizer.json"), "no JSON").unwrap();
    let message = refusal(&PretrainedConfig::new(dir.path()));
    assert!(message.contains("tokenizer.json"), "{message}");
    let dir = copy("roberta");
    take_apart(dir.path());
    std::fs::write(dir.path().join("merges.txt"), "a b\na b c\n").unwrap();
    let message = refusal(&PretrainedConfig::new(dir.path()));
    assert!(message.contains("merges.txt: line 2"), "{message}");
    let dir = copy("bert");
    take_apart(dir.path());
    std::fs::write(dir.path().join("vocab.txt"), "[PAD]\n[UNK]\nred\n").unwrap();
    let message = refusal(&PretrainedConfig::new(dir.path()));
    assert!(message.contains("vocab.txt: tokens: expected a vocabulary with [CLS]"), "{message}");
}
