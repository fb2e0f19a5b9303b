//! Weights in the dtype and the layout that the products of a GPU take.

use std::sync::{Mutex, PoisonError};

use tch::{Kind, Tensor};
use vd_torch::{BoxError, Function, autocast_kind, graphs};

use crate::kernels::cpu::{Version, keeps, none, one, version};
use crate::kernels::{cuda, needs_grad};

/// How a weight lies in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Layout {
    /// As it is stored.
    Stored,
    /// o h w i, as convolutions over channels-last images read it.
    ChannelsLast,
}

/// A weight as the products of a GPU take it: in the dtype of autocast and in the layout of the
/// convolution, in one copy. Without gradients it is kept until the weight changes; a pass with them
/// makes it once, and its gradient comes back in one copy too. A recorded pass makes it at each replay.
#[derive(Debug, Default)]
pub(super) struct Cast {
    held: Mutex<Option<(Version, Kind, Tensor)>>,
}

impl Cast {
    /// The weight itself where nothing is to be changed: on a CPU, and for libtorch's roads.
    ///
    /// # Shapes
    /// as `weight`, which is o i h w for channels-last
    pub(super) fn of(&self, weight: &Tensor, layout: Layout) -> Tensor {
        if !cuda::may_run(weight) {
            return weight.shallow_clone();
        }
        let kind = autocast_kind(weight.device()).unwrap_or(weight.kind());
        if kind == weight.kind() && layout == Layout::Stored {
            return weight.shallow_clone();
        }
        if graphs::recording() && !needs_grad(&[weight]) {
            return made(weight, kind, layout);
        }
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if needs_grad(&[weight]) {
            *held = None;
            return one(&[weight], |_| (made(weight, kind, layout), Back(weight.kind())));
        }
        let of = version(weight);
        if let Some((_, _, kept)) = held.as_ref().filter(|(v, k, _)| (*v, *k) == (of, kind)) {
            return kept.shallow_clone();
        }
        let made = made(weight, kind, layout);
        *held = keeps().then(|| (of, kind, made.shallow_clone()));
        made
    }
}

fn made(weight: &Tensor, kind: Kind, layout: Layout) -> Tensor {
    let (weight, size) = (weight.detach(), weight.size());
    let mut out = match (layout, size.as_slice()) {
        (Layout::ChannelsLast, &[_, i, h, w]) => {
            let stride = [h * w * i, 1, w * i, i];
            Tensor::empty_strided(size.as_slice(), stride, (kind, weight.device()))
        }
        _ => Tensor::empty(size.as_slice(), (kind, weight.device())),
    };
    out.copy_(&weight);
    out
}

/// The gradient in the dtype and the layout of the weight.
#[derive(Debug)]
struct Back(Kind);

impl Function for Back {
    fn backward(
        &self,
        _saved: &[Tensor],
        grads: &[Option<Tensor>],
        needs: &[bool],
    ) -> Result<Vec<Option<Tensor>>, BoxError> {
        let Some(Some(grad)) = grads.first() else { return Ok(none(needs.len())) };
        let mut out = Tensor::empty(grad.size(), (self.0, grad.device()));
        out.copy_(grad);
        Ok(vec![Some(out)])
    }

    fn name(&self) -> &'static str {
        "a weight in the dtype of products"
    }
}
