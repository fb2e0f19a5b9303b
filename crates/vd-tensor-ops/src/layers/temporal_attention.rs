//! Attention along time, for each position separately.

use std::sync::Arc;

use tch::Tensor;

use super::masked::attention;
use super::norm::softmax;
use super::relative::{self, RelativeVectors};
use super::{HeadShape, LayerNorm, Linear, Memory, Rotary};
use crate::kernels::cpu::{self, Frames, Isa, TemporalCache, TemporalWeights};
use crate::kernels::cuda;
use crate::kernels::{self, check};
use crate::{Result, Scope};

/// Attention along time: each position of the frame attends over frames.
///
/// Time is encoded either by rotary positions in queries and keys, with an optional bias on the
/// scores ([`TemporalAttention::new`]), or by vectors for the distance of each pair
/// ([`TemporalAttention::shaw`]). Projections have no bias.
///
/// # Reference
/// Ho et al. 2022, section 3, arXiv:2204.03458.
#[derive(Debug)]
pub struct TemporalAttention {
    shape: HeadShape,
    places: Places,
    to_qkv: Linear,
    to_out: Linear,
    packed: Arc<TemporalCache>,
}

/// How an attention encodes the time of a frame.
#[derive(Debug)]
enum Places {
    Rotary(Rotary),
    Relative(RelativeVectors),
}

impl Places {
    /// The vectors, where there are any.
    fn learned(&self) -> impl Iterator<Item = &Tensor> {
        let tables = match self {
            Places::Rotary(_) => None,
            Places::Relative(vectors) => Some(vectors.tables()),
        };
        tables.into_iter().flatten()
    }
}

impl TemporalAttention {
    /// `to_qkv.weight`, `to_out.weight`, `rotary_emb.freqs` over min(32, d) features of a head.
    ///
    /// # Errors
    /// An odd head width below 32; names that are taken.
    pub fn new(scope: &mut Scope, channels: i64, shape: HeadShape) -> Result<Self> {
        let rotary = Rotary::new(&mut scope.sub("rotary_emb"), shape.dim.min(32))?;
        Self::with(scope, channels, shape, Places::Rotary(rotary))
    }

    /// `to_qkv.weight`, `to_out.weight`, and learned vectors for each distance between key and
    /// query up to `distance` frames in both directions: one is added to the key
    /// (`rel_keys.weight`, (2 distance + 1) d), another to the value (`rel_values.weight`).
    ///
    /// Heads share them, and larger distances use the vectors of `distance`. Both start normal with
    /// a standard deviation of 0.02. No feature is rotated.
    ///
    /// # Range
    /// `distance`: 1 or more
    /// # Errors
    /// A distance out of range; names that are taken.
    /// # Reference
    /// Shaw, Uszkoreit & Vaswani 2018, equations 3 to 5, arXiv:1803.02155.
    pub fn shaw(scope: &mut Scope, channels: i64, shape: HeadShape, distance: i64) -> Result<Self> {
        let vectors = RelativeVectors::new(scope, shape.dim, distance)?;
        Self::with(scope, channels, shape, Places::Relative(vectors))
    }

    fn with(scope: &mut Scope, channels: i64, shape: HeadShape, places: Places) -> Result<Self> {
        Ok(TemporalAttention {
            shape,
            places,
            to_qkv: Linear::without_bias(&mut scope.sub("to_qkv"), channels, 3 * shape.inner())?,
            to_out: Linear::without_bias(&mut scope.sub("to_out"), shape.inner(), channels)?,
            packed: Arc::default(),
        })
    }

    /// x + attention(norm(x)), in one pass if a kernel applies.
    ///
    /// # Shapes
    /// As [`TemporalAttention::forward`]
    ///
    /// # Panics
    /// As [`TemporalAttention::forward`].
    pub fn residual(
        &self,
        norm: &LayerNorm,
        x: &Tensor,
        bias: Option<&Tensor>,
        forbidden: Option<&Tensor>,
    ) -> Tensor {
        self.check(x, bias, forbidden);
        let (gamma, to_qkv, to_out) = (norm.gamma(), self.to_qkv.weight(), self.to_out.weight());
        let all = [x, gamma, to_qkv, to_out];
        let isa = Isa::current();
        let fits = all.into_iter().chain(bias).chain(self.places.learned()).all(kernels::on_cpu)
            && cpu::temporal_fits(isa, x.size()[4], self.shape)
            && x.numel() > 0;
        if !fits {
            let (inner, around) = norm.branch(x);
            return around.plus(&self.forward(&inner, bias, forbidden));
        }
        let (f, mut vectors) = (x.size()[1], None);
        let turns = &match &self.places {
            Places::Rotary(rotary) => rotary.turns(f),
            Places::Relative(relative) => {
                vectors = Some(relative.of_distances(f));
                relative::no_turns(f, x)
            }
        };
        let distances = vectors.as_ref().map(|vectors| vectors.each_ref());
        let (shape, cache) = (self.shape, &self.packed);
        let weights = TemporalWeights { gamma, to_qkv, to_out, shape, cache };
        cpu::temporal(isa, x, &weights, &Frames { turns, bias, distances, forbidden })
    }

    /// `bias` is added to the scores; `forbidden` masks pairs of frames: the query then ignores key
    /// and value, and the vectors of their distance.
    ///
    /// # Shapes
    /// `x`: b f h w c -> the same; `bias`: n f f; `forbidden`: bool, (b or 1) 1 1 f f
    ///
    /// # Panics
    /// Other shapes; dtypes or devices that do not go together.
    pub fn forward(&self, x: &Tensor, bias: Option<&Tensor>, forbidden: Option<&Tensor>) -> Tensor {
        self.forward_with(x, bias, forbidden, None)
    }

    /// # Panics
    /// Shapes that do not go with the layer.
    fn check(&self, x: &Tensor, bias: Option<&Tensor>, forbidden: Option<&Tensor>) {
        let c = self.to_qkv.weight().size()[1];
        let [b, f, ..] = check::channels("the input of an attention along time", x, c);
        if let Some(bias) = bias {
            check::shape("the bias of an attention along time", bias, &[self.shape.heads, f, f]);
        }
        if let Some(forbidden) = forbidden {
            check::marks("the forbidden pairs of an attention along time", forbidden, (b, f));
        }
    }

    /// The same with keys and values beside those of the frames, which `bias`, `forbidden` and
    /// positions leave alone: a frame sees them as it would at any other place in the clip.
    ///
    /// # Shapes
    /// As [`TemporalAttention::forward`]
    ///
    /// # Panics
    /// As [`TemporalAttention::forward`].
    pub fn forward_with(
        &self,
        x: &Tensor,
        bias: Option<&Tensor>,
        forbidden: Option<&Tensor>,
        memory: Option<&Memory>,
    ) -> Tensor {
        self.check(x, bias, forbidden);
        let (size, f) = (x.size(), x.size()[1]);
        let qkv = self.to_qkv.forward(&x.flatten(2, 3)); // b f s (3 n d)
        if memory.is_none()
            && let Some(out) = self.on_gpu(&qkv, bias, forbidden)
        {
            return self.to_out.forward(&out).view(size.as_slice());
        }
        let inner = self.shape.inner();
        let frames_inside = |t: Tensor| self.shape.heads(&t).permute([0, 2, 3, 1, 4]); // b s n f d
        let [q, k] = self.placed(&qkv.narrow(3, 0, 2 * inner), f).map(frames_inside);
        let v = frames_inside(qkv.narrow(3, 2 * inner, inner));

        let vectors = match &self.places {
            Places::Rotary(_) => None,
            Places::Relative(vectors) => Some(vectors.of_pairs(f)),
        };
        let mut scores = q.matmul(&k.transpose(-2, -1)); // b s n f f
        if let Some([keys, _]) = &vectors {
            scores += relative::scores(&q, keys);
        }
        if let Some(bias) = bias {
            scores += bias;
        }
        if let Some(forbidden) = forbidden {
            scores = scores.masked_fill(forbidden, f64::NEG_INFINITY);
        }
        let recalled = memory.map(|memory| {
            let [keys, values] = memory.of_frames(f).map(|t| t.transpose(2, 3)); // b f n m d
            // Queries before rotation: the angle encodes a time, and these keys have none.
            let still = self.shape.heads(&qkv.narrow(3, 0, inner)).transpose(2, 3); // b f n s d
            ((still * self.shape.scale()).matmul(&keys.transpose(-2, -1)), values) // b f n s m
        });
        let m = recalled.as_ref().map_or(0, |(_, values)| values.size()[3]);
        if let Some((recalled, _)) = &recalled {
            scores = Tensor::cat(&[&recalled.permute([0, 3, 2, 1, 4]), &scores], -1); // .. f m+f
        }
        let weights = softmax(&scores, -1);
        let own = if m == 0 { weights.shallow_clone() } else { weights.narrow(-1, m, f) };
        let out = own.matmul(&v).permute([0, 3, 1, 2, 4]); // b f s n d
        let out = match &vectors {
            Some([_, values]) => out + relative::mixed(&own, values),
            None => out,
        };
        let out = match &recalled {
            Some((_, values)) => {
                let weights = weights.narrow(-1, 0, m).permute([0, 3, 2, 1, 4]); // b f n s m
                out + weights.matmul(values).transpose(2, 3)
            }
            None => out,
        };
        self.to_out.forward(&out.flatten(3, 4)).view(size.as_slice())
    }

    /// Everything between the two projections, by a GPU kernel or, where it does not apply, by
    /// libtorch's attention, sample by sample.
    ///
    /// # Shapes
    /// b f s (3 n d) -> b f s (n d)
    fn on_gpu(
        &self,
        qkv: &Tensor,
        bias: Option<&Tensor>,
        forbidden: Option<&Tensor>,
    ) -> Option<Tensor> {
        let Places::Rotary(rotary) = &self.places else { return None };
        if !cuda::may_run(qkv) {
            return None;
        }
        let turns = &rotary.turns(qkv.size()[1]);
        let of = cuda::Temporal { turns, bias, forbidden };
        match cuda::temporal_fits(qkv, self.shape, &of) {
            Some(on) => Some(cuda::temporal(&on, qkv, self.shape, &of)),
            None => Some(self.by_samples(qkv, bias, forbidden)),
        }
    }

    /// Sample by sample, since the positions of one sample form a batch without a copy, while those
    /// of several samples do not.
    ///
    /// # Shapes
    /// b f s (3 n d) -> b f s (n d)
    fn by_samples(
        &self,
        qkv: &Tensor,
        bias: Option<&Tensor>,
        forbidden: Option<&Tensor>,
    ) -> Tensor {
        let (b, f, inner) = (qkv.size()[0], qkv.size()[1], self.shape.inner());
        let inside = |t: Tensor| self.shape.heads(&t).permute([0, 2, 3, 1, 4]); // b s n f d
        let [q, k] = self.placed(&qkv.narrow(3, 0, 2 * inner), f).map(inside);
        let v = inside(qkv.narrow(3, 2 * inner, inner));
        let bias = bias.map(|bias| bias.unsqueeze(0).to_kind(q.kind())); // 1 n f f
        let mask = forbidden.map(|marks| {
            let zeros = Tensor::zeros(marks.size(), (q.kind(), q.device()));
            zeros.masked_fill(marks, f64::NEG_INFINITY).squeeze_dim(1) // (b or 1) 1 f f
        });
        let of_sample = |i: i64| {
            let mask = mask
                .as_ref()
                .map(|t| if t.size()[0] == 1 { t.shallow_clone() } else { t.narrow(0, i, 1) });
            let mask = match (&bias, mask) {
                (Some(bias), Some(mask)) => Some(bias + mask),
                (bias, mask) => mask.or_else(|| bias.as_ref().map(Tensor::shallow_clone)),
            };
            let [q, k, v] = [&q, &k, &v].map(|t| t.select(0, i));
            let out = attention(&q, [&k, &v], mask.as_ref(), 1.0);
            out.permute([2, 0, 1, 3]) // f s n d
        };
        let samples: Vec<Tensor> = (0..b).map(of_sample).collect();
        Tensor::stack(&samples, 0).flatten(3, 4)
    }

    /// Scaled queries, and keys, rotated if positions are rotary.
    ///
    /// # Shapes
    /// b f s (2 n d) -> b f s (n d) each
    fn placed(&self, qk: &Tensor, f: i64) -> [Tensor; 2] {
        let (inner, scale) = (self.shape.inner(), self.shape.scale());
        let halves = |qk: &Tensor| [0, inner].map(|first| qk.narrow(3, first, inner));
        match &self.places {
            Places::Rotary(rotary) => {
                // One pass rotates queries and keys and scales the queries.
                let rotations = [scale, 1.0].map(|gain| rotary.rotations(f, self.shape, gain));
                halves(&rotary.rotate(qk, self.shape, &Tensor::cat(&rotations, 2)))
            }
            Places::Relative(_) => {
                let [q, k] = halves(qk);
                [q * scale, k]
            }
        }
    }
}
