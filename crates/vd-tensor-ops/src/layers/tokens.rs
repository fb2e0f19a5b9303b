//! Attention over the tokens of a text, each with a weight.

use tch::{Kind, Tensor};

use super::indices::look_up;
use super::masked::attention;
use crate::kernels::cuda;

/// Which tokens an attention sees.
#[derive(Debug, Clone, Copy)]
pub(super) struct Seen<'a> {
    /// Weight of each token: b l, or b f l.
    pub(super) weight: &'a Tensor,
    /// Which of several texts each frame attends to, if keys and values have an axis of texts: b f,
    /// with `weight` b f l.
    pub(super) group: Option<&'a Tensor>,
}

impl Seen<'_> {
    /// # Panics
    /// Weights or a group that do not go with keys of shape b n l d, or b g n l d.
    fn check(self, keys: &Tensor) {
        let (size, weight) = (keys.size(), self.weight.size());
        let (b, l) = (size[0], size[size.len() - 2]);
        let fits = match (self.group.map(Tensor::size), weight.as_slice()) {
            (None, &[wb, wl]) | (None, &[wb, _, wl]) => size.len() == 4 && [wb, wl] == [b, l],
            (Some(group), &[wb, f, wl]) => size.len() == 5 && [wb, wl] == [b, l] && group == [b, f],
            _ => false,
        };
        assert!(
            fits,
            "the weights of tokens: expected shape [{b}, {l}] or [{b}, f, {l}], and a group of shape \
             [{b}, f] where tokens have one, got {weight:?} and {:?}",
            self.group.map(Tensor::size)
        );
    }
}

/// softmax(q k^T scale + log weight) v: a token of weight 2 counts as two of them, one of weight 0
/// is not there, and a query for which no token is there gets 0.
///
/// # Shapes
/// `q`: b n (f s) d; `k`, `v`: b n l d; `weight`: b l, or b f l with s queries for each frame -> b
/// n (f s) d. With a group `k` and `v` are b g n l d.
pub(super) fn attend(q: &Tensor, kv: [&Tensor; 2], seen: Seen<'_>, scale: f64) -> Tensor {
    seen.check(kv[0]);
    let Some(group) = seen.group else { return shared(q, kv, seen.weight, scale) };
    // Every frame becomes a sample of its own and attends to its own text only, at the cost of one.
    let (b, f) = (group.size()[0], group.size()[1]);
    let [k, v] = kv.map(|t| rows_of(t, group).flatten(0, 1)); // (b f) n l d
    let q = q.unflatten(2, [f, -1]).transpose(1, 2).flatten(0, 1); // (b f) n s d
    let out = shared(&q, [&k, &v], &seen.weight.flatten(0, 1), scale);
    out.unflatten(0, [b, f]).transpose(1, 2).flatten(2, 3) // b n (f s) d
}

/// The row of each frame: b g ... and b f -> b f ...
fn rows_of(x: &Tensor, group: &Tensor) -> Tensor {
    let (b, g) = (x.size()[0], x.size()[1]);
    let first = Tensor::arange(b, (Kind::Int64, group.device())).unsqueeze(1) * g;
    let index = (group.to_kind(Kind::Int64) + first).flatten(0, 1); // (b f)
    look_up(&x.flatten(0, 1), &index).unflatten(0, group.size())
}

/// [`attend`] where all frames of a sample share one text.
fn shared(q: &Tensor, kv: [&Tensor; 2], weight: &Tensor, scale: f64) -> Tensor {
    let queries = q.size()[2];
    let weight = match weight.dim() {
        3 => {
            let (f, l) = (weight.size()[1], weight.size()[2]);
            let each = weight.unsqueeze(2).expand([-1, f, queries / f.max(1), l], false);
            each.flatten(1, 2).unsqueeze(1) // b 1 (f s) l
        }
        _ => weight.unsqueeze(1).unsqueeze(1), // b 1 1 l
    };
    if weight.size()[3] == 0 {
        return q.zeros_like();
    }
    let absent = weight.le(0.0);
    let none = absent.all_dim(-1, true); // b 1 (f s or 1) 1
    // The logarithm is never taken of 0, so its gradient stays finite. Queries without any token
    // keep all scores, since not every kernel handles a softmax over nothing; their result is set
    // to 0.
    let wide = if q.kind() == Kind::Double { Kind::Double } else { Kind::Float };
    let score = weight.to_kind(wide).masked_fill(&absent, 1.0).log();
    let hidden = absent.logical_and(&none.logical_not());
    // On a GPU the values of a sample without tokens are zeroed instead of all its results.
    let (whole, none) = if weight.size()[2] == 1 && cuda::may_run(q) {
        (Some(kv[1].masked_fill(&none, 0.0)), None)
    } else {
        (None, Some(none))
    };
    let score = score.masked_fill(&hidden, f64::NEG_INFINITY).to_kind(q.kind());
    let out = attention(q, [kv[0], whole.as_ref().unwrap_or(kv[1])], Some(&score), scale);
    none.map_or(out.shallow_clone(), |none| out.masked_fill(&none, 0.0))
}
