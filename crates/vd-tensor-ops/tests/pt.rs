//! Checkpoints that Python wrote: the same content here as there.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

#[path = "fixtures/mod.rs"]
mod fixtures;

use std::fs;
use std::path::Path;

use fixtures::{assert_equal, expected, fixture, floats};
use vd_tensor_ops::pt::{PtFile, Value};

fn open(name: &str) -> PtFile {
    PtFile::open(&fixture(&format!("pt/{name}.pt"))).unwrap()
}

fn error(path: &Path) -> String {
    PtFile::open(path).unwrap_err().to_string()
}

/// Every tensor within nested dicts equals Python's, and no other tensor is there.
fn assert_tensors(name: &str) -> PtFile {
    let file = open(name);
    let expected = expected(&format!("pt/{name}.json"));
    let mut seen = 0;
    walk(file.root(), String::new(), &mut |path, value| {
        let Some(info) = value.as_tensor() else { return };
        let want = &expected[path];
        let tensor = file.tensor(info).unwrap();
        assert_equal(path, &tensor, want);
        assert_eq!(info.shape(), tensor.size());
        assert_eq!(info.kind(), Some(tensor.kind()));
        seen += 1;
    });
    assert_eq!(seen, expected.len());
    file
}

fn walk(value: &Value, path: String, visit: &mut dyn FnMut(&str, &Value)) {
    visit(&path, value);
    for (key, part) in value.as_dict().unwrap_or_default() {
        let key = key.as_str().map_or_else(|| format!("{key:?}"), str::to_owned);
        let path = if path.is_empty() { key } else { format!("{path}/{key}") };
        walk(part, path, visit);
    }
}

#[test]
fn a_trainer_checkpoint_has_pythons_step_weights_and_scaler() {
    let file = assert_tensors("trainer");
    let root = file.root();
    let keys: Vec<_> = root.as_dict().unwrap().iter().map(|(k, _)| k.as_str().unwrap()).collect();
    assert_eq!(keys, ["step", "model", "ema", "scaler"]);
    assert_eq!(root.get("step").unwrap().as_i64(), Some(12345));
    assert_eq!(root.get("scaler").unwrap().get("scale").unwrap().as_f64(), Some(65536.0));
    assert!(root.get("absent").is_none());
    let all = expected("pt/trainer.json");
    for which in ["model", "ema"] {
        let tensors = file.state_dict(root.get(which).unwrap()).unwrap();
        assert_eq!(tensors.len(), 7);
        for (name, tensor) in &tensors {
            assert_equal(name, tensor, &all[&format!("{which}/{name}")]);
        }
    }
}

#[test]
fn an_optimiser_state_keeps_its_structure() {
    let file = assert_tensors("optimizer");
    let optimizer = file.root().get("opt").unwrap();
    let groups = optimizer.get("param_groups").unwrap().as_slice().unwrap();
    assert_eq!(groups[0].get("lr").unwrap().as_f64(), Some(1e-3));
    assert_eq!(groups[0].get("params").unwrap().as_slice().unwrap().len(), 6);
    assert!(matches!(groups[0].get("foreach").unwrap(), Value::None));
    let state = optimizer.get("state").unwrap().as_dict().unwrap();
    assert_eq!(state[5].0.as_i64(), Some(5));
    let milestones = file.root().get("milestones").unwrap().as_dict().unwrap();
    assert_eq!(milestones[1].1.as_i64(), Some(2));
}

#[test]
fn every_dtype_has_pythons_values() {
    assert_tensors("dtypes");
}

#[test]
fn a_file_saved_without_checksums_is_read() {
    assert_tensors("no_checksums");
}

#[test]
fn views_of_one_storage_are_read_as_python_sees_them() {
    let file = assert_tensors("views");
    let tensors = file.state_dict(file.root()).unwrap();
    let all = expected("pt/views.json");
    assert_eq!(tensors.len(), all.len());
    for (name, tensor) in &tensors {
        assert_equal(name, tensor, &all[name]);
    }
}

#[test]
fn only_equal_views_share_memory_in_a_state_dict() {
    let file = open("views");
    let tensors = file.state_dict(file.root()).unwrap();
    for (a, b) in [("whole", "same"), ("weight", "tied")] {
        assert_eq!(tensors[a].data_ptr(), tensors[b].data_ptr());
    }
    let before = floats(&tensors["part"]);
    let _ = tensors["whole"].shallow_clone().fill_(7.0);
    assert_eq!(floats(&tensors["part"]), before);
    assert_eq!(floats(&tensors["same"])[0], 7.0);
    let again = file.state_dict(file.root()).unwrap();
    assert_ne!(floats(&again["whole"])[0], 7.0);
}

#[test]
fn plain_values_are_the_same_in_every_protocol() {
    for protocol in 2..=5 {
        let file = assert_tensors(&format!("plain_protocol{protocol}"));
        let plain = file.root().get("plain").unwrap();
        let at = |key: &str| plain.get(key).unwrap_or_else(|| panic!("{key}"));
        assert!(matches!(at("none"), Value::None));
        assert_eq!(at("flags").as_slice().unwrap()[0].as_bool(), Some(true));
        let ints = [("zero", 0), ("byte", 255), ("short", 65535), ("int", -(1 << 31))];
        for (key, want) in ints.into_iter().chain([("long", 1 << 40), ("longest", i64::MIN)]) {
            assert_eq!(at(key).as_i64(), Some(want), "{key}");
        }
        let Value::BigInt(huge) = at("huge") else { panic!("{:?}", at("huge")) };
        assert_eq!(**huge, [0, 0, 0, 0, 0, 0, 0, 0x80, 0]);
        let Value::BigInt(huge) = at("minus_huge") else { panic!("{:?}", at("minus_huge")) };
        assert_eq!(**huge, [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xf0]);
        assert_eq!(at("float").as_f64(), Some(0.1));
        assert_eq!(at("text").as_str(), Some("x_t \u{3b5}"));
        assert_eq!(at("long_text").as_str().unwrap().len(), 300);
        assert_eq!(at("bytes").as_bytes(), Some(&[0, 0xff][..]));
        assert_eq!(at("no_bytes").as_bytes(), Some(&[][..]));
        assert_eq!(at("long_bytes").as_bytes(), Some(&[0; 300][..]));
        assert_eq!(at("bytearray").as_bytes(), Some(&b"ab"[..]));
        let inner = at("list").as_slice().unwrap()[1].as_slice().unwrap();
        assert_eq!(inner[1].as_slice().unwrap()[0].as_i64(), Some(3));
        assert_eq!(at("tuple").as_slice().unwrap()[4].as_slice().unwrap().len(), 4);
        assert_eq!(at("dict").as_dict().unwrap()[0].1.as_str(), Some("one"));
        assert_eq!(at("ordered").as_dict().unwrap()[0].0.as_str(), Some("z"));
        assert_eq!(at("default").get("k").unwrap().as_slice().unwrap().len(), 1);
        assert!(matches!(at("set"), Value::Set(items) if items[0].as_i64() == Some(7)));
        assert!(matches!(at("frozen"), Value::Set(items) if items[0].as_i64() == Some(8)));
        assert_eq!(format!("{:?}", at("size")), "tuple of 2");
        assert_eq!(at("random").as_slice().unwrap()[0].as_i64(), Some(2147483648));
        assert_eq!(at("many").as_slice().unwrap()[1099].as_i64(), Some(1099));
    }
}

#[test]
fn objects_of_other_classes_stay_names_with_their_arguments() {
    for protocol in 2..=5 {
        let file = open(&format!("plain_protocol{protocol}"));
        let plain = file.root().get("plain").unwrap();
        let object = |key: &str| match plain.get(key) {
            Some(Value::Opaque(object)) => object.clone(),
            other => panic!("{key}: {other:?}"),
        };
        assert_eq!(object("device").class.to_string(), "torch.device");
        assert_eq!(object("dtype").class.to_string(), "torch.bfloat16");
        assert!(object("dtype").args.is_none());
        let args = object("args");
        assert_eq!(format!("{args:?}"), "object argparse.Namespace");
        assert_eq!(args.state.as_ref().unwrap().get("name").unwrap().as_str(), Some("run"));
        assert!(object("numpy").class.to_string().ends_with("multiarray.scalar"));
        assert_eq!(object("class").class.to_string(), "collections.deque");
        assert_eq!(object("deque").items.len(), 2);
        let complex = object("complex");
        assert_eq!(complex.args.as_ref().unwrap().as_slice().unwrap()[1].as_f64(), Some(2.0));
    }
}

#[test]
fn tensors_without_plain_numbers_are_named_in_the_error() {
    let file = open("odd");
    let entry = |key: &str| file.root().get(key).unwrap_or_else(|| panic!("{key}"));
    let uint16 = entry("uint16").as_tensor().unwrap();
    assert_eq!((uint16.kind(), uint16.shape()), (None, &[3][..]));
    let message = file.tensor(uint16).unwrap_err().to_string();
    assert!(message.contains("dtype torch.uint16 is not supported"), "{message}");
    for key in ["sparse", "conjugate", "quantized", "meta", "module"] {
        assert!(matches!(entry(key), Value::Opaque(_)), "{key}: {:?}", entry(key));
    }
    assert_eq!(floats(&file.tensor(entry("good").as_tensor().unwrap()).unwrap()), [1.0, 1.0]);
    let message = file.state_dict(file.root()).unwrap_err().to_string();
    assert!(message.contains("\"sparse\" is object torch._utils._rebuild_sparse"), "{message}");
}

#[test]
fn asking_the_whole_checkpoint_for_a_state_dict_names_the_dicts_in_it() {
    let file = open("trainer");
    let message = file.state_dict(file.root()).unwrap_err().to_string();
    assert!(message.contains("trainer.pt"), "{message}");
    assert!(message.contains("its entry \"step\" is 12345, not a tensor"), "{message}");
    assert!(message.contains("`model`, `ema`, `scaler`"), "{message}");
    let message = file.state_dict(file.root().get("step").unwrap()).unwrap_err().to_string();
    assert!(message.contains("a dict of tensors by name, got 12345"), "{message}");
}

#[test]
fn other_formats_are_refused_with_a_way_out() {
    let folder = tempfile::tempdir().unwrap();
    let cases = [
        (fixture("pt/legacy.pt"), "before 1.6"),
        (fixture("pt/compressed.pt"), "compressed"),
        (fixture("pt/script.pt"), "TorchScript"),
        (fixture("weights/python.safetensors"), "safetensors"),
        (fixture("pt/trainer.json"), "not a zip archive"),
        (fixture("pt"), "is a directory"),
        (fixture("pt/absent.pt"), "No such file"),
    ];
    for (path, want) in cases {
        let message = error(&path);
        assert!(message.contains(want) && message.contains(path.to_str().unwrap()), "{message}");
    }
    let empty = folder.path().join("empty.pt");
    fs::write(&empty, b"").unwrap();
    assert!(error(&empty).contains("empty file"));
}

#[test]
fn opening_reads_no_tensor_and_a_damaged_one_leaves_the_others() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("damaged.pt");
    let mut bytes = fs::read(fixture("pt/trainer.pt")).unwrap();
    // The last bias of the model's network: found by its bytes, of which one is changed.
    let file = open("trainer");
    let values = floats(&file.state_dict(file.root().get("model").unwrap()).unwrap()["2.bias"]);
    let needle: Vec<u8> = values.iter().flat_map(|v| (*v as f32).to_le_bytes()).collect();
    let at = bytes.windows(needle.len()).position(|w| w == needle).unwrap();
    bytes[at] ^= 1;
    fs::write(&path, bytes).unwrap();

    let file = PtFile::open(&path).unwrap();
    let model = file.root().get("model").unwrap();
    let message = file.state_dict(model).unwrap_err().to_string();
    assert!(message.contains("tensor `2.bias`") && message.contains("checksum"), "{message}");
    assert_eq!(file.state_dict(file.root().get("ema").unwrap()).unwrap().len(), 7);
}
