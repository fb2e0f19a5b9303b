#![allow(clippy::unwrap_used)]

mod images;
mod sections;

use std::collections::BTreeMap;
use std::path::Path;

use tch::{Kind, Tensor};
use vd_data::{Clip, Dataset, Loader, write_gif};
use vd_tensor_ops::video;

use super::{Signal, check_signals};
use crate::streams::Place;
use crate::{RunConfig, Upsampling, known_part, low_resolution};

/// Six clips of five frames in two folders, frame k of clip n uniformly grey; a table has rows for
/// four of them.
fn clips(root: &Path) {
    for n in 0..6u8 {
        let folder = root.join(if n % 2 == 0 { "cat" } else { "dog" });
        std::fs::create_dir_all(&folder).unwrap();
        let frames = (0..5u8).flat_map(|k| vec![40 * n + 5 * k; 8 * 8 * 3]).collect();
        let clip = Clip::new(frames, [5, 8, 8, 3], 10.0).unwrap();
        write_gif(&folder.join(format!("{n}.gif")), &clip).unwrap();
    }
    let list = |n: u8| (0..5).map(|k| format!("[{n}, {k}]")).collect::<Vec<_>>().join(", ");
    let row = |file: &str, n: u8, more: &str| {
        format!("{{\"file\": \"{file}\", \"at\": [{}]{more}}}\n", list(n))
    };
    let rows = [
        row(
            "cat/0.gif",
            0,
            ", \"speed\": 1.5, \"sky\": \"rain\", \"pair\": [1, 2], \"long\": [1, 2, 3, 4, 5, 6]",
        ),
        row("dog/1.gif", 1, ", \"speed\": -2, \"sky\": \"sun\", \"height\": [5, 4, 3, 2, 1]"),
        row("cat/2.gif", 2, ", \"sky\": \"rain\""),
        row("dog/3.gif", 3, ", \"speed\": \"0.25\", \"sky\": \"\""),
    ];
    std::fs::write(root.join("t.jsonl"), rows.concat()).unwrap();
}

const SIGNALS: &str = r#"
    [model.signals]
    kind = { kind = "class" }
    sky = { kind = "class" }
    speed = { kind = "scalar" }
    height = { kind = "scalar" }
    at = { kind = "series", width = 2 }
    pair = { kind = "series", width = 2 }
    low = { kind = "video", channels = 3 }
    seen = { kind = "video", channels = 4 }
    [signals]
    kind = { from = { kind = "folder" }, drop = 0 }
    sky = { from = { kind = "column", name = "sky" }, drop = 0 }
    speed = { from = { kind = "column", name = "speed" }, drop = 0 }
    height = { from = { kind = "array", name = "height" }, drop = 0 }
    at = { from = { kind = "array", name = "at" }, drop = 0 }
    pair = { from = { kind = "column", name = "pair" }, drop = 0 }
    low = { from = { kind = "low-resolution", factor = 4, upsampling = "bilinear" }, drop = 0.5 }
    seen = { from = { kind = "masked", hidden_box = [0.2, 0.6] } }
"#;

fn config(root: &Path, signals: &str) -> RunConfig {
    let text = format!(
        "[data]\nsource = {{ kind = \"folder\", path = {root:?}, captions = {{ table = \"t.jsonl\" }} }}\n\
         frames = 3\nsize = [8, 8]\nworkers = 0\n[train]\nout = \"runs/x\"\npreview_every = 0\n[model]\ndim = 8\n\
         dim_mults = [1, 2]\n{signals}"
    );
    toml::from_str(&text).unwrap()
}

/// The tensors as numbers, row by row.
fn rows(tensor: &Tensor) -> Vec<Vec<f64>> {
    let flat = tensor.to_kind(Kind::Double).reshape([tensor.size()[0], -1]);
    (0..flat.size()[0]).map(|k| Vec::try_from(flat.get(k)).unwrap()).collect()
}

#[test]
fn every_kind_of_value_goes_with_its_clip_and_null_where_there_is_none() {
    let dir = tempfile::tempdir().unwrap();
    clips(dir.path());
    let config = config(dir.path(), SIGNALS).resolved().unwrap();
    let dataset = Dataset::open(&config.data).unwrap();
    check_signals(&config, &dataset).unwrap();
    let mut loader = Loader::over(dataset, 12, vd_data::Cursor::start(3)).unwrap();
    let batch = loader.next().unwrap();
    let x0 = video::from_u8(&batch.video);
    let at = Place { seed: 3, step: 5, micro: 0 };
    let given: BTreeMap<_, _> = Signal::all(&config)
        .into_iter()
        .map(|signal| (signal.name.clone(), signal.given(&batch, &x0, at).unwrap()))
        .collect();
    let values: BTreeMap<_, _> =
        given.iter().map(|(name, g)| (name.as_str(), rows(&g.value))).collect();
    let nulls: BTreeMap<_, Vec<bool>> = given
        .iter()
        .map(|(name, g)| (name.as_str(), Vec::try_from(g.null.as_ref().unwrap()).unwrap()))
        .collect();
    for k in 0..12 {
        // the grey of the first frame identifies clip and frame: 40 n + 5 k
        let grey = batch.video.get(k as i64).get(0).get(0).get(0).int64_value(&[0]);
        let (n, first) = ((grey / 40) as usize, (grey % 40 / 5) as f64);
        assert_eq!(first as usize, batch.taken[k].start);
        let told = |name: &str| (!nulls[name][k]).then(|| values[name][k].clone());
        assert_eq!(told("kind"), Some(vec![(n % 2) as f64]), "{n}");
        let skies = [Some(vec![0.0]), Some(vec![1.0]), Some(vec![0.0]), None, None, None];
        assert_eq!(told("sky"), skies[n]);
        let speeds = [Some(vec![1.5]), Some(vec![-2.0]), None, Some(vec![0.25]), None, None];
        assert_eq!(told("speed"), speeds[n]);
        assert_eq!(told("pair"), (n == 0).then(|| vec![1.0, 2.0]));
        let heights = [5.0, 4.0, 3.0].map(|height| height - first).to_vec();
        assert_eq!(told("height"), (n == 1).then_some(heights));
        let n = n as f64;
        let places = [n, first, n, first + 1.0, n, first + 2.0].to_vec();
        assert_eq!(told("at"), (n < 4.0).then_some(places));
    }
    let shape = |name: &str| given[name].value.size();
    assert_eq!((shape("kind"), shape("speed"), shape("height")), (vec![12], vec![12], vec![12, 3]));
    assert_eq!((shape("at"), shape("pair")), (vec![12, 3, 2], vec![12, 2]));
    let kind = |name: &str| given[name].value.kind();
    assert_eq!((kind("kind"), kind("at"), kind("pair")), (Kind::Int64, Kind::Float, Kind::Float));
    // numbers keep full precision up to the network
    assert_eq!((kind("speed"), kind("height")), (Kind::Double, Kind::Double));
    assert_eq!(given["low"].value, low_resolution(&x0, 4, Upsampling::Bilinear).unwrap());
    let known = given["seen"].value.narrow(1, 3, 1);
    assert_eq!(given["seen"].value, known_part(&x0, &known).unwrap());
}

#[test]
fn each_signal_is_dropped_at_its_own_rate_by_draws_of_its_own() {
    let dir = tempfile::tempdir().unwrap();
    clips(dir.path());
    let more = "[model.signals.again]\nkind = \"video\"\nchannels = 3\n[signals.again]\n\
                from = { kind = \"low-resolution\", factor = 4 }\ndrop = 0.5\n";
    let config = config(dir.path(), &format!("{SIGNALS}{more}")).resolved().unwrap();
    let dataset = Dataset::open(&config.data).unwrap();
    let mut loader = Loader::over(dataset, 24, vd_data::Cursor::start(3)).unwrap();
    let batch = loader.next().unwrap();
    let x0 = video::from_u8(&batch.video);
    let mut drawn = BTreeMap::<String, Vec<bool>>::new();
    for step in 0..40 {
        for signal in Signal::all(&config) {
            let at = Place { seed: 3, step, micro: 0 };
            let null = signal.given(&batch, &x0, at).unwrap().null.unwrap();
            assert_eq!(null, signal.given(&batch, &x0, at).unwrap().null.unwrap());
            drawn.entry(signal.name).or_default().extend(Vec::<bool>::try_from(null).unwrap());
        }
    }
    for (name, p) in [("kind", 0.0), ("seen", 0.1), ("low", 0.5), ("again", 0.5)] {
        let (n, count) = (960.0, drawn[name].iter().filter(|null| **null).count() as f64);
        // five standard deviations of a binomial
        let room = 5.0 * f64::sqrt(n * p * (1.0 - p));
        assert!((count - n * p).abs() <= room, "{name}: {count}");
    }
    assert_ne!(drawn["low"], drawn["again"]);
}

#[test]
fn values_that_a_signal_cannot_take_are_found_before_the_first_step() {
    let dir = tempfile::tempdir().unwrap();
    clips(dir.path());
    let refused = |signal: &str, from: &str| {
        let signals =
            format!("[model.signals]\na = {signal}\n[signals]\na = {{ from = {from} }}\n");
        let config = match config(dir.path(), &signals).resolved() {
            Ok(config) => config,
            Err(error) => return error.to_string(),
        };
        let dataset = Dataset::open(&config.data).unwrap();
        check_signals(&config, &dataset).unwrap_err().to_string()
    };
    let column = |name: &str| format!("{{ kind = \"column\", name = \"{name}\" }}");
    let array = |name: &str| format!("{{ kind = \"array\", name = \"{name}\" }}");
    let (class, scalar) = ("{ kind = \"class\" }", "{ kind = \"scalar\" }");
    let known = "{ kind = \"class\", classes = [\"snow\", \"rain\"] }";
    let cases = [
        (
            known,
            column("sky"),
            "line 2, column `sky`: expected one of the classes snow, rain, found \"sun\"",
        ),
        (
            known,
            "{ kind = \"folder\" }".to_owned(),
            "model.signals.a.classes: expected one of the classes snow, rain, got \"cat\", the folder of cat/0.gif",
        ),
        (scalar, column("sky"), "line 1, column `sky`: expected a number, found \"rain\""),
        (
            scalar,
            column("rain"),
            "column `rain`; the columns are: at (4 clips), height (1 clips), long (1 clips), pair (1 clips), sky (3 clips), speed (3 clips)",
        ),
        (class, column("rain"), "signals.a.from: expected a class for at least one clip, got none"),
        (class, column("at"), "expected the name of a class, found a list of 5 lists of 2 numbers"),
        (scalar, array("at"), "expected 1 number per frame, found 2 numbers per frame"),
        (scalar, array("speed"), "expected a list with a value for each frame"),
        (
            "{ kind = \"series\", width = 3 }",
            column("pair"),
            "expected a list of 3 numbers, found a list of 2 numbers",
        ),
        (
            "{ kind = \"series\", width = 1 }",
            array("pair"),
            "line 1, column `pair`: expected a value for each of the 5 frames of the file, found 2 values",
        ),
        (
            scalar,
            array("long"),
            "line 1, column `long`: expected a value for each of the 5 frames of the file, found 6 values",
        ),
    ];
    for (signal, from, expected) in cases {
        let message = refused(signal, &from);
        assert!(message.contains(expected), "{signal} {from}: {message}");
    }
}

#[test]
fn signals_are_computed_where_the_clips_are() {
    let dir = tempfile::tempdir().unwrap();
    clips(dir.path());
    let config = config(dir.path(), SIGNALS).resolved().unwrap();
    let dataset = Dataset::open(&config.data).unwrap();
    let batch = Loader::over(dataset, 2, vd_data::Cursor::start(1)).unwrap().next().unwrap();
    let device = vd_torch::DeviceChoice::default().resolve().unwrap();
    let x0 = video::from_u8(&batch.video.to_device(device));
    for signal in Signal::all(&config) {
        let given = signal.given(&batch, &x0, Place { seed: 1, step: 0, micro: 0 }).unwrap();
        assert_eq!(given.value.device(), x0.device());
        assert_eq!(given.null.unwrap().device(), x0.device());
    }
}
