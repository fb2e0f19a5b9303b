//! Conditioning inputs besides time and a pooled embedding.

use ndarray::{Array1, Array3, Array4, Array5, ArrayD, Axis, Ix2, concatenate, s};
use vd_unet3d::{Axes, SignalConfig};

use super::{Network, Question};
use crate::oracle::attention::{Heads, Sees};
use crate::oracle::text::{self, Memory, Sizes, Text};
use crate::oracle::{Video, dense, position};

/// What the attentions use of the text.
pub struct Heard {
    text: Option<Text>,
    /// b f m e
    memory: Option<Array4<f64>>,
}

impl Network<'_> {
    /// The tokens followed by the null token, which has weight only if no other token has.
    pub(super) fn hear(&self, question: &Question) -> Heard {
        if !self.weights.has("text.null_token") {
            return Heard { text: None, memory: None };
        }
        let null = self.row("text.null_token");
        let (b, f, _) = question.t.dim();
        let (tokens, weight) = match &question.text {
            Some(text) => (text.tokens.clone(), text.weight.clone()),
            None => (Array3::zeros((b, 0, null.len())), Array3::zeros((b, f, 0))),
        };
        let last = Array3::from_shape_fn((b, 1, null.len()), |(_, _, d)| null[d]);
        let alone = Array3::from_shape_fn((b, f, 1), |(b, f, _)| {
            f64::from(u8::from(weight.slice(s![b, f, ..]).iter().all(|w| *w == 0.0)))
        });
        let text = Text {
            tokens: concatenate(Axis(1), &[tokens.view(), last.view()]).unwrap(),
            weight: concatenate(Axis(2), &[weight.view(), alone.view()]).unwrap(),
        };
        let memory =
            self.weights.has("text.memory.queries").then(|| self.queries("text.memory", &text));
        Heard { text: Some(text), memory }
    }

    /// Learned queries attending to a text: b f m e.
    fn queries(&self, name: &str, text: &Text) -> Array4<f64> {
        let [queries, to_kv, to_out] = ["queries", "to_kv.weight", "to_out.weight"]
            .map(|n| self.matrix(&format!("{name}.{n}")));
        let bias = self.row(&format!("{name}.to_out.bias"));
        let (ask, out) = ((&queries, &to_kv), (&to_out, &bias));
        text::pool(text, ask, out, self.text_heads(), &mut Sizes::default())
    }

    /// The embedding that the network pools from the tokens, if it does and if there are any.
    pub(super) fn pooled(
        &self,
        question: &Question,
    ) -> Option<impl Fn(usize, usize) -> Option<Array1<f64>>> {
        if !self.weights.has("text.pool.queries") {
            return None;
        }
        let made = question.text.as_ref().map(|text| {
            (self.queries("text.pool", text), text.weight.map_axis(Axis(2), |w| w.sum() > 0.0))
        });
        Some(move |b, f| {
            let (rows, there) = made.as_ref()?;
            there[[b, f]].then(|| rows.slice(s![b, f, 0, ..]).to_owned())
        })
    }

    /// The contribution of the signals to the embedding of time: b f d.
    pub(super) fn added(&self, question: &Question) -> ArrayD<f64> {
        let (b, f, _) = question.t.dim();
        let d = self.config.time_width() as usize;
        let mut sum = Array3::zeros((b, f, d));
        for (name, config) in &self.config.signals {
            if matches!(config, SignalConfig::Video { .. }) {
                continue;
            }
            for (b, f) in (0..b).flat_map(|b| (0..f).map(move |f| (b, f))) {
                let row = match (question.signal)(name, b, f) {
                    Some(given) => self.said(name, config, &given),
                    None => self.row(&format!("signals.{name}.null")),
                };
                let mut own = sum.slice_mut(s![b, f, ..]);
                own += &row;
            }
        }
        sum.into_dyn()
    }

    fn said(&self, name: &str, config: &SignalConfig, given: &Array1<f64>) -> Array1<f64> {
        let name = format!("signals.{name}");
        let input = match config {
            SignalConfig::Class { .. } => {
                return self
                    .matrix(&format!("{name}.table.weight"))
                    .row(given[0] as usize)
                    .to_owned();
            }
            SignalConfig::Scalar { mean, std } => given.mapv(|v| (v - mean) / std),
            _ => given.clone(),
        };
        let first = self.linear(&format!("{name}.mlp.0"), &input.insert_axis(Axis(0)).into_dyn());
        let active = first.mapv(|v| v * (1.0 + position::erf(v / 2f64.sqrt())) / 2.0);
        let out = self.linear(&format!("{name}.mlp.2"), &active);
        out.into_dimensionality::<Ix2>().unwrap().row(0).to_owned()
    }

    /// The video concatenated with those of the signals, each followed by a channel that marks
    /// where it is given.
    pub(super) fn beside(&self, question: &Question) -> Video {
        let mut all = question.x.clone();
        let (b, _, f, h, w) = all.dim();
        for (name, config) in &self.config.signals {
            let SignalConfig::Video { channels } = config else { continue };
            let c = *channels as usize;
            let mut more = Video::zeros((b, c + 1, f, h, w));
            for b in 0..b {
                if let Some(shown) = (question.shown)(name, b) {
                    more.slice_mut(s![b, ..c, .., .., ..]).assign(&shown);
                    more.slice_mut(s![b, c, .., .., ..]).fill(1.0);
                }
            }
            all = concatenate(Axis(1), &[all.view(), more.view()]).unwrap();
        }
        all
    }

    /// Keys and values that an attention computes from the memory tokens; empty if there are none.
    pub(super) fn memory(&self, name: &str, heard: &Heard, x: &Video, shape: Heads) -> Memory {
        let (b, f, ..) = x.dim();
        let Some(tokens) = &heard.memory else {
            let none = || Array5::zeros((b, f, 0, shape.heads, shape.dim));
            return Memory { keys: none(), values: none() };
        };
        let heads = |part: &str| {
            let weight = self.matrix(&format!("{name}.memory.{part}.weight"));
            let rows = dense::linear(&tokens.clone().into_dyn(), &weight, None);
            let m = tokens.dim().2;
            rows.into_shape_with_order((b, f, m, shape.heads, shape.dim)).unwrap()
        };
        Memory { keys: heads("to_k"), values: heads("to_v") }
    }

    /// x plus the cross-attention of its positions to the text.
    pub(super) fn cross(&self, name: &str, x: Video, heard: &Heard, axes: Axes) -> Video {
        if !self.weights.has(&format!("{name}.to_q.weight")) {
            return x;
        }
        let normal = self.layer_norm(name, &x);
        let parts = ["to_q", "to_kv", "to_out"].map(|n| self.matrix(&format!("{name}.{n}.weight")));
        let text = heard.text.as_ref().unwrap();
        let parts = [&parts[0], &parts[1], &parts[2]];
        let shape = self.heads(axes, x.dim().4);
        x + text::cross(&normal, text, parts, shape, &mut Sizes::default())
    }

    /// Replaces eighths of the channels by those of the neighbours.
    pub(super) fn shifted(&self, mut x: Video, sees: Sees) -> Video {
        for axes in &self.config.token_shift {
            let size = x.dim();
            let each = size.4 / 8;
            let steps: &[[i64; 3]] = match axes {
                Axes::Time => &[[-1, 0, 0], [1, 0, 0]],
                // After the two eighths of time.
                Axes::Space => &[[0; 3], [0; 3], [0, -1, 0], [0, 1, 0], [0, 0, -1], [0, 0, 1]],
            };
            x = Video::from_shape_fn(size, |(b, f, row, column, c)| {
                let Some(step) = c.checked_div(each).and_then(|group| steps.get(group)) else {
                    return x[[b, f, row, column, c]];
                };
                let from = [f as i64 + step[0], row as i64 + step[1], column as i64 + step[2]];
                let inside = from.iter().zip([size.1, size.2, size.3]);
                if inside.into_iter().any(|(at, most)| !(0..most as i64).contains(at)) {
                    return 0.0;
                }
                let [g, row, column] = from.map(|at| at as usize);
                if sees(b, f, g) { x[[b, g, row, column, c]] } else { 0.0 }
            });
        }
        x
    }
}
