//! A video is continued, gets frames in between, is partly resampled, and is upscaled.
#![allow(clippy::unwrap_used)]

mod common;

use common::{Place, number};
use serde_json::{Value, json};
use vd_data::{Clip, decode, write_frames, write_gif};

/// A run of one step, and a video in which every pixel has another colour.
fn place(frames: usize, size: [usize; 2]) -> (Place, Clip) {
    let place = Place::new();
    place.json("train config.toml --set train.steps=1");
    let clip = noise(frames, size, 3);
    write_gif(&place.path("in.gif"), &clip).unwrap();
    (place, clip)
}

fn noise(frames: usize, [h, w]: [usize; 2], c: usize) -> Clip {
    let mut state = 7u32;
    let bytes = (0..frames * h * w * c).map(|_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    });
    Clip::new(bytes.collect(), [frames, h, w, c], 8.0).unwrap()
}

const FAST: &str = "--steps 3 --threads 1";

fn frames(clip: &Clip, places: impl Iterator<Item = usize>) -> Vec<u8> {
    clip.pick(&places.collect::<Vec<_>>()).frames
}

fn shape(clip: &Clip) -> [usize; 4] {
    [clip.f, clip.h, clip.w, clip.c]
}

fn known(report: &Value) -> (&Value, &Value, &Value) {
    (&report["frames"], &report["known_frames"], &report["windows"])
}

#[test]
fn a_video_goes_on_behind_its_own_frames() {
    let (place, clip) = place(3, [8, 8]);
    let args = format!("extend run in.gif --frames 6 {FAST} --out long.gif");
    let report = place.json(&args);
    assert_eq!(known(&report), (&json!(6), &json!(3), &json!(3)));
    assert_eq!((&report["exact"], &report["replace"]), (&json!(true), &json!(true)));
    assert_eq!(report["plan"], json!({"kind": "autoregressive", "window": 2, "overlap": 1}));
    assert_eq!((&report["sampler"], &report["weights"]), (&json!("ddim"), &json!("ema")));
    assert!((number(&report, "fps") - 8.0).abs() < 0.5);
    let long = decode(&place.path("long.gif"), 3).unwrap();
    assert_eq!(shape(&long), [6, 8, 8, 3]);
    assert_eq!(frames(&long, 0..3), clip.frames);

    // The same again, to the byte; another seed gives other frames after the same given ones.
    let bytes = |name: &str| std::fs::read(place.path(name)).unwrap();
    let swapped = args.replace("run in.gif", "in.gif run");
    assert_eq!(place.json(&swapped.replace("long.gif", "again.gif"))["video"], "in.gif");
    assert_eq!(bytes("long.gif"), bytes("again.gif"));
    place.json(&format!("{args} --seed 1").replace("long.gif", "other.gif"));
    let other = decode(&place.path("other.gif"), 3).unwrap();
    assert_eq!(frames(&other, 0..3), clip.frames);
    assert_ne!(frames(&other, 3..6), frames(&long, 3..6));

    // One more window by default; another plan, a prompt, frames as files, a still image to start
    // with.
    let report = place.json(&format!(
        "extend run in.gif --window 4 --plan sliding --prompt three --weight 0 --cfg-scale 2 \
         --guidance apg --sampler dpmpp-2m {FAST} --out frames"
    ));
    assert_eq!(known(&report), (&json!(5), &json!(3), &json!(2)));
    let long = decode(&place.path("frames"), 3).unwrap();
    assert_eq!((shape(&long), frames(&long, 0..3)), ([5, 8, 8, 3], clip.frames));
    let report =
        place.json(&format!("extend run frames/frame-00004.png {FAST} --out from-a-still.gif"));
    assert_eq!(known(&report), (&json!(2), &json!(1), &json!(1)));
}

#[test]
fn frames_are_drawn_between_others() {
    let (place, clip) = place(3, [8, 8]);
    let report = place.json(&format!("interpolate run in.gif --window 3 {FAST} --out a.gif"));
    assert_eq!(known(&report), (&json!(5), &json!(3), &json!(2)));
    assert!((number(&report, "fps") - 16.0).abs() < 0.5, "{report}");
    let smooth = decode(&place.path("a.gif"), 3).unwrap();
    assert_eq!(shape(&smooth), [5, 8, 8, 3]);
    assert_eq!(frames(&smooth, (0..5).step_by(2)), clip.frames);

    let args = "interpolate run in.gif --window 4 --factor 6 --every 2 --steps 2 --threads 1";
    let report = place.json(&format!("{args} --fps 5 --out b.gif"));
    assert_eq!((&report["frames"], &report["fps"]), (&json!(13), &json!(5.0)));
    let smooth = decode(&place.path("b.gif"), 3).unwrap();
    assert_eq!(frames(&smooth, (0..13).step_by(6)), clip.frames);
}

#[test]
fn a_part_is_drawn_anew_and_the_rest_stays() {
    let (place, clip) = place(3, [8, 8]);
    let inside = |i: usize| {
        let (y, x) = (i / 24 % 8, i / 3 % 8);
        (2..6).contains(&y) && (4..8).contains(&x)
    };
    let mask = |i: usize| if inside(3 * i) { 255 } else { 0 };
    let mask = Clip::new((0..64).map(mask).collect(), [1, 8, 8, 1], 8.0).unwrap();
    std::fs::create_dir(place.path("mask")).unwrap();
    write_frames(&place.path("mask"), &mask).unwrap();
    let args = format!("inpaint run in.gif {FAST}");
    let report = place.json(&format!("{args} --box 2,4,4,4 --out a.gif"));
    assert_eq!((known(&report).0, &report["exact"]), (&json!(3), &json!(true)));
    place.json(&format!("{args} --mask mask/frame-00000.png --out b.gif"));
    let [a, b] = ["a.gif", "b.gif"].map(|name| decode(&place.path(name), 3).unwrap());
    assert_eq!(a, b);
    let changed = |i: usize| a.frames[i] != clip.frames[i];
    assert!((0..clip.frames.len()).all(|i| !changed(i) || inside(i)));
    assert!((0..clip.frames.len()).any(changed));

    let report = place.json(&format!("{args} --box 2,4,4,4 --no-replace --out c.gif"));
    assert_eq!((&report["replace"], &report["weight"]), (&json!(false), &json!(1.0)));
    assert_eq!(report["exact"], json!(null));
    assert_ne!(decode(&place.path("c.gif"), 3).unwrap(), a);
}

#[test]
fn a_video_shorter_than_a_window_and_one_in_grey_are_drawn_too() {
    let place = Place::new();
    let grey = "--set model.channels=1 --set data.channels=1";
    place.json(&format!("train config.toml --set train.steps=1 {grey}"));
    let clip = noise(3, [8, 8], 1);
    write_gif(&place.path("in.gif"), &clip).unwrap();
    place.json(&format!("inpaint run in.gif --window 5 --box 0,0,8,4 {FAST} --out a.gif"));
    let found = decode(&place.path("a.gif"), 1).unwrap();
    assert_eq!(shape(&found), [3, 8, 8, 1]);
    let right = |clip: &Clip| -> Vec<u8> {
        clip.frames.chunks_exact(8).flat_map(|row| row[4..].to_vec()).collect()
    };
    assert_eq!(right(&found), right(&clip));
    assert_ne!(found.frames, clip.frames);
    write_gif(&place.path("colour.gif"), &noise(2, [8, 8], 3)).unwrap();
    let message = place.error("extend run colour.gif --out b.gif", 1);
    assert!(message.contains("in colour, but this model draws grey"), "{message}");
}

#[test]
fn a_small_video_becomes_larger_and_smoother() {
    let (place, _) = place(3, [4, 4]);
    let report = place.json(&format!("upscale run in.gif {FAST} --out a.gif"));
    assert_eq!((known(&report).0, &report["size"]), (&json!(3), &json!([8, 8])));
    assert_eq!(report["exact"], json!(null));
    assert_eq!(shape(&decode(&place.path("a.gif"), 3).unwrap()), [3, 8, 8, 3]);
    let report = place.json(&format!(
        "upscale run in.gif --size 16 --time 2 --window 3 --down bilinear {FAST} --out b.gif"
    ));
    assert_eq!((known(&report).0, &report["size"]), (&json!(5), &json!([16, 16])));
    // With upscaling in time alone, the given frames are known completely.
    let report = place.json(&format!("upscale run a.gif --time 2 --window 3 {FAST} --out c.gif"));
    assert_eq!((known(&report).0, &report["exact"]), (&json!(5), &json!(true)));
    let [a, c] = ["a.gif", "c.gif"].map(|name| decode(&place.path(name), 3).unwrap());
    assert_eq!(frames(&c, (0..5).step_by(2)), a.frames);
}

#[test]
fn a_rate_that_a_gif_cannot_hold_and_a_mask_that_keeps_nothing_are_told() {
    let (place, _) = place(3, [8, 8]);
    let args = format!("extend run in.gif {FAST} --fps 120 --json --out");
    let ran = place.vd(&format!("{args} a.gif"));
    assert_eq!(ran.object()["fps"], json!(50.0));
    assert!(ran.stderr.contains("WARN 120 frames per second"), "{ran:?}");
    assert_eq!(decode(&place.path("a.gif"), 3).unwrap().fps, 50.0);
    // Files of single frames have no rate to check.
    let ran = place.vd(&format!("{args} frames"));
    assert_eq!(ran.object()["fps"], json!(120.0));
    assert!(!ran.stderr.contains("WARN"), "{ran:?}");
    let report = place.json(&format!("sample run {FAST} --fps 51 --out b.gif"));
    assert_eq!(report["fps"], json!(50.0));
    let ran = place.vd(&format!("inpaint run in.gif {FAST} --box 0,0,8,8 --json --out c.gif"));
    assert_eq!(ran.object()["exact"], json!(null));
    assert!(ran.stderr.contains("nothing of the video is kept"), "{ran:?}");
}

#[test]
fn what_cannot_be_is_said_before_it_is_tried() {
    let (place, _) = place(3, [8, 8]);
    write_gif(&place.path("wide.gif"), &noise(2, [8, 10], 3)).unwrap();
    write_gif(&place.path("one.gif"), &noise(1, [8, 8], 3)).unwrap();
    std::fs::create_dir(place.path("black")).unwrap();
    let black = Clip::new(vec![0; 64], [1, 8, 8, 1], 8.0).unwrap();
    write_frames(&place.path("black"), &black).unwrap();
    let cases = [
        ("extend run in.gif --frames 3", 1, "the video has 3 frames already"),
        ("extend run wide.gif", 1, "frames of 8x10, expected 8x8, which this checkpoint draws"),
        ("extend run nowhere.gif", 1, "error: nowhere.gif: cannot be read"),
        ("extend run config.toml", 1, "config.toml"),
        ("extend run in.gif --weight 0 --no-replace", 2, "omit one of the two"),
        ("extend run in.gif --weight -1", 2, "a number from 0"),
        ("extend run in.gif --plan backwards", 2, "autoregressive, sliding, hierarchical"),
        (
            "extend run in.gif --plan {kind=\"sliding\",step=9}",
            2,
            "--plan with windows of 2 frames",
        ),
        ("extend run in.gif --cfg-scale 2", 1, "--prompt or --cond"),
        ("extend run in.gif --steps 61", 1, "has 60 steps"),
        ("extend run in.gif --plan {kind=\"sliding\",step=0}", 2, "'--plan <NAME|TABLE>'"),
        ("extend run in.gif --spacing {kind=\"explicit\",t=[0.5]}", 2, "'--spacing <NAME|TABLE>'"),
        ("extend run in.gif --steps 3 --spacing {kind=\"explicit\",t=[1,0]}", 2, "make 1 steps"),
        ("extend run in.gif --guidance apg", 2, "--cfg-scale 1; give --cfg-scale 2"),
        ("interpolate run one.gif", 1, "1 frame, expected 2 or more"),
        ("interpolate run in.gif --factor 7 --window 3", 1, "spans at most 2 intervals"),
        ("inpaint run in.gif", 2, "<--mask FILE|--box Y,X,H,W|--missing>"),
        ("inpaint run in.gif --box -1,0,4,4", 2, "8,0,16,32"),
        ("inpaint run in.gif --mask nowhere.png", 1, "error: --mask: nowhere.png: cannot be read"),
        ("inpaint run in.gif --box 4,4,5,1", 1, "rows 4 to 8"),
        ("inpaint run in.gif --box 4,4", 2, "8,0,16,32"),
        ("inpaint run in.gif --mask wide.gif", 1, "8x10 pixels, expected 8x8"),
        (
            "inpaint run in.gif --mask black",
            1,
            "all black, so there is nothing to draw; paint the pixels to draw white (128",
        ),
        ("upscale run in.gif", 1, "the size to draw"),
        ("upscale run wide.gif --size 16", 1, "give --size 16x20, 24x30, 32x40 or larger"),
        ("upscale run one.gif --time 2", 1, "1 frame, expected 2 or more"),
        ("upscale run in.gif --size 16 --weight 0", 2, "only through the gradient"),
    ];
    for (args, code, expected) in cases {
        let message = place.error(&format!("{args} --out out.gif"), code);
        assert!(message.contains(expected), "vd {args}: {message}");
    }
    let message = place.error("extend run in.gif --out black", 1);
    assert!(message.contains("not empty"), "{message}");
    assert!(!place.exists("out.gif"));
}
