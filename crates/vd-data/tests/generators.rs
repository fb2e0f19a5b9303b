//! The generators: reproducible clips, and the content of captions.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use vd_data::{
    Clip, Colour, DigitsConfig, FireworksConfig, Folder, Generator, Source, colour_votes,
    write_synthetic,
};

fn generators() -> [Box<dyn Generator>; 2] {
    [Box::new(FireworksConfig::default()), Box::new(DigitsConfig::default())]
}

/// The mean vertical position of the light in a frame, in rows from the top, and its amount.
fn light(clip: &Clip, frame: usize) -> (f64, f64) {
    let (mut sum, mut moment) = (0.0, 0.0);
    for (i, pixel) in clip.frame(frame).chunks_exact(clip.c).enumerate() {
        let value = f64::from(*pixel.iter().max().unwrap());
        // the sky does not count
        let value = if value > 40.0 { value } else { 0.0 };
        sum += value;
        moment += value * (i / clip.w) as f64;
    }
    (moment / sum.max(1e-9), sum)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    #[test]
    fn a_clip_is_a_function_of_seed_and_number(
        seed: u64, index: u64, frames in 1usize..6, h in 8usize..20, w in 8usize..20,
        c in prop_oneof![Just(1usize), Just(3)],
    ) {
        for generator in generators() {
            let one = generator.clip(seed, index, frames, [h, w], c).unwrap();
            prop_assert_eq!(&one, &generator.clip(seed, index, frames, [h, w], c).unwrap());
            prop_assert_eq!((one.0.f, one.0.h, one.0.w, one.0.c), (frames, h, w, c));
            let other = generator.clip(seed, index ^ 1, frames, [h, w], c).unwrap();
            prop_assert_ne!(one.0.frames, other.0.frames);
        }
    }
}

#[test]
fn shapes_without_pixels_or_beyond_memory_are_refused() {
    for generator in generators() {
        for (frames, size, c) in [
            (0, [8, 8], 3),
            (2, [0, 8], 3),
            (2, [8, 8], 2),
            (usize::MAX, [8, 8], 3),
            (8, [1 << 20, 1 << 20], 3),
        ] {
            assert!(generator.clip(1, 1, frames, size, c).is_err());
        }
    }
}

#[test]
fn frames_of_a_pixel_or_two_and_long_ones_can_be_drawn() {
    for generator in generators() {
        for size in [[1, 1], [2, 3], [3, 40], [40, 2]] {
            let (clip, _) = generator.clip(1, 1, 3, size, 3).unwrap();
            assert!(clip.frames.iter().any(|&v| v > 60), "{size:?}");
        }
    }
}

#[test]
fn a_burst_opens_then_falls_and_fades() {
    let config = FireworksConfig { two_bursts: 0.0, spread: 0.0, ..FireworksConfig::default() };
    for index in 0..40 {
        let (clip, _) = config.clip(5, index, 16, [32, 32], 3).unwrap();
        let lights: Vec<(f64, f64)> = (0..16).map(|k| light(&clip, k)).collect();
        // the rocket is below the burst; the sparks also end below it, and darker than at their
        // maximum
        let best = lights.iter().map(|l| l.1).fold(0.0, f64::max);
        assert!(lights[0].0 > lights[4].0 + 3.0, "{lights:?}");
        assert!(lights[13].0 > lights[4].0 + 1.5, "{lights:?}");
        assert!(lights[0].1 < 0.3 * best && lights[15].1 < 0.5 * best, "{lights:?}");
    }
}

#[test]
fn captions_name_the_colours_in_their_order() {
    let config = FireworksConfig { two_bursts: 1.0, ..FireworksConfig::default() };
    let mut seen = BTreeSet::new();
    for index in 0..60 {
        let (clip, caption) = config.clip(6, index, 16, [32, 32], 3).unwrap();
        let rest = caption.strip_prefix("two bursts, ").unwrap();
        let (first, second) = rest.split_once(" then ").unwrap();
        assert_ne!(first, second);
        let part = |from: usize, to: usize| {
            let indices: Vec<usize> = (from..to).collect();
            let votes = colour_votes(&clip.pick(&indices)).unwrap();
            let best = (0..6).max_by(|&a, &b| votes[a].total_cmp(&votes[b])).unwrap();
            Colour::ALL[best].name()
        };
        assert_eq!((part(0, 5), part(12, 16)), (first, second));
        seen.insert((first.to_owned(), second.to_owned()));
    }
    assert!(seen.len() > 20, "{seen:?}");
}

#[test]
fn the_config_decides_how_many_bursts_and_which_colours() {
    let count = |config: &FireworksConfig| {
        let two = (0..400).filter(|&index| {
            let (_, caption) = config.clip(7, index, 1, [8, 8], 3).unwrap();
            caption.starts_with("two")
        });
        two.count()
    };
    let default = FireworksConfig::default();
    // a quarter of 400, plus or minus four standard deviations
    assert!((65..=135).contains(&count(&default)));
    assert_eq!(count(&FireworksConfig { two_bursts: 0.0, ..default.clone() }), 0);
    let pairs = FireworksConfig {
        two_bursts: 1.0,
        pairs: vec![[Colour::Green, Colour::Gold]],
        ..default.clone()
    };
    let (_, caption) = pairs.clip(1, 1, 1, [8, 8], 3).unwrap();
    assert_eq!(caption, "two bursts, green then gold");
    for bad in [
        FireworksConfig { colours: vec![], ..default.clone() },
        FireworksConfig { colours: vec![Colour::Red; 2], ..default.clone() },
        FireworksConfig { two_bursts: f64::NAN, ..default.clone() },
        FireworksConfig { radius: [0.5, 0.4], ..default.clone() },
        FireworksConfig { spread: 2.0, ..default.clone() },
        FireworksConfig { seconds: 0.0, ..default },
    ] {
        assert!(bad.clip(1, 1, 1, [8, 8], 3).is_err(), "{bad:?}");
    }
}

#[test]
fn words_are_drawn_for_each_clip_and_move_no_pixel() {
    let plain = FireworksConfig { two_bursts: 0.4, ..FireworksConfig::default() };
    let text = "two_bursts = 0.4\nsentences = [\"a {colour} firework\", \"{colour} sparks, {colour} rain\"]\n\
                [names]\nred = [\"red\", \"crimson\"]\ncyan = [\"aqua\"]\n";
    let config: FireworksConfig = toml::from_str(text).unwrap();
    assert_eq!(
        toml::from_str::<FireworksConfig>(&toml::to_string(&config).unwrap()).unwrap(),
        config
    );
    // older versions must be able to read this, so new settings must not be written
    let written = toml::to_string(&plain).unwrap();
    assert!(!written.contains("names") && !written.contains("sentences"), "{written}");
    let mut seen = BTreeMap::<String, usize>::new();
    for index in 0..400 {
        let (clip, caption) = config.clip(11, index, 1, [8, 8], 3).unwrap();
        let (same, own) = plain.clip(11, index, 1, [8, 8], 3).unwrap();
        assert_eq!(clip, same);
        let back = caption.replace("crimson", "red").replace("aqua", "cyan");
        let back = match back.split_once(" sparks, ") {
            Some((name, rest)) => {
                assert_eq!(rest, format!("{name} rain"));
                format!("a {name} firework")
            }
            None => back,
        };
        assert_eq!(back, own);
        assert!(!caption.contains("cyan"));
        *seen.entry(caption).or_default() += 1;
    }
    // 40 clips of one red burst are expected, 10 for each pair of sentence and name
    for wanted in ["a red firework", "a crimson firework", "crimson sparks, crimson rain"] {
        assert!(seen.get(wanted).is_some_and(|&n| n >= 2), "{wanted}: {seen:?}");
    }
    assert!(seen.keys().any(|caption| caption.starts_with("two bursts, crimson then ")));
    assert!(seen.keys().any(|caption| caption.ends_with(" then aqua")));
}

#[test]
fn sentences_without_a_place_and_empty_names_are_refused() {
    let red = |names: &[&str]| {
        let names = names.iter().map(|name| (*name).to_owned()).collect();
        BTreeMap::from([(Colour::Red, names)])
    };
    let base = FireworksConfig::default;
    for (bad, said) in [
        (FireworksConfig { sentences: vec!["a {color} one".to_owned()], ..base() }, "{colour}"),
        (FireworksConfig { names: red(&["crimson", " "]), ..base() }, "red"),
        (FireworksConfig { names: red(&[]), ..base() }, "red"),
    ] {
        let error = bad.validate().unwrap_err().to_string();
        assert!(error.starts_with("data.source.") && error.contains(said), "{error}");
    }
    assert!(toml::from_str::<FireworksConfig>("names = { pink = [\"rose\"] }").is_err());
}

#[test]
fn digits_keep_their_light_while_they_move() {
    let config = DigitsConfig { digits: 1, ..DigitsConfig::default() };
    for index in 0..20 {
        let (clip, caption) = config.clip(8, index, 8, [32, 32], 1).unwrap();
        assert!(caption.starts_with("the digit "));
        let lights: Vec<f64> = (0..8).map(|k| light(&clip, k).1).collect();
        let mean = lights.iter().sum::<f64>() / 8.0;
        // antialiasing keeps the area within a few percent wherever the digit is
        assert!(lights.iter().all(|l| (l / mean - 1.0).abs() < 0.15), "{lights:?}");
    }
}

#[test]
fn written_clips_are_a_data_set() {
    let dir = tempfile::tempdir().unwrap();
    let source = Source::Fireworks(FireworksConfig::default());
    let out = dir.path().join("new/videos");
    let written = write_synthetic(&source, 3, 4, 5, [12, 16], &out).unwrap();
    let folder = Folder::scan(&out, 0).unwrap();
    assert_eq!((written.clips, folder.entries().len()), (4, 4));
    for (index, entry) in folder.entries().iter().enumerate() {
        let (clip, caption) =
            FireworksConfig::default().clip(3, index as u64, 5, [12, 16], 3).unwrap();
        assert_eq!(entry.caption.as_deref(), Some(caption.as_str()));
        let read = entry.media.decode(3).unwrap();
        assert_eq!((read.f, read.h, read.w), (5, 12, 16));
        assert!((read.fps - clip.fps).abs() < 0.05, "{} {}", read.fps, clip.fps);
        let away = read.frames.iter().zip(&clip.frames).map(|(a, b)| a.abs_diff(*b));
        // 256 colours for a clip with few: hardly any loss
        assert!(away.max().unwrap() <= 40);
    }
    let folder = Source::folder(out);
    assert!(write_synthetic(&folder, 3, 1, 5, [12, 16], dir.path()).is_err());
}
