//! Models that were trained with a language model.
#![allow(clippy::unwrap_used)]

mod common;

use std::fs;

use common::{CONFIG, Place};

const DRAW: &str = "sample run --steps 2 --threads 1 --out a.gif";

/// A run of one step with a small BERT in the folder `bert`; its network also uses the tokens.
fn trained(tokens: &str) -> Place {
    let place = Place::new();
    bert(&place, "bert");
    let encoder = "{ kind = \"pretrained\", path = \"bert\" }";
    let config = CONFIG.replace("{ kind = \"hashed\", width = 6 }", encoder);
    assert_ne!(config, CONFIG);
    place.write("config.toml", format!("{config}{tokens}"));
    place.json("train config.toml --set train.steps=1");
    place
}

fn bert(place: &Place, name: &str) {
    let from = format!("{}/../vd-text-cond/tests/encoders/bert", env!("CARGO_MANIFEST_DIR"));
    fs::create_dir(place.path(name)).unwrap();
    for file in ["config.json", "tokenizer.json", "model.safetensors"] {
        fs::copy(format!("{from}/{file}"), place.path(name).join(file)).unwrap();
    }
}

/// Another model of the same shape at the same path: one bit of its last weight is flipped.
fn replace(place: &Place) {
    let weights = place.path("bert/model.safetensors");
    let mut bytes = fs::read(&weights).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(weights, bytes).unwrap();
}

#[test]
fn another_encoder_under_the_same_path_is_refused_and_the_right_one_taken_from_elsewhere() {
    let place = trained("");
    place.json(&format!("{DRAW} --prompt red"));
    replace(&place);
    let other = "train config.toml --set train.steps=1 --set train.out=other";
    place.json(other);
    for args in [
        format!("{DRAW} --prompt red"),
        "train config.toml --set train.steps=2 --resume".to_owned(),
        "extend run a.gif --steps 2 --threads 1 --prompt red --out b.gif".to_owned(),
    ] {
        let message = place.error(&args, 1);
        for part in ["not the one that the model was trained with", "expected ", "--encoder DIR"] {
            assert!(message.contains(part), "{args}: {message}");
        }
    }
    // Without a prompt the encoder is not needed.
    place.json(DRAW);
    bert(&place, "moved");
    let moved = format!("{DRAW} --prompt red --encoder moved");
    place.json(&moved);
    // A guide with the same config but another encoder gets different embeddings.
    let message = place.error(&format!("{moved} --guide other"), 1);
    assert!(message.contains("--guide other") && message.contains("text.encoder"), "{message}");
    place.json("train config.toml --set train.steps=2 --set text.encoder.path=moved --resume");
}

#[test]
fn rows_of_embeddings_are_none_for_a_network_that_looks_at_tokens() {
    let place = trained("[model.tokens]\nmemory = 2\n");
    let message = place.error(&format!("{DRAW} --cond rows.npy"), 1);
    for part in
        ["--cond: this model attends to the tokens", "[model.tokens]", "give --prompt instead"]
    {
        assert!(message.contains(part), "{message}");
    }
    assert!(!place.exists("a.gif"));
    place.json(&format!("{DRAW} --prompt red"));
}
