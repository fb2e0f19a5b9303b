//! The networks of video-diffusion-pytorch, compared numerically.
//!
//! Weights and inputs come from the counter-based generator; parity/fixtures.py wrote the Python
//! package's outputs, and documents how to run the full comparison.
#![allow(clippy::unwrap_used)]

mod common;

use std::path::{Path, PathBuf};

use common::case::{Case, build, config, norm, relative_l2, weights};
use common::generator::{SIGNED_SUMS, parameter, signed_sums, word};
use tch::{Device, Kind, Tensor};
use vd_unet3d::ops::Weights;
use vd_unet3d::ops::kernels::Precision;
use vd_unet3d::ops::torch::testing::{folder, tolerance};

#[path = "parity/table.rs"]
mod table;

/// Relative L2 distance of outputs.
const OUTPUT: f64 = 1e-5;
/// The same for every code path without gradients. Measured with bf16: 2.2e-3 to 4.5e-3, since the
/// random weights of the attentions are larger than a network's initial ones (bf16.rs).
const PRECISIONS: [(Precision, f64); 4] = [
    (Precision::Reference, 3e-6),
    (Precision::Exact, 3e-6),
    (Precision::F32, OUTPUT),
    (Precision::Bf16, 6e-3),
];
/// Distance of a gradient, relative to the larger of its norm and `FLOOR` of all gradients' norm.
const GRADIENT: f64 = 1e-4;
const FLOOR: f64 = 1e-6;
/// A signed sum of an error of norm e is about e; one in 16,000 exceeds 4 e.
const SIGNED_SUM: f64 = 4.0 * GRADIENT;

fn here() -> PathBuf {
    folder(env!("CARGO_MANIFEST_DIR")).join("tests/parity")
}

/// A committed case: its description and the package's output.
fn fixture(name: &str) -> (Case, Weights) {
    let path = here().join("fixtures").join(format!("{name}.safetensors"));
    let file = Weights::read(&path, Device::Cpu).unwrap();
    let mut case: Case = serde_json::from_str(&file.metadata["case"]).unwrap();
    case.x = file.tensors.get("x").map(Tensor::shallow_clone);
    (case, file)
}

/// Names and shapes, output and gradients of one committed case.
fn check(name: &str) {
    let (case, file) = fixture(name);
    let (mut network, params) = build(&config(&case.version, &case.network), Kind::Float);
    check_names(&case, &params);

    let frequencies = &file.tensors["rotary_frequencies"];
    params.load(&case.weights(&params, frequencies)).unwrap();
    let pass = case.run(&network, &params, Kind::Float);
    let error = relative_l2(&pass.output, &file.tensors["output"]);
    assert!(error <= tolerance(OUTPUT), "{name}: output off by {error:e}");

    // Without gradients, on every code path.
    for (precision, bound) in PRECISIONS {
        network.set_precision(precision);
        let output = tch::no_grad(|| case.answer(&network, Kind::Float));
        let error = relative_l2(&output, &file.tensors["output"]);
        assert!(error <= tolerance(bound), "{name}, {precision:?}: output off by {error:e}");
    }

    let norms = &file.tensors["gradient_norms"];
    let floor = FLOOR * norm(norms);
    for ((parameter, gradient), row) in pass.gradients.iter().zip(0..) {
        let expected = norms.double_value(&[row]);
        let scale = expected.max(floor);
        let error = (norm(gradient) - expected).abs() / scale;
        assert!(error <= GRADIENT, "{name}: norm of the gradient of {parameter} off by {error:e}");
        let sums = &file.tensors["gradient_sums"].get(row);
        let got = Tensor::from_slice(&signed_sums(parameter, gradient));
        let error = (got - sums).abs().max().double_value(&[]) / scale;
        assert!(error <= SIGNED_SUM, "{name}: gradient of {parameter} off by {error:e}");
    }
}

/// The parameters equal those of the package's state dict, in name and shape.
fn check_names(case: &Case, params: &vd_unet3d::ops::Params) {
    let shape = |t: &Tensor| t.size();
    let trained = params.trainable().into_iter().map(|(name, t)| (name.to_owned(), shape(t)));
    assert_eq!(trained.collect::<std::collections::BTreeMap<_, _>>(), case.parameters);
    let fixed = params.iter().filter(|(_, p)| !p.trainable).map(|(name, _)| name);
    let mut expected: Vec<_> = case.frequencies.iter().map(String::as_str).collect();
    expected.sort_unstable();
    assert_eq!(fixed.collect::<Vec<_>>(), expected);
}

macro_rules! cases {
    ($($test:ident: $name:literal,)*) => {
        $(#[test] fn $test() { check($name); })*

        #[test]
        fn every_fixture_is_checked() {
            let mut found: Vec<_> = std::fs::read_dir(here().join("fixtures"))
                .unwrap()
                .map(|entry| entry.unwrap().path().file_stem().unwrap().to_owned())
                .collect();
            let mut known = vec![$(std::ffi::OsString::from($name)),*];
            found.sort();
            known.sort();
            assert_eq!(found, known);
        }
    };
}

cases! {
    v07_unconditional: "v07-unconditional",
    v07_no_null_embedding: "v07-cond-null-none",
    v07_null_embedding_for_some: "v07-cond-null-mixed",
    v07_null_embedding_for_all: "v07-cond-null-all",
    v07_nobody_focuses: "v07-focus-none",
    v07_some_focus: "v07-focus-mixed",
    v07_all_focus: "v07-focus-all",
    v07_first_kernel_of_3: "v07-kernel-3",
    v07_first_kernel_of_5: "v07-kernel-5",
    v07_3_heads_of_20: "v07-heads-3-of-20",
    v07_2_heads_wider_than_the_rotation: "v07-heads-2-of-48",
    v07_without_linear_attention: "v07-no-sparse-attention",
    v07_more_channels_out_than_in: "v07-out-dim-5",
    v07_frames_beyond_the_relative_bias: "v07-one-channel-40-frames",
    v07_odd_number_of_wide_frames: "v07-7-frames-of-24x40",
    v07_one_level_and_one_frame: "v07-one-level-one-frame",
    v07_four_levels: "v07-four-levels",
    v07_trained_weights: "v07-trained",
    v06_unconditional: "v06-unconditional",
    v06_four_groups_both_masks: "v06-groups-4-cond-mixed",
    v05_unconditional: "v05-unconditional",
    v05_both_masks: "v05-cond-mixed",
}

#[test]
fn rotary_frequencies_are_the_packages_within_rounding() {
    for name in ["v07-unconditional", "v07-heads-3-of-20", "v07-heads-2-of-48"] {
        let (case, file) = fixture(name);
        let (_, params) = build(&config(&case.version, &case.network), Kind::Float);
        for frequencies in &case.frequencies {
            let ours = params.get(frequencies).unwrap().tensor.to_device(Device::Cpu);
            let theirs = &file.tensors["rotary_frequencies"];
            let error = ((ours - theirs) / theirs).abs().max().double_value(&[]);
            // One unit in the last place of an f32 is at most 2^-23 of its value.
            assert!(error <= 2f64.powi(-23), "{name}: {frequencies} off by {error:e}");
        }
    }
}

#[test]
fn confusing_versions_is_not_within_tolerance() {
    // 0.5 and 0.6 have the same names and shapes, so only the values distinguish them.
    let (case, file) = fixture("v05-unconditional");
    let (network, params) = build(&config("0.6.3", &case.network), Kind::Float);
    check_names(&case, &params);
    params.load(&weights(&params, &file.tensors["rotary_frequencies"])).unwrap();
    let pass = case.run(&network, &params, Kind::Float);
    assert!(relative_l2(&pass.output, &file.tensors["output"]) > 1e-2);
}

#[test]
fn generator_gives_the_bits_that_python_gives() {
    // The same values are in parity/generator.py.
    let words = [
        ("", [0xC381_7C01_6BA4_FF30, 0x100C_DAAC_C0BC_9316]),
        ("init_conv.weight", [0xED9D_19E9_124A_5C3E, 0x3D61_3BBF_543E_D8A7]),
        ("größe", [0xA9B5_4142_5F6E_8284, 0xAE5E_BC8F_3979_2610]),
    ];
    for (name, expected) in words {
        assert_eq!([word(name, 0), word(name, 1)], expected, "{name}");
    }
    let parameters: [(&str, &[i64], [u32; 2]); 6] = [
        ("init_conv.weight", &[16, 3, 1, 7, 7], [0x3DFA_8BA8, 0xBD98_4655]),
        ("init_conv.bias", &[16], [0xBCF5_FED3, 0x3D07_D230]),
        ("downs.0.0.block1.norm.gamma", &[16, 1, 1, 1], [0x3F80_82D8, 0x3F91_B8FC]),
        ("downs.0.0.block1.norm.weight", &[16], [0x3F8A_A28E, 0x3F87_EC74]),
        ("time_rel_pos_bias.relative_attention_bias.weight", &[32, 8], [0xBBED_BD00, 0x3D09_3740]),
        ("null_cond_emb", &[1, 24], [0x3E42_7D18, 0xBEDF_BEE8]),
    ];
    for (name, shape, expected) in parameters {
        let values = Vec::<f32>::try_from(parameter(name, shape).flatten(0, -1)).unwrap();
        assert_eq!([values[0].to_bits(), values[1].to_bits()], expected, "{name}");
    }
    // Signs of the first two elements in the first four sums: + +, - +, - -, + -.
    let sums = signed_sums("init_conv.weight", &Tensor::from_slice(&[1.0, 4.0]));
    assert_eq!(sums[..4], [5.0, 3.0, -5.0, -3.0]);
    assert_eq!(sums.len(), SIGNED_SUMS);
}

#[test]
#[ignore = "needs the folder that parity/fixtures.py --compare makes"]
fn full_comparison() {
    let folder = std::env::var_os("VD_PARITY_DIR").unwrap();
    table::compare(Path::new(&folder), &here().join("TABLE.md"));
}
