//! Generation from prompts, with a network whose output is a formula.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::ops::ControlFlow;
use std::str::FromStr;
use std::sync::atomic::{AtomicI64, Ordering};

use tch::{Kind, Tensor};
use vd_diffusion::{
    Backbone, Cond, Diffusion, DiffusionConfig, FrameMask, Noise, NoiseLevel, Parameterization,
    SamplerConfig, Threshold,
};
use vd_text_cond::{
    Condition, Error, GenerateRequest, Generator, Hashed, NoiseSource, NullEmbedding, Sampling,
    TextEncoder, generate, generate_by,
};

const WIDTH: i64 = 6;

/// Its x0-hat is 0.3 x plus the sample's first embedding coordinate; the null embedding is 0.4.
#[derive(Debug)]
struct Formula {
    conditional: bool,
    largest: AtomicI64,
}

impl Backbone for Formula {
    fn forward(
        &self,
        x: &Tensor,
        _t: &Tensor,
        cond: &Cond,
        _frames: &FrameMask,
        _train: Option<&mut dyn Noise>,
    ) -> vd_unet3d::Result<Tensor> {
        self.largest.fetch_max(x.size()[0], Ordering::Relaxed);
        let null = Tensor::full([1], 0.4, (Kind::Float, x.device()));
        let shift = match (&cond.pooled, &cond.null) {
            (None, _) => null,
            (Some(rows), None) => rows.select(1, 0),
            (Some(rows), Some(mask)) => null.where_self(mask, &rows.select(1, 0)),
        };
        Ok(x * 0.3 + shift.view([-1, 1, 1, 1, 1]))
    }

    fn is_conditional(&self) -> bool {
        self.conditional
    }
}

struct Model {
    backbone: Formula,
    diffusion: Diffusion,
    encoder: Hashed,
}

impl Model {
    fn new(conditional: bool) -> Self {
        let parameterization = Parameterization::X0;
        let config = DiffusionConfig { parameterization, ..Default::default() };
        Model {
            backbone: Formula { conditional, largest: AtomicI64::new(0) },
            diffusion: Diffusion::new(&config).unwrap(),
            encoder: Hashed::new(WIDTH).unwrap(),
        }
    }

    fn run(&self, request: &GenerateRequest) -> vd_text_cond::Result<Tensor> {
        self.run_with(request, NullEmbedding::Trained)
    }

    fn run_with(&self, request: &GenerateRequest, null: NullEmbedding) -> Result<Tensor, Error> {
        let model = Generator {
            backbone: &self.backbone,
            diffusion: &self.diffusion,
            encoder: Some(&self.encoder),
            null,
            signals: &[],
        };
        generate(&model, request, &mut |_| ControlFlow::Continue(()))
    }
}

fn prompts(n: usize) -> Condition {
    Condition::Prompts((0..n).map(|i| format!("clip number {i}")).collect())
}

fn request(condition: Condition) -> GenerateRequest {
    GenerateRequest {
        steps: 5,
        seed: 3,
        guidance: 2.5,
        sampler: SamplerConfig::DdpmSmall { gamma: 0.0 },
        ..GenerateRequest::new(condition, [2, 4, 6])
    }
}

#[test]
fn a_clip_is_the_same_bit_for_bit_in_any_batch_and_from_any_start() {
    let model = Model::new(true);
    let all = model.run(&GenerateRequest { batch: 5, ..request(prompts(5)) }).unwrap();
    assert_eq!(all.size(), [5, 3, 2, 4, 6]);
    for batch in [1, 2, 3] {
        let model = Model::new(true);
        let again = model.run(&GenerateRequest { batch, ..request(prompts(5)) }).unwrap();
        assert_eq!(again, all);
        // guidance evaluates both branches at once
        assert_eq!(model.backbone.largest.load(Ordering::Relaxed), 2 * batch as i64);
    }
    let condition = Condition::Prompts(vec!["clip number 3".to_owned()]);
    let alone = GenerateRequest { first_sample: 3, ..request(condition) };
    assert_eq!(model.run(&alone).unwrap(), all.narrow(0, 3, 1));
    let other = GenerateRequest { seed: 4, ..request(prompts(5)) };
    assert_ne!(model.run(&other).unwrap(), all);
}

#[test]
fn embeddings_and_the_prompts_they_encode_give_the_same_clips() {
    let model = Model::new(true);
    let texts: Vec<_> = (0..3).map(|i| format!("clip number {i}")).collect();
    let list: Vec<_> = texts.iter().map(String::as_str).collect();
    let rows = model.encoder.encode(&list, tch::Device::Cpu).unwrap().pooled.unwrap();
    let by_rows = model.run(&request(Condition::Embeddings(rows))).unwrap();
    assert_eq!(by_rows, model.run(&request(prompts(3))).unwrap());
}

#[test]
fn guidance_extrapolates_from_the_null_embedding_and_scale_1_is_off() {
    // One DDIM step to clean is x0-hat itself: 0.3 x + null + scale (cond - null)
    let model = Model::new(true);
    let at = |guidance: f64| {
        let rows = Tensor::full([1, WIDTH], 0.1, (Kind::Float, tch::Device::Cpu));
        let request = GenerateRequest {
            guidance,
            steps: 1,
            sampler: SamplerConfig::Ddim { eta: 0.0 },
            threshold: Threshold::None,
            ..request(Condition::Embeddings(rows))
        };
        model.run(&request).unwrap()
    };
    let inside = at(1.0).abs().lt(0.5).logical_and(&at(2.0).abs().lt(0.5));
    let step = (at(2.0) - at(1.0)).masked_select(&inside);
    assert!((step + 0.3).abs().max().double_value(&[]) < 1e-6);
}

#[test]
fn videos_stay_in_their_range_whatever_the_threshold() {
    let model = Model::new(true);
    for threshold in [Threshold::None, Threshold::Static, Threshold::dynamic()] {
        let request = GenerateRequest { threshold, guidance: 9.0, ..request(prompts(2)) };
        let video = model.run(&request).unwrap();
        assert!(video.abs().max().double_value(&[]) <= 1.0);
    }
}

#[test]
fn an_unconditional_model_refuses_prompts_and_runs_without() {
    let model = Model::new(false);
    let rows = Tensor::full([2, WIDTH], 0.1, (Kind::Float, tch::Device::Cpu));
    for (condition, word) in [(prompts(2), "prompts"), (Condition::Embeddings(rows), "embeddings")]
    {
        let message = model.run(&request(condition)).unwrap_err().to_string();
        assert!(message.contains("unconditional") && message.contains(word), "{message}");
    }
    let nothing = || request(Condition::Nothing { clips: 2 });
    let message = model.run(&nothing()).unwrap_err().to_string();
    assert!(message.contains("no conditioning"), "{message}");
    let free = GenerateRequest { guidance: 1.0, ..nothing() };
    assert_eq!(model.run(&free).unwrap().size()[0], 2);
}

#[test]
fn guidance_needs_a_null_embedding_that_training_has_seen() {
    let model = Model::new(true);
    let run = |null| model.run_with(&request(prompts(1)), null);
    let message = run(NullEmbedding::Untrained).unwrap_err().to_string();
    assert!(message.contains("text.drop = 0") && message.contains("2.5"), "{message}");
    assert!(run(NullEmbedding::Unknown).is_ok());
    let plain = GenerateRequest { guidance: 1.0, ..request(prompts(1)) };
    assert!(model.run_with(&plain, NullEmbedding::Untrained).is_ok());
}

#[test]
fn requests_that_make_no_sense_are_refused_by_name() {
    let model = Model::new(true);
    let message = |request: &GenerateRequest| model.run(request).unwrap_err().to_string();
    assert!(message(&request(prompts(0))).contains("number of clips"));
    assert!(message(&GenerateRequest { batch: 0, ..request(prompts(1)) }).contains("batch"));
    assert!(message(&GenerateRequest { frames: 0, ..request(prompts(1)) }).contains("frames"));
    let narrow = Tensor::full([2, WIDTH - 1], 0.1, (Kind::Float, tch::Device::Cpu));
    let got = message(&request(Condition::Embeddings(narrow)));
    assert!(got.contains("6 values") && got.contains("[2, 5]"), "{got}");
    let mute = Generator {
        backbone: &model.backbone,
        diffusion: &model.diffusion,
        encoder: None,
        null: NullEmbedding::Unknown,
        signals: &[],
    };
    let got = generate(&mute, &request(prompts(1)), &mut |_| ControlFlow::Continue(()));
    assert!(got.unwrap_err().to_string().contains("embeddings instead"));
}

#[test]
fn every_step_is_reported_and_any_can_be_the_last() {
    let model = Model::new(true);
    let generator = Generator {
        backbone: &model.backbone,
        diffusion: &model.diffusion,
        encoder: Some(&model.encoder),
        null: NullEmbedding::Trained,
        signals: &[],
    };
    let request = GenerateRequest { batch: 2, ..request(prompts(3)) };
    let mut seen = Vec::new();
    let _ = generate(&generator, &request, &mut |p| {
        seen.push((p.clips, p.step));
        assert_eq!((p.of_clips, p.of_steps), (3, 5));
        ControlFlow::Continue(())
    })
    .unwrap();
    let expected: Vec<_> = [0, 2].into_iter().flat_map(|c| (1..=5).map(move |s| (c, s))).collect();
    assert_eq!(seen, expected);
    // A restart takes more steps than the grid has, and reports them from the first step.
    let restart = SamplerConfig::from_str("restart").unwrap();
    let again =
        GenerateRequest { sampler: restart, steps: 20, batch: 2, ..self::request(prompts(3)) };
    let mut seen = Vec::new();
    let _ = generate(&generator, &again, &mut |p| {
        seen.push((p.step, p.of_steps));
        ControlFlow::Continue(())
    })
    .unwrap();
    let of = seen[0].1;
    assert!(of > 20, "{of}");
    let expected: Vec<_> = (0..2).flat_map(|_| (1..=of).map(|step| (step, of))).collect();
    assert_eq!(seen, expected);
    let stopped = generate(&generator, &request, &mut |p| {
        if p.step == 2 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    assert!(stopped.unwrap_err().to_string().contains("stopped after 2 steps"));
}

#[test]
fn one_path_of_noise_is_followed_at_any_number_of_steps() {
    let model = Model::new(false);
    let draw = |noise, sampler: &str, steps| {
        let sampler = sampler.parse::<SamplerConfig>().unwrap();
        let condition = Condition::Nothing { clips: 2 };
        let request = GenerateRequest {
            steps,
            sampler,
            noise,
            threshold: Threshold::None,
            ..GenerateRequest::new(condition, [2, 4, 4])
        };
        model.run(&request).unwrap()
    };
    let correlation = |noise| {
        let [a, b] = [100, 200].map(|steps| draw(noise, "ancestral", steps));
        let [a, b] = [&a - a.mean(Kind::Float), &b - b.mean(Kind::Float)];
        let product = |a: &Tensor, b: &Tensor| (a * b).sum(Kind::Float).double_value(&[]);
        product(&a, &b) / (product(&a, &a) * product(&b, &b)).sqrt()
    };
    // 192 values: without a common path the correlation has a standard error of .07.
    let (path, fresh) = (correlation(NoiseSource::Path), correlation(NoiseSource::Fresh));
    assert!(path > 0.7 && fresh.abs() < 0.3, "{path} on one path, {fresh} with fresh noise");
    // The start is the same in both cases.
    assert_eq!(draw(NoiseSource::Path, "ddim", 5), draw(NoiseSource::Fresh, "ddim", 5));
}

#[test]
fn a_sampler_and_levels_of_ones_own_are_used_as_those_of_the_request_would_be() {
    let model = Model::new(true);
    let asked = request(prompts(3));
    let generator = Generator {
        backbone: &model.backbone,
        diffusion: &model.diffusion,
        encoder: Some(&model.encoder),
        null: NullEmbedding::Trained,
        signals: &[],
    };
    let sampler = asked.sampler.build().unwrap();
    let grid = asked.spacing.grid(model.diffusion.schedule(), asked.steps).unwrap();
    let unused = GenerateRequest { steps: 0, sampler: SamplerConfig::default(), ..asked };
    let go = |grid: &[NoiseLevel]| {
        let by = Sampling { sampler: &*sampler, grid };
        generate_by(&generator, None, &unused, by, &mut |_| ControlFlow::Continue(()))
    };
    assert_eq!(go(&grid).unwrap(), model.run(&request(prompts(3))).unwrap());
    assert!(go(&grid[..1]).unwrap_err().to_string().contains("at least two levels"));
}
