//! The embedding that conditions every residual block: time, and what the video should show.

use tch::{Kind, Tensor};
use vd_tensor_ops::layers::{Linear, SinusoidalEmbedding};
use vd_tensor_ops::{Init, Scope};

use crate::{Cond, Error, Result, UNet3dConfig, check};

/// Time through sinusoids and a two-layer perceptron, with the conditioning appended.
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
        let null = match config.cond_dim {
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
        4 * config.dim + config.cond_dim.unwrap_or(0)
    }

    /// # Shapes
    /// `t`: b or b f -> b 1 d or b f d, of kind `kind`
    pub(crate) fn forward(&self, t: &Tensor, cond: &Cond, kind: Kind) -> Result<Tensor> {
        let t = if t.dim() == 1 { t.unsqueeze(1) } else { t.shallow_clone() }; // b (1 or f)
        let time = self.first.forward(&self.sinusoids.forward(&t, kind)).gelu("none");
        let time = self.second.forward(&time);
        let Some(null) = &self.null else { return Ok(time) };
        let cond = given_or_null(cond, null, t.size()[0]); // b (1 or f) d
        let f = time.size()[1].max(cond.size()[1]);
        let frames = |x: &Tensor| x.expand([-1, f, -1], false);
        Ok(Tensor::cat(&[frames(&time), frames(&cond)], -1))
    }

    /// Checks the conditioning against a video of `b` samples and `f` frames.
    pub(crate) fn validate(&self, cond: &Cond, b: i64, f: i64) -> Result<()> {
        let refuse =
            |what, expected: String, got: String| Err(Error::Input { what, expected, got });
        let Some(null) = &self.null else {
            if cond.pooled.is_none() {
                return Ok(());
            }
            let expected = "none: this network has no cond_dim and is unconditional";
            return refuse("conditioning", expected.to_owned(), "an embedding".to_owned());
        };
        let d = null.size()[1];
        if let Some(pooled) = &cond.pooled {
            let size = pooled.size();
            if size != [b, d] && size != [b, f, d] {
                return refuse(
                    "conditioning embedding",
                    format!("shape [{b}, {d}], or [{b}, {f}, {d}] for one per frame"),
                    format!("{size:?}"),
                );
            }
            check::floats("conditioning embedding", pooled, null.device())?;
        }
        match &cond.null {
            Some(mask) if mask.size() != [b] || mask.kind() != Kind::Bool => refuse(
                "null mask of the conditioning",
                format!("bool of shape [{b}]"),
                format!("{:?} of shape {:?}", mask.kind(), mask.size()),
            ),
            Some(mask) => check::here("null mask of the conditioning", mask, null.device()),
            None => Ok(()),
        }
    }
}

/// The embedding of each sample, or the null embedding: b (1 or f) d.
fn given_or_null(cond: &Cond, null: &Tensor, b: i64) -> Tensor {
    let Some(pooled) = &cond.pooled else { return null.unsqueeze(0).expand([b, 1, -1], false) };
    let pooled = pooled.to_kind(null.kind());
    let pooled = if pooled.dim() == 2 { pooled.unsqueeze(1) } else { pooled };
    match &cond.null {
        Some(mask) => null.where_self(&mask.view([b, 1, 1]), &pooled),
        None => pooled,
    }
}
