//! Directories and prompts that are refused, and the error messages.

use std::fs::{read_to_string, remove_file, rename, write};

use super::*;

/// A copy of the small BERT after a change, and the error with which it is refused.
fn after(change: impl FnOnce(&Path)) -> String {
    let dir = copy("bert");
    change(dir.path());
    refusal(&PretrainedConfig::new(dir.path()))
}

/// The same after a change of config.json's text.
fn with_config(from: &str, to: &str) -> String {
    after(|dir| {
        let path = dir.join("config.json");
        let text = read_to_string(&path).unwrap();
        assert!(text.contains(from), "{text}");
        write(path, text.replace(from, to)).unwrap();
    })
}

fn assert_says(message: &str, parts: &[&str]) {
    for part in parts {
        assert!(message.contains(part), "`{part}` is not in: {message}");
    }
}

#[test]
fn every_missing_file_is_named_with_what_to_do() {
    let nowhere = refusal(&PretrainedConfig::new("nowhere"));
    assert_says(&nowhere, &["nowhere", "config.json is missing", "model.safetensors"]);
    let message = after(|dir| remove_file(dir.join("model.safetensors")).unwrap());
    assert_says(&message, &["model.safetensors is missing", "model.safetensors.index.json"]);
    let message = after(|dir| {
        rename(dir.join("model.safetensors"), dir.join("pytorch_model.bin")).unwrap();
    });
    assert_says(&message, &["found pytorch_model.bin", "safetensors", "save_pretrained"]);
    let message = after(|dir| remove_file(dir.join("tokenizer.json")).unwrap());
    assert_says(&message, &["tokenizer.json is missing", "vocab.txt", "merges.txt"]);
    let message =
        after(|dir| rename(dir.join("tokenizer.json"), dir.join("spiece.model")).unwrap());
    assert_says(&message, &["spiece.model alone is not supported", "AutoTokenizer"]);
}

#[test]
fn a_config_that_is_not_understood_is_refused() {
    let message = with_config("\"bert\"", "\"gpt2\"");
    assert_says(&message, &["config.json: model_type", "bert", "distilbert", "roberta", "gpt2"]);
    let message = with_config("\"gelu\"", "\"mish\"");
    assert_says(&message, &["hidden_act", "quick_gelu", "got mish"]);
    let message = with_config("\"hidden_size\": 16", "\"hidden_size\": -16");
    assert_says(&message, &["hidden_size: expected a whole number", "-16"]);
    let message = with_config("\"num_attention_heads\": 4", "\"num_attention_heads\": 3");
    assert_says(&message, &["num_attention_heads", "a divisor of hidden_size, 16", "got 3"]);
    let message = with_config("\"hidden_size\"", "\"width\"");
    assert_says(&message, &["hidden_size", "got nothing"]);
    for pad in ["55", "1000"] {
        let message = with_config("\"pad_token_id\": 0", &format!("\"pad_token_id\": {pad}"));
        let got = format!("got {pad};");
        assert_says(&message, &["config.json: pad_token_id: expected an id below 55", &got]);
    }
    assert_says(&after(|dir| write(dir.join("config.json"), "[1]").unwrap()), &["JSON object"]);
}

#[test]
fn tensors_that_do_not_fit_are_named_with_file_and_shapes() {
    let message = with_config("\"intermediate_size\": 24", "\"intermediate_size\": 32");
    assert_says(
        &message,
        &[
            "model.safetensors",
            "`bert.encoder.layer.0.intermediate.dense.bias`",
            "[32]",
            "got [24]",
        ],
    );
    let message = with_config("\"num_hidden_layers\": 2", "\"num_hidden_layers\": 3");
    assert_says(&message, &["`encoder.layer.2.attention.self.query", "none of this name"]);
    let message = after(|dir| {
        let path = dir.join("model.safetensors");
        let bytes = std::fs::read(&path).unwrap();
        write(path, &bytes[..bytes.len() - 7]).unwrap();
    });
    assert_says(&message, &["model.safetensors"]);
}

#[test]
fn a_prompt_that_is_too_long_is_refused_or_cut_where_that_is_allowed() {
    let long = "red ".repeat(60);
    let whole = encoder(&config("bert"));
    assert_eq!(whole.longest(), Some(40));
    let message = whole.encode(&["gold", &long], Device::Cpu).unwrap_err().to_string();
    assert_says(&message, &["\"red red", "62 tokens", "40 fit", "text.encoder.truncate = true"]);
    assert_eq!(whole.check(&long).unwrap_err().to_string(), message);
    whole.check("gold").unwrap();
    let cut = encoder(&PretrainedConfig { truncate: true, ..config("bert") });
    let ids = cut.token_ids(&long).unwrap();
    // [CLS] and [SEP] stay, 38 of the prompt's own between them
    assert_eq!(ids, cut.token_ids(&"red ".repeat(38)).unwrap());
    assert_eq!(ids.len(), 40);
    let cond = cut.encode(&[&long], Device::Cpu).unwrap();
    assert_eq!(cond.tokens.unwrap().values.size(), [1, 40, 16]);
    // A RoBERTa counts positions after its padding.
    assert_eq!(encoder(&config("roberta")).longest(), Some(64));
}

#[test]
fn a_tokenizer_that_does_not_fit_the_model_is_named_with_its_token() {
    let ids = encoder(&config("bert")).token_ids("red").unwrap();
    let most = *ids.iter().max().unwrap();
    let message = with_config("\"vocab_size\": 55", &format!("\"vocab_size\": {most}"));
    let (below, got) = (format!("below {most}, the vocab_size"), format!("got {most};"));
    assert_says(&message, &["tokenizer.json: token \"red\"", &below, &got]);
}

/// The tensors of the small BERT under other names, in several files.
fn shards(dir: &Path, name: impl Fn(&str) -> String) {
    let path = dir.join("model.safetensors");
    let mut map = BTreeMap::new();
    let mut files = [Weights::default(), Weights::default()];
    let whole = Weights::read(&path, Device::Cpu).unwrap();
    for (i, (old, tensor)) in whole.tensors.into_iter().enumerate() {
        files[i % 2].tensors.insert(name(&old), tensor);
        map.insert(name(&old), format!("model-{}.safetensors", i % 2));
    }
    for (i, file) in files.iter().enumerate() {
        file.write(&dir.join(format!("model-{i}.safetensors"))).unwrap();
    }
    let index = serde_json::json!({ "metadata": {}, "weight_map": map });
    write(dir.join("model.safetensors.index.json"), index.to_string()).unwrap();
    remove_file(path).unwrap();
}

#[test]
fn shards_and_the_names_of_other_times_are_the_same_model() {
    let expected = Expected::of("bert");
    let dir = copy("bert");
    shards(dir.path(), |name| {
        let name = name.replace("LayerNorm.weight", "LayerNorm.gamma");
        name.replace("LayerNorm.bias", "LayerNorm.beta").replace("bert.", "")
    });
    let encoder = encoder(&PretrainedConfig::new(dir.path()));
    let far = distance(&pooled(&encoder, &expected.prompts()), &expected.tensors["mean"]);
    assert!(far < 1e-5, "{far}");
    remove_file(dir.path().join("model-1.safetensors")).unwrap();
    let message = refusal(&PretrainedConfig::new(dir.path()));
    assert_says(
        &message,
        &["model-1.safetensors is missing", "listed in model.safetensors.index.json"],
    );
    let index = dir.path().join("model.safetensors.index.json");
    let text = read_to_string(&index).unwrap().replace("model-1", "../model-1");
    write(&index, text).unwrap();
    let message = refusal(&PretrainedConfig::new(dir.path()));
    assert_says(&message, &["weight_map", "../model-1.safetensors"]);
}
