//! A network whose output reveals its conditioning, and an encoder that counts its calls.
#![allow(dead_code, reason = "each test file uses its part")]

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Mutex;

use vd_diffusion::{
    Diffusion, DiffusionConfig, FrameMask, Noise, Parameterization, SamplerConfig, Threshold,
};
use vd_text_cond::tch::{Device, Kind, Tensor};
use vd_text_cond::{
    Condition, GenerateRequest, Generator, Hashed, NullEmbedding, TextEncoder, generate,
};
use vd_unet3d::{Backbone, Cond, SignalConfig, Tokens};

pub(crate) const WIDTH: i64 = 5;
/// The null embeddings of a text, and of a signal.
pub(crate) const NULLS: [f64; 2] = [0.05, -0.03];
/// So small that no guided output leaves the range of pixels.
pub(crate) const SMALL: f64 = 0.1;

/// Its output, for each frame: the mean of the text's embedding, plus the weighted mean of its
/// tokens, plus each signal's mean (of a scalar in standard deviations), plus the text times the
/// signals.
#[derive(Debug)]
pub(crate) struct Hears {
    pub(crate) signals: BTreeMap<String, SignalConfig>,
    pub(crate) text: bool,
    pub(crate) batches: Mutex<Vec<i64>>,
}

impl Hears {
    /// b f of a tensor b ... or b f ..., with the null embedding where masked.
    fn frames(x: &Tensor, f: i64, per_frame: bool, null: Option<&Tensor>, stand_in: f64) -> Tensor {
        let b = x.size()[0];
        let frames = if per_frame { f } else { 1 };
        let rows = x.to_kind(Kind::Float).reshape([b, frames, -1]).mean_dim(2, false, Kind::Float);
        let rows = rows.expand([b, f], false).contiguous();
        match null {
            None => rows,
            Some(null) => rows.full_like(stand_in).where_self(&null.unsqueeze(1), &rows),
        }
    }

    fn text(cond: &Cond, b: i64, f: i64) -> Tensor {
        let [stand_in, _] = NULLS;
        let null = cond.null.as_ref();
        let mut text = match &cond.pooled {
            None => Tensor::full([b, f], stand_in, (Kind::Float, Device::Cpu)),
            Some(pooled) => Hears::frames(&(pooled * SMALL), f, pooled.dim() == 3, null, stand_in),
        };
        if let Some(Tokens { values, weight }) = &cond.tokens {
            let weight = if weight.dim() == 3 { weight.copy() } else { weight.unsqueeze(1) };
            // An attention with equal scores for all tokens, multiplied by their weights.
            let share = &weight / weight.sum_dim_intlist(2, true, Kind::Float);
            let mean = share.matmul(values).expand([b, f, values.size()[2]], false).contiguous();
            text += Hears::frames(&(mean * SMALL), f, true, null, stand_in);
        }
        text
    }
}

impl Backbone for Hears {
    fn forward(
        &self,
        x: &Tensor,
        _: &Tensor,
        cond: &Cond,
        _: &FrameMask,
        _: Option<&mut dyn Noise>,
    ) -> vd_unet3d::Result<Tensor> {
        let (b, f) = (x.size()[0], x.size()[2]);
        self.batches.lock().unwrap().push(b);
        let text = Hears::text(cond, b, f);
        let mut signals = text.zeros_like();
        for (name, config) in &self.signals {
            let signal = match cond.signals.get(name) {
                None => text.full_like(NULLS[1]),
                Some(given) => {
                    let per_frame = match config {
                        SignalConfig::Class { .. } | SignalConfig::Scalar { .. } => 2,
                        SignalConfig::Series { .. } => 3,
                        SignalConfig::Video { .. } => 0,
                    };
                    let per_frame = given.value.dim() == per_frame;
                    let null = given.null.as_ref();
                    let value = match config {
                        SignalConfig::Scalar { mean, std } => {
                            (given.value.to_kind(Kind::Double) - *mean) / *std
                        }
                        _ => given.value.shallow_clone(),
                    };
                    Hears::frames(&value, f, per_frame, null, NULLS[1])
                }
            };
            signals += signal;
        }
        let said = &text + &signals + (&text * &signals) * 0.5;
        Ok(x * 0.0 + said.reshape([b, 1, f, 1, 1]))
    }

    fn is_conditional(&self) -> bool {
        self.text || !self.signals.is_empty()
    }

    fn takes_text(&self) -> bool {
        self.text
    }

    fn signals(&self) -> Vec<(&str, &SignalConfig)> {
        self.signals.iter().map(|(name, config)| (name.as_str(), config)).collect()
    }
}

/// Embeddings of [`Hashed`], and as many tokens as the prompt has words, padded to the longest.
#[derive(Debug)]
pub(crate) struct Counts {
    hashed: Hashed,
    tokens: bool,
    pub(crate) asked: Mutex<Vec<Vec<String>>>,
}

impl Counts {
    pub(crate) fn new(tokens: bool) -> Self {
        Counts { hashed: Hashed::new(WIDTH).unwrap(), tokens, asked: Mutex::default() }
    }
}

impl TextEncoder for Counts {
    fn width(&self) -> i64 {
        WIDTH
    }

    fn encode(&self, prompts: &[&str], device: Device) -> vd_text_cond::Result<Cond> {
        self.asked.lock().unwrap().push(prompts.iter().map(|p| (*p).to_owned()).collect());
        let cond = self.hashed.encode(prompts, device)?;
        if !self.tokens {
            return Ok(cond);
        }
        let words: Vec<Vec<_>> = prompts.iter().map(|p| p.split(' ').collect()).collect();
        let longest = words.iter().map(Vec::len).max().unwrap();
        let (mut rows, mut weights) = (Vec::new(), Vec::new());
        for words in &words {
            let own = self.hashed.encode(words, device)?.pooled.unwrap();
            // Padding is not 0: only its weight marks it.
            let more = (longest - words.len()) as i64;
            let padding = Tensor::full([more, WIDTH], 7.0, (Kind::Float, device));
            rows.push(Tensor::cat(&[own, padding], 0));
            let one = Tensor::ones([words.len() as i64], (Kind::Float, device));
            weights.push(one.constant_pad_nd([0, more]));
        }
        let (values, weight) = (Tensor::stack(&rows, 0), Tensor::stack(&weights, 0));
        Ok(cond.with_tokens(Tokens { values, weight }))
    }
}

pub(crate) struct Model {
    pub(crate) backbone: Hears,
    pub(crate) encoder: Counts,
    pub(crate) diffusion: Diffusion,
    pub(crate) null: NullEmbedding,
    pub(crate) nulls: Vec<(String, NullEmbedding)>,
}

impl Model {
    pub(crate) fn new(tokens: bool, signals: &[(&str, SignalConfig)]) -> Self {
        let parameterization = Parameterization::X0;
        let config = DiffusionConfig { parameterization, ..Default::default() };
        let signals = signals.iter().map(|(name, config)| ((*name).to_owned(), config.clone()));
        let (text, batches) = (true, Mutex::default());
        Model {
            backbone: Hears { signals: signals.collect(), text, batches },
            encoder: Counts::new(tokens),
            diffusion: Diffusion::new(&config).unwrap(),
            null: NullEmbedding::Trained,
            nulls: Vec::new(),
        }
    }

    pub(crate) fn generator(&self) -> Generator<'_> {
        Generator {
            backbone: &self.backbone,
            diffusion: &self.diffusion,
            encoder: Some(&self.encoder),
            null: self.null,
            signals: &self.nulls,
        }
    }

    /// The network's output for each frame of each clip: n f.
    pub(crate) fn said(&self, request: &GenerateRequest) -> vd_text_cond::Result<Tensor> {
        let videos = generate(&self.generator(), request, &mut |_| ControlFlow::Continue(()))?;
        Ok(videos.select(4, 0).select(3, 0).select(1, 0))
    }

    pub(crate) fn refused(&self, request: &GenerateRequest) -> String {
        self.said(request).unwrap_err().to_string()
    }
}

/// One step to clean, which is x0-hat itself.
pub(crate) fn request(condition: Condition, frames: i64) -> GenerateRequest {
    GenerateRequest {
        steps: 1,
        sampler: SamplerConfig::Ddim { eta: 0.0 },
        threshold: Threshold::None,
        ..GenerateRequest::new(condition, [frames, 2, 2])
    }
}

pub(crate) fn largest(x: &Tensor) -> f64 {
    x.abs().max().double_value(&[])
}
