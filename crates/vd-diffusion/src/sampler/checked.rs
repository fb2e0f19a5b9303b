//! A noise source whose output is checked.

use tch::{Device, Kind, Tensor};
use vd_tensor_ops::Noise;

use crate::{Error, Result};

/// What two tensors must share to be added elementwise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Looks(Vec<i64>, Kind, Device);

impl Looks {
    pub(super) fn of(x: &Tensor) -> Looks {
        Looks(x.size(), x.kind(), x.device())
    }

    /// Refuses a tensor that differs.
    pub(super) fn check(&self, what: &str, x: &Tensor) -> Result<()> {
        let got = Looks::of(x);
        if got == *self {
            return Ok(());
        }
        let text = |Looks(size, kind, device): &Looks| format!("{size:?} {kind:?} on {device:?}");
        Err(Error::tensor(what, text(self), text(&got)))
    }
}

/// Noise whose every draw is compared with the request.
///
/// A draw that does not match is replaced by zeros, so that the current step completes;
/// [`Checked::fault`] then returns the error.
pub(super) struct Checked<'a> {
    inner: &'a mut dyn Noise,
    fault: Option<Error>,
}

impl<'a> Checked<'a> {
    pub(super) fn new(inner: &'a mut dyn Noise) -> Self {
        Checked { inner, fault: None }
    }

    /// Returns the first draw that was refused, as an error.
    pub(super) fn fault(&mut self) -> Result<()> {
        self.fault.take().map_or(Ok(()), Err)
    }

    fn accept(&mut self, what: &str, like: &Tensor, drawn: Tensor) -> Tensor {
        match Looks::of(like).check(what, &drawn) {
            Ok(()) => drawn,
            Err(error) => {
                self.fault.get_or_insert(error);
                like.zeros_like()
            }
        }
    }
}

impl Noise for Checked<'_> {
    fn normal(&mut self, like: &Tensor) -> Tensor {
        let drawn = self.inner.normal(like);
        self.accept("draw of `Noise::normal`", like, drawn)
    }

    fn uniform(&mut self, like: &Tensor) -> Tensor {
        let drawn = self.inner.uniform(like);
        self.accept("draw of `Noise::uniform`", like, drawn)
    }

    fn between(&mut self, from_snr: f64, to_snr: f64, like: &Tensor) -> Tensor {
        let drawn = self.inner.between(from_snr, to_snr, like);
        self.accept("draw of `Noise::between`", like, drawn)
    }

    fn new_path(&mut self) {
        self.inner.new_path();
    }
}
