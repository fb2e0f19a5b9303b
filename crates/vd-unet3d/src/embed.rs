//! The embedding that conditions every residual block: time and conditioning.

use std::f64::consts::FRAC_PI_2;

use tch::{Kind, Tensor};
use vd_tensor_ops::layers::{Linear, SinusoidalEmbedding, or_stand_in};
use vd_tensor_ops::{Init, Scope};

use crate::signals::Signals;
use crate::text::Pooled;
use crate::{Cond, EmbeddingKind, Result, TimeEmbedding, UNet3dConfig};

/// The range of steps that the sinusoids were designed for.
const STEPS: f64 = 1000.0;

/// Time through sinusoids and an MLP, plus the signals.
///
/// The text is concatenated with it, or added to the first layer's output so that it passes through
/// the remaining layers.
#[derive(Debug)]
pub(crate) struct Embedding {
    time: TimeEmbedding,
    sinusoids: SinusoidalEmbedding,
    first: Linear,
    others: Vec<Linear>,
    null: Option<Tensor>,
    /// Maps the text to the vector that is added.
    added: Option<Linear>,
}

impl Embedding {
    /// `time_mlp.1`, `time_mlp.3` and so on; with a text also `null_cond_emb` and, if the text is
    /// added, `cond_emb`.
    pub(crate) fn new(scope: &mut Scope, config: &UNet3dConfig) -> Result<Self> {
        let width = config.time_width();
        let (mut null, mut added) = (None, None);
        if let Some(d) = config.pooled_width() {
            // If the text is added, the null embedding starts at zero, as the paper's.
            let start = match config.embedding.kind {
                EmbeddingKind::Film => Init::Normal,
                EmbeddingKind::Add => Init::Const(0.0),
            };
            null = Some(scope.param("null_cond_emb", &[1, d], start)?);
            if config.embedding.kind == EmbeddingKind::Add {
                added = Some(Linear::without_bias(&mut scope.sub("cond_emb"), d, width)?);
            }
        }
        let mut mlp = scope.sub("time_mlp");
        let mut layer = |i: i64, inputs| Linear::new(&mut mlp.sub(2 * i + 1), inputs, width);
        Ok(Embedding {
            time: config.time,
            sinusoids: SinusoidalEmbedding::new(config.dim)?,
            first: layer(0, config.dim)?,
            others: (1..config.embedding.layers)
                .map(|i| Ok(layer(i, width)?))
                .collect::<Result<_>>()?,
            null,
            added,
        })
    }

    /// The number that enters the sinusoids.
    fn step(&self, t: &Tensor) -> Tensor {
        match self.time {
            TimeEmbedding::Step => t.shallow_clone(),
            TimeEmbedding::LogSnr => {
                // Half precision is too coarse for a hundred sinusoids.
                let log_snr = if t.kind() == Kind::Double {
                    t.shallow_clone()
                } else {
                    t.to_kind(Kind::Float)
                };
                (log_snr * -0.5).exp().atan() * (STEPS / FRAC_PI_2)
            }
        }
    }

    /// # Shapes
    /// `t`: b or b f -> b 1 d or b f d, of kind `kind`
    pub(crate) fn forward(
        &self,
        t: &Tensor,
        text: Option<Pooled>,
        (signals, cond): (&Signals, &Cond),
        kind: Kind,
    ) -> Tensor {
        let t = if t.dim() == 1 { t.unsqueeze(1) } else { t.shallow_clone() }; // b (1 or f)
        let b = t.size()[0];
        let text = self.null.as_ref().map(|null| given_or_null(text, null, b)); // b (1 or f) d
        let mut time = self.first.forward(&self.sinusoids.forward(&self.step(&t), kind));
        if let (Some(added), Some(text)) = (&self.added, &text) {
            time = added.forward(text) + time;
        }
        for layer in &self.others {
            time = layer.forward(&time.gelu("none"));
        }
        let time = signals.add(time, cond);
        let Some(text) = text.filter(|_| self.added.is_none()) else { return time };
        let f = time.size()[1].max(text.size()[1]);
        let frames = |x: &Tensor| x.expand([-1, f, -1], false);
        Tensor::cat(&[frames(&time), frames(&text)], -1)
    }
}

/// The embedding of each sample, or the null embedding: b (1 or f) d.
fn given_or_null(text: Option<Pooled>, null: &Tensor, b: i64) -> Tensor {
    let Some(Pooled { rows, null: mask }) = text else {
        return null.unsqueeze(0).expand([b, 1, -1], false);
    };
    match mask {
        Some(mask) => or_stand_in(&rows, null, &mask),
        None => rows,
    }
}
