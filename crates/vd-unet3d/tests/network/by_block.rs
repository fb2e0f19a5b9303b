//! Skips for every block, and vectors of distance.

use ndarray::Array2;
use vd_unet3d::Axes;

use super::{Around, Network, Question, join, silu};
use crate::oracle::attention::{Heads, Sees, softmax};
use crate::oracle::{Video, dense, norm};

impl Network<'_> {
    pub(super) fn by_block(&self, video: &Video, question: &Question, around: &Around) -> Video {
        let (levels, blocks) = (self.config.dim_mults.len(), self.config.blocks);
        let unit = |name: String, x: &Video, level: usize| {
            let x = self.block(&format!("{name}.block"), x, Some(&around.emb));
            let parts = [format!("{name}.spatial"), format!("{name}.temporal"), format!("{name}.")];
            self.attentions(parts, x, level, around)
        };
        let mut x = self.convolution("init_conv", video);
        if self.config.attention_levels.is_none() {
            x = self.temporal("init_temporal_attn", &x, (&around.heard, question.first_sees));
        }
        let mut skips = vec![x.clone()];
        for i in 0..levels {
            for j in 0..blocks {
                x = unit(format!("downs.{i}.{j}"), &x, i);
                skips.push(x.clone());
            }
            if i + 1 < levels {
                let (k, bias) = self.kernel(&format!("downs.{i}.resample"));
                x = dense::convolution(&x, &k, &bias, 2, 1);
                skips.push(x.clone());
            }
        }
        x = self.middle(&x, around);
        for i in 0..levels {
            for j in 0..=blocks {
                x = unit(format!("ups.{i}.{j}"), &join(&x, &skips.pop().unwrap()), levels - 1 - i);
            }
            if i + 1 < levels {
                let (k, bias) = self.kernel(&format!("ups.{i}.resample"));
                x = dense::transposed(&x, &k, &bias, 2, 1);
            }
        }
        assert!(skips.is_empty());
        let gain = self.row("final_conv.0.gamma");
        let x: Video = norm::rms(&x.into_dyn(), &gain).into_dimensionality().unwrap();
        self.convolution("final_conv.1", &x.mapv(silu))
    }

    /// Temporal attention with a vector for each distance, added to each key and value.
    pub(super) fn shaw(
        &self,
        name: &str,
        x: &Video,
        distance: i64,
        (shape, sees): (Heads, Sees),
    ) -> Video {
        let [to_qkv, to_out, keys, values] =
            ["to_qkv", "to_out", "rel_keys", "rel_values"].map(|part| self.part(name, part));
        let (b, f, h, w, _) = x.dim();
        let Heads { heads, dim } = shape;
        let qkv = dense::channels(x, &to_qkv, None);
        let row = |i: usize, j: usize| {
            ((j as i64 - i as i64).clamp(-distance, distance) + distance) as usize
        };
        let mut mixed = Video::zeros((b, f, h, w, heads * dim));
        for ((b, i, y, x, at), out) in mixed.indexed_iter_mut() {
            let (n, e) = (at / dim, at % dim);
            let get = |frame: usize, which: usize, e: usize| {
                qkv[[b, frame, y, x, (which * heads + n) * dim + e]]
            };
            let score = |j: usize| -> f64 {
                let product = |e| get(i, 0, e) * (get(j, 1, e) + keys[[row(i, j), e]]);
                let sum: f64 = (0..dim).map(product).sum();
                if sees(b, i, j) { sum / (dim as f64).sqrt() } else { f64::NEG_INFINITY }
            };
            let weights = softmax(&(0..f).map(score).collect::<Vec<_>>());
            let terms = weights.iter().enumerate().filter(|(_, weight)| **weight > 0.0);
            *out = terms.map(|(j, p)| p * (get(j, 2, e) + values[[row(i, j), e]])).sum();
        }
        dense::channels(&mixed, &to_out, None)
    }

    fn part(&self, name: &str, part: &str) -> Array2<f64> {
        self.matrix(&format!("{name}.{part}.weight"))
    }

    /// Number and width of the heads that process a text before the levels.
    pub(super) fn text_heads(&self) -> Heads {
        let width = self.config.tokens.as_ref().map_or(1, |tokens| tokens.dim);
        self.heads(Axes::Space, width as usize)
    }
}
