//! Requests: the model, the conditioning of the clips, their known parts, and the sampling
//! settings.

use tch::{Device, Tensor};
use vd_diffusion::{
    Diffusion, GuidanceConfig, Known, NoiseRange, Ranges, ReconstructionConfig, SamplerConfig,
    Spacing, Threshold,
};
use vd_unet3d::Backbone;

use crate::{Error, GivenSignal, Result, Text, TextEncoder};

/// Whether a network's null embedding, which guidance moves away from, is meaningful.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NullEmbedding {
    /// Conditioning was dropped in training.
    Trained,
    /// It never was: guidance is refused.
    Untrained,
    /// Not known (a checkpoint from elsewhere): guidance is allowed.
    Unknown,
}

/// A trained model and its components.
#[derive(Debug, Clone, Copy)]
pub struct Generator<'a> {
    /// The network.
    pub backbone: &'a dyn Backbone,
    /// The diffusion process it was trained with.
    pub diffusion: &'a Diffusion,
    /// The encoder of its prompts.
    pub encoder: Option<&'a dyn TextEncoder>,
    /// The state of its null embedding for a missing text.
    pub null: NullEmbedding,
    /// The state of the null embedding of each signal; unknown for signals not listed.
    pub signals: &'a [(String, NullEmbedding)],
}

/// A worse version of a model: smaller, or less trained.
///
/// It gets the conditioning of the clips if it takes any.
#[derive(Debug, Clone, Copy)]
pub struct Guide<'a> {
    /// The network.
    pub backbone: &'a dyn Backbone,
    /// The diffusion process it was trained with, on the model's own schedule.
    pub diffusion: &'a Diffusion,
    /// Guidance scale away from it; 1 is off.
    pub scale: f64,
    /// The noise levels at which it is evaluated.
    pub within: NoiseRange,
}

/// What the clips are to show: one entry per clip.
#[derive(Debug)]
pub enum Condition {
    /// No conditioning; a conditional model uses its null embedding.
    Nothing {
        /// Number of clips.
        clips: usize,
    },
    /// A prompt for each clip, without interpreting marks.
    Prompts(Vec<String>),
    /// A text for each clip: prompts with weights, what the last frame shows, a negative prompt.
    Texts(Vec<Text>),
    /// An embedding for each clip.
    ///
    /// # Shapes
    /// n d
    Embeddings(Tensor),
}

impl Condition {
    /// The number of clips.
    pub fn clips(&self) -> usize {
        match self {
            Condition::Nothing { clips } => *clips,
            Condition::Prompts(prompts) => prompts.len(),
            Condition::Texts(texts) => texts.len(),
            Condition::Embeddings(rows) => {
                rows.size().first().map_or(0, |n| usize::try_from(*n).unwrap_or(0))
            }
        }
    }
}

/// Parts of the clips that are known before sampling, and how they guide the rest.
#[derive(Debug)]
pub struct KnownParts {
    /// The terms, in [-1, 1], on any device. The first axis is 1 if all clips share them, else the
    /// number of clips.
    pub terms: Vec<Known>,
    /// The strength of the guidance, and whether known values are replaced: with replacement, known
    /// frames and pixels are returned unchanged.
    pub config: ReconstructionConfig,
}

impl KnownParts {
    fn validate(&self, clips: usize) -> Result<()> {
        for term in &self.terms {
            let size = term.x0.size();
            if !size.first().is_some_and(|&n| n == 1 || n == clips as i64) {
                return Err(Error::Value {
                    what: "known parts",
                    expected: format!("a first axis of 1 or of {clips}, the number of clips"),
                    got: format!("shape {size:?}"),
                });
            }
        }
        Ok(())
    }
}

/// Source of the noise added in the steps; the initial noise of clips is the same either way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum NoiseSource {
    /// Sampled afresh at each step.
    #[default]
    Fresh,
    /// From one Brownian path per clip ([`BrownianNoise`](vd_diffusion::BrownianNoise)): stochastic
    /// samplers follow the same path at any number of steps, so more steps refine a clip rather
    /// than replace it. A draw costs several times that of fresh noise.
    Path,
}

/// What to sample, and how.
#[derive(Debug)]
pub struct GenerateRequest {
    /// What the clips show; determines their number.
    pub condition: Condition,
    /// Further conditioning, each with its own scale. Signals that are not given are replaced by
    /// the network's null embeddings.
    pub signals: Vec<GivenSignal>,
    /// The position of each frame between what a text shows first (0) and last (1); `None`: even
    /// from the first frame to the last. For a part of a longer video, these are the positions of
    /// its frames in the whole.
    pub along: Option<Vec<f64>>,
    /// Number of frames of each clip.
    pub frames: i64,
    /// Height in pixels.
    pub height: i64,
    /// Width in pixels.
    pub width: i64,
    /// Number of channels.
    pub channels: i64,
    /// Number of sampling steps.
    pub steps: usize,
    /// The sampler.
    pub sampler: SamplerConfig,
    /// The placement of the noise levels.
    pub spacing: Spacing,
    /// Guidance scale of the text; 1 is off.
    pub guidance: f64,
    /// The guidance rule for scales other than 1.
    pub rule: GuidanceConfig,
    /// How x0-hat is kept in range.
    pub threshold: Threshold,
    /// The range of each channel, for the static threshold and `clamp`; `None`: [-1, 1].
    pub ranges: Option<Ranges>,
    /// Whether clips are clamped at the end to `ranges`, without these to [-1, 1], the range of
    /// pixels; data other than pixels may exceed it.
    pub clamp: bool,
    /// Seed of the noise, together with the clip's number.
    pub seed: u64,
    /// Source of the noise added in the steps.
    pub noise: NoiseSource,
    /// The number of the first clip. Clip k of a seed has the same noise in any batch.
    pub first_sample: u64,
    /// The most clips that are sampled together.
    pub batch: usize,
    /// Device of the network's parameters.
    pub device: Device,
    /// The known parts of the clips, if any.
    pub known: Option<KnownParts>,
}

impl GenerateRequest {
    /// Defaults, to be changed with `..`: clips in batches of 4, 50 steps of DDIM, seed 0, on the
    /// CPU.
    pub fn new(condition: Condition, [frames, height, width]: [i64; 3]) -> Self {
        GenerateRequest {
            condition,
            signals: Vec::new(),
            along: None,
            frames,
            height,
            width,
            channels: 3,
            steps: 50,
            sampler: SamplerConfig::default(),
            spacing: Spacing::default(),
            guidance: 1.0,
            rule: GuidanceConfig::default(),
            threshold: Threshold::default(),
            ranges: None,
            clamp: true,
            seed: 0,
            noise: NoiseSource::default(),
            first_sample: 0,
            batch: 4,
            device: Device::Cpu,
            known: None,
        }
    }

    /// The position of each frame within the text.
    pub(crate) fn along(&self) -> Result<Vec<f64>> {
        let Some(along) = &self.along else {
            let last = (self.frames - 1).max(1) as f64;
            return Ok((0..self.frames).map(|frame| frame as f64 / last).collect());
        };
        if along.len() as i64 == self.frames && along.iter().all(|u| (0.0..=1.0).contains(u)) {
            return Ok(along.clone());
        }
        Err(Error::Value {
            what: "progress through the text",
            expected: format!("{} numbers from 0 to 1, one per frame", self.frames),
            got: format!("{along:?}"),
        })
    }

    pub(crate) fn validate(&self) -> Result<()> {
        let refuse =
            |what, got: String| Err(Error::Value { what, expected: "at least 1".to_owned(), got });
        let counts = [
            ("number of clips", self.condition.clips() as i64),
            ("frames", self.frames),
            ("height", self.height),
            ("width", self.width),
            ("channels", self.channels),
            ("clips in a batch", i64::try_from(self.batch).unwrap_or(i64::MAX)),
        ];
        if let Some((what, n)) = counts.into_iter().find(|(_, n)| *n < 1) {
            return refuse(what, n.to_string());
        }
        self.known.as_ref().map_or(Ok(()), |known| known.validate(self.condition.clips()))
    }
}
