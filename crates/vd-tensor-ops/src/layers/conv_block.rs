//! The convolution of a residual block, with norm, conditioning and activation.

use tch::Tensor;

use super::{Norm, NormKind, RmsNorm, SpaceConv, TemporalConv, Wrap};
use crate::kernels::cpu::{self, Finish, GroupFinish, Isa};
use crate::kernels::cuda;
use crate::kernels::{self, check};
use crate::{Result, Scope};

/// Convolution of kernel 1 x 3 x 3, norm, scale and shift, SiLU.
#[derive(Debug)]
pub struct ConvBlock {
    proj: SpaceConv,
    temporal: Option<TemporalConv>,
    norm: Norm,
}

/// The conditioning of a [`ConvBlock`]: x -> x (scale + 1) + shift.
///
/// # Reference
/// Perez et al. 2018 (FiLM), arXiv:1709.07871.
#[derive(Debug)]
pub struct ScaleShift {
    /// # Shapes
    /// b 1 1 1 c, or b f 1 1 c
    pub scale: Tensor,
    /// # Shapes
    /// As `scale`
    pub shift: Tensor,
}

impl ScaleShift {
    /// # Panics
    /// Shapes that do not go with an output of these sizes.
    fn check(&self, [b, f, _, _, c]: &[i64; 5]) {
        let (scale, shift) = (self.scale.size(), self.shift.size());
        assert!(
            scale == shift && (scale == [*b, 1, 1, 1, *c] || scale == [*b, *f, 1, 1, *c]),
            "scale and shift: expected shape [{b}, 1 or {f}, 1, 1, {c}], got {scale:?} and {shift:?}"
        );
    }
}

impl ConvBlock {
    /// `proj` (a [`SpaceConv`]) and `norm`.
    ///
    /// # Errors
    /// As the constructors of both.
    pub fn new(scope: &mut Scope, inputs: i64, outputs: i64, norm: NormKind) -> Result<Self> {
        Ok(ConvBlock {
            proj: SpaceConv::new(&mut scope.sub("proj"), inputs, outputs, 3)?,
            temporal: None,
            norm: Norm::new(&mut scope.sub("norm"), outputs, norm)?,
        })
    }

    /// The same on periodic frames.
    pub fn wrapped(self, wrap: Wrap) -> Self {
        ConvBlock { proj: self.proj.wrapped(wrap), ..self }
    }

    /// The same with a convolution over time between the spatial convolution and the norm.
    pub fn in_time(self, temporal: TemporalConv) -> Self {
        ConvBlock { temporal: Some(temporal), ..self }
    }

    /// `inputs` are concatenated along their channels; `residual` is added at the end.
    ///
    /// # Shapes
    /// b f h w c each, together the inputs; `residual` b f h w out -> b f h w out
    ///
    /// # Panics
    /// Other shapes; dtypes or devices that do not go together.
    pub fn forward(
        &self,
        inputs: &[&Tensor],
        film: Option<&ScaleShift>,
        residual: Option<&Tensor>,
    ) -> Tensor {
        self.masked(inputs, (film, residual), None)
    }

    /// The same, with a convolution over time that ignores the pairs of frames marked in
    /// `forbidden`.
    ///
    /// # Shapes
    /// As [`ConvBlock::forward`]; `forbidden`: bool, (b or 1) 1 1 f f
    ///
    /// # Panics
    /// As [`ConvBlock::forward`].
    pub fn masked(
        &self,
        inputs: &[&Tensor],
        (film, residual): (Option<&ScaleShift>, Option<&Tensor>),
        forbidden: Option<&Tensor>,
    ) -> Tensor {
        let size = check::joined("the inputs of a convolution", inputs);
        let of = [size[0], size[1], size[2], size[3], self.proj.bias.numel() as i64];
        if let Some(film) = film {
            film.check(&of);
        }
        if let Some(residual) = residual {
            check::shape("the residual of a convolution", residual, &of);
        }
        if let Some(out) = self.fused(inputs, (film, residual), forbidden) {
            return out;
        }
        if let [x, ..] = inputs
            && cuda::may_run(x)
        {
            let (x, bias) = self.unbiased(inputs, forbidden);
            if let Some(out) = self.norm.finished_on_gpu(&x, bias, (film, residual)) {
                return out;
            }
            let x = bias.map_or(x.shallow_clone(), |bias| &x + bias.to_kind(x.kind()));
            return self.finished(&x, film, residual);
        }
        self.finished(&self.convolved(inputs, forbidden), film, residual)
    }

    /// The steps after the convolution, by libtorch's operations.
    fn finished(&self, x: &Tensor, film: Option<&ScaleShift>, residual: Option<&Tensor>) -> Tensor {
        let x = self.norm.forward(x);
        let y = match film {
            Some(film) => film.shift.addcmul(&x, &(&film.scale + 1.0)).silu(),
            None => x.silu(),
        };
        match residual {
            Some(residual) => y + residual,
            None => y,
        }
    }

    /// The input of the norm.
    fn convolved(&self, inputs: &[&Tensor], forbidden: Option<&Tensor>) -> Tensor {
        let x = self.proj.joined(inputs);
        match &self.temporal {
            Some(temporal) => temporal.forward(&x, forbidden),
            None => x,
        }
    }

    /// The same without a bias, if the kernel of an RMS norm will add it in its own pass.
    fn unbiased(
        &self,
        inputs: &[&Tensor],
        forbidden: Option<&Tensor>,
    ) -> (Tensor, Option<&Tensor>) {
        match (&self.norm, &self.temporal) {
            (Norm::Rms(_), None) => (self.proj.unbiased(inputs), Some(&self.proj.bias)),
            _ => (self.convolved(inputs, forbidden), None),
        }
    }

    /// The same by kernels, where they apply.
    fn fused(
        &self,
        inputs: &[&Tensor],
        (film, residual): (Option<&ScaleShift>, Option<&Tensor>),
        forbidden: Option<&Tensor>,
    ) -> Option<Tensor> {
        let isa = Isa::current();
        let c = self.proj.bias.numel() as i64;
        let mut all: Vec<&Tensor> = inputs.to_vec();
        all.extend(residual);
        all.extend(film.iter().flat_map(|film| [&film.scale, &film.shift]));
        all.extend(self.norm.parameters());
        let takes = |x: &&Tensor| kernels::on_cpu(x) && x.numel() > 0;
        if !all.iter().all(takes) || !cpu::conv_fits(isa, &[c], c) {
            return None;
        }
        Some(match &self.norm {
            Norm::Rms(norm) => {
                let (gain, shift) = rows(norm, film);
                let finish = Finish { gain: &gain, shift: shift.as_ref(), residual };
                // A periodic convolution has a border to crop before anything may follow it.
                let alone = self.proj.is_flat() && self.temporal.is_none();
                let road = alone.then(|| self.proj.road(inputs)).flatten();
                if let Some(road) = road {
                    return Some(cpu::conv(isa, inputs, self.proj.weights(&road), Some(&finish)));
                }
                cpu::finished(isa, &self.convolved(inputs, forbidden), &finish)
            }
            Norm::Group(norm) => {
                let (gain, shift) = norm.rows(film);
                let finish =
                    GroupFinish { groups: norm.groups, gain: &gain, shift: &shift, residual };
                cpu::group_finished(isa, &self.convolved(inputs, forbidden), &finish)
            }
        })
    }
}

/// Gains and shifts for each run of neighbouring images: r c each.
fn rows(norm: &RmsNorm, film: Option<&ScaleShift>) -> (Tensor, Option<Tensor>) {
    let gain = norm.gain();
    match film {
        Some(film) => {
            let gain = (gain * (&film.scale + 1.0)).flatten(0, 3);
            (gain, Some(film.shift.flatten(0, 3)))
        }
        None => (gain.unsqueeze(0), None),
    }
}
