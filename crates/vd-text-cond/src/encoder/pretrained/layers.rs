//! Layers shared by the models.

use tch::{Kind, Tensor};

use super::directory::Loaded;
use super::settings::Settings;
use crate::Result;

/// A linear map of the last axis.
#[derive(Debug)]
pub(super) struct Linear {
    weight: Tensor,
    bias: Option<Tensor>,
}

impl Linear {
    /// Takes `NAME.weight` (out in) and `NAME.bias` (out).
    pub(super) fn take(weights: &mut Loaded, name: &str, from: i64, to: i64) -> Result<Self> {
        let bias = weights.take(&format!("{name}.bias"), &[to])?;
        Ok(Linear { bias: Some(bias), ..Self::take_unbiased(weights, name, from, to)? })
    }

    /// Takes only `NAME.weight` (out in).
    pub(super) fn take_unbiased(
        weights: &mut Loaded,
        name: &str,
        from: i64,
        to: i64,
    ) -> Result<Self> {
        Self::take_unbiased_in(weights.kind(), weights, name, from, to)
    }

    /// The same in another precision.
    pub(super) fn take_unbiased_in(
        kind: Kind,
        weights: &mut Loaded,
        name: &str,
        from: i64,
        to: i64,
    ) -> Result<Self> {
        let weight = weights.take_in(kind, &format!("{name}.weight"), &[to, from])?;
        Ok(Linear { weight, bias: None })
    }

    pub(super) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        Ok(x.f_linear(&self.weight, self.bias.as_ref())?)
    }
}

/// Layer normalisation over the last axis.
///
/// # Reference
/// Ba et al. 2016, Layer Normalization, eq. 4, arXiv:1607.06450.
#[derive(Debug)]
pub(super) struct Norm {
    weight: Tensor,
    bias: Tensor,
    eps: f64,
}

impl Norm {
    /// Takes `NAME.weight` and `NAME.bias`.
    pub(super) fn take(weights: &mut Loaded, name: &str, width: i64, eps: f64) -> Result<Self> {
        let weight = weights.take(&format!("{name}.weight"), &[width])?;
        Ok(Norm { weight, bias: weights.take(&format!("{name}.bias"), &[width])?, eps })
    }

    pub(super) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let width = self.weight.size();
        Ok(x.f_layer_norm(width, Some(&self.weight), Some(&self.bias), self.eps, false)?)
    }
}

/// Multi-head attention between tokens.
///
/// # Reference
/// Vaswani et al. 2017, Attention Is All You Need, eq. 1, arXiv:1706.03762.
#[derive(Debug)]
pub(super) struct Attention {
    pub(super) query: Linear,
    pub(super) key: Linear,
    pub(super) value: Linear,
    pub(super) out: Linear,
    pub(super) heads: i64,
    /// Factor of the scores.
    pub(super) scale: f64,
}

impl Attention {
    /// # Shapes
    /// x b l d; bias b|1 n|1 l|1 l, added to the scores -> b l d
    pub(super) fn forward(&self, x: &Tensor, bias: &Tensor) -> Result<Tensor> {
        let (b, l, _) = x.size3()?;
        let split = |y: Tensor| -> Result<Tensor> {
            Ok(y.f_view([b, l, self.heads, -1])?.f_transpose(1, 2)?)
        };
        let query = split(self.query.forward(x)?)?.f_mul_scalar(self.scale)?;
        let key = split(self.key.forward(x)?)?;
        let value = split(self.value.forward(x)?)?;
        let scores = query.f_matmul(&key.f_transpose(-2, -1)?)?.f_add(bias)?;
        // Sums of many small numbers: at least f32, whatever the precision elsewhere.
        let shares = scores.f_softmax(-1, wide(scores.kind()))?.f_to_kind(value.kind())?;
        let mixed = shares.f_matmul(&value)?.f_transpose(1, 2)?.f_reshape([b, l, -1])?;
        self.out.forward(&mixed)
    }
}

/// Two linear maps with a nonlinearity between them.
#[derive(Debug)]
pub(super) struct FeedForward {
    pub(super) up: Linear,
    pub(super) down: Linear,
    pub(super) activation: Activation,
}

impl FeedForward {
    pub(super) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.down.forward(&self.activation.forward(&self.up.forward(x)?)?)
    }
}

/// A nonlinearity, under its name in config.json.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Activation {
    /// `gelu`: x times the normal distribution function of x (Hendrycks & Gimpel 2016,
    /// arXiv:1606.08415).
    Gelu,
    /// `gelu_new`: the same with the distribution function approximated by tanh.
    GeluTanh,
    /// `quick_gelu`: x sigmoid(1.702 x).
    GeluSigmoid,
    /// `relu`
    Relu,
    /// `silu`: x sigmoid(x).
    Silu,
}

impl Activation {
    const NAMES: [(&str, Activation); 8] = [
        ("gelu", Activation::Gelu),
        ("gelu_fast", Activation::GeluTanh),
        ("gelu_new", Activation::GeluTanh),
        ("gelu_pytorch_tanh", Activation::GeluTanh),
        ("quick_gelu", Activation::GeluSigmoid),
        ("relu", Activation::Relu),
        ("silu", Activation::Silu),
        ("swish", Activation::Silu),
    ];

    /// The nonlinearity named by a key.
    pub(super) fn read(settings: &Settings, key: &str, default: &str) -> Result<Self> {
        let name = settings.text_or(key, default)?;
        let found = Self::NAMES.iter().find(|(known, _)| *known == name);
        found.map(|(_, activation)| *activation).ok_or_else(|| {
            let names: Vec<_> = Self::NAMES.iter().map(|(name, _)| *name).collect();
            settings.refuse(key, format!("one of {}", names.join(", ")), name)
        })
    }

    pub(super) fn forward(self, x: &Tensor) -> Result<Tensor> {
        Ok(match self {
            Activation::Gelu => x.f_gelu("none")?,
            Activation::GeluTanh => x.f_gelu("tanh")?,
            Activation::GeluSigmoid => x.f_mul(&x.f_mul_scalar(1.702)?.f_sigmoid()?)?,
            Activation::Relu => x.f_relu()?,
            Activation::Silu => x.f_silu()?,
        })
    }
}

/// A lookup table.
#[derive(Debug)]
pub(super) struct Embedding(Tensor);

impl Embedding {
    /// Takes `NAME.weight` (rows d).
    pub(super) fn take(weights: &mut Loaded, name: &str, rows: i64, width: i64) -> Result<Self> {
        Ok(Embedding(weights.take(&format!("{name}.weight"), &[rows, width])?))
    }

    pub(super) fn forward(&self, ids: &Tensor) -> Result<Tensor> {
        Ok(Tensor::f_embedding(&self.0, ids, -1, false, false)?)
    }

    /// The first rows.
    pub(super) fn first(&self, rows: i64) -> Result<Tensor> {
        Ok(self.0.f_narrow(0, 0, rows)?)
    }
}

/// The score bias that masks padding: the lowest finite number.
///
/// # Shapes
/// mask b l, bool, true for a token -> b 1 1 l
pub(super) fn padding_bias(mask: &Tensor, kind: Kind) -> Result<Tensor> {
    let padding = mask.f_logical_not()?.f_unsqueeze(1)?.f_unsqueeze(1)?;
    let bias = padding.f_zeros_like()?.f_to_kind(kind)?;
    Ok(bias.f_masked_fill(&padding, lowest(kind))?)
}

/// The precision for sums.
pub(super) fn wide(kind: Kind) -> Kind {
    if kind == Kind::Double { Kind::Double } else { Kind::Float }
}

/// The lowest finite number.
pub(super) fn lowest(kind: Kind) -> f64 {
    match kind {
        Kind::Half => -65504.0,
        Kind::BFloat16 => -3.3895313892515355e38,
        _ => f64::from(f32::MIN),
    }
}
