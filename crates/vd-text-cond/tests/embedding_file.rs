//! Embeddings from files: what is accepted, and what is refused.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::{Path, PathBuf};

use tch::{Device, Kind, Tensor};
use vd_tensor_ops::{Noise, SeededNoise, Weights};
use vd_text_cond::{EmbeddingFile, EncoderConfig, TextEncoder, read_embeddings};

const PROMPTS: [&str; 3] = ["a red firework", "two bursts, green then gold", "a blue firework"];

fn rows(n: i64, d: i64) -> Tensor {
    SeededNoise::new(11, 0).normal(&Tensor::empty([n, d], (Kind::Float, Device::Cpu)))
}

fn write_safetensors(path: &Path, name: &str, tensor: &Tensor, prompts: Option<&str>) {
    let mut weights = Weights::default();
    weights.tensors.insert(name.to_owned(), tensor.shallow_clone());
    if let Some(json) = prompts {
        weights.metadata.insert("prompts".to_owned(), json.to_owned());
    }
    weights.write(path).unwrap();
}

/// A .npy file as NumPy writes it, format version 1.0.
fn write_npy(path: &Path, descr: &str, fortran: &str, shape: &str, bytes: &[u8]) {
    let dict = format!("{{'descr': '{descr}', 'fortran_order': {fortran}, 'shape': {shape}, }}");
    let padding = (64 - (10 + dict.len() + 1) % 64) % 64;
    let header = format!("{dict}{}\n", " ".repeat(padding));
    let mut file = b"\x93NUMPY\x01\x00".to_vec();
    file.extend_from_slice(&(header.len() as u16).to_le_bytes());
    file.extend_from_slice(header.as_bytes());
    file.extend_from_slice(bytes);
    std::fs::write(path, file).unwrap();
}

fn bytes(tensor: &Tensor) -> Vec<u8> {
    let values: Vec<f32> = Vec::try_from(tensor.contiguous().view([-1])).unwrap();
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}

fn encode(encoder: &dyn TextEncoder, prompts: &[&str]) -> Tensor {
    encoder.encode(prompts, Device::Cpu).unwrap().pooled.unwrap()
}

struct Dir(tempfile::TempDir);

impl Dir {
    fn new() -> Self {
        Dir(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn text(&self, name: &str, text: &str) -> PathBuf {
        std::fs::write(self.path(name), text).unwrap();
        self.path(name)
    }
}

#[test]
fn every_way_to_store_prompts_gives_each_its_own_row() {
    let (dir, x) = (Dir::new(), rows(3, 5));
    let json = format!("[{:?}, {:?}, {:?}]", PROMPTS[0], PROMPTS[1], PROMPTS[2]);
    write_safetensors(&dir.path("in.safetensors"), "embeddings", &x, Some(&json));
    write_safetensors(&dir.path("beside.safetensors"), "embeddings", &x, None);
    dir.text("beside.txt", &format!("\u{feff}{}", PROMPTS.join("\n")));
    write_npy(&dir.path("array.npy"), "<f4", "False", "(3, 5)", &bytes(&x));
    dir.text("array.txt", &format!("{}\r\n", PROMPTS.join("\r\n")));
    let turned = x.transpose(0, 1);
    write_npy(&dir.path("columns.npy"), "<f4", "True", "(3, 5)", &bytes(&turned));
    let elsewhere = dir.text("elsewhere.list", &PROMPTS.join("\n"));
    let open = |name: &str, prompts| EmbeddingFile::open(&dir.path(name), prompts).unwrap();
    let files = [
        open("in.safetensors", None),
        open("beside.safetensors", None),
        open("array.npy", None),
        open("columns.npy", Some(elsewhere.as_path())),
    ];
    for file in files {
        assert_eq!((file.width(), file.len()), (5, 3));
        let got = encode(&file, &[PROMPTS[2], PROMPTS[0], " a blue firework "]);
        PROMPTS.iter().for_each(|prompt| file.check(prompt).unwrap());
        assert_eq!(got, x.index_select(0, &Tensor::from_slice(&[2i64, 0, 2])), "{file:?}");
    }
}

#[test]
fn an_unknown_prompt_is_named_with_those_near_it() {
    let (dir, x) = (Dir::new(), rows(3, 2));
    write_npy(&dir.path("e.npy"), "<f4", "False", "(3, 2)", &bytes(&x));
    dir.text("e.txt", &PROMPTS.join("\n"));
    let file = EmbeddingFile::open(&dir.path("e.npy"), None).unwrap();
    let message = file.encode(&["a rd firework"], Device::Cpu).unwrap_err().to_string();
    assert!(message.contains("e.npy") && message.contains("\"a rd firework\""), "{message}");
    assert_eq!(file.check("a rd firework").unwrap_err().to_string(), message);
    let near = message.split("similar prompts:").nth(1).expect("an offer");
    assert!(near.starts_with(" \"a red firework\", \"a blue firework\""), "{message}");
    let message = file.encode(&["qqq"], Device::Cpu).unwrap_err().to_string();
    assert!(message.contains("no prompt in the file is similar"), "{message}");
}

#[test]
fn prompts_that_do_not_fit_the_rows_are_refused() {
    let (dir, x) = (Dir::new(), rows(3, 2));
    let file = dir.path("e.npy");
    write_npy(&file, "<f4", "False", "(3, 2)", &bytes(&x));
    let message = |text: Option<&str>| {
        if let Some(text) = text {
            dir.text("e.txt", text);
        }
        EmbeddingFile::open(&file, None).unwrap_err().to_string()
    };
    let missing = message(None);
    assert!(missing.contains("e.txt") && missing.contains("no such file"), "{missing}");
    let few = message(Some("a\nb\n"));
    assert!(few.contains("expected 3") && few.contains("got 2"), "{few}");
    let twice = message(Some("a\nb\na\n"));
    assert!(twice.contains("\"a\" as numbers 1 and 3"), "{twice}");
    write_safetensors(&dir.path("j.safetensors"), "embeddings", &x, Some("{}"));
    let json = EmbeddingFile::open(&dir.path("j.safetensors"), None).unwrap_err().to_string();
    assert!(json.contains("JSON list"), "{json}");
}

#[test]
fn rows_without_prompts_are_read_from_either_format() {
    let (dir, x) = (Dir::new(), rows(4, 3));
    write_npy(&dir.path("e.npy"), "<f4", "False", "(4, 3)", &bytes(&x));
    assert_eq!(read_embeddings(&dir.path("e.npy")).unwrap(), x);
    write_npy(&dir.path("one.npy"), "<f4", "False", "(3,)", &bytes(&x.get(1)));
    assert_eq!(read_embeddings(&dir.path("one.npy")).unwrap(), x.narrow(0, 1, 1));
    let swapped: Vec<u8> =
        bytes(&x).chunks(4).flat_map(|v| v.iter().rev().copied().collect::<Vec<_>>()).collect();
    write_npy(&dir.path("big.npy"), ">f4", "False", "(4, 3)", &swapped);
    assert_eq!(read_embeddings(&dir.path("big.npy")).unwrap(), x);
    write_safetensors(&dir.path("e.safetensors"), "anything", &x, None);
    assert_eq!(read_embeddings(&dir.path("e.safetensors")).unwrap(), x);
}

#[test]
fn damaged_files_are_refused_with_a_reason() {
    let (dir, x) = (Dir::new(), rows(4, 3));
    let message = |name: &str| read_embeddings(&dir.path(name)).unwrap_err().to_string();
    write_npy(&dir.path("huge.npy"), "<f4", "False", "(4611686018427387904, 64)", &bytes(&x));
    write_npy(&dir.path("long.npy"), "<f4", "False", "(400, 3)", &bytes(&x));
    write_npy(&dir.path("short.npy"), "<f4", "False", "(4, 3)", &bytes(&x)[..44]);
    for name in ["huge.npy", "long.npy", "short.npy"] {
        assert!(message(name).contains("bytes"), "{}", message(name));
    }
    write_npy(&dir.path("wide.npy"), "<f8", "False", "(2, 3)", &bytes(&x));
    assert!(message("wide.npy").contains("float32"), "{}", message("wide.npy"));
    write_npy(&dir.path("cube.npy"), "<f4", "False", "(2, 2, 3)", &bytes(&x));
    assert!(message("cube.npy").contains("n d"), "{}", message("cube.npy"));
    write_npy(&dir.path("none.npy"), "<f4", "False", "(0, 3)", &[]);
    assert!(message("none.npy").contains("at least one row"), "{}", message("none.npy"));
    let mut nan = bytes(&x);
    nan[7 * 4..8 * 4].copy_from_slice(&f32::NAN.to_le_bytes());
    write_npy(&dir.path("nan.npy"), "<f4", "False", "(4, 3)", &nan);
    assert!(message("nan.npy").contains("row 2"), "{}", message("nan.npy"));
    dir.text("text.npy", "not an array at all");
    assert!(message("text.npy").contains(".npy file"), "{}", message("text.npy"));
    dir.text("e.csv", "1,2");
    assert!(message("e.csv").contains("NAME.safetensors or NAME.npy"));
    assert!(message("missing.npy").contains("missing.npy"));
    let double = x.to_kind(Kind::Double);
    write_safetensors(&dir.path("d.safetensors"), "embeddings", &double, None);
    assert!(message("d.safetensors").contains("f32"), "{}", message("d.safetensors"));
}

#[test]
fn configs_name_their_kinds_and_refuse_what_they_do_not_know() {
    let read = |text: &str| toml::from_str::<EncoderConfig>(text).map_err(|e| e.to_string());
    assert_eq!(read("kind = \"hashed\"\nwidth = 8"), Ok(EncoderConfig::Hashed { width: 8 }));
    let file = EncoderConfig::File { path: "a.npy".into(), prompts: None };
    assert_eq!(read(&toml::to_string(&file).unwrap()), Ok(file));
    for (text, part) in [
        ("kind = \"hash\"\nwidth = 8", "hashed"),
        ("kind = \"hashed\"\nwidths = 8", "width"),
        ("kind = \"file\"", "path"),
        ("width = 8", "kind"),
    ] {
        assert!(read(text).unwrap_err().contains(part), "{text}");
    }
    let none = EncoderConfig::Hashed { width: 0 };
    assert!(none.build().unwrap_err().to_string().contains("text.encoder.width"));
}
