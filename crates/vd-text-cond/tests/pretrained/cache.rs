//! Cached prompts are not encoded again.

use std::fs;
use std::sync::{Arc, Mutex};

use sha2::{Digest, Sha256};
use tracing::field::Field;
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

use super::*;

/// A copy of a small BERT and a folder for its cache.
struct Place {
    model: tempfile::TempDir,
    cache: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        Place { model: copy("bert"), cache: tempfile::tempdir().unwrap() }
    }

    fn config(&self) -> PretrainedConfig {
        let cache = Some(self.cache.path().join("kept"));
        PretrainedConfig { cache, ..PretrainedConfig::new(self.model.path()) }
    }

    /// The files of the cached prompts.
    fn kept(&self) -> Vec<PathBuf> {
        let folders = fs::read_dir(self.cache.path().join("kept")).unwrap();
        let files = folders.flat_map(|folder| fs::read_dir(folder.unwrap().path()).unwrap());
        let files = files.map(|file| file.unwrap().path());
        files.filter(|file| file.extension().is_some_and(|e| e == "safetensors")).collect()
    }

    fn lose_weights(&self) {
        fs::remove_file(self.model.path().join("model.safetensors")).unwrap();
    }
}

#[test]
fn a_prompt_on_the_disk_or_in_memory_needs_no_model_and_has_the_same_bits() {
    let place = Place::new();
    let prompts = ["a red firework", "gold", "", "a red firework"];
    let first = encoder(&place.config());
    let second = encoder(&place.config());
    let expected = first.encode(&prompts, Device::Cpu).unwrap();
    assert_eq!(place.kept().len(), 3);
    place.lose_weights();
    let tokens = expected.tokens.as_ref().unwrap();
    for encoder in [&first, &second] {
        let got = encoder.encode(&prompts, Device::Cpu).unwrap();
        assert_eq!(got.pooled, expected.pooled);
        let again = got.tokens.unwrap();
        assert_eq!((&again.values, &again.weight), (&tokens.values, &tokens.weight));
    }
    let message = second.encode(&["a new one"], Device::Cpu).unwrap_err().to_string();
    assert!(message.contains("model.safetensors"), "{message}");
}

#[test]
fn memory_alone_is_enough_within_a_run() {
    let place = Place::new();
    let encoder = encoder(&PretrainedConfig { cache: None, ..place.config() });
    let expected = pooled(&encoder, &["gold", "red"]);
    // Another device would need the model again; this one does not, even in another order.
    let turned = pooled(&encoder, &["red", "gold"]);
    assert_eq!(turned, expected.flip([0]));
    assert!(!place.cache.path().join("kept").exists());
}

#[test]
fn a_damaged_entry_is_made_anew() {
    let place = Place::new();
    let expected = pooled(&encoder(&place.config()), &["gold"]);
    let file = place.kept().pop().unwrap();
    let whole = fs::read(&file).unwrap();
    let mut flipped = whole.clone();
    *flipped.last_mut().unwrap() ^= 1;
    for damaged in [&whole[..whole.len() / 2], &[], &flipped] {
        fs::write(&file, damaged).unwrap();
        let anew = pooled(&encoder(&place.config()), &["gold"]);
        assert!(distance(&anew, &expected) < 1e-6);
        assert_eq!(fs::read(&file).unwrap(), whole);
    }
    // Another prompt's entry in its place is not accepted for this one.
    let _ = pooled(&encoder(&place.config()), &["blue"]);
    let other = place.kept().into_iter().find(|path| *path != file).unwrap();
    fs::copy(other, &file).unwrap();
    assert!(distance(&pooled(&encoder(&place.config()), &["gold"]), &expected) < 1e-6);
}

#[test]
fn what_changes_the_numbers_changes_the_place_and_nothing_else_does() {
    let place = Place::new();
    let folders = || fs::read_dir(place.cache.path().join("kept")).unwrap().count();
    let _ = encoder(&place.config());
    let _ = encoder(&place.config());
    assert_eq!(folders(), 1);
    let _ = encoder(&PretrainedConfig { normalize: true, ..place.config() });
    assert_eq!(folders(), 2);
    let _ = encoder(&PretrainedConfig { batch: 4, ..place.config() });
    assert_eq!(folders(), 3);
    let config = place.model.path().join("config.json");
    let text = fs::read_to_string(&config).unwrap().replace("\"gelu\"", "\"gelu_new\"");
    fs::write(config, text).unwrap();
    let _ = encoder(&place.config());
    assert_eq!(folders(), 4);
    let weights = place.model.path().join("model.safetensors");
    let mut bytes = fs::read(&weights).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(weights, bytes).unwrap();
    let _ = encoder(&place.config());
    assert_eq!(folders(), 5);
}

#[test]
fn a_cache_that_cannot_be_written_is_refused_at_once() {
    let place = Place::new();
    fs::write(place.cache.path().join("kept"), "a file").unwrap();
    let message = Pretrained::open(&place.config()).unwrap_err().to_string();
    assert!(message.contains("kept") && message.contains("another folder"), "{message}");
}

/// Records log messages.
#[derive(Default, Clone)]
struct Log(Arc<Mutex<String>>);

impl Subscriber for Log {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        event.record(&mut |_: &Field, value: &dyn std::fmt::Debug| {
            *self.0.lock().unwrap() += &format!("{value:?}\n");
        });
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

#[test]
fn that_a_prompt_is_cut_is_said_once_also_where_the_cache_has_it() {
    let place = Place::new();
    let config = PretrainedConfig { truncate: true, ..place.config() };
    let long = |word: &str| format!("{word} ").repeat(60);
    let logged = |encoder: &Pretrained, prompts: &[&str]| {
        let log = Log::default();
        tracing::subscriber::with_default(log.clone(), || drop(pooled(encoder, prompts)));
        log.0.lock().unwrap().clone()
    };
    let (firework, gold) = (long("firework"), long("gold"));
    let cuts = |log: &str| log.matches("is truncated to 40 of ").count();
    let first = logged(&encoder(&config), &[&firework, &firework]);
    assert_eq!(cuts(&first), 1, "{first}");
    // As left by another process: an entry of a prompt that this one has not warned of.
    let file = place.kept().pop().unwrap();
    let mut entry = Weights::read(&file, Device::Cpu).unwrap();
    entry.metadata.insert("prompt".to_owned(), gold.clone());
    let name: String =
        Sha256::digest(format!("cpu {gold}")).iter().map(|b| format!("{b:02x}")).collect();
    entry.write(&file.with_file_name(name + ".safetensors")).unwrap();
    let another = encoder(&config);
    place.lose_weights();
    let second = logged(&another, &[&firework, &gold]);
    assert!(cuts(&second) == 1 && second.contains("gold gold"), "{second}");
}
