//! `vd encode`: from prompts to a file of embeddings.
#![allow(clippy::unwrap_used)]

mod common;

use common::Place;
use tch::{Device, Kind, Tensor};
use vd_tensor_ops::Weights;
use vd_text_cond::{EmbeddingFile, Pooling, Pretrained, PretrainedConfig, TextEncoder};

/// A tiny BERT, with transformers' embeddings of some prompts.
const BERT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../vd-text-cond/tests/encoders/bert");

fn expected() -> (Vec<String>, Weights) {
    let file = format!("{BERT}/expected.safetensors");
    let expected = Weights::read(file.as_ref(), Device::Cpu).unwrap();
    (serde_json::from_str(&expected.metadata["prompts"]).unwrap(), expected)
}

fn distance(a: &Tensor, b: &Tensor) -> f64 {
    assert_eq!(a.size(), b.size());
    (a - b).abs().max().double_value(&[])
}

#[test]
fn a_row_for_each_line_is_what_transformers_makes_of_it() {
    let (place, (prompts, expected)) = (Place::new(), expected());
    place.write("prompts.txt", prompts.join("\n") + "\n");
    for pooling in ["cls", "mean", "eos", "peer"] {
        let args = format!(
            "encode --encoder {BERT} --pooling {pooling} prompts.txt --out e.safetensors --batch 4"
        );
        let report = place.json(&args);
        assert_eq!((&report["prompts"], &report["width"]), (&6.into(), &16.into()));
        assert_eq!((&report["pooling"], &report["normalize"]), (&pooling.into(), &false.into()));
        let written = Weights::read(&place.path("e.safetensors"), Device::Cpu).unwrap();
        let rows = &written.tensors["embeddings"];
        assert_eq!((written.tensors.len(), rows.kind()), (1, Kind::Float));
        assert!(distance(rows, &expected.tensors[pooling]) < 1e-5, "{pooling}");
        let list: Vec<String> = serde_json::from_str(&written.metadata["prompts"]).unwrap();
        assert_eq!(list, prompts);
    }
}

#[test]
fn the_file_is_an_encoder_of_the_same_prompts() {
    let (place, (prompts, _)) = (Place::new(), expected());
    // A repeated caption is allowed.
    let text = [prompts.join("\n"), prompts[0].clone()].join("\n");
    place.write("prompts.txt", text);
    let args = format!("encode --encoder {BERT} prompts.txt --out e.safetensors --normalize");
    assert!(place.vd(&args).stdout.contains("7 prompts, 16 values each"));
    let file = EmbeddingFile::open(&place.path("e.safetensors"), None).unwrap();
    let config =
        PretrainedConfig { pooling: Pooling::Mean, normalize: true, ..PretrainedConfig::new(BERT) };
    let model = Pretrained::open(&config).unwrap();
    let list: Vec<_> = prompts.iter().map(String::as_str).collect();
    let rows = |encoder: &dyn TextEncoder, list: &[&str]| {
        encoder.encode(list, Device::Cpu).unwrap().pooled.unwrap()
    };
    assert!(distance(&rows(&file, &list), &rows(&model, &list)) < 1e-6);
}

#[test]
fn lines_that_come_again_have_the_same_bits_and_a_mark_at_the_start_is_no_part_of_a_prompt() {
    let place = Place::new();
    // Far apart and among prompts of other lengths, where each batch has its own padding.
    let others: Vec<_> = (1..10).map(|n| "gold ".repeat(n)).collect();
    let text = format!("\u{feff}red\n{}\nred\n", others.join("\n"));
    place.write("prompts.txt", text);
    let ran =
        place.vd(&format!("encode --encoder {BERT} prompts.txt --out e.safetensors --batch 2"));
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(!ran.stderr.contains("blanks"), "{ran:?}");
    let written = Weights::read(&place.path("e.safetensors"), Device::Cpu).unwrap();
    let rows = &written.tensors["embeddings"];
    assert_eq!((rows.size()[0], rows.get(0)), (11, rows.get(10)));
    let list: Vec<String> = serde_json::from_str(&written.metadata["prompts"]).unwrap();
    assert_eq!((list[0].as_str(), list[10].as_str()), ("red", "red"));
    EmbeddingFile::open(&place.path("e.safetensors"), None).unwrap();
}

#[test]
fn what_cannot_be_encoded_is_refused_with_a_reason_and_nothing_is_written() {
    let place = Place::new();
    place.write("prompts.txt", "red\n");
    place.write("long.txt", format!("red\n{}\n", "red ".repeat(50)));
    place.write("none.txt", "");
    let cases = [
        (format!("encode --encoder {BERT} none.txt --out e.safetensors"), 1, "at least one line"),
        (format!("encode --encoder {BERT} nowhere.txt --out e.safetensors"), 1, "nowhere.txt"),
        (format!("encode --encoder {BERT} long.txt --out e.safetensors"), 1, "--truncate"),
        (format!("encode --encoder {BERT} long.txt --out e.safetensors"), 1, "long.txt, line 2"),
        (format!("encode --encoder {BERT} long.txt --out no/e.safetensors"), 1, "no such folder"),
        ("encode --encoder . prompts.txt --out e.safetensors".to_owned(), 1, "config.json"),
        (format!("encode --encoder {BERT} prompts.txt --out e.npy"), 2, ".safetensors"),
        (
            format!("encode --encoder {BERT} --pooling max prompts.txt --out e.safetensors"),
            2,
            "cls",
        ),
        (format!("encode --encoder {BERT} --batch 0 prompts.txt --out e.safetensors"), 2, "1..="),
        ("encode prompts.txt --out e.safetensors".to_owned(), 2, "--encoder <DIR>"),
    ];
    for (args, code, part) in cases {
        let message = place.error(&args, code);
        assert!(message.contains(part), "vd {args}: {message}");
        assert!(!place.exists("e.safetensors"));
    }
    let cut = format!("encode --encoder {BERT} long.txt --out e.safetensors --truncate");
    let ran = place.vd(&cut);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(ran.stderr.contains("\"red red"), "{ran:?}");
    assert!(ran.stderr.contains("truncated to 40 of 52 tokens"), "{ran:?}");
}
