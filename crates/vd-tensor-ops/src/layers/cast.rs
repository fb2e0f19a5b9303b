//! Weights in the dtype and layout that matrix products and convolutions on a GPU read.

use tch::{Kind, Tensor};
use vd_torch::graphs::{Form, Kept};
use vd_torch::{BoxError, Function, autocast_kind};

use crate::kernels::cpu::{keeps, none, one};
use crate::kernels::{cuda, needs_grad};

/// Memory layout of a weight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Layout {
    /// As it is stored.
    Stored,
    /// o h w i, as convolutions over channels-last images read it.
    ChannelsLast,
}

/// A weight as a GPU's matrix products and convolutions read it: in the dtype of autocast and, for
/// a convolution, in its layout, both made in one copy. Without gradients it is cached until the
/// weight changes, also for recordings; a pass with gradients makes it once, recorded or not, and
/// its gradient takes one copy too.
#[derive(Debug, Default)]
pub(super) struct Cast {
    kept: Kept<Wanted>,
}

impl Cast {
    /// The cast weight, or the weight itself if nothing needs to change: on a CPU, and for libtorch
    /// fallbacks.
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
        let wanted = Wanted { kind, layout };
        if needs_grad(&[weight]) {
            self.kept.forget();
            return one(&[weight], |_| (wanted.made(weight), Back(weight.kind())));
        }
        self.kept.get(wanted, weight, keeps())
    }
}

#[derive(Debug, PartialEq, Eq)]
struct Wanted {
    kind: Kind,
    layout: Layout,
}

impl Form for Wanted {
    fn room(&self, of: &Tensor) -> Tensor {
        let (size, options) = (of.size(), (self.kind, of.device()));
        match (self.layout, size.as_slice()) {
            (Layout::ChannelsLast, &[_, i, h, w]) => {
                let stride = [h * w * i, 1, w * i, i];
                Tensor::empty_strided(size.as_slice(), stride, options)
            }
            _ => Tensor::empty(size.as_slice(), options),
        }
    }

    fn write(&self, of: &Tensor, room: &mut Tensor) {
        room.copy_(of);
    }
}

/// Returns the gradient in the dtype and layout of the weight.
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
