//! Attention of libtorch's, with a mask or without.

use tch::Tensor;
use vd_torch::{grad_enabled, without_cudnn_attention};

/// softmax(q k^T scale + mask) v.
///
/// On GPUs of capability 9 and 10 libtorch prefers cuDNN's attention in half precision, whose gradients
/// may be NaN where the mask requires none (pytorch#196678). It is excluded there.
///
/// # Shapes
/// `q`: ... n d; `k`, `v`: ... m d; `mask`: one that broadcasts to ... n m -> as `q`
pub(super) fn attention(
    q: &Tensor,
    [k, v]: [&Tensor; 2],
    mask: Option<&Tensor>,
    scale: f64,
) -> Tensor {
    let run = || Tensor::scaled_dot_product_attention(q, k, v, mask, 0.0, false, scale, false);
    let fixed = mask.is_some_and(|mask| !mask.requires_grad());
    if q.device().is_cuda() && grad_enabled() && fixed {
        return without_cudnn_attention(run);
    }
    run()
}
