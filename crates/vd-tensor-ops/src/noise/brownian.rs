//! One Brownian path per sample, recomputed wherever it is asked for.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use tch::Tensor;

use super::{Noise, SeededNoise, derive_seed, fill_normal};
use crate::{Error, Result};

/// The tree spans clock times from 2^-REACH to 2^REACH.
const REACH: f64 = 64.0;

/// Noise whose [`between`](Noise::between) follows one Brownian path per sample.
///
/// Runs with 50 and with 100 steps see the same path, the second in more detail: the noise of the
/// halves of an interval sums to that of the whole, in whatever order it is asked for. The path is
/// a virtual tree: times of the clock (the SNR) from 2^-64 to 2^64 are bisected in their logarithm
/// `depth` times, each midpoint drawn, from a seed of its own, as a Brownian bridge between its
/// ends; within the last bisection a time has a bridge drawn from its own bits. Nothing is kept but
/// the path at the time asked for last, so memory does not grow with depth or steps.
///
/// For times in different leaves of the tree the path's law is exactly the Brownian one, and sums
/// are exact up to rounding. An interval within one leaf (narrower than 89 / 2^depth in log-SNR;
/// 3.4e-4 at the default) has unit variance as well, but its parts are correlated only as far as
/// the leaf's ends make them, and no longer sum to the whole.
///
/// `normal` and `uniform` are those of [`SeededNoise`] with the same seed and samples. An interval
/// to an infinite SNR has noise of its own.
///
/// # Reference
/// Li et al. 2020, section 4, arXiv:2001.01328.
#[derive(Debug, Clone)]
pub struct BrownianNoise {
    seed: u64,
    first_sample: u64,
    depth: u32,
    plain: SeededNoise,
    /// The end of an interval is the start of the next one.
    last: Option<Place>,
}

/// The path at one time.
#[derive(Debug, Clone)]
struct Place {
    time: f64,
    leaf: Leaf,
    rows: usize,
    /// For every number of every sample, row by row.
    values: Vec<f64>,
}

/// A stretch of the clock that is not bisected.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Leaf {
    low: f64,
    high: f64,
}

impl Leaf {
    /// Where a time lies, as a share of the way from low to high.
    fn share(self, time: f64) -> f64 {
        if self.high.is_finite() { (time - self.low) / (self.high - self.low) } else { 0.0 }
    }

    /// The variance of the path at a time given the path at both ends.
    fn bridge_variance(self, time: f64) -> f64 {
        ((time - self.low) * (1.0 - self.share(time))).max(0.0)
    }
}

impl BrownianNoise {
    /// The default depth of the tree.
    pub const DEPTH: u32 = 18;

    /// Row k of what it draws belongs to sample `first_sample + k`.
    pub fn new(seed: u64, first_sample: u64) -> Self {
        let plain = SeededNoise::new(seed, first_sample);
        BrownianNoise { seed, first_sample, depth: Self::DEPTH, plain, last: None }
    }

    /// The same with another depth: other paths, each interval at the cost of about `depth` draws.
    ///
    /// # Range
    /// `depth` from 1 to 48, where leaves are as narrow as rounding.
    ///
    /// # Errors
    /// A depth out of range.
    pub fn with_depth(self, depth: u32) -> Result<Self> {
        if (1..=48).contains(&depth) {
            return Ok(BrownianNoise { depth, last: None, ..self });
        }
        let (what, expected) = ("depth of a Brownian tree".into(), "a number from 1 to 48".into());
        Err(Error::Value { what, expected, got: depth.to_string() })
    }

    /// Standard normal values that belong to one node of the tree.
    fn draw(&self, node: [u64; 2], rows: usize, each: usize) -> Vec<f32> {
        // "tree": apart from the streams of `normal` and `uniform`.
        let seed = derive_seed(self.seed, &[0x74_72_65_65, node[0], node[1]]);
        let mut values = vec![0f32; rows * each];
        if each > 0 {
            for (k, out) in values.chunks_mut(each).enumerate() {
                let mut row = ChaCha8Rng::seed_from_u64(seed);
                row.set_stream(self.first_sample.wrapping_add(k as u64));
                fill_normal(&mut row, out);
            }
        }
        values
    }

    /// Values that belong to one time: no node of the tree is at level 64.
    fn draw_at(&self, time: f64, rows: usize, each: usize) -> Vec<f32> {
        self.draw([64, time.to_bits()], rows, each)
    }

    /// The path at a finite time.
    fn place(&self, time: f64, rows: usize, each: usize) -> Place {
        let (lowest, highest) = ((-REACH).exp2(), REACH.exp2());
        let step = |values: &[f64], by: f64, node: [u64; 2]| -> Vec<f64> {
            let units = self.draw(node, rows, each);
            values.iter().zip(units).map(|(v, unit)| v + by.sqrt() * f64::from(unit)).collect()
        };
        let origin = vec![0.0; rows * each];
        let first = step(&origin, lowest, [62, 0]);
        let (leaf, low, high) = if time < lowest {
            (Leaf { low: 0.0, high: lowest }, origin, first)
        } else {
            let last = step(&first, highest - lowest, [63, 0]);
            if time < highest {
                self.descend(time, [first, last], each)
            } else {
                (Leaf { low: highest, high: f64::INFINITY }, last, Vec::new())
            }
        };
        let unit = self.draw_at(time, rows, each);
        let values = bridge(leaf, time, &low, &high, &unit);
        Place { time, leaf, rows, values }
    }

    /// The leaf of a time, and the path at its two ends.
    fn descend(&self, time: f64, ends: [Vec<f64>; 2], each: usize) -> (Leaf, Vec<f64>, Vec<f64>) {
        let rows = if each > 0 { ends[0].len() / each } else { 0 };
        let [mut low, mut high] = ends;
        let mut index = 0u64;
        // Exact for every node, so that a point has one time on all levels that touch it.
        let at = |level: u32, index: u64| {
            (2.0 * REACH * index as f64 / f64::from(level).exp2() - REACH).exp2()
        };
        let mut leaf = Leaf { low: at(0, 0), high: at(0, 1) };
        for level in 0..self.depth {
            let middle = at(level + 1, 2 * index + 1);
            let unit = self.draw([u64::from(level), index], rows, each);
            let values = bridge(leaf, middle, &low, &high, &unit);
            if time < middle {
                (leaf.high, high, index) = (middle, values, 2 * index);
            } else {
                (leaf.low, low, index) = (middle, values, 2 * index + 1);
            }
        }
        (leaf, low, high)
    }
}

/// The path at a time within a stretch whose ends are known; `high` may be empty where the stretch
/// never ends.
fn bridge(leaf: Leaf, time: f64, low: &[f64], high: &[f64], unit: &[f32]) -> Vec<f64> {
    let (share, spread) = (leaf.share(time), leaf.bridge_variance(time).sqrt());
    let point = |(i, (low, unit)): (usize, (&f64, &f32))| {
        let slope = high.get(i).map_or(0.0, |high| share * (high - low));
        low + slope + spread * f64::from(*unit)
    };
    low.iter().zip(unit).enumerate().map(point).collect()
}

/// The variance of the difference of two places, as they are drawn.
fn variance_between(a: &Place, b: &Place) -> f64 {
    let apart = (b.time - a.time).abs();
    if a.leaf != b.leaf {
        return apart;
    }
    let bridges = a.leaf.bridge_variance(a.time) + a.leaf.bridge_variance(b.time);
    if a.leaf.high.is_finite() {
        apart * apart / (a.leaf.high - a.leaf.low) + bridges
    } else {
        bridges
    }
}

impl Noise for BrownianNoise {
    fn normal(&mut self, like: &Tensor) -> Tensor {
        self.plain.normal(like)
    }

    fn uniform(&mut self, like: &Tensor) -> Tensor {
        self.plain.uniform(like)
    }

    fn between(&mut self, from_snr: f64, to_snr: f64, like: &Tensor) -> Tensor {
        let shape = like.size();
        let (rows, each) = match shape.split_first() {
            Some((b, rest)) => (*b as usize, rest.iter().product::<i64>() as usize),
            None => (1, 1),
        };
        let (from, to) = (from_snr.max(0.0), to_snr.max(0.0));
        let values = if from == to || from.is_infinite() || to.is_infinite() {
            let time = if from.is_infinite() { from } else { to };
            self.draw_at(time, rows, each).into_iter().map(f64::from).collect()
        } else {
            let fits = |p: &Place| (p.time, p.rows, p.values.len()) == (from, rows, rows * each);
            let kept = self.last.take().filter(fits);
            let start = kept.unwrap_or_else(|| self.place(from, rows, each));
            let end = self.place(to, rows, each);
            let scale = variance_between(&start, &end).sqrt().recip();
            let pairs = start.values.iter().zip(&end.values);
            let values: Vec<f64> = pairs.map(|(a, b)| (b - a) * scale).collect();
            self.last = Some(end);
            values
        };
        let host = Tensor::from_slice(&values).view(shape.as_slice());
        host.to_kind(like.kind()).to_device(like.device())
    }
}
