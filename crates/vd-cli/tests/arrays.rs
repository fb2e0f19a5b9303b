//! Arrays, from `vd data` to sampled clips in their own unit.
#![allow(clippy::unwrap_used)]

mod common;

use common::{Place, gif_shape, number};
use serde_json::json;
use tch::{Device, Tensor};
use vd_data::{ArrayFormat, Dtype, FloatClip, Media, write_array};
use vd_tensor_ops::Weights;

/// Frames of 16 x 24 with rain in [0, 50), a tenth of it missing, and a temperature.
fn radar(place: &Place) {
    std::fs::create_dir(place.path("radar")).unwrap();
    for clip in 0..4usize {
        let value = |k: usize| {
            let drawn = ((k * 7919 + clip * 104_729) % 1009) as f32 / 1009.0;
            match k % 2 {
                0 if k.is_multiple_of(20) => -9999.0,
                0 => 50.0 * drawn.powi(4),
                _ => 270.0 + 20.0 * drawn,
            }
        };
        let values: Vec<f32> = (0..3 * 16 * 24 * 2).map(value).collect();
        let path = place.path(&format!("radar/{clip}.npy"));
        write_array(&path, ArrayFormat::Npy, Dtype::F32, &[3, 16, 24, 2], &values).unwrap();
    }
    place.write("radar.toml", CONFIG);
}

const CONFIG: &str = r#"
[model]
dim = 8
dim_mults = [1, 2]
channels = 2
attn_heads = 2
attn_dim_head = 8
init_kernel_size = 3
[data]
source = { kind = "folder", path = "radar" }
frames = 2
size = [16, 24]
channels = 2
workers = 1
invalid = -9999.0
[[data.normalise]]
kind = "percentile"
transform = "log"
offset = 0.1
[[data.normalise]]
kind = "min-max"
[train]
out = "run"
steps = 3
batch = 2
preview_every = 0
device = "cpu"
threads = 1
"#;

fn read(place: &Place, name: &str, channels: usize) -> FloatClip {
    Media::at(&place.path(name)).unwrap().decode_floats(channels, None, 10.0).unwrap()
}

#[test]
fn arrays_are_looked_at_learned_from_and_drawn_in_their_own_unit() {
    let place = Place::new();
    radar(&place);
    let report = place.json("data inspect radar --invalid -9999");
    let arrays = &report["arrays"][0];
    assert_eq!((&arrays["dtype"], &arrays["channels"]), (&json!("f32"), &json!(2)));
    assert!((number(arrays, "missing") - 0.05).abs() < 0.001);
    let (rain, warm) = (&arrays["ranges"][0], &arrays["ranges"][1]);
    assert!(rain[0].as_f64().unwrap() >= 0.0 && warm[0].as_f64().unwrap() >= 270.0, "{arrays}");

    place.json("train radar.toml");
    let resolved = std::fs::read_to_string(place.path("run/config.toml")).unwrap();
    assert_eq!(resolved.matches("statistics = [").count(), 2, "{resolved}");
    assert_eq!(resolved.matches("extremes = [").count(), 1, "{resolved}");
    let report = place.json("sample run --num 2 --steps 3 --out clips --threads 1");
    assert_eq!(report["threshold"], "static");
    assert_eq!(report["threshold_ranges"][1], json!([-1.0, 1.0]));
    for k in 0..2 {
        let clip = &report["clips"][k];
        assert_eq!(clip["files"][1], format!("clips/seed-0-clip-0000{k}.npy"));
        let numbers = read(&place, clip["files"][1].as_str().unwrap(), 2);
        assert_eq!(numbers.shape(), [2, 16, 24, 2]);
        assert!(numbers.valid().all(|valid| valid));
        // the inverse of the logarithm stays above minus the offset
        assert!(numbers.values.iter().step_by(2).all(|x| *x >= -0.1));
        // the two channels beside each other
        let picture = gif_shape(&place.path(clip["file"].as_str().unwrap()));
        assert_eq!(picture, (2, [16, 2 * 24 + 2]));
    }
}

#[test]
fn numbers_are_written_as_asked_and_pictures_are_not_taken_for_them() {
    let place = Place::new();
    radar(&place);
    place.json("train radar.toml");
    let sample = "sample run --steps 2 --threads 1";
    let report = place.json(&format!("{sample} --format gif,npy --out both.npy --dtype i16"));
    assert_eq!(report["clips"][0]["files"], json!(["both.npy", "both.gif"]));
    let bytes = std::fs::read(place.path("both.npy")).unwrap();
    let header = String::from_utf8_lossy(&bytes[..128]).into_owned();
    assert!(header.contains("'<i2'") && header.contains("(2, 16, 24, 2)"), "{header}");
    // the same clip as f32, with its rate
    place.json(&format!("{sample} --fps 12.5 --out one.safetensors"));
    let one = Weights::read(&place.path("one.safetensors"), Device::Cpu).unwrap();
    assert_eq!((&*one.metadata["fps"], &*one.metadata["axes"]), ("12.5", "f h w c"));
    let rounded = Tensor::from_slice(&read(&place, "both.npy", 2).values);
    // libtorch rounds halves to even, the writer away from zero; values outside i16 are clamped
    let held = one.tensors["video"].view([-1]).clamp(-32768.0, 32767.0);
    let away = (held - rounded).abs().max().double_value(&[]);
    assert!(away <= 0.5, "{away}");
    let several = place.error(&format!("{sample} --num 2 --out one.npy"), 2);
    assert!(several.contains("holds one clip"), "{several}");
    let bf16 = place.error(&format!("{sample} --out never --dtype bf16"), 2);
    assert!(bf16.contains("npy has no such type") && !place.exists("never"), "{bf16}");
    let alone = place.error(&format!("{sample} --out never.gif --dtype f16"), 2);
    assert!(alone.contains("--format npy"), "{alone}");
    let report = place.json(&format!("{sample} --num 2 --out all.gif --grid grid.webp"));
    assert_eq!((&report["clips"][1]["file"], place.exists("all.npy")), (&json!("all.gif"), false));
    assert!(place.exists("grid.webp"));
    let warned = place.vd(&format!("{sample} --threshold dynamic --out x.gif"));
    assert!(warned.stderr.contains("cannot be drawn"), "{warned:?}");
}

#[test]
fn clips_of_a_model_that_learned_little_stay_in_the_range_of_the_data() {
    let place = Place::new();
    radar(&place);
    place.json("train radar.toml --set train.steps=1");
    let step = "run/checkpoints/step-00000001/config.toml";
    let resolved = std::fs::read_to_string(place.path(step)).unwrap();
    let config: toml::Table = toml::from_str(&resolved).unwrap();
    let rain = &config["data"]["normalise"][0]["extremes"];
    let [low, high] = [0, 1].map(|k| rain[k].as_float().unwrap());
    let margin = 0.05 * (high - low);
    let [least, most] = [low - margin, high + margin].map(|t| t.exp() - 0.1);
    let within = |name: &str| {
        let clip = read(&place, name, 2);
        clip.values.chunks_exact(2).all(|pixel| {
            let (rain, warm) = (f64::from(pixel[0]), f64::from(pixel[1]));
            (least - 1e-4..=most * (1.0 + 1e-5)).contains(&rain)
                && (270.0 - 1e-3..=290.0 + 1e-3).contains(&warm)
        })
    };
    // a gap to fill makes a clip without one
    let few = "--steps 3 --threads 1";
    place.json(&format!("sample run {few} --out new.npy"));
    place.json(&format!("inpaint run radar/0.npy --missing {few} --out whole.npy"));
    place.json(&format!("extend run whole.npy --frames 5 {few} --out long.npy"));
    place.json(&format!("interpolate run whole.npy --window 3 {few} --out smooth.npy"));
    place.json(&format!("upscale run whole.npy --size 32x48 {few} --out large.npy"));
    for name in ["new", "whole", "long", "smooth", "large"] {
        assert!(within(&format!("{name}.npy")), "{name}");
    }
    // a video in another unit is suspect
    let foreign = "of its numbers lie outside the range";
    let own = place.vd(&format!("extend run whole.npy --frames 5 {few} --out own.npy"));
    assert!(!own.stderr.contains(foreign), "{own:?}");
    let mut other = read(&place, "whole.npy", 2);
    other.values.iter_mut().for_each(|number| *number = number.abs() * 1000.0);
    let (path, shape) = (place.path("other.npy"), other.shape());
    write_array(&path, ArrayFormat::Npy, Dtype::F32, &shape, &other.values).unwrap();
    let other = place.vd(&format!("extend run other.npy --frames 5 {few} --out foreign.npy"));
    assert!(other.stderr.contains(foreign), "{other:?}");

    // without a threshold they do not, which is said; nor does a checkpoint that lacks the extremes
    let free = place.vd(&format!("sample run {few} --threshold none --out free.npy"));
    assert!(free.stderr.contains("overflow") && free.stderr.contains("leave --threshold out"));
    assert!(!within("free.npy"));
    let lines = resolved.lines().filter(|line| !line.starts_with("extremes = "));
    place.write(step, lines.collect::<Vec<_>>().join("\n"));
    let old = place.vd(&format!("sample run {few} --out old.npy"));
    assert_eq!(old.code, Some(0), "{old:?}");
    assert!(old.stderr.contains("overflow") && old.stderr.contains("dynamic or static"), "{old:?}");
    let held = place.vd(&format!("sample run {few} --threshold static --out held.npy"));
    assert!(held.stderr.contains("cannot be drawn") && !held.stderr.contains("overflow"));
    // and it is trained on as it is
    place.json("train radar.toml --resume --set train.steps=2");
    let resumed = std::fs::read_to_string(place.path("run/config.toml")).unwrap();
    assert_eq!(resumed.matches("extremes = [").count(), 0, "{resumed}");
}

/// The frames of a clip at some places, as bits: what is missing is equal to itself.
fn bits(clip: &FloatClip, places: &[usize]) -> Vec<u32> {
    clip.pick(places).values.iter().map(|number| number.to_bits()).collect()
}

#[test]
fn numbers_that_are_known_come_back_as_they_were_and_the_others_are_drawn_in_their_unit() {
    let place = Place::new();
    radar(&place);
    place.json("train radar.toml");
    let few = "--steps 2 --threads 1";

    // Missing values are sampled, and nothing else changes.
    let hole = place.error(&format!("extend run radar/0.npy {few} --out no.npy"), 1);
    assert!(hole.contains("are missing") && hole.contains("--missing"), "{hole}");
    let fill = format!("inpaint run radar/0.npy --missing {few}");
    let report = place.json(&format!("{fill} --out whole.npy --format npy,gif"));
    assert_eq!((&report["exact"], &report["frames"]), (&json!(true), &json!(3)));
    assert_eq!(gif_shape(&place.path("whole.gif")).0, 3);
    let (mut before, whole) = (read(&place, "radar/0.npy", 2), read(&place, "whole.npy", 2));
    before.forget(-9999.0);
    let pixels = before.values.chunks_exact(2).zip(whole.values.chunks_exact(2));
    let (holes, rest): (Vec<_>, Vec<_>) = pixels.partition(|(old, _)| old[0].is_nan());
    assert!(holes.len() > 50 && holes.iter().all(|(_, new)| new.iter().all(|x| x.is_finite())));
    assert!(rest.iter().all(|(old, new)| old == new));

    let report = place.json(&format!("extend run whole.npy --frames 5 {few} --out long.npy"));
    assert_eq!(report["exact"], true);
    let long = read(&place, "long.npy", 2);
    assert_eq!((long.shape(), bits(&long, &[0, 1, 2])), ([5, 16, 24, 2], bits(&whole, &[0, 1, 2])));
    let between = format!("interpolate run whole.npy --window 3 {few} --out smooth.safetensors");
    assert_eq!(place.json(&between)["exact"], true);
    let smooth = Weights::read(&place.path("smooth.safetensors"), Device::Cpu).unwrap();
    let smooth = FloatClip::from_tensor(
        &smooth.tensors["video"].permute([3, 0, 1, 2]).contiguous(), // c f h w
        10.0,
    );
    assert_eq!(bits(&smooth.unwrap(), &[0, 2, 4]), bits(&whole, &[0, 1, 2]));
    let part = format!("inpaint run whole.npy --box 4,4,8,8 {few} --out part.npy --dtype f16");
    // Half precision changes every number.
    assert_eq!(place.json(&part)["exact"], false);
    let larger = format!("upscale run whole.npy --size 32x48 {few} --out large.npy");
    assert_eq!(place.json(&larger)["exact"], json!(null));
    assert_eq!(read(&place, "large.npy", 2).shape(), [3, 32, 48, 2]);

    let frames = place.error(&format!("extend run whole.npy {few} --out frames"), 2);
    assert!(frames.contains("PNG frames do not hold"), "{frames}");
    let none = place.error(&format!("inpaint run whole.npy --missing {few} --out no.npy"), 1);
    assert!(none.contains("no number is missing"), "{none}");
    let pictures = place.error(&format!("extend run whole.gif {few} --out no.npy"), 1);
    assert!(pictures.contains("channels"), "{pictures}");
}

#[test]
fn arrays_of_a_model_of_pixels_are_bytes_and_of_no_other_type() {
    let place = Place::new();
    place.json("train config.toml --set data.size=[16,24] --set train.steps=1");
    let sample = "sample run --steps 2 --threads 1 --out";
    let plain = place.json(&format!("{sample} clips"));
    let clip = &plain["clips"][0];
    assert_eq!((&clip["files"], &plain["threshold"]), (&json!(null), &json!("static")));
    assert_eq!(gif_shape(&place.path("clips/seed-0-clip-00000.gif")), (2, [16, 24]));
    place.json(&format!("{sample} b --format npy"));
    let numbers = read(&place, "b/seed-0-clip-00000.npy", 3);
    assert_eq!(numbers.shape(), [2, 16, 24, 3]);
    assert!(numbers.values.iter().any(|x| *x > 1.0));
    let refused = place.error(&format!("{sample} c --format npy --dtype f32"), 2);
    assert!(refused.contains("as u8"), "{refused}");
}

#[test]
fn training_on_shards_of_arrays_reaches_the_weights_of_training_on_the_arrays() {
    let place = Place::new();
    radar(&place);
    let report = place.json("data prepare radar --out shards");
    assert_eq!((&report["clips"], &report["arrays"][0]["to"]), (&json!(4), &json!("f32")));
    place.write(
        "shards.toml",
        CONFIG.replace("\"folder\", path = \"radar\"", "\"shards\", path = \"shards\""),
    );
    let mut weights = Vec::new();
    for name in ["radar", "shards"] {
        place.json(&format!("train {name}.toml --set train.out=of-{name}"));
        let step = format!("of-{name}/checkpoints/step-00000003/ema.safetensors");
        weights.push(std::fs::read(place.path(&step)).unwrap());
    }
    assert!(weights[0] == weights[1]);
    // f16 reports its rounding; values equal to --invalid become missing first
    let half = place.vd("data prepare radar --out half --dtype f16 --invalid -9999");
    assert!(half.stdout.contains("numbers rounded, by "), "{half:?}");
    place.json("train shards.toml --set data.source.path=half --set train.out=of-half");
    place.json("data prepare radar --out mixed --dtype f16");
    let mixed = place.error("train shards.toml --set data.source.path=mixed --set train.out=x", 1);
    assert!(mixed.contains("--invalid -9999"), "{mixed}");
    let bytes = place.vd("data prepare radar --out bytes --dtype u8");
    assert!(bytes.stdout.contains("4 files cannot be read"), "{bytes:?}");
    for source in ["radar", "shards", "half"] {
        let stats = place.json(&format!("data stats {source}"));
        let arrays = &stats["arrays"][0];
        assert_eq!(
            (&arrays["clips"], &arrays["channels"][1]["name"]),
            (&json!(4), &json!("channel 1"))
        );
        let text = place.vd(&format!("data stats {source}")).stdout;
        for part in ["of 12 frames in 4 clips", "channel 0: ", "##"] {
            assert!(text.contains(part), "{part} is not in\n{text}");
        }
        let drawn = place.json(&format!("data preview {source} -o {source}.png"));
        assert_eq!((&drawn["shown"], &drawn["bad_files"]), (&json!(4), &json!([])));
        let inspected = place.json(&format!("data inspect {source}"));
        assert_eq!(inspected["arrays"][0]["channels"], json!(2));
    }
    assert_eq!(place.json("data verify half")["damaged"], json!([]));
}
