//! Reference implementation: the whole network in plain f64 loops, from its description, giving
//! what `UNet3d` should compute.

#![allow(unreachable_pub)]

mod by_block;
mod told;
pub mod twins;

use std::f64::consts::PI;

use ndarray::{Array1, Array3, ArrayD, Axis, concatenate, s};
use vd_unet3d::ops::layers::NormKind;
use vd_unet3d::{Axes, EmbeddingKind, Skips, TimeEmbedding, TimePositions, UNet3dConfig};

use self::told::Heard;
use crate::oracle::attention::{Heads, Sees};
use crate::oracle::text::{self, Sizes, Text};
use crate::oracle::{Video, Weights, dense, norm, position};

/// Default head dimension of the spatial attentions.
const SPATIAL_HEAD: i64 = 32;
/// Distance from which on all frames share one bias.
const FAR: u128 = 32;

/// Value of a signal: by name, for a sample and a frame.
type Says<'a> = &'a dyn Fn(&str, usize, usize) -> Option<Array1<f64>>;

/// The inputs of the network, with one noise level and one embedding expanded to every frame.
pub struct Question<'a> {
    /// b c f h w
    pub x: Video,
    /// b f 1
    pub t: Array3<f64>,
    /// b f d; `None` if a frame gets the null embedding.
    pub cond: &'a dyn Fn(usize, usize) -> Option<Array1<f64>>,
    /// The tokens, without weight where a sample has no text.
    pub text: Option<Text>,
    /// Value of a signal for a sample and a frame.
    pub signal: Says<'a>,
    /// Video of a signal for a sample: c f h w.
    pub shown: &'a dyn Fn(&str, usize) -> Option<ArrayD<f64>>,
    /// Which frames attend to each other in the first temporal attention, and in all others.
    pub first_sees: Sees<'a>,
    pub sees: Sees<'a>,
}

/// The inputs of the levels besides the video.
struct Around<'a> {
    /// b f d
    emb: ArrayD<f64>,
    heard: Heard,
    sees: Sees<'a>,
}

/// The description with its parameters.
pub struct Network<'a> {
    pub config: &'a UNet3dConfig,
    pub weights: &'a Weights,
}

impl Network<'_> {
    /// b c f h w -> the same with the output's channels.
    pub fn answer(&self, question: &Question) -> Video {
        let around = Around {
            emb: self.embedding(question),
            heard: self.hear(question),
            sees: question.sees,
        };
        let video = self.beside(question).permuted_axes([0, 2, 3, 4, 1]);
        let video = video.as_standard_layout().into_owned();

        let last = match self.config.skips {
            Skips::Level => self.by_level(&video, question, &around),
            Skips::Block => self.by_block(&video, question, &around),
        };
        last.permuted_axes([0, 4, 1, 2, 3]).as_standard_layout().into_owned()
    }

    /// One skip per level, and a long one.
    fn by_level(&self, video: &Video, question: &Question, around: &Around) -> Video {
        let levels = self.config.dim_mults.len();
        let mut x = self.convolution("init_conv", video);
        let before = x.clone();
        if self.config.attention_levels.is_none() {
            x = self.temporal("init_temporal_attn", &x, (&around.heard, question.first_sees));
        }
        let first = if self.config.skip_before_temporal { before } else { x.clone() };
        let mut skips = Vec::new();
        for i in 0..levels {
            x = self.level(&format!("downs.{i}"), &x, i, around);
            skips.push(x.clone());
            if i + 1 < levels {
                let name = format!("downs.{i}.4");
                let (k, bias) = self.kernel(&name);
                x = dense::convolution(&x, &k, &bias, 2, 1);
            }
        }
        x = self.middle(&x, around);
        for i in 0..levels {
            x = join(&x, &skips.pop().unwrap());
            x = self.level(&format!("ups.{i}"), &x, levels - 1 - i, around);
            if i + 1 < levels {
                let (k, bias) = self.kernel(&format!("ups.{i}.4"));
                x = dense::transposed(&x, &k, &bias, 2, 1);
            }
        }
        x = self.block("final_conv.0", &join(&x, &first), None);
        let (w, bias) = (self.matrix("final_conv.1.weight"), self.row("final_conv.1.bias"));
        dense::channels(&x, &w, Some(&bias))
    }

    fn middle(&self, x: &Video, around: &Around) -> Video {
        let mut x = self.block("mid_block1", x, Some(&around.emb));
        x = self.spatial("mid_spatial_attn", &x, around);
        x = self.cross("mid_cross_space", x, &around.heard, Axes::Space);
        x = self.temporal("mid_temporal_attn", &x, (&around.heard, around.sees));
        x = self.cross("mid_cross_time", x, &around.heard, Axes::Time);
        self.block("mid_block2", &x, Some(&around.emb))
    }

    /// b f d.
    fn embedding(&self, question: &Question) -> ArrayD<f64> {
        let told = question.t.index_axis(Axis(2), 0).to_owned().into_dyn();
        let step = match self.config.time {
            TimeEmbedding::Step => told,
            // The angle of noise as a fraction of a right angle, times 1000.
            TimeEmbedding::LogSnr => told.mapv(|l| 2000.0 / PI * (-l / 2.0).exp().atan()),
        };
        let sinusoids = position::sinusoids(&step, self.config.dim as usize);
        let mut time = self.linear("time_mlp.1", &sinusoids);
        let added = self.config.embedding.kind == EmbeddingKind::Add;
        let text = self.weights.has("null_cond_emb").then(|| self.text(question));
        if let Some(text) = text.as_ref().filter(|_| added) {
            time += &dense::linear(text, &self.matrix("cond_emb.weight"), None);
        }
        for layer in 1..self.config.embedding.layers {
            let active = time.mapv(|v| v * (1.0 + position::erf(v / 2f64.sqrt())) / 2.0);
            time = self.linear(&format!("time_mlp.{}", 2 * layer + 1), &active);
        }
        let time = time + self.added(question);
        match text.filter(|_| !added) {
            Some(text) => concatenate(Axis(2), &[time.view(), text.view()]).unwrap(),
            None => time,
        }
    }

    /// The embedding of the text, or the null embedding: b f d.
    fn text(&self, question: &Question) -> ArrayD<f64> {
        let null = self.row("null_cond_emb");
        let pooled = self.pooled(question);
        let (b, f, _) = question.t.dim();
        let mut cond = Array3::zeros((b, f, null.len()));
        for (b, f) in (0..b).flat_map(|b| (0..f).map(move |f| (b, f))) {
            let row = match &pooled {
                Some(pooled) => pooled(b, f),
                None => (question.cond)(b, f),
            };
            cond.slice_mut(s![b, f, ..]).assign(&row.unwrap_or_else(|| null.clone()));
        }
        cond.into_dyn()
    }

    fn level(&self, name: &str, x: &Video, level: usize, around: &Around) -> Video {
        let mut x = x.clone();
        for block in 0..self.config.blocks {
            let place = if block < 2 { block.to_string() } else { format!("blocks.{block}") };
            x = self.block(&format!("{name}.{place}"), &x, Some(&around.emb));
        }
        let parts = [format!("{name}.2"), format!("{name}.3"), format!("{name}.")];
        self.attentions(parts, x, level, around)
    }

    /// What follows a block: names of the spatial and temporal attentions, and prefix of the
    /// cross-attentions to the text.
    fn attentions(
        &self,
        [spatial, temporal, cross]: [String; 3],
        x: Video,
        level: usize,
        around: &Around,
    ) -> Video {
        let listed = self.config.attention_levels.as_ref().map(|levels| levels.contains(&level));
        let linear = self.config.use_sparse_linear_attn;
        if listed == Some(false) && !linear {
            return x;
        }
        let mut x = match (listed, linear) {
            (Some(true), _) => self.spatial(&spatial, &x, around),
            (_, true) => self.linear_attention(&spatial, &x, around),
            (_, false) => x,
        };
        let heard = &around.heard;
        x = self.cross(&format!("{cross}cross_space"), x, heard, Axes::Space);
        x = self.temporal(&temporal, &x, (heard, around.sees));
        self.cross(&format!("{cross}cross_time"), x, heard, Axes::Time)
    }

    /// Two convolution blocks; the embedding scales and shifts the first, or is added to it.
    fn block(&self, name: &str, x: &Video, emb: Option<&ArrayD<f64>>) -> Video {
        let mut y = self.normal(&format!("{name}.block1"), x);
        if let Some(emb) = emb {
            let film = self.linear(&format!("{name}.mlp.1"), &emb.mapv(silu)); // b f 2c, or b f c
            let c = y.dim().4;
            for ((b, f, _, _, i), value) in y.indexed_iter_mut() {
                *value = match self.config.embedding.kind {
                    EmbeddingKind::Film => *value * (film[[b, f, i]] + 1.0) + film[[b, f, c + i]],
                    EmbeddingKind::Add => *value + film[[b, f, i]],
                };
            }
        }
        let y = self.normal(&format!("{name}.block2"), &y.mapv(silu)).mapv(silu);
        let skip = format!("{name}.res_conv.weight");
        if !self.weights.has(&skip) {
            return y + x;
        }
        let bias = self.row(&format!("{name}.res_conv.bias"));
        y + dense::channels(x, &self.matrix(&skip), Some(&bias))
    }

    /// Convolution, then the norm.
    fn normal(&self, name: &str, x: &Video) -> Video {
        let x = self.convolution(&format!("{name}.proj"), x);
        let name = format!("{name}.norm");
        match self.config.norm {
            NormKind::Rms => {
                let gain = self.row(&format!("{name}.gamma"));
                norm::rms(&x.into_dyn(), &gain).into_dimensionality().unwrap()
            }
            NormKind::Group { groups } => {
                let gain = self.row(&format!("{name}.weight"));
                norm::group(&x, &gain, &self.row(&format!("{name}.bias")), groups as usize)
            }
        }
    }

    fn temporal(&self, name: &str, x: &Video, (heard, sees): (&Heard, Sees)) -> Video {
        let shape = self.heads(Axes::Time, x.dim().4);
        let name = format!("{name}.fn");
        let inner = self.shifted(self.layer_norm(&name, x), sees);
        if let TimePositions::Shaw { distance } = self.config.time_positions {
            return self.shaw(&format!("{name}.fn.fn"), &inner, distance, (shape, sees)) + x;
        }
        let table = self.matrix("time_rel_pos_bias.relative_attention_bias.weight");
        let to_qkv = self.matrix(&format!("{name}.fn.fn.to_qkv.weight"));
        let to_out = self.matrix(&format!("{name}.fn.fn.to_out.weight"));
        let freqs = self.row(&format!("{name}.fn.fn.rotary_emb.freqs"));
        let bias = position::relative_bias(&table, x.dim().1, FAR);
        let memory = self.memory(&name, heard, x, shape);
        let parts = (&to_qkv, &to_out, &freqs);
        text::temporal(&inner, parts, (&bias, sees), &memory, shape, &mut Sizes::default()) + x
    }

    fn spatial(&self, name: &str, x: &Video, around: &Around) -> Video {
        let name = format!("{name}.fn");
        let to_qkv = self.matrix(&format!("{name}.fn.fn.to_qkv.weight"));
        let to_out = self.matrix(&format!("{name}.fn.fn.to_out.weight"));
        let shape = self.heads(Axes::Space, x.dim().4);
        let memory = self.memory(&name, &around.heard, x, shape);
        let inner = self.shifted(self.layer_norm(&name, x), around.sees);
        let table = |axis: &str| {
            self.matrix(&format!("space_rel_pos_bias.{axis}.relative_attention_bias.weight"))
        };
        let bias = self.config.spatial_bias.then(|| {
            let tables = [&table("height"), &table("width")];
            position::relative_bias_2d(tables, (x.dim().2, x.dim().3), FAR)
        });
        let parts = [&to_qkv, &to_out];
        let memory = Some(&memory);
        text::spatial(&inner, parts, bias.as_ref(), memory, shape, &mut Sizes::default()) + x
    }

    fn linear_attention(&self, name: &str, x: &Video, around: &Around) -> Video {
        let name = format!("{name}.fn");
        let to_qkv = self.matrix(&format!("{name}.fn.to_qkv.weight"));
        let to_out = self.matrix(&format!("{name}.fn.to_out.weight"));
        let bias = self.row(&format!("{name}.fn.to_out.bias"));
        let shape = self.heads(Axes::Space, x.dim().4);
        let memory = self.memory(&name, &around.heard, x, shape);
        let inner = self.shifted(self.layer_norm(&name, x), around.sees);
        text::linear_attention(&inner, &to_qkv, (&to_out, &bias), &memory, shape) + x
    }

    /// The heads of an attention with this many channels.
    fn heads(&self, axes: Axes, channels: usize) -> Heads {
        let dim = match axes {
            Axes::Space => self.config.spatial_dim_head.unwrap_or(SPATIAL_HEAD),
            Axes::Time => self.config.attn_dim_head,
        } as usize;
        let heads = match self.config.heads_by_channels {
            true => (channels / dim).max(1),
            false => self.config.attn_heads as usize,
        };
        Heads { heads, dim }
    }

    fn layer_norm(&self, name: &str, x: &Video) -> Video {
        let gain = self.row(&format!("{name}.norm.gamma"));
        norm::layer(&x.clone().into_dyn(), &gain).into_dimensionality().unwrap()
    }

    fn convolution(&self, name: &str, x: &Video) -> Video {
        let (kernel, bias) = self.kernel(name);
        dense::convolution(x, &kernel, &bias, 1, kernel.dim().3 / 2)
    }

    fn linear(&self, name: &str, x: &ArrayD<f64>) -> ArrayD<f64> {
        let weight = self.matrix(&format!("{name}.weight"));
        dense::linear(x, &weight, Some(&self.row(&format!("{name}.bias"))))
    }

    fn kernel(&self, name: &str) -> (Video, Array1<f64>) {
        let weight = self.weights.kernel(&format!("{name}.weight"));
        (weight, self.row(&format!("{name}.bias")))
    }

    fn matrix(&self, name: &str) -> ndarray::Array2<f64> {
        self.weights.matrix(name)
    }

    fn row(&self, name: &str) -> Array1<f64> {
        self.weights.row(name)
    }
}

fn silu(v: f64) -> f64 {
    v / (1.0 + (-v).exp())
}

/// Concatenates along channels.
fn join(a: &Video, b: &Video) -> Video {
    concatenate(Axis(4), &[a.view(), b.view()]).unwrap()
}
