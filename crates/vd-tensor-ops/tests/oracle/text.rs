//! Attentions that see more than positions: tokens of a text, which count by weights, and keys and
//! values beside those of the video.

use ndarray::{Array1, Array2, Array3, Array4, Array5, Axis, concatenate, s};

use super::Video;
use super::attention::{Heads, Sees, softmax};
use super::dense::{channels, linear};
use super::position::turn;

/// One key as a query sees it.
#[derive(Debug)]
struct Entry {
    score: f64,
    /// How often it is there.
    weight: f64,
    value: Vec<f64>,
}

/// The sizes of the scores, which say what rounding may do.
#[derive(Debug, Default)]
pub struct Sizes {
    pub largest: f64,
}

impl Sizes {
    fn entry(&mut self, q: &[f64], k: &[f64], v: &[f64], (bias, weight): (f64, f64)) -> Entry {
        let root = (q.len() as f64).sqrt();
        let length = |x: &[f64]| x.iter().map(|x| x * x).sum::<f64>().sqrt();
        let log = if weight > 0.0 { weight.ln().abs() } else { 0.0 };
        let finite = if bias.is_finite() { bias.abs() } else { 0.0 };
        self.largest = self.largest.max(length(q) * length(k) / root + finite + log);
        let product: f64 = q.iter().zip(k).map(|(q, k)| q * k).sum();
        Entry { score: product / root + bias, weight, value: v.to_vec() }
    }

    /// Keys, values and weights without a bias.
    fn entries(
        &mut self,
        q: &[f64],
        keys: impl Iterator<Item = (Vec<f64>, Vec<f64>, f64)>,
    ) -> Vec<Entry> {
        keys.map(|(k, v, weight)| self.entry(q, &k, &v, (0.0, weight))).collect()
    }
}

/// Sum of weight exp(score) value over sum of weight exp(score); 0 where all weights are 0.
fn blend(entries: &[Entry], d: usize) -> Array1<f64> {
    let there = entries.iter().filter(|e| e.weight > 0.0);
    let most = there.map(|e| e.score).fold(f64::NEG_INFINITY, f64::max);
    let (mut sum, mut total) = (Array1::zeros(d), 0.0);
    for entry in entries.iter().filter(|e| e.weight > 0.0) {
        let share = entry.weight * (entry.score - most).exp();
        total += share;
        for (sum, value) in sum.iter_mut().zip(&entry.value) {
            *sum += share * value;
        }
    }
    if total > 0.0 { sum / total } else { sum }
}

/// A text: tokens b l d and their weights b f l.
#[derive(Debug)]
pub struct Text {
    pub tokens: Array3<f64>,
    pub weight: Array3<f64>,
}

impl Text {
    /// What a query of head `n` finds in the text at frame `f` of sample `b`.
    fn ask(
        &self,
        (b, f, n): (usize, usize, usize),
        q: &[f64],
        kv: &Array3<f64>,
        shape: Heads,
        sizes: &mut Sizes,
    ) -> Array1<f64> {
        let features = |which: usize, l: usize| {
            let first = (which * shape.heads + n) * shape.dim;
            kv.slice(s![b, l, first..first + shape.dim]).to_vec()
        };
        let token = |l| (features(0, l), features(1, l), self.weight[[b, f, l]]);
        blend(&sizes.entries(q, (0..kv.dim().1).map(token)), shape.dim)
    }

    fn project(&self, to_kv: &Array2<f64>) -> Array3<f64> {
        linear(&self.tokens.clone().into_dyn(), to_kv, None).into_dimensionality().unwrap()
    }
}

/// Every position attends to the tokens.
pub fn cross(
    x: &Video,
    text: &Text,
    [to_q, to_kv, to_out]: [&Array2<f64>; 3],
    shape: Heads,
    sizes: &mut Sizes,
) -> Video {
    let (b, f, h, w, _) = x.dim();
    let (q, kv) = (channels(x, to_q, None), text.project(to_kv));
    let mut mixed = Video::zeros((b, f, h, w, shape.heads * shape.dim));
    for ((b, f, row, column), n) in ndarray::indices((b, f, h, w))
        .into_iter()
        .flat_map(|at| (0..shape.heads).map(move |n| (at, n)))
    {
        let features = n * shape.dim..(n + 1) * shape.dim;
        let query = q.slice(s![b, f, row, column, features.clone()]).to_vec();
        let found = text.ask((b, f, n), &query, &kv, shape, sizes);
        mixed.slice_mut(s![b, f, row, column, features]).assign(&found);
    }
    channels(&mixed, to_out, None)
}

/// Learned queries attend to the tokens: b f m e.
pub fn pool(
    text: &Text,
    (queries, to_kv): (&Array2<f64>, &Array2<f64>),
    (to_out, bias): (&Array2<f64>, &Array1<f64>),
    shape: Heads,
    sizes: &mut Sizes,
) -> Array4<f64> {
    let kv = text.project(to_kv);
    let (b, f, _) = text.weight.dim();
    let mut mixed = Array4::zeros((b, f, queries.dim().0, shape.heads * shape.dim));
    for (b, f, m) in ndarray::indices((b, f, queries.dim().0)) {
        for n in 0..shape.heads {
            let features = n * shape.dim..(n + 1) * shape.dim;
            let query = queries.slice(s![m, features.clone()]).to_vec();
            let found = text.ask((b, f, n), &query, &kv, shape, sizes);
            mixed.slice_mut(s![b, f, m, features]).assign(&found);
        }
    }
    linear(&mixed.into_dyn(), to_out, Some(bias)).into_dimensionality().unwrap()
}

/// Keys and values b f m n d beside those of the video.
#[derive(Debug)]
pub struct Memory {
    pub keys: Array5<f64>,
    pub values: Array5<f64>,
}

impl Memory {
    /// What a query sees of it at frame `f` of sample `b` in head `n`.
    fn entries(
        &self,
        (b, f, n): (usize, usize, usize),
        q: &[f64],
        sizes: &mut Sizes,
    ) -> Vec<Entry> {
        let of = |t: &Array5<f64>, m| t.slice(s![b, f, m, n, ..]).to_vec();
        let places = 0..self.keys.dim().2;
        sizes.entries(q, places.map(|m| (of(&self.keys, m), of(&self.values, m), 1.0)))
    }
}

fn feature(qkv: &Video, at: [usize; 4], (which, n): (usize, usize), shape: Heads) -> Vec<f64> {
    let first = (which * shape.heads + n) * shape.dim;
    let [b, f, row, column] = at;
    qkv.slice(s![b, f, row, column, first..first + shape.dim]).to_vec()
}

/// Every position attends along time and to the memory of its frame; queries are turned for the
/// keys of frames only.
pub fn temporal(
    x: &Video,
    (to_qkv, to_out, freqs): (&Array2<f64>, &Array2<f64>, &Array1<f64>),
    (bias, sees): (&Array3<f64>, Sees),
    memory: &Memory,
    shape: Heads,
    sizes: &mut Sizes,
) -> Video {
    let (samples, frames, h, w, _) = x.dim();
    let qkv = channels(x, to_qkv, None);
    let mut mixed = Video::zeros((samples, frames, h, w, shape.heads * shape.dim));
    for (b, i, row, column) in ndarray::indices((samples, frames, h, w)) {
        for n in 0..shape.heads {
            let of = |which, f| feature(&qkv, [b, f, row, column], (which, n), shape);
            let turned = |which, f| {
                let mut token = of(which, f);
                turn(&mut token, f, freqs);
                token
            };
            let mut entries = memory.entries((b, i, n), &of(0, i), sizes);
            for j in (0..frames).filter(|j| sees(b, i, *j)) {
                let at = (bias[[n, i, j]], 1.0);
                entries.push(sizes.entry(&turned(0, i), &turned(1, j), &of(2, j), at));
            }
            let features = n * shape.dim..(n + 1) * shape.dim;
            let found = blend(&entries, shape.dim);
            mixed.slice_mut(s![b, i, row, column, features]).assign(&found);
        }
    }
    channels(&mixed, to_out, None)
}

/// Every position attends to all positions of its frame, by their distance too, and to the memory.
pub fn spatial(
    x: &Video,
    [to_qkv, to_out]: [&Array2<f64>; 2],
    bias: Option<&Array3<f64>>,
    memory: Option<&Memory>,
    shape: Heads,
    sizes: &mut Sizes,
) -> Video {
    let (samples, frames, h, w, _) = x.dim();
    let qkv = channels(x, to_qkv, None);
    let mut mixed = Video::zeros((samples, frames, h, w, shape.heads * shape.dim));
    for (b, f, i) in ndarray::indices((samples, frames, h * w)) {
        for n in 0..shape.heads {
            let of = |which, at| feature(&qkv, [b, f, at / w, at % w], (which, n), shape);
            let q = of(0, i);
            let mut entries =
                memory.map_or(Vec::new(), |memory| memory.entries((b, f, n), &q, sizes));
            for j in 0..h * w {
                let at = (bias.map_or(0.0, |bias| bias[[n, i, j]]), 1.0);
                entries.push(sizes.entry(&q, &of(1, j), &of(2, j), at));
            }
            let features = n * shape.dim..(n + 1) * shape.dim;
            let found = blend(&entries, shape.dim);
            mixed.slice_mut(s![b, f, i / w, i % w, features]).assign(&found);
        }
    }
    channels(&mixed, to_out, None)
}

/// Linear attention whose keys are normalised over the memory and the positions together.
pub fn linear_attention(
    x: &Video,
    to_qkv: &Array2<f64>,
    (to_out, bias): (&Array2<f64>, &Array1<f64>),
    memory: &Memory,
    shape: Heads,
) -> Video {
    let (samples, frames, h, w, _) = x.dim();
    let qkv = channels(x, to_qkv, None);
    let mut mixed = Video::zeros((samples, frames, h, w, shape.heads * shape.dim));
    for (b, f, n) in ndarray::indices((samples, frames, shape.heads)) {
        let rows = |which| {
            let of = |at| feature(&qkv, [b, f, at / w, at % w], (which, n), shape);
            Array2::from_shape_fn((h * w, shape.dim), |(at, e)| of(at)[e])
        };
        let with = |t: &Array5<f64>, own| {
            let recalled = t.slice(s![b, f, .., n, ..]).to_owned();
            concatenate(Axis(0), &[recalled.view(), Array2::view(&own)]).unwrap()
        };
        let (mut k, v) = (with(&memory.keys, rows(1)), with(&memory.values, rows(2)));
        for mut feature in k.columns_mut() {
            feature.assign(&Array1::from(softmax(&feature.to_vec())));
        }
        for (i, q) in rows(0).rows().into_iter().enumerate() {
            let q = softmax(&q.to_vec());
            for e in 0..shape.dim {
                let weight = |j: usize| (0..shape.dim).map(|d| q[d] * k[[j, d]]).sum::<f64>();
                let sum: f64 = (0..k.dim().0).map(|j| weight(j) * v[[j, e]]).sum();
                mixed[[b, f, i / w, i % w, n * shape.dim + e]] = sum / (shape.dim as f64).sqrt();
            }
        }
    }
    channels(&mixed, to_out, Some(bias))
}
