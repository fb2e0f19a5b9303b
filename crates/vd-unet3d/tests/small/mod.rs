//! A tiny network with parameters away from their initial values, and random inputs for it.

#![allow(dead_code, unreachable_pub)]

use proptest::prelude::*;
use tch::{Kind, Tensor};
use vd_unet3d::ops::torch::testing::device;
use vd_unet3d::ops::{Params, derive_seed};
use vd_unet3d::{
    Axes, Backbone, Cond, EmbeddingConfig, EmbeddingKind, FrameMask, Given, SignalConfig,
    TimeEmbedding, TimePositions, Tokens, TokensConfig, UNet3d, UNet3dConfig,
};

use crate::oracle::draw::{normal, one_thread, perturb, uniform};

/// Two levels of 8 and 16 channels, two heads of 4.
pub fn config() -> UNet3dConfig {
    UNet3dConfig {
        dim: 8,
        dim_mults: vec![1, 2],
        init_kernel_size: 3,
        attn_heads: 2,
        attn_dim_head: 4,
        ..UNet3dConfig::video_diffusion_pytorch_0_7()
    }
}

/// The same, conditioned on embeddings of five features.
pub fn conditional() -> UNet3dConfig {
    UNet3dConfig { cond_dim: Some(5), ..config() }
}

/// The architecture of the paper's models, with attention at the second and third of three levels:
/// of 12 channels, and of 6, where one head of 4 leaves two over.
pub fn paper() -> UNet3dConfig {
    UNet3dConfig {
        dim: 6,
        dim_mults: vec![1, 2, 1],
        attention_levels: Some(vec![1, 2]),
        attn_dim_head: 4,
        spatial_dim_head: Some(4),
        embedding: EmbeddingConfig { kind: EmbeddingKind::Add, width: Some(10), layers: 3 },
        time_positions: TimePositions::Shaw { distance: 2 },
        tokens: None,
        ..UNet3dConfig::paper_text_small()
    }
}

/// Every kind of signal.
pub fn signals() -> [(String, SignalConfig); 5] {
    let classes = ["sun", "rain", "snow"].map(str::to_owned).to_vec();
    [
        ("weather", SignalConfig::Class { classes }),
        ("speed", SignalConfig::Scalar { mean: 20.0, std: 5.0 }),
        ("path", SignalConfig::Series { width: 3 }),
        ("low", SignalConfig::Video { channels: 2 }),
        ("known", SignalConfig::Video { channels: 1 }),
    ]
    .map(|(name, signal)| (name.to_owned(), signal))
}

/// All conditioning inputs and every option, all frames of an arrested sample alone.
pub fn everything() -> UNet3dConfig {
    let cross = vec![Axes::Space, Axes::Time];
    UNet3dConfig {
        cond_dim: Some(5),
        tokens: Some(TokensConfig { dim: 6, cross, memory: 2, pool: true }),
        signals: signals().into(),
        spatial_bias: true,
        token_shift: vec![Axes::Time, Axes::Space],
        mask_first_temporal: true,
        ..config()
    }
}

/// Any mix of the options of `everything`: each alone, some, or all.
pub fn mixes() -> impl Strategy<Value = UNet3dConfig> {
    let axes = || {
        use Axes::{Space, Time};
        prop::sample::select(vec![vec![], vec![Space], vec![Time], vec![Time, Space]])
    };
    let tokens = (axes(), prop::sample::select(vec![0i64, 1, 4]), any::<bool>()).prop_map(
        |(cross, memory, pool)| {
            let some = !cross.is_empty() || memory > 0 || pool;
            some.then_some(TokensConfig { dim: 6, cross, memory, pool })
        },
    );
    (tokens, 0u8..32, any::<(bool, bool, bool)>(), axes()).prop_map(
        |(tokens, which, (spatial_bias, pooled, sparse), token_shift)| UNet3dConfig {
            cond_dim: pooled.then_some(5),
            tokens,
            signals: signals()
                .into_iter()
                .enumerate()
                .filter_map(|(i, signal)| (which >> i & 1 == 1).then_some(signal))
                .collect(),
            spatial_bias,
            token_shift,
            use_sparse_linear_attn: sparse,
            ..everything()
        },
    )
}

pub fn build(config: &UNet3dConfig, kind: Kind, seed: u64) -> (UNet3d, Params) {
    one_thread();
    let mut params = Params::new(seed, kind, device());
    let net = UNet3d::new(config, &mut params.root()).unwrap();
    perturb(&params, seed ^ 0xFACE);
    (net, params)
}

/// The inputs of a network.
pub struct Scene {
    pub x: Tensor,
    pub t: Tensor,
    pub cond: Cond,
    pub frames: FrameMask,
}

/// Video, levels per sample in the range of the config, and all conditioning inputs of the network,
/// once per sample.
pub fn scene(config: &UNet3dConfig, kind: Kind, seed: u64, size: [i64; 4]) -> Scene {
    let [b, f, h, w] = size;
    Scene {
        x: normal(derive_seed(seed, &[0]), &[b, config.channels, f, h, w]).to_kind(kind),
        t: noise_levels(config, seed, &[b]).to_kind(kind),
        cond: told(config, kind, seed, size, false),
        frames: FrameMask::All,
    }
}

/// All conditioning inputs of the network, once per sample, or once per frame where possible.
pub fn told(
    config: &UNet3dConfig,
    kind: Kind,
    seed: u64,
    [b, f, h, w]: [i64; 4],
    per_frame: bool,
) -> Cond {
    let draw = |part: u64, shape: &[i64]| normal(derive_seed(seed, &[part]), shape).to_kind(kind);
    let rows = |more: &[i64]| {
        let first = if per_frame { vec![b, f] } else { vec![b] };
        [first, more.to_vec()].concat()
    };
    let mut cond = config.cond_dim.map_or_else(Cond::none, |d| {
        let shape = if per_frame && config.tokens.is_some() { rows(&[d]) } else { vec![b, d] };
        Cond::pooled(draw(1, &shape))
    });
    if let Some(tokens) = &config.tokens {
        // Four tokens of different weights; the last but one is padding everywhere.
        let weight = uniform(derive_seed(seed, &[3]), &rows(&[4]), 0.2, 2.0);
        let weight = weight * Tensor::from_slice(&[1.0, 1.0, 0.0, 1.0]).to_device(device());
        let values = draw(4, &[b, 4, tokens.dim]);
        cond = cond.with_tokens(Tokens { values, weight: weight.to_kind(Kind::Float) });
    }
    for (i, (name, signal)) in config.signals.iter().enumerate() {
        let part = 10 + i as u64;
        let value = match signal {
            SignalConfig::Class { classes } => {
                let most = classes.len() as f64;
                uniform(derive_seed(seed, &[part]), &rows(&[]), 0.0, most).to_kind(Kind::Int64)
            }
            SignalConfig::Scalar { mean, std } => draw(part, &rows(&[])) * *std + *mean,
            SignalConfig::Series { width } => draw(part, &rows(&[*width])),
            SignalConfig::Video { channels } => draw(part, &[b, *channels, f, h, w]),
        };
        cond = cond.with_signal(name, value);
    }
    cond
}

/// The conditioning with one signal changed.
pub fn with_given(cond: &Cond, name: &str, given: Given) -> Cond {
    let mut cond = cond.shallow_clone();
    cond.signals.insert(name.to_owned(), given);
    cond
}

/// The same inputs with other conditioning.
pub fn with_cond(scene: &Scene, cond: Cond) -> Scene {
    Scene {
        x: scene.x.shallow_clone(),
        t: scene.t.shallow_clone(),
        cond,
        frames: scene.frames.shallow_clone(),
    }
}

/// A bool per sample.
pub fn bits(b: i64, from: u64) -> Tensor {
    Tensor::from_slice(&(0..b).map(|k| from >> k & 1 == 1).collect::<Vec<_>>()).to_device(device())
}

/// Random null masks of the text and of every signal.
pub fn with_some_null(cond: &Cond, b: i64, draws: u64) -> Cond {
    let mut cond = cond.shallow_clone();
    if cond.has_text() {
        cond.null = Some(bits(b, draws));
    }
    for (i, given) in cond.signals.values_mut().enumerate() {
        given.null = Some(bits(b, draws >> (b as u64 * (i as u64 + 1))));
    }
    cond
}

/// `of` in the rows marked by `rows` (bool, b), `than` in the others.
pub fn mix(rows: &Tensor, of: &Tensor, than: &Tensor) -> Tensor {
    let shape: Vec<i64> = (0..of.dim()).map(|axis| if axis == 0 { -1 } else { 1 }).collect();
    of.where_self(&rows.view(shape.as_slice()), than)
}

/// Steps, or log-SNRs from -20 to 20.
pub fn noise_levels(config: &UNet3dConfig, seed: u64, shape: &[i64]) -> Tensor {
    let steps = levels(seed, shape);
    if config.time == TimeEmbedding::LogSnr { (steps - 500.0) / 25.0 } else { steps }
}

pub fn levels(seed: u64, shape: &[i64]) -> Tensor {
    uniform(derive_seed(seed, &[2]), shape, 0.0, 1000.0)
}

pub fn ask(net: &UNet3d, scene: &Scene) -> Tensor {
    net.forward(&scene.x, &scene.t, &scene.cond, &scene.frames, None).unwrap()
}
