//! Clips with known parts.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::ops::ControlFlow;

use vd_diffusion::{
    Diffusion, DiffusionConfig, Downscale, FrameMask, GuidanceConfig, Known, Noise, NoiseRange,
    ReconstructionConfig, SamplerConfig, SeededNoise, Spacing,
};
use vd_text_cond::tch::{Device, Kind, Tensor};
use vd_text_cond::{
    Condition, Error, GenerateRequest, Generator, Guide, Hashed, KnownParts, NullEmbedding,
    generate_with,
};
use vd_unet3d::{Backbone, Cond};

/// Depends on each frame, all frames and the conditioning; a dull one returns zeros.
#[derive(Debug)]
struct Mixes {
    dull: bool,
}

const MIXES: Mixes = Mixes { dull: false };

impl Backbone for Mixes {
    fn forward(
        &self,
        x: &Tensor,
        t: &Tensor,
        cond: &Cond,
        _: &FrameMask,
        _: Option<&mut dyn Noise>,
    ) -> vd_unet3d::Result<Tensor> {
        if self.dull {
            assert!(cond.pooled.is_none(), "it takes no condition");
            return Ok(x.zeros_like());
        }
        let b = x.size()[0];
        let mut rows = (t * 1e-3).sin();
        if let Some(pooled) = &cond.pooled {
            let mut given = pooled.mean_dim(1, false, Kind::Float);
            if let Some(null) = &cond.null {
                given = given.zeros_like().where_self(null, &given);
            }
            rows += given;
        }
        let all = x.mean_dim([2i64, 3].as_slice(), true, Kind::Float);
        Ok((x * 0.6 + all + rows.view([b, 1, 1, 1, 1])).tanh())
    }

    fn is_conditional(&self) -> bool {
        !self.dull
    }
}

const SHAPE: [i64; 3] = [4, 6, 4];

fn run(request: &GenerateRequest) -> Result<Tensor, Error> {
    run_with(None, request)
}

fn run_with(
    guide: Option<(&dyn Backbone, f64)>,
    request: &GenerateRequest,
) -> Result<Tensor, Error> {
    let diffusion = Diffusion::new(&DiffusionConfig::default()).unwrap();
    let encoder = Hashed::new(8).unwrap();
    let model = Generator {
        backbone: &MIXES,
        diffusion: &diffusion,
        encoder: Some(&encoder),
        null: NullEmbedding::Trained,
        signals: &[],
    };
    let within = NoiseRange::default();
    let guide =
        guide.map(|(backbone, scale)| Guide { backbone, diffusion: &diffusion, scale, within });
    generate_with(&model, guide, request, &mut |_| ControlFlow::Continue(()))
}

/// Clips like the sampled ones, in [-1, 1].
fn clips(seed: u64, n: i64) -> Tensor {
    let like = Tensor::empty([n, 3, 4, 6, 4], (Kind::Float, Device::Cpu));
    SeededNoise::new(seed, 0).normal(&like).tanh()
}

fn request(n: usize, terms: Vec<Known>) -> GenerateRequest {
    let prompts = (0..n).map(|k| format!("clip number {k}")).collect();
    GenerateRequest {
        steps: 4,
        seed: 3,
        known: Some(KnownParts { terms, config: ReconstructionConfig::default() }),
        ..GenerateRequest::new(Condition::Prompts(prompts), SHAPE)
    }
}

/// The first and last frame of each of n clips.
fn ends(of: &Tensor) -> Tensor {
    of.index_select(2, &Tensor::from_slice(&[0i64, 3]))
}

#[test]
fn known_frames_come_back_as_they_are_with_every_sampler_and_spacing() {
    let known = ends(&clips(1, 2));
    let term = || vec![Known::frames(known.shallow_clone(), vec![0, 3])];
    let check = |request: &GenerateRequest| {
        let made = run(request).unwrap();
        assert_eq!(ends(&made), known, "{:?}", request.sampler);
        assert!(made.isfinite().all().int64_value(&[]) == 1);
    };
    for sampler in SamplerConfig::all() {
        check(&GenerateRequest { sampler, ..request(2, term()) });
    }
    for spacing in Spacing::all() {
        check(&GenerateRequest { spacing, ..request(2, term()) });
    }
}

#[test]
fn each_clip_keeps_to_its_own_part_in_any_batch() {
    let whole = clips(2, 5);
    let shared = ends(&clips(3, 1));
    let mask = Tensor::zeros([1, 1, 1, 6, 4], (Kind::Bool, Device::Cpu));
    let _ = mask.narrow(3, 0, 2).fill_(1);
    let terms = || {
        vec![
            Known::pixels(whole.shallow_clone(), mask.shallow_clone()),
            Known::frames(shared.shallow_clone(), vec![0, 3]),
        ]
    };
    let all = run(&GenerateRequest { batch: 5, ..request(5, terms()) }).unwrap();
    // If two terms give the same value, the last one applies.
    assert_eq!(ends(&all), shared.expand([5, -1, -1, -1, -1], false));
    let rows = |x: &Tensor| x.narrow(2, 1, 2).narrow(3, 0, 2);
    assert_eq!(rows(&all), rows(&whole));
    for batch in [1, 2, 3] {
        let again = run(&GenerateRequest { batch, ..request(5, terms()) }).unwrap();
        // Sums have another order in another batch: 1e-5 of values below 1.
        assert!((again - &all).abs().max().double_value(&[]) < 1e-5);
    }
}

#[test]
fn without_replacement_the_known_part_pulls_and_is_not_held() {
    let known = ends(&clips(4, 1));
    let made = |known: Option<KnownParts>| {
        let request = GenerateRequest { known, ..request(1, Vec::new()) };
        let miss = ends(&run(&request).unwrap()) - ends(&clips(4, 1));
        miss.square().sum(Kind::Float).double_value(&[])
    };
    let pulled = |weight: f64| {
        let config = ReconstructionConfig { weight, replace: false, every: 1 };
        let terms = vec![Known::frames(known.shallow_clone(), vec![0, 3])];
        made(Some(KnownParts { terms, config }))
    };
    let free = made(None);
    assert!(pulled(0.5) < free && pulled(2.0) < pulled(0.5) && pulled(2.0) > 0.0);
}

#[test]
fn a_rule_of_guidance_acts_at_scales_other_than_one() {
    let within = NoiseRange::default();
    let apg = GuidanceConfig::Apg { eta: 0.0, norm_threshold: 0.0, momentum: 0.0, within };
    let made = |rule: GuidanceConfig, guidance: f64| {
        run(&GenerateRequest { rule, guidance, known: None, ..request(2, Vec::new()) }).unwrap()
    };
    let plain = GuidanceConfig::default();
    assert_eq!(made(apg, 1.0), made(plain, 1.0));
    assert_ne!(made(apg, 4.0), made(plain, 4.0));
    assert_ne!(made(plain, 4.0), made(plain, 1.0));
}

#[test]
fn a_worse_model_guides_away_from_itself() {
    let dull = Mixes { dull: true };
    let known = ends(&clips(1, 2));
    let made = |guide: Option<(&dyn Backbone, f64)>| {
        let terms = vec![Known::frames(known.shallow_clone(), vec![0, 3])];
        run_with(guide, &request(2, terms)).unwrap()
    };
    let plain = made(None);
    assert_eq!(made(Some((&dull, 1.0))), plain);
    // Guided by itself, nothing changes: rounding of a - b + b, of values near 1.
    let same = made(Some((&MIXES, 3.0)));
    assert!((same - &plain).abs().max().double_value(&[]) < 1e-4);
    let away = made(Some((&dull, 2.0)));
    assert_ne!(away, plain);
    assert_eq!(ends(&away), known);
}

#[test]
fn parts_that_do_not_fit_are_refused() {
    let refused = |terms| run(&request(5, terms)).unwrap_err().to_string();
    let three = refused(vec![Known::frames(ends(&clips(1, 3)), vec![0, 3])]);
    assert!(three.contains("1 or of 5") && three.contains("[3, 3, 2, 6, 4]"), "{three}");
    let far = refused(vec![Known::frames(ends(&clips(1, 1)), vec![0, 4])]);
    assert!(far.contains("from 0 to 3"), "{far}");
    let small = Known::smaller(clips(1, 1), Downscale::Area { factor: 4 });
    assert!(refused(vec![small]).contains("h and w divisible by 4"));
    assert!(refused(Vec::new()).contains("at least one term"));
}
