//! The embedding that conditions every residual block: time, and what the video should show.

use tch::{Kind, Tensor};
use vd_tensor_ops::layers::{Linear, SinusoidalEmbedding};
use vd_tensor_ops::{Init, Scope};

use crate::signals::Signals;
use crate::text::Pooled;
use crate::{Cond, Result, UNet3dConfig};

/// Time through sinusoids and a two-layer perceptron, the signals added, the text appended.
#[derive(Debug)]
pub(crate) struct Embedding {
    sinusoids: SinusoidalEmbedding,
    first: Linear,
    second: Linear,
    null: Option<Tensor>,
}

impl Embedding {
    pub(crate) fn new(scope: &mut Scope, config: &UNet3dConfig) -> Result<Self> {
        let time_dim = 4 * config.dim;
        let null = match config.pooled_width() {
            Some(d) => Some(scope.param("null_cond_emb", &[1, d], Init::Normal)?),
            None => None,
        };
        let mut mlp = scope.sub("time_mlp");
        Ok(Embedding {
            sinusoids: SinusoidalEmbedding::new(config.dim)?,
            first: Linear::new(&mut mlp.sub(1), config.dim, time_dim)?,
            second: Linear::new(&mut mlp.sub(3), time_dim, time_dim)?,
            null,
        })
    }

    /// Width of what [`Embedding::forward`] gives.
    pub(crate) fn width(config: &UNet3dConfig) -> i64 {
        4 * config.dim + config.pooled_width().unwrap_or(0)
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
        let time = self.first.forward(&self.sinusoids.forward(&t, kind)).gelu("none");
        let time = signals.add(self.second.forward(&time), cond);
        let Some(null) = &self.null else { return time };
        let text = given_or_null(text, null, t.size()[0]); // b (1 or f) d
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
        Some(mask) => null.where_self(&mask, &rows),
        None => rows,
    }
}
