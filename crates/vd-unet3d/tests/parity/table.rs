//! The full comparison, element by element, and its table.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::path::Path;

use tch::{Device, Kind, Tensor};
use vd_unet3d::ops::Weights;
use vd_unet3d::ops::pt::PtFile;

use crate::common::case::{Case, Pass, build, config, distance, relative_l2, total_norm};
use crate::{FLOOR, GRADIENT, OUTPUT};

const HEAD: &str = "\
# Parity with video-diffusion-pytorch

Written by `python fixtures.py --compare`, which says what it needs. Weights, inputs and the
gradient of the output come from the counter-based generator (generator.py), those of the case that
is called trained from a run on generated fireworks (trained.toml); the package ran on the CPU with
torch 2.11.0.

- output: relative L2 distance; at most 1e-5 between the float32 programs.
- gradient: the worst parameter's distance from the package's gradient, in parts of the larger of
  that gradient's norm and 1e-6 of the norm of all gradients; at most 1e-4.
- rounding: the package in float32 against itself in float64, which is what float32 leaves open.
- float64: both programs in float64.

| case | version | output | gradient | worst parameter | rounding, output | rounding, gradient \
| float64, output | float64, gradient |
|---|---|---|---|---|---|---|---|---|
";

/// Runs every case of a dumped folder, writes the table and panics if a tolerance is exceeded.
pub(crate) fn compare(folder: &Path, table: &Path) {
    let mut names: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    let (mut text, mut failures) = (HEAD.to_owned(), Vec::new());
    for name in names {
        let row = Row::measure(&folder.join(&name));
        row.write(&mut text, &name);
        if row.output > OUTPUT || row.gradient.0 > GRADIENT {
            failures.push(name);
        }
    }
    fs::write(table, text).unwrap();
    assert!(failures.is_empty(), "beyond the tolerance: {failures:?}; see {}", table.display());
}

struct Row {
    case: Case,
    output: f64,
    gradient: (f64, String),
    output64: f64,
    gradient64: f64,
}

impl Row {
    fn measure(folder: &Path) -> Row {
        let mut case: Case =
            serde_json::from_str(&fs::read_to_string(folder.join("case.json")).unwrap()).unwrap();
        let read = |name: &str| Weights::read(&folder.join(name), Device::Cpu).unwrap().tensors;
        let (io, gradients) = (read("io.safetensors"), read("gradients.safetensors"));
        let mut exact = read("float64.safetensors");
        let exact_output = exact.remove("output").unwrap();

        case.x = case.trained.then(|| io["x"].shallow_clone());

        let file = PtFile::open(&folder.join("weights.pt")).unwrap();
        let state = file.state_dict(file.root()).unwrap();
        let pass = run(&case, &state, Kind::Float);
        let pass64 = run(&case, &state, Kind::Double);
        Row {
            output: relative_l2(&pass.output, &io["output"]),
            gradient: worst(&pass.gradients, &gradients),
            output64: relative_l2(&pass64.output, &exact_output),
            gradient64: worst(&pass64.gradients, &exact).0,
            case,
        }
    }

    fn write(&self, text: &mut String, name: &str) {
        let rounding = &self.case.rounding;
        writeln!(
            text,
            "| {name} | {} | {:.1e} | {:.1e} | `{}` | {:.1e} | {:.1e} | {:.1e} | {:.1e} |",
            self.case.version,
            self.output,
            self.gradient.0,
            self.gradient.1,
            rounding.output,
            rounding.gradient,
            self.output64,
            self.gradient64,
        )
        .unwrap();
    }
}

/// One pass with the weights of a checkpoint, which equal the case's bit for bit.
fn run(case: &Case, state: &BTreeMap<String, Tensor>, kind: Kind) -> Pass {
    let (network, params) = build(&config(&case.version, &case.network), kind);
    let expected = case.weights(&params, &state[&case.frequencies[0]]);
    let state: BTreeMap<_, _> =
        state.iter().map(|(name, t)| (name.clone(), t.to_kind(kind))).collect();
    assert_eq!(state, expected);
    params.load(&state).unwrap();
    case.run(&network, &params, kind)
}

/// The largest error of a gradient, and its name.
fn worst(got: &BTreeMap<String, Tensor>, expected: &BTreeMap<String, Tensor>) -> (f64, String) {
    assert!(got.keys().eq(expected.keys()));
    let floor = FLOOR * total_norm(expected.values());
    let error =
        |name: &str, g: &Tensor| distance(&got[name], g) / crate::common::case::norm(g).max(floor);
    let errors = expected.iter().map(|(name, g)| (error(name, g), name.clone()));
    errors.max_by(|a, b| a.0.total_cmp(&b.0)).unwrap()
}
