//! Attention over the tokens of a text, each of which counts by a weight.

use tch::{Kind, Tensor};

/// softmax(q k^T scale + log weight) v: a token of weight 2 counts as two of them, one of weight 0
/// is not there, and a query for which no token is there gets 0.
///
/// # Shapes
/// `q`: b n (f s) d; `k`, `v`: b n l d; `weight`: b l, or b f l with s queries for each frame ->
/// b n (f s) d
pub(super) fn attend(q: &Tensor, kv: [&Tensor; 2], weight: &Tensor, scale: f64) -> Tensor {
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
    // The logarithm never sees a 0, so that its slope stays finite. Where no token is there, all
    // scores stay, for not every kernel survives a softmax of nothing, and the result is set to 0.
    let wide = if q.kind() == Kind::Double { Kind::Double } else { Kind::Float };
    let score = weight.to_kind(wide).masked_fill(&absent, 1.0).log();
    let hidden = absent.logical_and(&none.logical_not());
    let score = score.masked_fill(&hidden, f64::NEG_INFINITY).to_kind(q.kind());
    let out = Tensor::scaled_dot_product_attention(
        q,
        kv[0],
        kv[1],
        Some(&score),
        0.0,
        false,
        scale,
        false,
    );
    out.masked_fill(&none, 0.0)
}
