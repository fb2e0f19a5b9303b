//! Weights, transitions between texts, negative prompts.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod hears;

use hears::{Model, largest, request};
use vd_text_cond::{Condition, GenerateRequest, NullEmbedding, Part, Text};

fn text(text: &str) -> Text {
    Text::parse(text).unwrap()
}

fn texts(all: &[&str]) -> Condition {
    Condition::Texts(all.iter().map(|one| text(one)).collect())
}

fn prompts(all: &[&str]) -> Condition {
    Condition::Prompts(all.iter().map(|one| (*one).to_owned()).collect())
}

/// The network's output for each prompt alone: one number.
fn alone(model: &Model, prompt: &str) -> f64 {
    let said = model.said(&request(prompts(&[prompt]), 1)).unwrap();
    said.double_value(&[0, 0])
}

#[test]
fn texts_without_marks_are_prompts_bit_for_bit() {
    for tokens in [false, true] {
        let model = Model::new(tokens, &[]);
        let all = ["a red firework", " gold|blue rain ", "", "a"];
        let by_text = model.said(&request(texts(&all), 3)).unwrap();
        assert_eq!(by_text, model.said(&request(prompts(&all), 3)).unwrap());
        assert_eq!(by_text.size(), [4, 3]);
    }
}

#[test]
fn parts_count_by_their_weights_and_one_part_of_any_weight_is_that_prompt_alone() {
    for tokens in [false, true] {
        let model = Model::new(tokens, &[]);
        let one = model.said(&request(texts(&["a red firework :: 3.7"]), 2)).unwrap();
        assert_eq!(one, model.said(&request(prompts(&["a red firework"]), 2)).unwrap());
        let twice = model.said(&request(texts(&["a red firework | a red firework"]), 2)).unwrap();
        // The mean of two equal numbers, by a sum of halves; sums over tokens in another order.
        assert!(largest(&(twice - &one)) < 1e-6);
        let both = model.said(&request(texts(&["red glow :: 3 | blue sea", "blue sea"]), 2));
        let both = both.unwrap();
        let [a, b] = ["red glow", "blue sea"].map(|prompt| alone(&model, prompt));
        // The texts have equally many words, so tokens and embeddings have the same weights.
        let expected = 0.75 * a + 0.25 * b;
        assert!((both.double_value(&[0, 1]) - expected).abs() < 1e-6, "{tokens}");
        assert!((both.double_value(&[1, 0]) - b).abs() < 1e-6, "{tokens}");
    }
}

#[test]
fn the_way_from_one_text_to_another_is_straight_and_ends_at_both() {
    for tokens in [false, true] {
        let model = Model::new(tokens, &[]);
        let said = model.said(&request(texts(&["red glow -> blue sea", "grey sky"]), 5)).unwrap();
        let [a, b, c] = ["red glow", "blue sea", "grey sky"].map(|prompt| alone(&model, prompt));
        for frame in 0..5 {
            let u = frame as f64 / 4.0;
            let expected = (1.0 - u) * a + u * b;
            assert!((said.double_value(&[0, frame]) - expected).abs() < 1e-6, "{tokens}, {frame}");
            assert!((said.double_value(&[1, frame]) - c).abs() < 1e-6);
        }
        assert!((a - b).abs() > 1e-3);
        // A part of a longer video, and a single frame.
        let part = GenerateRequest {
            along: Some(vec![0.5, 0.625]),
            ..request(texts(&["red glow -> blue sea"]), 2)
        };
        let said = model.said(&part).unwrap();
        assert!((said.double_value(&[0, 1]) - (0.375 * a + 0.625 * b)).abs() < 1e-6);
        let first = model.said(&request(texts(&["red glow -> blue sea"]), 1)).unwrap();
        assert!((first.double_value(&[0, 0]) - a).abs() < 1e-6);
        let message = model.refused(&GenerateRequest { along: Some(vec![0.0, 2.0]), ..part });
        assert!(message.contains("2 numbers from 0 to 1"), "{message}");
    }
}

#[test]
fn a_negative_prompt_takes_the_place_of_the_null_embedding_for_the_clips_that_have_one() {
    for (tokens, moving) in [(false, false), (true, false), (true, true)] {
        let model = Model::new(tokens, &[]);
        let shown = ["red glow", "blue sea", if moving { "grey sky -> a dim sky" } else { "sky" }];
        let mut all: Vec<_> = shown.iter().map(|one| text(one)).collect();
        all[1] = all.remove(1).against("grey sky of rain :: 2 | red glow").unwrap();
        all.insert(0, text("red glow"));
        all.truncate(3);
        let at = |guidance: f64, texts: Vec<Text>| {
            let request =
                GenerateRequest { guidance, batch: 2, ..request(Condition::Texts(texts), 3) };
            model.said(&request).unwrap()
        };
        let copy = |all: &[Text]| all.to_vec();
        let plain = at(1.0, copy(&all));
        let guided = at(2.5, copy(&all));
        let against: Vec<_> = all
            .iter()
            .map(|text| match &text.negative {
                Some(parts) => Text { parts: parts.clone(), until: None, negative: None },
                None => text.clone(),
            })
            .collect();
        let against = at(1.0, against);
        let null = hears::NULLS[0] * if tokens { 2.0 } else { 1.0 };
        for (clip, text) in all.iter().enumerate() {
            let given = plain.get(clip as i64);
            let away = match text.negative {
                Some(_) => against.get(clip as i64),
                None => given.full_like(null),
            };
            let expected = &away + (&given - &away) * 2.5;
            let off = guided.get(clip as i64) - expected;
            assert!(largest(&off) < 1e-5, "{tokens}, {moving}, clip {clip}");
        }
    }
}

#[test]
fn negative_prompts_need_no_trained_null_embedding_if_every_clip_has_one() {
    let model = Model { null: NullEmbedding::Untrained, ..Model::new(true, &[]) };
    let one = |negative: bool| {
        let text = text("red glow");
        if negative { text.against("sea").unwrap() } else { text }
    };
    let draw =
        |texts: Vec<Text>| GenerateRequest { guidance: 3.0, ..request(Condition::Texts(texts), 2) };
    assert!(model.said(&draw(vec![one(true), one(true)])).is_ok());
    let message = model.refused(&draw(vec![one(true), one(false)]));
    assert!(message.contains("never seen one") && message.contains("negative prompt"), "{message}");
    let plain = GenerateRequest { guidance: 1.0, ..draw(vec![one(true), one(false)]) };
    assert!(model.said(&plain).is_ok());
    // With itself as the negative prompt, any scale changes only the last bits.
    let same = vec![text("red glow").against("red glow").unwrap()];
    let [guided, plain] = [7.0, 1.0]
        .map(|guidance| model.said(&GenerateRequest { guidance, ..draw(same.clone()) }).unwrap());
    assert!(largest(&(guided - plain)) < 1e-5);
}

#[test]
fn every_prompt_is_encoded_once_a_call() {
    let model = Model::new(true, &[]);
    let mut all: Vec<_> =
        ["a | b :: 2", "b -> c", "a", "a | a -> c"].iter().map(|one| text(one)).collect();
    all[2] = all.remove(2).against("b").unwrap();
    all.push(text("d").against("c").unwrap());
    let request = GenerateRequest { batch: 2, guidance: 2.0, ..request(Condition::Texts(all), 2) };
    let _ = model.said(&request).unwrap();
    let asked = model.encoder.asked.lock().unwrap();
    assert_eq!(asked.len(), 1);
    let mut prompts = asked[0].clone();
    prompts.sort_unstable();
    assert_eq!(prompts, ["a", "b", "c", "d"]);
}

#[test]
fn a_clip_is_the_same_in_any_batch_with_texts_of_different_lengths() {
    for moving in [false, true] {
        let model = Model::new(true, &[]);
        let last = if moving { "x -> y z" } else { "x" };
        let all = ["a long text of many words", "b | c d :: 3", "e", last];
        let draw = |batch| GenerateRequest { batch, guidance: 2.0, ..request(texts(&all), 3) };
        let whole = model.said(&draw(4)).unwrap();
        for batch in [1, 2, 3] {
            assert_eq!(model.said(&draw(batch)).unwrap(), whole);
        }
    }
}

#[test]
fn weights_and_parts_that_make_no_sense_are_refused() {
    let model = Model::new(false, &[]);
    let bad = |weight| Text { parts: vec![Part { prompt: "a".to_owned(), weight }], ..text("a") };
    for weight in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        let message = model.refused(&request(Condition::Texts(vec![bad(weight)]), 1));
        assert!(message.contains("weight above 0"), "{message}");
    }
    let none = Text { until: Some(Vec::new()), ..text("a") };
    let message = model.refused(&request(Condition::Texts(vec![none]), 1));
    assert!(message.contains("at least one part"), "{message}");
}
