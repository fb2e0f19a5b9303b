//! The six models of the paper, and the choices made where the paper is silent.
//!
//! | what | choice | why |
//! |---|---|---|
//! | norm | RMS per position, after each convolution | frames stay independent, as joint training requires; a group norm over time couples them |
//! | order in a block | convolution, norm, embedding, SiLU, twice | the kernels fuse these in one pass |
//! | halving, doubling | convolutions of kernel 4, stride 2 | as the other presets |
//! | first convolution | kernel 3 | as in the networks that this one extends (DDPM, ADM) |
//! | end | norm, SiLU, convolution of kernel 3 | the same |
//! | middle | block, full attention, temporal attention, block | the same |
//! | levels without attention | no temporal attention either, nor after the first convolution | "each spatial attention is followed by one over time" |
//! | heads | channels / head dim, rounded down, at least one | the paper gives only the head dim |
//! | log-SNR input | angle of noise as a fraction, sinusoids of `dim` features | bounded, and even in time for the paper's schedule |
//! | between the layers of the embedding | GELU | as the other presets |
//! | text in the embedding | one linear map, added to the first layer's output | so that it passes through the layers, as the paper says |
//! | null text | learned, starting at zero | the paper's is the zero vector |
//! | pooling of tokens | one learned query per head | |
//! | largest distance of positions | frames of the clip - 1 | a longer clip uses no vector that was never trained |
//! | zeros at the start | last convolution, gain of the second norm of each block, output projection of each attention | every block starts as the identity |
//! | dropout | between the two convolutions of a block | as ADM |

use super::{
    EmbeddingConfig, EmbeddingKind, Skips, TimeEmbedding, TimePositions, TokensConfig, UNet3dConfig,
};

/// Width of BERT-large's tokens.
const BERT_LARGE: i64 = 1024;
/// The paper's conditioning dim, in all models.
const CONDITIONING: i64 = 1024;

/// Constructors of the models in appendix A.
///
/// # Reference
/// Ho et al. 2022, appendix A, arXiv:2204.03458.
impl UNet3dConfig {
    /// The common part of all six; `frames`: those of a clip.
    fn paper(dim: i64, dim_mults: &[i64], frames: i64) -> Self {
        UNet3dConfig {
            dim,
            dim_mults: dim_mults.to_vec(),
            init_kernel_size: 3,
            blocks: 2,
            attention_levels: Some(vec![1, 2, 3]),
            skips: Skips::Block,
            attn_dim_head: 64,
            spatial_dim_head: Some(64),
            heads_by_channels: true,
            use_sparse_linear_attn: false,
            embedding: EmbeddingConfig {
                kind: EmbeddingKind::Add,
                width: Some(CONDITIONING),
                layers: 4,
            },
            time: TimeEmbedding::LogSnr,
            time_positions: TimePositions::Shaw { distance: frames - 1 },
            zero_init: true,
            ..Self::video_diffusion_pytorch_0_7()
        }
    }

    /// The same with a text as in the paper.
    fn with_paper_text(self) -> Self {
        let tokens = TokensConfig { dim: BERT_LARGE, cross: Vec::new(), memory: 0, pool: true };
        UNet3dConfig { tokens: Some(tokens), ..self }
    }

    /// The paper's model for UCF101, unconditional, 16 frames of 64 x 64.
    pub fn paper_ucf101() -> Self {
        UNet3dConfig { dropout: 0.1, ..Self::paper(256, &[1, 2, 4, 8], 16) }
    }

    /// The paper's model for BAIR, 16 frames of 64 x 64.
    pub fn paper_bair() -> Self {
        let base = Self::paper(128, &[1, 2, 3, 4], 16);
        let embedding = EmbeddingConfig { layers: 2, ..base.embedding };
        UNet3dConfig { blocks: 3, embedding, dropout: 0.1, ..base }
    }

    /// The paper's model for Kinetics-600, 16 frames of 64 x 64.
    pub fn paper_kinetics600() -> Self {
        let base = Self::paper(256, &[1, 2, 4, 8], 16);
        let embedding = EmbeddingConfig { layers: 2, ..base.embedding };
        UNet3dConfig { embedding, dropout: 0.1, ..base }
    }

    /// The paper's small text-to-video model, 16 frames of 64 x 64.
    pub fn paper_text_small() -> Self {
        Self::paper(128, &[1, 2, 4, 8], 16).with_paper_text()
    }

    /// The paper's large text-to-video model for 16 frames of 64 x 64.
    pub fn paper_text_large_16x64() -> Self {
        Self::paper(256, &[1, 2, 4, 8], 16).with_paper_text()
    }

    /// The paper's large text-to-video model for 9 frames of 128 x 128.
    pub fn paper_text_large_9x128() -> Self {
        UNet3dConfig {
            attention_levels: Some(vec![2, 3, 4]),
            attn_dim_head: 128,
            spatial_dim_head: Some(128),
            ..Self::paper(128, &[1, 2, 4, 8, 16], 9).with_paper_text()
        }
    }
}
