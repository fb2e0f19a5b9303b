//! Linear maps over channels.

use tch::Tensor;

use super::cast::{Cast, Layout};
use crate::kernels::cpu::{self, DirectCache, Isa, Window};
use crate::kernels::{needs_grad, on_cpu};
use crate::{Init, Result, Scope};

/// y = x W^T + bias, over the last axis.
#[derive(Debug)]
pub struct Linear {
    pub(super) weight: Tensor,
    pub(super) bias: Option<Tensor>,
    casts: [Cast; 2],
    packed: DirectCache,
}

impl Linear {
    /// `weight` (out in) and `bias` (out), initialised as in `torch.nn.Linear`.
    ///
    /// # Errors
    /// Names that are taken; sizes below 1.
    pub fn new(scope: &mut Scope, inputs: i64, outputs: i64) -> Result<Self> {
        let init = Init::fan_in(inputs);
        let weight = scope.param("weight", &[outputs, inputs], init)?;
        let bias = Some(scope.param("bias", &[outputs], init)?);
        Ok(Linear { weight, bias, casts: Default::default(), packed: DirectCache::default() })
    }

    /// The same without a bias.
    ///
    /// # Errors
    /// As [`Linear::new`].
    pub fn without_bias(scope: &mut Scope, inputs: i64, outputs: i64) -> Result<Self> {
        let weight = scope.param("weight", &[outputs, inputs], Init::fan_in(inputs))?;
        Ok(Linear { weight, bias: None, casts: Default::default(), packed: DirectCache::default() })
    }

    /// A linear map without a bias whose weight starts at 0.
    ///
    /// # Errors
    /// As [`Linear::new`].
    pub fn zero(scope: &mut Scope, inputs: i64, outputs: i64) -> Result<Self> {
        let weight = scope.param("weight", &[outputs, inputs], Init::Const(0.0))?;
        Ok(Linear { weight, bias: None, casts: Default::default(), packed: DirectCache::default() })
    }

    /// A linear map whose weight is stored as a convolution of kernel 1: the two axes of the matrix
    /// are followed by `kernel` axes of length 1.
    ///
    /// # Errors
    /// As [`Linear::new`].
    pub fn pointwise(
        scope: &mut Scope,
        inputs: i64,
        outputs: i64,
        kernel: usize,
        bias: bool,
    ) -> Result<Self> {
        let init = Init::fan_in(inputs);
        let mut shape = vec![outputs, inputs];
        shape.resize(2 + kernel, 1);
        let weight = scope.param("weight", &shape, init)?;
        let bias = if bias { Some(scope.param("bias", &[outputs], init)?) } else { None };
        Ok(Linear { weight, bias, casts: Default::default(), packed: DirectCache::default() })
    }

    /// Of inputs that together form the last axis, without concatenating them.
    ///
    /// # Shapes
    /// ... k each, together the inputs -> ... out
    ///
    /// # Panics
    /// No inputs; other shapes; a dtype or a device that does not go with that of the parameters.
    pub fn forward_parts(&self, inputs: &[&Tensor]) -> Tensor {
        self.check(inputs);
        if let Some(out) = self.by_kernel(inputs) {
            return out;
        }
        if let [x] = inputs {
            return self.forward(x);
        }
        let mut parts = inputs.iter().scan(0, |first, x| {
            let n = x.size().last().copied().unwrap_or(0);
            let weight = self.weight.flatten(1, -1).narrow(1, *first, n);
            *first += n;
            Some((x, weight))
        });
        match parts.next() {
            Some((x, weight)) => {
                parts.fold(x.linear(&weight, self.bias.as_ref()), |sum, (x, w)| {
                    let flat = sum.flatten(0, -2).addmm(&x.flatten(0, -2), &w.tr());
                    flat.view_as(&sum)
                })
            }
            None => Tensor::new(),
        }
    }

    /// # Panics
    /// Inputs that do not have as many entries together as the weight takes, or are otherwise not alike.
    fn check(&self, inputs: &[&Tensor]) {
        let sizes: Vec<Vec<i64>> = inputs.iter().map(|x| x.size()).collect();
        let split = |size: &Vec<i64>| size.split_last().map(|(n, rest)| (*n, rest.to_vec()));
        let parts: Option<Vec<_>> = sizes.iter().map(split).collect();
        let parts = parts.unwrap_or_default();
        let all: i64 = parts.iter().map(|(n, _)| n).sum();
        let alike = parts.windows(2).all(|two| two[0].1 == two[1].1);
        let expected = self.weight.size()[1];
        assert!(
            !parts.is_empty() && alike && all == expected,
            "the inputs of a linear layer: expected shape ... {expected} together, got {sizes:?}"
        );
    }

    /// Of videos without gradients: one pass, where libtorch has one for each input and one for the
    /// bias.
    fn by_kernel(&self, inputs: &[&Tensor]) -> Option<Tensor> {
        let (isa, size) = (Isa::current(), self.weight.size());
        let fits = |x: &&Tensor| on_cpu(x) && x.dim() == 5 && x.numel() > 0;
        let mut all = inputs.to_vec();
        all.push(&self.weight);
        let parameters = [&self.weight].into_iter().chain(&self.bias);
        let takes = size.len() == 5
            && parameters.into_iter().all(on_cpu)
            && inputs.len() <= 2
            && inputs.iter().all(fits)
            && (size[0] as usize).is_multiple_of(isa.lanes())
            && !needs_grad(&all);
        let window = Window { kernel: 1, stride: 1, padding: 0 };
        let weight = (&self.weight, &self.packed, window);
        takes.then(|| cpu::direct(isa, inputs, weight, self.bias.as_ref(), None))
    }

    /// # Shapes
    /// out in
    pub(crate) fn weight(&self) -> &Tensor {
        &self.weight
    }

    /// # Shapes
    /// ... in -> ... out
    ///
    /// # Panics
    /// As [`Linear::forward_parts`].
    pub fn forward(&self, x: &Tensor) -> Tensor {
        let shape = self.weight.size();
        let weight = self.weight.view([shape[0], shape[1]]);
        let weight = self.casts[0].of(&weight, Layout::Stored);
        let bias = self.bias.as_ref().map(|bias| self.casts[1].of(bias, Layout::Stored));
        x.linear(&weight, bias)
    }
}
