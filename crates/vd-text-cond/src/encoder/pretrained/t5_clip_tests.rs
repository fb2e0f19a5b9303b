//! T5 and CLIP compared with transformers: tests/encoders/t5_clip.py made the models and the
//! expected values.
#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};

use tch::{Device, Kind, Tensor};
use vd_tensor_ops::Weights;

use super::directory::Directory;
use super::{Architecture, End, Layer, Model, architecture};

const T5: [&str; 3] = ["t5_v10", "t5_v11", "umt5"];
const CLIP: [&str; 2] = ["clip_quick", "clip_gelu"];
const LAYERS: [(Layer, &str); 2] = [(Layer::Last, "last"), (Layer::Penultimate, "penultimate")];

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/encoders").join(name)
}

/// A model, and prompts with their expected output.
struct Case {
    network: Box<dyn Model>,
    architecture: Box<dyn Architecture>,
    expected: Weights,
}

impl Case {
    fn load(name: &str, kind: Kind) -> Self {
        Self::open(&fixture(name), name, kind)
    }

    fn open(path: &Path, name: &str, kind: Kind) -> Self {
        let directory = Directory::open(path).unwrap();
        let architecture = architecture(&directory.settings).unwrap();
        let mut weights = directory.load(kind, Device::Cpu).unwrap();
        let network = architecture.load(&mut weights).unwrap();
        let file = fixture(name).join("expected.safetensors");
        Case { network, architecture, expected: Weights::read(&file, Device::Cpu).unwrap() }
    }

    fn mask(&self) -> Tensor {
        self.expected.tensors["mask"].to_kind(Kind::Bool)
    }

    fn forward(&self, layer: Layer) -> Tensor {
        self.network.forward(&self.expected.tensors["ids"], &self.mask(), layer).unwrap()
    }

    /// The largest difference at tokens that are not padding.
    fn apart(&self, got: &Tensor, key: &str) -> f64 {
        let apart = (got.to_kind(Kind::Double) - &self.expected.tensors[key]).abs();
        (apart * self.mask().unsqueeze(-1)).max().double_value(&[])
    }
}

#[test]
fn tokens_are_those_of_transformers_in_both_layers() {
    for name in T5.into_iter().chain(CLIP) {
        let [single, double] = [Kind::Float, Kind::Double].map(|kind| Case::load(name, kind));
        for (layer, key) in LAYERS {
            let key = format!("hidden.{key}");
            let apart = single.apart(&single.forward(layer), &key);
            let exact = format!("{key}.f64");
            let rounding = single.apart(&single.forward(layer), &exact);
            let truth = double.apart(&double.forward(layer), &exact);
            // Measured: at most 7.2e-7 from transformers in f32, which itself is off by 3.6e-6, as
            // this is; at most 1.8e-15 in f64. So the difference in f32 is only rounding.
            assert!(apart < 1e-5 && rounding < 1e-5, "{name} {key}: {apart} {rounding}");
            assert!(truth < 1e-12, "{name} {key}: {truth}");
        }
    }
}

#[test]
fn padding_changes_no_token_of_a_prompt() {
    for name in T5.into_iter().chain(CLIP) {
        let case = Case::load(name, Kind::Float);
        let together = case.forward(Layer::Last);
        let lengths = case.mask().sum_dim_intlist(1i64, false, Kind::Int64);
        for row in 0..together.size()[0] {
            let l = lengths.int64_value(&[row]);
            let cut = |x: &Tensor| x.narrow(0, row, 1).narrow(1, 0, l);
            let ids = cut(&case.expected.tensors["ids"]);
            let alone = case.network.forward(&ids, &cut(&case.mask()), Layer::Last).unwrap();
            let apart = (alone - cut(&together)).abs().max().double_value(&[]);
            // the same sums, by matrix products of other sizes: measured
            assert!(apart < 1e-5, "{name}, row {row}: {apart}");
        }
    }
}

#[test]
fn the_token_that_is_pooled_is_that_of_transformers() {
    let ends = CLIP.map(|name| {
        let case = Case::load(name, Kind::Float);
        let last = case.forward(Layer::Last);
        let ids = &case.expected.tensors["ids"];
        let place = match case.architecture.end() {
            End::Id(id) => ids.eq(id).to_kind(Kind::Int64).argmax(1, true),
            _ => ids.argmax(1, true),
        };
        let place = place.unsqueeze(-1).expand([-1, -1, last.size()[2]], false);
        let pooled = last.gather(1, &place, false).squeeze_dim(1);
        let apart = (pooled - &case.expected.tensors["pooled"]).abs().max().double_value(&[]);
        assert!(apart < 1e-5, "{name}: {apart}");
        case.architecture.end()
    });
    assert_eq!(ends, [End::HighestId, End::Id(101)]);
}

#[test]
fn half_precision_gives_nearly_the_same() {
    // Measured, relative: at most 1.5e-2 (T5) and 3.3e-3 (CLIP) at 8 bits of precision, an eighth
    // of that at 11.
    for (kind, most) in [(Kind::BFloat16, 0.03), (Kind::Half, 0.004)] {
        for name in T5.into_iter().chain(CLIP) {
            let case = Case::load(name, kind);
            let got = case.forward(Layer::Last).to_kind(Kind::Double)
                - &case.expected.tensors["hidden.last"];
            let size = case.expected.tensors["hidden.last"].square().mean(Kind::Double).sqrt();
            let apart = (got * case.mask().unsqueeze(-1)).square().mean(Kind::Double).sqrt() / size;
            assert!(apart.double_value(&[]) < most, "{name} {kind:?}: {apart:?}");
        }
    }
}

/// A fixture with some of its files changed.
fn changed(name: &str, change: impl Fn(&mut serde_json::Value, &mut Weights)) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    let [config, weights] =
        ["config.json", "model.safetensors"].map(|file| fixture(name).join(file));
    let mut config = serde_json::from_slice(&std::fs::read(config).unwrap()).unwrap();
    let mut weights = Weights::read(&weights, Device::Cpu).unwrap();
    change(&mut config, &mut weights);
    std::fs::write(directory.path().join("config.json"), config.to_string()).unwrap();
    weights.write(&directory.path().join("model.safetensors")).unwrap();
    directory
}

#[test]
fn a_t5_whose_sums_leave_the_range_of_f16_is_right_in_f16() {
    let large = changed("t5_v11", |_, weights| {
        for (name, tensor) in &mut weights.tensors {
            if name.contains("DenseReluDense.w") {
                *tensor = tensor.shallow_clone() * 40.0;
            }
        }
    });
    let [whole, half] =
        [Kind::Float, Kind::Half].map(|kind| Case::open(large.path(), "t5_v11", kind));
    let beyond = whole.forward(Layer::Penultimate).abs().max().double_value(&[]);
    assert!(beyond > 65504.0, "{beyond}");
    let size = whole.forward(Layer::Last);
    let apart = (half.forward(Layer::Last) - &size).abs().max() / size.abs().max();
    assert!(apart.double_value(&[]) < 0.01, "{apart:?}");
}

#[test]
fn the_words_of_a_t5_may_be_stored_with_its_encoder() {
    let other = changed("t5_v11", |_, weights| {
        let words = weights.tensors.remove("shared.weight").unwrap();
        weights.tensors.insert("encoder.embed_tokens.weight".to_owned(), words);
    });
    let other = Case::open(other.path(), "t5_v11", Kind::Float);
    assert_eq!(other.forward(Layer::Last), Case::load("t5_v11", Kind::Float).forward(Layer::Last));
}

#[test]
fn the_older_name_of_a_clips_text_settings_counts() {
    let both = changed("clip_quick", |config, _| {
        config["text_config_dict"] = config["text_config"].take();
        config["text_config"] = serde_json::json!({ "hidden_size": 9 });
    });
    let both = Case::open(both.path(), "clip_quick", Kind::Float);
    let apart = both.apart(&both.forward(Layer::Last), "hidden.last");
    assert!(apart < 1e-5, "{apart}");
    assert_eq!((both.architecture.longest(), both.architecture.width()), (Some(77), 16));
}

#[test]
fn what_a_config_leaves_out_is_as_transformers_takes_it() {
    let form = ["feed_forward_proj", "dense_act_fn", "is_gated_act"];
    let t5 = [&form[..], &["layer_norm_epsilon", "pad_token_id"]].concat();
    let v11 = ["relative_attention_num_buckets", "relative_attention_max_distance"];
    let clip = ["max_position_embeddings", "hidden_act", "layer_norm_eps"];
    for (name, model_type, keys) in [
        ("t5_v10", "t5", &t5[..]),
        ("t5_v11", "t5", &v11[..]),
        ("t5_v11", "mt5", &form[..]),
        ("umt5", "umt5", &form[..]),
        ("clip_quick", "clip", &clip[..]),
    ] {
        let short = changed(name, |config, _| {
            config["model_type"] = model_type.into();
            let place = if name == "clip_quick" { &mut config["text_config"] } else { config };
            let fields = place.as_object_mut().unwrap();
            fields.retain(|key, _| !keys.contains(&key.as_str()));
        });
        let short = Case::open(short.path(), name, Kind::Float);
        let whole = Case::load(name, Kind::Float);
        assert_eq!(short.forward(Layer::Last), whole.forward(Layer::Last), "{name} {model_type}");
        assert_eq!(short.architecture.longest(), whole.architecture.longest());
    }
}

#[test]
fn settings_that_fit_no_model_are_refused_by_name() {
    let message = |name: &str, key: &str, value: serde_json::Value| {
        let directory = changed(name, |config, _| config[key] = value.clone());
        let directory = Directory::open(directory.path()).unwrap();
        architecture(&directory.settings).map(|_| ()).unwrap_err().to_string()
    };
    for (name, key, value, word) in [
        ("clip_gelu", "num_attention_heads", 5.into(), "a divisor of hidden_size"),
        ("clip_gelu", "hidden_act", "sine".into(), "sine"),
        ("clip_quick", "text_config", 3.into(), "an object"),
        ("t5_v10", "relative_attention_num_buckets", 3.into(), "at least 4"),
        ("t5_v10", "relative_attention_max_distance", 2.into(), "more than 2"),
        ("t5_v10", "d_kv", serde_json::Value::Null, "nothing"),
    ] {
        let message = message(name, key, value);
        assert!(message.contains(key) && message.contains(word), "{message}");
    }
}

#[test]
fn a_clip_has_77_places_and_a_t5_no_end() {
    let longest = |name| Case::load(name, Kind::Float).architecture.longest();
    assert_eq!(longest("clip_quick"), Some(77));
    assert_eq!(longest("clip_gelu"), Some(30));
    assert_eq!(longest("t5_v10"), None);
}
