//! Clips in every output format.
#![allow(clippy::unwrap_used)]

mod common;

use std::fs;

use common::Place;
use serde_json::json;
use tch::{Device, Kind, Tensor};
use vd_data::{Clip, Ffmpeg, decode};
use vd_tensor_ops::Weights;

const FAST: &str = "--steps 2 --threads 1";

fn place() -> Place {
    let place = Place::new();
    place.json("train config.toml --set train.steps=1");
    place
}

#[allow(clippy::print_stderr, reason = "a test that shows nothing says so")]
fn ffmpeg() -> bool {
    let found = Ffmpeg::find();
    if let Err(why) = found {
        assert!(std::env::var_os("VD_REQUIRE_FFMPEG").is_none(), "{why}");
        eprintln!("not tested: {why}");
    }
    found.is_ok()
}

/// f h w c
fn tensor(clip: &Clip) -> Tensor {
    let shape = [clip.f, clip.h, clip.w, clip.c].map(|n| n as i64);
    Tensor::from_slice(&clip.frames).view(shape)
}

/// The largest difference between two clips of one shape.
fn far(a: &Clip, b: &Clip) -> u8 {
    assert_eq!([a.f, a.h, a.w], [b.f, b.h, b.w]);
    a.frames.iter().zip(&b.frames).map(|(a, b)| a.abs_diff(*b)).max().unwrap()
}

fn names(place: &Place, folder: &str) -> Vec<String> {
    let entries = fs::read_dir(place.path(folder)).unwrap();
    let mut names: Vec<_> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn formats_without_loss_hold_the_same_pixels_and_the_rate() {
    let place = place();
    let report = place.json(&format!(
        "sample run --num 2 --fps 12.5 {FAST} --format gif,webp,png,npy,safetensors -o clips"
    ));
    assert_eq!(report["fps"], json!(12.5));
    let clip = &report["clips"][1];
    assert_eq!(clip["file"], "clips/seed-0-clip-00001.gif");
    assert_eq!(clip["files"].as_array().unwrap().len(), 5);
    for k in 0..2 {
        let at = |ending: &str| place.path(&format!("clips/seed-0-clip-0000{k}{ending}"));
        let frames = decode(&at(""), 3).unwrap();
        let webp = decode(&at(".webp"), 3).unwrap();
        assert_eq!((webp.fps, &webp.frames), (12.5, &frames.frames));
        assert_eq!(Tensor::read_npy(at(".npy")).unwrap(), tensor(&frames));
        let read = Weights::read(&at(".safetensors"), Device::Cpu).unwrap();
        assert_eq!(
            (read.tensors["video"].kind(), &read.tensors["video"]),
            (Kind::Uint8, &tensor(&frames))
        );
        assert_eq!(read.metadata["fps"], "12.5");
        let gif = decode(&at(".gif"), 3).unwrap();
        assert_eq!(gif.fps, 12.5);
        // 64 pixels in each of two frames: fewer colours than a palette has
        assert_eq!(gif.frames, frames.frames);
    }
    // Existing results are replaced completely; nothing else is left.
    let before = names(&place, "clips");
    let args = format!("sample run --num 2 --frames 1 {FAST} --format webp,png -o clips");
    place.json(&args);
    assert_eq!(names(&place, "clips"), before);
    assert_eq!(names(&place, "clips/seed-0-clip-00001"), ["frame-00000.png"]);
}

#[test]
fn one_file_shows_all_clips_and_other_formats_stand_beside_it() {
    let place = place();
    let report =
        place.json(&format!("sample run --num 3 {FAST} --format gif,webp,png --out a/all.webp"));
    assert_eq!(report["clips"][2]["files"], json!(["a/all.webp", "a/all.gif", "a/all"]));
    assert_eq!(names(&place, "a"), ["all", "all.gif", "all.webp"]);
    let webp = decode(&place.path("a/all.webp"), 3).unwrap();
    assert_eq!([webp.f, webp.h, webp.w], [2, 18, 18]);
    assert_eq!(webp.frames, decode(&place.path("a/all"), 3).unwrap().frames);
    let message = place.error(&format!("sample run --num 2 {FAST} --out a.npy"), 2);
    assert!(message.contains("holds one clip, but 2 were requested"), "{message}");
    place.json(&format!("sample run {FAST} --out one.npy"));
    assert_eq!(Tensor::read_npy(place.path("one.npy")).unwrap().size(), [2, 8, 8, 3]);
}

#[test]
fn a_grid_holds_every_clip_above_its_prompt() {
    let place = place();
    let args = "sample run --prompt one --prompt two --num 2 --grid grid.webp --format png";
    let report = place.json(&format!("{args} {FAST} --out clips"));
    assert_eq!(report["grid"], "grid.webp");
    let grid = decode(&place.path("grid.webp"), 3).unwrap();
    // 8 x 8 enlarged 16 times, two columns, a line of text
    assert_eq!([grid.f, grid.w], [2, 2 * 128 + 3 * 8]);
    let text = 8 + 3 + 4;
    assert_eq!(grid.h, 2 * (128 + text) + 3 * 8);
    for k in 0..4 {
        let clip = decode(&place.path(&format!("clips/seed-0-clip-0000{k}")), 3).unwrap();
        let (top, left) = (8 + k / 2 * (128 + text + 8), 8 + k % 2 * (128 + 8));
        for (f, y, x) in [(0, 0, 0), (1, 7, 7), (1, 3, 5)] {
            let at = (top + 16 * y + 15) * grid.w + left + 16 * x;
            let pixel = &grid.frame(f)[at * 3..at * 3 + 3];
            assert_eq!(pixel, &clip.frame(f)[(y * 8 + x) * 3..][..3], "{k}: {f} {y} {x}");
        }
    }
}

#[test]
fn rates_that_a_format_cannot_hold_are_told_of_it_alone() {
    let place = place();
    let args = format!("sample run --fps 120 {FAST} --format npy,webp,gif --json --out clips");
    let ran = place.vd(&args);
    assert_eq!(ran.object()["fps"], json!(120.0));
    assert!(ran.stderr.contains("a GIF cannot store this rate; it is shown at 50"), "{ran:?}");
    assert!(
        ran.stderr.contains("an animated WebP cannot store this rate; it is shown at 90.9"),
        "{ran:?}"
    );
    assert_eq!(ran.stderr.matches("WARN 120 frames").count(), 2, "{ran:?}");
    assert_eq!(decode(&place.path("clips/seed-0-clip-00000.gif"), 3).unwrap().fps, 50.0);
}

#[test]
fn a_video_is_gone_on_with_in_any_format() {
    let place = place();
    place.json(&format!("sample run --frames 3 {FAST} --out in.webp"));
    let known = decode(&place.path("in.webp"), 3).unwrap();
    let extend = format!("extend run in.webp --frames 5 {FAST}");
    for name in ["a.webp", "a.gif"] {
        let report = place.json(&format!("{extend} --out {name}"));
        assert_eq!((&report["exact"], &report["files"]), (&json!(true), &json!([name])));
        let long = decode(&place.path(name), 3).unwrap();
        assert_eq!((long.f, long.pick(&[0, 1, 2]).frames), (5, known.frames.clone()), "{name}");
    }
    // a name without an extension gets that of each format
    let report = place.json(&format!("{extend} --format webp,png,safetensors --out long"));
    assert_eq!(report["files"], json!(["long.webp", "long", "long.safetensors"]));
    let long = decode(&place.path("long.webp"), 3).unwrap();
    assert_eq!(long.frames, decode(&place.path("long"), 3).unwrap().frames);
    let read = Weights::read(&place.path("long.safetensors"), Device::Cpu).unwrap();
    assert_eq!(read.tensors["video"], tensor(&long));
    let message = place.error(&format!("{extend} --format webp,png --out long.webp"), 1);
    assert!(message.contains("not empty"), "{message}");
}

#[test]
fn mp4_is_nearly_the_same_with_even_sides_and_can_be_gone_on_with() {
    if !ffmpeg() {
        return;
    }
    let place = place();
    let args = "--size 8x14 --fps 12 --num 3 --format mp4,png --json";
    let ran = place.vd(&format!("sample run {args} {FAST} --out clips"));
    assert_eq!(ran.object()["fps"], json!(12.0));
    let at = |ending: &str| place.path(&format!("clips/seed-0-clip-00002{ending}"));
    let (mp4, frames) = (decode(&at(".mp4"), 3).unwrap(), decode(&at(""), 3).unwrap());
    assert_eq!((mp4.f, [mp4.h, mp4.w], mp4.fps.round()), (2, [8, 14], 12.0));
    // Colours are stored for four pixels at once, so only the mean is close.
    let mean = |clip: &Clip| {
        clip.frames.iter().map(|v| f64::from(*v)).sum::<f64>() / clip.frames.len() as f64
    };
    assert!((mean(&mp4) - mean(&frames)).abs() < 6.0 && far(&mp4, &frames) > 0);
    // The known pixels of one MP4 are only approximated in another.
    let ran = place.vd(&format!(
        "extend run clips/seed-0-clip-00002.mp4 --size 8x14 --frames 3 {FAST} --out long.mp4 --json"
    ));
    let report = ran.object();
    assert_eq!((&report["exact"], &report["frames"]), (&json!(false), &json!(3)));
    assert!(ran.stderr.contains("MP4 is lossy"), "{ran:?}");
}

#[test]
fn without_ffmpeg_films_are_named_once_and_mp4_is_refused_before_anything_is_drawn() {
    let place = place();
    fs::create_dir(place.path("videos")).unwrap();
    place.json(&format!("sample run {FAST} --out videos/0.gif"));
    for k in 1..9 {
        place.write(&format!("videos/{k}.mp4"), b"\0\0\0\x18ftypisom\0\0\x02\0isomiso2");
    }
    let without = |args: &str| {
        let mut command = place.command(args);
        command.env("VD_FFMPEG", "/nowhere/ffmpeg");
        common::Ran::of(command.output().unwrap())
    };
    let ran = without("data inspect videos");
    let line = "8 videos are read through ffmpeg: VD_FFMPEG = /nowhere/ffmpeg: is not a program";
    assert!(ran.stdout.contains(line) && ran.stdout.contains("and 3 more"), "{ran:?}");
    assert_eq!(ran.stdout.matches("VD_FFMPEG =").count(), 1, "{ran:?}");
    assert!(ran.stdout.contains("1 readable video"), "{ran:?}");
    let train = "train config.toml --set train.out=other --set train.steps=1 \
                 --set data.source.kind=folder --set data.source.path=videos";
    let ran = without(train);
    assert_eq!((ran.code, ran.stderr.matches(line).count()), (Some(0), 1), "{ran:?}");
    let ran = without(&format!("{train} --set train.out=third --set data.max_bad_files=3"));
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert!(ran.stderr.contains("8 files cannot be read") && ran.stderr.contains(line), "{ran:?}");
    let ran = without(&format!("sample run {FAST} --format gif,mp4 --out never"));
    assert!(ran.stderr.contains("GIF and WebP do not"), "{ran:?}");
    assert!(!place.exists("never"));
    let ran = without("doctor");
    assert!(ran.stdout.contains("ffmpeg     not used: VD_FFMPEG = /nowhere/ffmpeg"), "{ran:?}");
    let ran = without("extend run videos/1.mp4 --out a.gif");
    assert!(ran.stderr.contains("videos/1.mp4: is MP4 or MOV, which is read through"), "{ran:?}");
}
