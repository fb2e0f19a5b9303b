//! Attentions, one query at a time.

use ndarray::{Array1, Array2, Array3, s};

use super::Video;
use super::dense::channels;
use super::position::turn;

/// Which pairs of frames see each other: (sample, query, key).
pub type Sees<'a> = &'a dyn Fn(usize, usize, usize) -> bool;

/// The same, owned.
pub type Sight = Box<dyn Fn(usize, usize, usize) -> bool>;

/// Number of heads and their width.
#[derive(Debug, Clone, Copy)]
pub struct Heads {
    pub heads: usize,
    pub dim: usize,
}

impl Heads {
    /// Features of query (0), key (1) or value (2) of a head in the joint projection.
    fn part(&self, which: usize, head: usize) -> std::ops::Range<usize> {
        let start = (which * self.heads + head) * self.dim;
        start..start + self.dim
    }
}

/// exp(x) / sum exp(x).
pub fn softmax(scores: &[f64]) -> Vec<f64> {
    let most = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let powers: Vec<f64> = scores.iter().map(|s| (s - most).exp()).collect();
    let sum: f64 = powers.iter().sum();
    powers.iter().map(|p| p / sum).collect()
}

/// softmax(q k^T / sqrt(d) + bias) v for one head (Vaswani et al. 2017, equation 1); `bias` is
/// minus infinity where a query does not see a key. Rows are tokens.
fn attend(q: &Array2<f64>, k: &Array2<f64>, v: &Array2<f64>, bias: &Array2<f64>) -> Array2<f64> {
    let (queries, d) = q.dim();
    let keys = k.dim().0;
    let mut out = Array2::zeros((queries, v.dim().1));
    for i in 0..queries {
        let scores: Vec<f64> = (0..keys)
            .map(|j| {
                let product: f64 = (0..d).map(|e| q[[i, e]] * k[[j, e]]).sum();
                product / (d as f64).sqrt() + bias[[i, j]]
            })
            .collect();
        for (j, weight) in softmax(&scores).into_iter().enumerate() {
            for e in 0..v.dim().1 {
                out[[i, e]] += weight * v[[j, e]];
            }
        }
    }
    out
}

/// Every position attends along time.
pub fn temporal(
    x: &Video,
    (to_qkv, to_out): (&Array2<f64>, &Array2<f64>),
    freqs: &Array1<f64>,
    bias: &Array3<f64>,
    shape: Heads,
    sees: Sees,
) -> Video {
    let (b, f, h, w, _) = x.dim();
    let qkv = channels(x, to_qkv, None);
    let mut mixed = Video::zeros((b, f, h, w, shape.heads * shape.dim));
    for b in 0..b {
        for n in 0..shape.heads {
            let mut scores = bias.slice(s![n, .., ..]).to_owned();
            for ((i, j), score) in scores.indexed_iter_mut() {
                if !sees(b, i, j) {
                    *score = f64::NEG_INFINITY;
                }
            }
            for (row, column) in (0..h).flat_map(|r| (0..w).map(move |s| (r, s))) {
                let tokens = |which| qkv.slice(s![b, .., row, column, shape.part(which, n)]);
                let turned = |which| {
                    let mut tokens = tokens(which).as_standard_layout().into_owned();
                    for (position, mut token) in tokens.rows_mut().into_iter().enumerate() {
                        turn(token.as_slice_mut().unwrap(), position, freqs);
                    }
                    tokens
                };
                let out = attend(&turned(0), &turned(1), &tokens(2).to_owned(), &scores);
                mixed.slice_mut(s![b, .., row, column, shape.part(0, n)]).assign(&out);
            }
        }
    }
    channels(&mixed, to_out, None)
}

/// Positions of a frame in rows, features of one head in columns.
fn positions(qkv: &Video, (b, f): (usize, usize), features: std::ops::Range<usize>) -> Array2<f64> {
    let (_, _, h, w, _) = qkv.dim();
    let first = features.start;
    Array2::from_shape_fn((h * w, features.len()), |(at, e)| qkv[[b, f, at / w, at % w, first + e]])
}

/// Puts the output of one head back where [`positions`] took its input.
fn place(out: &mut Video, (b, f): (usize, usize), first: usize, tokens: &Array2<f64>) {
    let w = out.dim().3;
    for ((at, e), value) in tokens.indexed_iter() {
        out[[b, f, at / w, at % w, first + e]] = *value;
    }
}

/// Every position attends to all positions of its frame.
pub fn spatial(x: &Video, to_qkv: &Array2<f64>, to_out: &Array2<f64>, shape: Heads) -> Video {
    let (b, f, h, w, _) = x.dim();
    let qkv = channels(x, to_qkv, None);
    let mut mixed = Video::zeros((b, f, h, w, shape.heads * shape.dim));
    for (b, f) in (0..b).flat_map(|b| (0..f).map(move |f| (b, f))) {
        for n in 0..shape.heads {
            let tokens = |which| positions(&qkv, (b, f), shape.part(which, n));
            let out = attend(&tokens(0), &tokens(1), &tokens(2), &Array2::zeros((h * w, h * w)));
            place(&mut mixed, (b, f), shape.part(0, n).start, &out);
        }
    }
    channels(&mixed, to_out, None)
}

/// E(Q, K, V) = rho_q(Q) (rho_k(K)^T V) (Shen et al. 2021, equation 3, with the softmax of section
/// 3.3: over features for queries, over positions for keys), times 1 / sqrt(d).
pub fn linear(
    x: &Video,
    to_qkv: &Array2<f64>,
    (to_out, bias): (&Array2<f64>, &Array1<f64>),
    shape: Heads,
) -> Video {
    let (b, f, h, w, _) = x.dim();
    let qkv = channels(x, to_qkv, None);
    let mut mixed = Video::zeros((b, f, h, w, shape.heads * shape.dim));
    for (b, f) in (0..b).flat_map(|b| (0..f).map(move |f| (b, f))) {
        for n in 0..shape.heads {
            let tokens = |which| positions(&qkv, (b, f), shape.part(which, n));
            let (mut q, mut k, v) = (tokens(0), tokens(1), tokens(2));
            for mut token in q.rows_mut() {
                let normal = softmax(&token.to_vec());
                token.assign(&Array1::from(normal));
            }
            for mut feature in k.columns_mut() {
                let normal = softmax(&feature.to_vec());
                feature.assign(&Array1::from(normal));
            }
            // The weight of key j for query i, written out; the layer never builds it.
            let weight = Array2::from_shape_fn((h * w, h * w), |(i, j)| {
                (0..shape.dim).map(|d| q[[i, d]] * k[[j, d]]).sum::<f64>()
            });
            let out = Array2::from_shape_fn((h * w, shape.dim), |(i, e)| {
                let sum: f64 = (0..h * w).map(|j| weight[[i, j]] * v[[j, e]]).sum();
                sum / (shape.dim as f64).sqrt()
            });
            place(&mut mixed, (b, f), shape.part(0, n).start, &out);
        }
    }
    channels(&mixed, to_out, Some(bias))
}
