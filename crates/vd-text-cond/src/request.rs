//! What is asked for: of which model, what the clips show, what is known of them, and how they are
//! drawn.

use tch::{Device, Tensor};
use vd_diffusion::{
    Diffusion, GuidanceConfig, Known, NoiseRange, ReconstructionConfig, SamplerConfig, Spacing,
    Threshold,
};
use vd_unet3d::Backbone;

use crate::{Error, GivenSignal, Result, Text, TextEncoder};

/// Whether a network's null embedding, which guidance pulls away from, means anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NullEmbedding {
    /// Conditioning was dropped in training.
    Trained,
    /// It never was: guidance is refused.
    Untrained,
    /// Nobody knows (a checkpoint from elsewhere): guidance is tried.
    Unknown,
}

/// A trained model and what belongs to it.
#[derive(Debug, Clone, Copy)]
pub struct Generator<'a> {
    /// The network.
    pub backbone: &'a dyn Backbone,
    /// The process that it was trained under.
    pub diffusion: &'a Diffusion,
    /// What encodes its prompts.
    pub encoder: Option<&'a dyn TextEncoder>,
    /// The state of its null embedding, which stands in for a text.
    pub null: NullEmbedding,
    /// The state of what stands in for each of its signals; unknown for those that are not named.
    pub signals: &'a [(String, NullEmbedding)],
}

/// A worse version of a model: smaller, or trained for a shorter time.
///
/// It sees the condition of the clips if it takes one.
#[derive(Debug, Clone, Copy)]
pub struct Guide<'a> {
    /// The network.
    pub backbone: &'a dyn Backbone,
    /// The process that it was trained under, of the model's own schedule.
    pub diffusion: &'a Diffusion,
    /// How far away from it clips are guided; 1 is not at all.
    pub scale: f64,
    /// The noise levels at which it is asked.
    pub within: NoiseRange,
}

/// What the clips are to show: one entry a clip.
#[derive(Debug)]
pub enum Condition {
    /// Nothing in particular; a conditional model uses its null embedding.
    Nothing {
        /// Number of clips.
        clips: usize,
    },
    /// A prompt for each clip, as it stands.
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

/// Parts of the clips that are known before these are drawn, and how they pull the rest after them.
#[derive(Debug)]
pub struct KnownParts {
    /// The terms, in [-1, 1], on any device. The first axis is 1 where all clips share them, else
    /// the number of clips.
    pub terms: Vec<Known>,
    /// How strongly they pull, and whether they replace: with replacement, known frames and pixels
    /// come back as they are.
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

/// Where the noise of the steps comes from; the noise that clips start from is the same either way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum NoiseSource {
    /// Drawn afresh at each step.
    #[default]
    Fresh,
    /// From one Brownian path a clip ([`BrownianNoise`](vd_diffusion::BrownianNoise)): samplers
    /// that draw noise follow the same path at any number of steps, so that more steps refine a
    /// clip and do not replace it. A draw costs several times that of a fresh one.
    Path,
}

/// What to draw, and how.
#[derive(Debug)]
pub struct GenerateRequest {
    /// What the clips show; says how many there are.
    pub condition: Condition,
    /// What they are told besides, each with a scale of its own. The network's stand-ins take the
    /// place of the signals that are left out.
    pub signals: Vec<GivenSignal>,
    /// How far each frame is on the way from what a text shows first to what it shows last, from 0 to
    /// 1; `None` is evenly from the first frame to the last. A part of a longer video says here where
    /// in it the part lies.
    pub along: Option<Vec<f64>>,
    /// Frames of each clip.
    pub frames: i64,
    /// Height in pixels.
    pub height: i64,
    /// Width in pixels.
    pub width: i64,
    /// Channels.
    pub channels: i64,
    /// Sampling steps.
    pub steps: usize,
    /// How each step is made.
    pub sampler: SamplerConfig,
    /// Where the steps lie.
    pub spacing: Spacing,
    /// Guidance scale of the text; 1 is none.
    pub guidance: f64,
    /// How guidance is done at a scale other than 1.
    pub rule: GuidanceConfig,
    /// How x0-hat is kept in [-1, 1].
    pub threshold: Threshold,
    /// Whether clips are clamped to [-1, 1] at the end, the range of pixels; other numbers may lie beyond.
    pub clamp: bool,
    /// Names the noise, together with the clip's number.
    pub seed: u64,
    /// Where the noise of the steps comes from.
    pub noise: NoiseSource,
    /// The number of the first clip. Clip k of a seed has the same noise in whatever batch it is
    /// drawn.
    pub first_sample: u64,
    /// The most clips that are drawn at a time.
    pub batch: usize,
    /// Where the network's parameters are.
    pub device: Device,
    /// What is known of the clips, where something is.
    pub known: Option<KnownParts>,
}

impl GenerateRequest {
    /// One unconditional clip a batch of 4, in 50 steps of DDIM, seed 0, on the CPU: to be changed
    /// with `..`.
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
            clamp: true,
            seed: 0,
            noise: NoiseSource::default(),
            first_sample: 0,
            batch: 4,
            device: Device::Cpu,
            known: None,
        }
    }

    /// How far each frame is on the way through a text.
    pub(crate) fn along(&self) -> Result<Vec<f64>> {
        let Some(along) = &self.along else {
            let last = (self.frames - 1).max(1) as f64;
            return Ok((0..self.frames).map(|frame| frame as f64 / last).collect());
        };
        if along.len() as i64 == self.frames && along.iter().all(|u| (0.0..=1.0).contains(u)) {
            return Ok(along.clone());
        }
        Err(Error::Value {
            what: "way through the text",
            expected: format!("{} numbers from 0 to 1, one a frame", self.frames),
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
