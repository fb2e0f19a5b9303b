//! The fused convolution of a residual block, on tensors.

use std::sync::Arc;

use tch::{Kind, Tensor};
use vd_torch::team;

use crate::kernels::check;

use super::Isa;
use super::epilogue::{Epilogue, Rows, fits};
use super::winograd::{Conv, Packed, Source, Tiles};
use super::{Cache, Version, pointer, pointer_or_null, version};

/// The operations after a convolution: y = silu(unit(x) gain + shift) + residual, where unit(x) is
/// x divided by its length along the channels.
#[derive(Debug, Clone, Copy)]
pub struct Finish<'a> {
    /// # Shapes
    /// r c, where r divides the number of images: each row applies to a run of neighbouring images
    pub gain: &'a Tensor,
    /// # Shapes
    /// As `gain`
    pub shift: Option<&'a Tensor>,
    /// # Shapes
    /// Those of the output
    pub residual: Option<&'a Tensor>,
}

/// Tensors whose memory an [`Epilogue`] points into.
pub(super) struct Held {
    gain: Tensor,
    shift: Option<Tensor>,
    residual: Option<Tensor>,
}

impl Held {
    /// Of what follows an output of these sizes.
    ///
    /// # Panics
    /// Sizes that do not go with it; tensors that are not f32 on the CPU.
    pub(super) fn new(finish: &Finish<'_>, of: &[i64; 5]) -> Self {
        check_rows(finish, of);
        if let Some(residual) = finish.residual {
            check::plain_of("the residual of a convolution", residual, of);
        }
        let contiguous = |x: Option<&Tensor>| x.map(Tensor::contiguous);
        Held {
            gain: finish.gain.contiguous(),
            shift: contiguous(finish.shift),
            residual: contiguous(finish.residual),
        }
    }

    pub(super) fn epilogue(&self, images: usize) -> Epilogue {
        Epilogue {
            gain: pointer(&self.gain),
            shift: pointer_or_null(self.shift.as_ref()),
            images_per_row: images / self.gain.size()[0] as usize,
            residual: pointer_or_null(self.residual.as_ref()),
        }
    }
}

/// # Panics
/// Gains or shifts that do not go with an output of these sizes, or are not f32 on the CPU.
pub(super) fn check_rows(finish: &Finish<'_>, of: &[i64; 5]) {
    check::plain("the gains after a convolution", finish.gain);
    check::rows("the gains after a convolution", finish.gain, (of[0] * of[1], of[4]));
    if let Some(shift) = finish.shift {
        check::plain_of("the shifts after a convolution", shift, &finish.gain.size());
    }
}

/// Transformed weights of a 3 x 3 convolution, kept until the weights change.
#[derive(Debug, Default)]
pub struct ConvCache(Cache<Key, Packed>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Key {
    weight: Version,
    isa: Isa,
    tiles: Tiles,
    gradient: bool,
}

impl ConvCache {
    /// `weight`: o i 1 3 3.
    fn packed(&self, weight: &Tensor, isa: Isa, tiles: Tiles, gradient: bool) -> Arc<Packed> {
        let key = Key { weight: version(weight), isa, tiles, gradient };
        let pack = || {
            let (weight, size) = (weight.detach().contiguous(), weight.size());
            let shape = (size[0] as usize, size[1] as usize);
            // SAFETY: the weight is contiguous and of this shape.
            unsafe { Packed::new(isa, tiles, pointer(&weight), shape, gradient) }
        };
        self.0.get(key, |of| of.weight == key.weight, pack)
    }
}

/// Whether [`conv3x3`] supports these numbers of channels.
pub fn conv_fits(isa: Isa, inputs: &[i64], outputs: i64) -> bool {
    inputs.len() <= 2 && inputs.iter().chain([&outputs]).all(|c| fits(isa, *c as usize))
}

/// The 3 x 3 convolution over space of one input, or of two that are concatenated along channels,
/// and the operations after it.
///
/// # Shapes
/// `inputs`: b f h w c each; `weight`: o i 1 3 3; `bias`: o -> b f h w o
///
/// # Panics
/// Channels that [`conv_fits`] refuses; sizes that do not go together; tensors that are not f32 on
/// the CPU.
pub fn conv3x3(
    isa: Isa,
    inputs: &[&Tensor],
    (weight, cache): (&Tensor, &ConvCache),
    bias: Option<&Tensor>,
    finish: Option<&Finish<'_>>,
) -> Tensor {
    run(isa, inputs, (weight, cache, false), bias, finish)
}

/// The gradient of [`conv3x3`] with respect to its input, all channels.
///
/// # Shapes
/// `grad`: b f h w o; `weight`: o i 1 3 3 -> b f h w i
///
/// # Panics
/// As [`conv3x3`].
pub fn conv3x3_input_grad(
    isa: Isa,
    grad: &Tensor,
    (weight, cache): (&Tensor, &ConvCache),
) -> Tensor {
    run(isa, &[grad], (weight, cache, true), None, None)
}

/// The sizes of the inputs of a kernel, channels of which follow each other.
///
/// # Panics
/// No inputs, or more than two; channels that are no whole vectors; sizes that do not go together;
/// tensors that are not f32 on the CPU.
pub(super) fn check_inputs(isa: Isa, inputs: &[&Tensor]) -> [i64; 5] {
    let size = check::joined("a convolution", inputs);
    inputs.iter().for_each(|x| check::plain("the input of a convolution", x));
    let whole = inputs.iter().all(|x| x.size().last().is_some_and(|c| fits(isa, *c as usize)));
    assert!(
        inputs.len() <= 2 && whole,
        "a convolution: expected one or two inputs of channels that are a multiple of {}, got {:?}",
        isa.lanes(),
        inputs.iter().map(|x| x.size()).collect::<Vec<_>>()
    );
    size
}

fn run(
    isa: Isa,
    inputs: &[&Tensor],
    (weight, cache, gradient): (&Tensor, &ConvCache, bool),
    bias: Option<&Tensor>,
    finish: Option<&Finish<'_>>,
) -> Tensor {
    let size = check_inputs(isa, inputs);
    let shape = check::five("the weight of a convolution", weight, "o i 1 3 3");
    let (outputs, taken) = if gradient { (shape[1], shape[0]) } else { (shape[0], shape[1]) };
    check::plain("the weight of a convolution", weight);
    assert!(
        shape[2..] == [1, 3, 3] && taken == size[4] && fits(isa, outputs as usize),
        "a convolution to whole vectors of {}: expected a weight of shape {}, got {shape:?}",
        isa.lanes(),
        if gradient {
            format!("[{}, i, 1, 3, 3]", size[4])
        } else {
            format!("[o, {}, 1, 3, 3]", size[4])
        },
    );
    if let Some(bias) = bias {
        check::plain_of("the bias of a convolution", bias, &[outputs]);
    }
    let inputs: Vec<Tensor> = inputs.iter().map(|x| x.detach().contiguous()).collect();
    let of = [size[0], size[1], size[2], size[3], outputs];
    let [images, h, w] = [size[0] * size[1], size[2], size[3]].map(|n| n as usize);
    let held = finish.map(|finish| Held::new(finish, &of));
    let out = Tensor::empty(of, (Kind::Float, inputs[0].device()));
    if out.numel() == 0 {
        return out;
    }
    let packed = cache.packed(weight, isa, Tiles::of(images, h, w), gradient);
    let source = |i: usize| match inputs.get(i) {
        Some(x) => Source { at: pointer(x), channels: x.size()[4] as usize },
        None => Source { at: std::ptr::null(), channels: 0 },
    };
    let bias = bias.map(|bias| bias.detach().contiguous());
    let conv = Conv {
        packed: &packed,
        sources: [source(0), source(1)],
        images,
        h,
        w,
        bias: pointer_or_null(bias.as_ref()),
        epilogue: held.as_ref().map(|held| held.epilogue(images)),
        out: out.data_ptr() as *mut f32,
    };
    // SAFETY: all tensors are contiguous, of these shapes and alive; the output is new.
    unsafe { conv.run(isa) };
    out
}

/// The operations after a convolution, on their own.
///
/// # Shapes
/// b f h w c -> b f h w c
///
/// # Panics
/// Channels that are not a multiple of the lanes; sizes that do not go together; tensors that are not
/// f32 on the CPU.
pub fn finish(isa: Isa, x: &Tensor, finish: &Finish<'_>) -> Tensor {
    let size = check_inputs(isa, &[x]);
    let [images, area, c] = [size[0] * size[1], size[2] * size[3], size[4]].map(|n| n as usize);
    let held = Held::new(finish, &size);
    let x = x.detach().contiguous();
    let out = x.empty_like();
    let all =
        Shared { x: pointer(&x), y: out.data_ptr() as *mut f32, epilogue: held.epilogue(images) };
    let all = &all;
    team(|member| {
        let range = member.share(images * area);
        let range = (range.start, range.end);
        let (x, y, epilogue) = (all.x, all.y, all.epilogue);
        isa.run(Rows { epilogue, x, y, shape: (area, c), range });
    });
    out
}

struct Shared {
    x: *const f32,
    y: *mut f32,
    epilogue: Epilogue,
}

// SAFETY: threads write to separate memory.
unsafe impl Sync for Shared {}
