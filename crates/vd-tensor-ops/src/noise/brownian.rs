//! One Brownian path per sample, recomputed on demand.

use std::sync::Arc;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use tch::Tensor;

use super::bridge::{Leaf, Place, bridge, variance_between};
use super::ziggurat::fill_normal;
use super::{Noise, SeededNoise, derive_seed, there};
use crate::{Error, Result};

/// The tree spans clock times from 2^-REACH to 2^REACH.
const REACH: f64 = 64.0;

/// Noise whose [`between`](Noise::between) follows one Brownian path per sample.
///
/// Runs with 50 and with 100 steps see the same path, the second in more detail: the noise of the
/// halves of an interval sums to that of the whole, whatever the order of the queries. The path is
/// a virtual tree: times of the clock (the SNR) from 2^-64 to 2^64 are bisected `depth` times on a
/// logarithmic scale, each midpoint drawn, from a seed of its own, as a Brownian bridge between its
/// ends; within the last bisection a time has a bridge drawn from its own bits. Only the tree path
/// to the most recent time is kept, so memory is at most `depth` + 6 tensors (f64, on the host),
/// whatever the number of steps.
///
/// For times in different leaves of the tree the path's law is exactly the Brownian one, and sums
/// are exact up to rounding. An interval within one leaf (narrower than 89 / 2^depth in log-SNR;
/// 5.4e-3 at the default) has unit variance as well, but its parts are correlated only through the
/// leaf's ends, and no longer sum to the whole.
///
/// Each descent of the noise level follows one path: [`new_path`](Noise::new_path) switches to the
/// next, which every sampling run calls when it begins and after each rise. Runs that are to share
/// their path, at whatever number of steps, each take their own object with the same seed; a second
/// run on one object follows a new path.
///
/// `normal` and `uniform` are those of [`SeededNoise`] with the same seed and samples. An interval
/// to an infinite SNR has independent noise.
///
/// # Reference
/// Li et al. 2020, section 4, arXiv:2001.01328.
#[derive(Debug, Clone)]
pub struct BrownianNoise {
    seed: u64,
    first_sample: u64,
    depth: u32,
    /// Number of the current path, from 0.
    path: u64,
    plain: SeededNoise,
    /// Number of samples, and of values in each, of what is kept.
    shape: (usize, usize),
    /// From the root to the leaf of the latest query.
    way: Vec<Node>,
    /// The place of the latest query: the end of an interval is the start of the next one.
    last: Option<Place>,
    /// Unused buffers: allocating fresh memory of this size costs more than writing to it.
    spare: Vec<Vec<f64>>,
    unit: Vec<f32>,
}

/// A node of the tree, with the path at its ends.
#[derive(Debug, Clone)]
struct Node {
    level: u32,
    index: u64,
    leaf: Leaf,
    low: Arc<Vec<f64>>,
    high: Arc<Vec<f64>>,
}

impl BrownianNoise {
    /// The default depth of the tree.
    pub const DEPTH: u32 = 14;

    /// Row k of the noise belongs to sample `first_sample + k`.
    pub fn new(seed: u64, first_sample: u64) -> Self {
        BrownianNoise {
            seed,
            first_sample,
            depth: Self::DEPTH,
            path: 0,
            plain: SeededNoise::new(seed, first_sample),
            shape: (0, 0),
            way: Vec::new(),
            last: None,
            spare: Vec::new(),
            unit: Vec::new(),
        }
    }

    /// The same with another depth: the fine details of the path differ, and each interval takes at
    /// most `depth` + 3 draws.
    ///
    /// # Range
    /// `depth` from 1 to 48, at which leaves are as narrow as rounding.
    ///
    /// # Errors
    /// A depth out of range.
    pub fn with_depth(self, depth: u32) -> Result<Self> {
        if (1..=48).contains(&depth) {
            return Ok(BrownianNoise { depth, way: Vec::new(), last: None, ..self });
        }
        let (what, expected) = ("depth of a Brownian tree".into(), "a number from 1 to 48".into());
        Err(Error::Value { what, expected, got: depth.to_string() })
    }

    /// Standard normal values of one node of the tree, drawn into the buffer for them.
    fn draw(&mut self, node: [u64; 2]) {
        let (rows, each) = self.shape;
        // "tree": separate from the streams of `normal` and `uniform`.
        let seed = derive_seed(self.seed, &[0x74_72_65_65, self.path, node[0], node[1]]);
        self.unit.resize(rows * each, 0.0);
        if each > 0 {
            for (k, out) in self.unit.chunks_mut(each).enumerate() {
                let mut row = ChaCha8Rng::seed_from_u64(seed);
                row.set_stream(self.first_sample.wrapping_add(k as u64));
                fill_normal(&mut row, out);
            }
        }
    }

    /// Values of one time: no node of the tree is at level 64.
    fn draw_at(&mut self, time: f64) {
        self.draw([64, time.to_bits()]);
    }

    /// An empty buffer.
    fn buffer(&mut self) -> Vec<f64> {
        let mut buffer = self.spare.pop().unwrap_or_default();
        buffer.clear();
        buffer
    }

    /// Recycles the buffers of a node that no other node shares.
    fn recycle(&mut self, node: Node) {
        self.spare.extend([node.low, node.high].into_iter().filter_map(Arc::into_inner));
    }

    /// Drops the state of the current path.
    fn forget(&mut self) {
        self.way.clear();
        self.last = None;
        self.spare.clear();
    }

    /// The path at a finite time.
    fn place(&mut self, time: f64) -> Place {
        let (lowest, highest) = ((-REACH).exp2(), REACH.exp2());
        let (leaf, low, high) = if time < lowest {
            let high = self.root().low;
            (Leaf { low: 0.0, high: lowest }, Arc::new(vec![0.0; high.len()]), high)
        } else if time < highest {
            let node = self.descend(time);
            (node.leaf, node.low, node.high)
        } else {
            let leaf = Leaf { low: highest, high: f64::INFINITY };
            (leaf, self.root().high, Arc::default())
        };
        self.draw_at(time);
        let out = self.buffer();
        let values = bridge(leaf, time, [&low, &high], &self.unit, out);
        Place { time, leaf, values }
    }

    fn root(&mut self) -> Node {
        let leaf = Leaf { low: (-REACH).exp2(), high: REACH.exp2() };
        let mut step = |by: f64, node: [u64; 2]| -> Vec<f64> {
            self.draw(node);
            self.unit.iter().map(|unit| by.sqrt() * f64::from(*unit)).collect()
        };
        let low = step(leaf.low, [62, 0]);
        let rise = step(leaf.high - leaf.low, [63, 0]);
        let high = low.iter().zip(rise).map(|(low, rise)| low + rise).collect();
        Node { level: 0, index: 0, leaf, low: Arc::new(low), high: Arc::new(high) }
    }

    /// The leaf of a time, reached from its deepest common ancestor with the previous one.
    fn descend(&mut self, time: f64) -> Node {
        let is_off = |node: &mut Node| !(node.leaf.low..node.leaf.high).contains(&time);
        while let Some(node) = self.way.pop_if(is_off) {
            self.recycle(node);
        }
        let mut node = match self.way.last() {
            Some(node) => node.clone(),
            None => {
                let root = self.root();
                self.way.push(root.clone());
                root
            }
        };
        while node.level < self.depth {
            node = self.child(&node, time);
            self.way.push(node.clone());
        }
        node
    }

    /// The half of a node that contains a time.
    fn child(&mut self, node: &Node, time: f64) -> Node {
        let level = node.level + 1;
        // Exact in binary, so that a point has one time on all levels that touch it.
        let share = (2 * node.index + 1) as f64 / f64::from(level).exp2();
        let middle = (2.0 * REACH * share - REACH).exp2();
        self.draw([u64::from(node.level), node.index]);
        let (ends, out) = ([&node.low[..], &node.high], self.buffer());
        let values = Arc::new(bridge(node.leaf, middle, ends, &self.unit, out));
        let Leaf { low, high } = node.leaf;
        if time < middle {
            let leaf = Leaf { low, high: middle };
            Node { level, index: 2 * node.index, leaf, low: node.low.clone(), high: values }
        } else {
            let leaf = Leaf { low: middle, high };
            Node { level, index: 2 * node.index + 1, leaf, low: values, high: node.high.clone() }
        }
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
        let rows_and_each = match shape.split_first() {
            Some((b, rest)) => (*b as usize, rest.iter().product::<i64>() as usize),
            None => (1, 1),
        };
        if self.shape != rows_and_each {
            self.shape = rows_and_each;
            self.forget();
        }
        let (from, to) = (from_snr.max(0.0), to_snr.max(0.0));
        let mut values = self.buffer();
        if from == to || from.is_infinite() || to.is_infinite() {
            self.draw_at(if from.is_infinite() { from } else { to });
            values.extend(self.unit.iter().map(|unit| f64::from(*unit)));
        } else {
            let kept = self.last.take().filter(|place| place.time == from);
            let start = kept.unwrap_or_else(|| self.place(from));
            let end = self.place(to);
            let scale = variance_between(&start, &end).sqrt().recip();
            let pairs = start.values.iter().zip(&end.values);
            values.extend(pairs.map(|(a, b)| (b - a) * scale));
            self.spare.push(start.values);
            self.last = Some(end);
        }
        let host = Tensor::from_slice(&values).view(shape.as_slice());
        self.spare.push(values);
        there(&host.to_kind(like.kind()), like.device())
    }

    fn new_path(&mut self) {
        self.path = self.path.wrapping_add(1);
        self.forget();
    }
}
