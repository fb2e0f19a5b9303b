//! The layers of attentions, and of the text that they use.

use super::walk::{Walk, layer, product};
use super::{Layer, Sort};
use crate::{Axes, TimePositions};

/// An attention with its norm and its residual connection.
struct Attention {
    /// Prefixes of its norm and of its projections.
    outer: String,
    inner: String,
    level: usize,
    c: u64,
    heads: u64,
    dim: u64,
}

impl Attention {
    fn features(&self) -> u64 {
        self.heads * self.dim
    }
}

impl Walk<'_> {
    /// Number and width of the heads of an attention.
    fn heads(&self, axes: Axes, c: u64) -> (u64, u64) {
        let (heads, dim) = self.config.heads(axes, i64::try_from(c).unwrap_or(i64::MAX));
        (heads.unsigned_abs(), dim.unsigned_abs())
    }

    /// Memory tokens that the text adds to every attention.
    fn memories(&self) -> u64 {
        self.config.tokens.as_ref().map_or(0, |tokens| tokens.memory.unsigned_abs())
    }

    fn attention(&self, place: &str, depth: &str, at: (usize, u64), axes: Axes) -> Attention {
        let (level, c) = at;
        let (heads, dim) = self.heads(axes, c);
        let (outer, inner) = (format!("{place}.fn"), format!("{place}.{depth}"));
        Attention { outer, inner, level, c, heads, dim }
    }

    /// Everything before the core: `others` is the number of users of the input besides the norm
    /// and the residual.
    fn entry(&mut self, of: &Attention, others: u64) {
        let rows = self.positions(of.level);
        let all = rows * of.c;
        self.push(Layer {
            parameters: of.c,
            inputs: all,
            outputs: all,
            added: (1 + others) * all,
            ..layer(format!("{}.norm", of.outer), Sort::AttentionNorm)
        });
        let (tokens, memories) = (self.config.tokens.as_ref(), self.memories());
        if let Some(tokens) = tokens.filter(|_| memories > 0) {
            let io = (tokens.dim.unsigned_abs(), of.features());
            for name in ["to_k", "to_v"] {
                let (name, rows) = (format!("{}.memory.{name}", of.outer), self.shape.b * memories);
                self.push(product(name, Sort::AttentionProduct, rows, io));
            }
        }
        let name = format!("{}.to_qkv", of.inner);
        self.push(product(name, Sort::AttentionProduct, rows, (of.c, 3 * of.features())));
    }

    /// The output projection, with the residual.
    fn exit(&mut self, of: &Attention, bias: u64) {
        let rows = self.positions(of.level);
        let name = format!("{}.to_out", of.inner);
        let out = product(name, Sort::AttentionProduct, rows, (of.features(), of.c));
        let parameters = out.parameters + bias;
        self.push(Layer { parameters, residual: rows * of.c, ..out });
    }

    /// The core: reads queries, keys, values and those of the text, writes their mixture.
    fn core(&self, of: &Attention, sort: Sort) -> Layer {
        let all = self.positions(of.level) * of.features();
        let recalled = 2 * self.shape.b * self.memories() * of.features();
        Layer { inputs: 3 * all + recalled, outputs: all, ..layer(of.inner.clone(), sort) }
    }

    pub(super) fn over_time(&mut self, place: &str, level: usize, c: u64, others: u64) {
        let of = self.attention(place, "fn.fn.fn", (level, c), Axes::Time);
        let (rows, f) = (self.positions(level), self.shape.f);
        // Keys and values, and their vectors of distances.
        let (products, parameters, bias) = match self.config.time_positions {
            TimePositions::Bias => (2, 0, of.heads * f * f),
            TimePositions::Shaw { distance } => {
                (4, 2 * (2 * distance.unsigned_abs() + 1) * of.dim, 0)
            }
        };
        self.entry(&of, others);
        let core = self.core(&of, Sort::TemporalAttention);
        self.push(Layer {
            parameters,
            flops: 2 * rows * (products * f + 2 * self.memories()) * of.features(),
            inputs: core.inputs + bias,
            ..core
        });
        self.exit(&of, 0);
    }

    pub(super) fn over_space(&mut self, place: &str, level: usize, c: u64) {
        let of = self.attention(place, "fn.fn.fn", (level, c), Axes::Space);
        let rows = self.positions(level);
        let pixels = rows / (self.shape.b * self.shape.f);
        let bias = if self.config.spatial_bias { of.heads * pixels * pixels } else { 0 };
        self.entry(&of, 0);
        let core = self.core(&of, Sort::SpatialAttention);
        self.push(Layer {
            flops: 4 * rows * (pixels + self.memories()) * of.features(),
            inputs: core.inputs + bias,
            ..core
        });
        self.exit(&of, 0);
    }

    pub(super) fn linear_over_space(&mut self, place: &str, level: usize, c: u64) {
        let of = self.attention(place, "fn.fn", (level, c), Axes::Space);
        let keys = 2 * self.positions(level) + self.shape.b * self.shape.f * self.memories();
        self.entry(&of, 0);
        let core = self.core(&of, Sort::LinearAttention);
        self.push(Layer { flops: 2 * keys * of.features() * of.dim, ..core });
        self.exit(&of, c);
    }

    /// Cross-attention to the tokens and the null token, if there is one after the attention along
    /// `axes`.
    pub(super) fn cross(&mut self, place: &str, level: usize, c: u64, axes: Axes) {
        let Some(tokens) = self.config.tokens.as_ref().filter(|t| t.cross.contains(&axes)) else {
            return;
        };
        let (length, width) = (self.shape.tokens + 1, tokens.dim.unsigned_abs());
        let name = match axes {
            Axes::Space => format!("{place}cross_space"),
            Axes::Time => format!("{place}cross_time"),
        };
        let (heads, dim) = self.heads(axes, c);
        let (rows, inner) = (self.positions(level), heads * dim);
        let linear = |name: String, rows, io| product(name, Sort::AttentionProduct, rows, io);
        let texts = self.shape.b * length;
        let norm = Layer {
            parameters: c,
            inputs: rows * c,
            outputs: rows * c,
            added: rows * c,
            ..layer(format!("{name}.norm"), Sort::AttentionNorm)
        };
        let core = Layer {
            flops: 4 * rows * length * inner,
            inputs: rows * inner + 2 * texts * inner,
            outputs: rows * inner,
            ..layer(name.clone(), Sort::CrossAttention)
        };
        let out = linear(format!("{name}.to_out"), rows, (inner, c));
        self.push(norm);
        self.push(linear(format!("{name}.to_q"), rows, (c, inner)));
        self.push(linear(format!("{name}.to_kv"), texts, (width, 2 * inner)));
        self.push(core);
        self.push(Layer { residual: rows * c, ..out });
    }

    /// The tokens pooled into an embedding and into memory tokens, including the null token.
    pub(super) fn text(&mut self) {
        let Some(tokens) = &self.config.tokens else { return };
        let (dim, length, b) = (tokens.dim.unsigned_abs(), self.shape.tokens, self.shape.b);
        let (heads, d) = self.heads(Axes::Space, dim);
        let inner = heads * d;
        // Learned queries attending to keys and values of the tokens.
        let queries = |name: &str, count: u64, length: u64, width: u64| Layer {
            parameters: count * inner + dim * 2 * inner + inner * width + width,
            flops: 2 * b * (length * dim * 2 * inner + 2 * count * length * inner)
                + 2 * b * count * inner * width,
            inputs: b * length * dim,
            outputs: b * count * width,
            ..layer(name.to_owned(), Sort::Embedding)
        };
        if tokens.pool {
            let width = self.config.pooled_width().unwrap_or(0).unsigned_abs();
            self.push(queries("text.pool", 1, length, width));
        }
        if self.memories() > 0 {
            self.push(queries("text.memory", self.memories(), length + 1, dim));
        }
        if self.memories() > 0 || !tokens.cross.is_empty() {
            let name = "text.null_token".to_owned();
            self.push(Layer { parameters: dim, ..layer(name, Sort::Embedding) });
        }
    }
}
