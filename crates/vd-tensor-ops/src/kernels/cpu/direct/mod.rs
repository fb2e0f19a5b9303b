//! Direct convolutions over space, channels last, and their transposes.
//!
//! Each output is one sum over taps and channels: the input is not rearranged, and a table of
//! pointers tells where each position finds its inputs, or zeros for padding.

mod bands;
mod conv;
mod pack;
mod phase;
mod product;
mod weight_grad;

use tch::{Kind, Tensor};

pub use phase::Window;

use self::conv::Conv;
use self::pack::Packed;
use self::phase::Way;
use self::weight_grad::WeightGrad;
use super::conv::{Finish, Held};
use super::winograd::Source;
use super::{Cache, Isa, Scratch, Version, pointer, version};

/// Packed weights of a convolution, cached until the weights change.
#[derive(Debug, Default)]
pub struct DirectCache(Cache<Key, Packed>);

#[derive(Debug, Clone, Copy, PartialEq)]
struct Key {
    weight: Version,
    isa: Isa,
    window: Window,
    way: Way,
}

impl DirectCache {
    /// `weight`: o i 1 k k.
    fn packed(&self, weight: &Tensor, key: Key) -> std::sync::Arc<Packed> {
        let pack = || {
            let (weight, size) = (weight.detach().contiguous(), weight.size());
            let shape = (size[0] as usize, size[1] as usize);
            // SAFETY: the weight is contiguous and of this shape.
            unsafe { Packed::new(key.isa, (key.window, key.way), pointer(&weight), shape) }
        };
        self.0.get(key, |of| of.weight == key.weight, pack)
    }
}

/// The convolution over space of one input, or of two that are concatenated along channels, and the
/// operations after it.
///
/// # Shapes
/// `inputs`: b f h w c each; `weight`: o i 1 k k; `bias`: o -> b f h' w' o
///
/// # Panics
/// Sizes that do not match; operations after the convolution if the channels are not a multiple of
/// the lanes; tensors that are not f32 on the CPU.
pub fn direct(
    isa: Isa,
    inputs: &[&Tensor],
    (weight, cache, window): (&Tensor, &DirectCache, Window),
    bias: Option<&Tensor>,
    finish: Option<&Finish<'_>>,
) -> Tensor {
    let key = Key { weight: version(weight), isa, window, way: Way::Straight };
    let size = inputs[0].size();
    let to = [size[2], size[3]].map(|n| window.outputs(n as usize));
    run(&cache.packed(weight, key), key, inputs, bias, (to, finish))
}

/// The transpose of [`direct`], to `size` rows and columns of outputs: also the gradient of its
/// input.
///
/// # Shapes
/// `x`: b f h w o; `weight`: o i 1 k k; `bias`: i -> b f h' w' i
///
/// # Panics
/// As [`direct`].
pub fn direct_transposed(
    isa: Isa,
    x: &Tensor,
    (weight, cache, window): (&Tensor, &DirectCache, Window),
    bias: Option<&Tensor>,
    size: [usize; 2],
) -> Tensor {
    let key = Key { weight: version(weight), isa, window, way: Way::Transposed };
    run(&cache.packed(weight, key), key, &[x], bias, (size, None))
}

fn source(x: Option<&Tensor>) -> Source {
    match x {
        Some(x) => Source { at: pointer(x), channels: x.size()[4] as usize },
        None => Source { at: std::ptr::null(), channels: 0 },
    }
}

/// Contiguous inputs, with their number and channels checked.
fn checked(inputs: &[&Tensor], channels: usize) -> Vec<Tensor> {
    let inputs: Vec<Tensor> = inputs.iter().map(|x| x.detach().contiguous()).collect();
    let same = |x: &Tensor| x.kind() == Kind::Float && x.size()[..4] == inputs[0].size()[..4];
    let all: i64 = inputs.iter().map(|x| x.size()[4]).sum();
    assert!(
        inputs.len() <= 2 && inputs.iter().all(same) && all as usize == channels,
        "a convolution of {channels} channels given {:?}",
        inputs.iter().map(Tensor::size).collect::<Vec<_>>()
    );
    inputs
}

fn run(
    packed: &Packed,
    key: Key,
    inputs: &[&Tensor],
    bias: Option<&Tensor>,
    (to, finish): ([usize; 2], Option<&Finish<'_>>),
) -> Tensor {
    let inputs = checked(inputs, packed.inputs);
    let size = inputs[0].size();
    let from = [size[2], size[3]].map(|n| n as usize);
    let images = (size[0] * size[1]) as usize;
    let outputs = packed.outputs;
    assert!(
        finish.is_none() || outputs.is_multiple_of(key.isa.lanes()),
        "what follows a convolution of {outputs} outputs, which are no whole vectors"
    );
    let shape = [size[0], size[1], to[0] as i64, to[1] as i64, outputs as i64];
    let out = Tensor::empty(shape, (Kind::Float, inputs[0].device()));
    let width = packed.panels() * 2 * key.isa.lanes();
    let mut start = Scratch::take(width);
    // SAFETY: the values that were allocated, and those of the bias.
    unsafe {
        start.as_mut_ptr().write_bytes(0, width);
        if let Some(bias) = bias.map(|bias| bias.detach().contiguous()) {
            assert_eq!(bias.numel(), outputs, "a bias for other outputs");
            pointer(&bias).copy_to_nonoverlapping(start.as_mut_ptr(), outputs);
        }
    }
    let held = finish.map(Held::new);
    let conv = Conv {
        packed,
        sources: [source(inputs.first()), source(inputs.get(1))],
        images,
        from,
        to,
        bias: start.as_mut_ptr(),
        epilogue: held.as_ref().map(|held| held.epilogue(images)),
        out: out.data_ptr() as *mut f32,
    };
    // SAFETY: all tensors are contiguous, of these shapes and alive; the output is new.
    unsafe { conv.run(key.isa) };
    out
}

/// The gradient of [`direct`] with respect to its weight; that of the transpose if `inputs` is its
/// output's gradient and `grad` its input.
///
/// # Shapes
/// `inputs`: b f h w c each; `grad`: b f h' w' o -> o i 1 k k
///
/// # Panics
/// As [`direct`].
pub fn direct_weight_grad(isa: Isa, inputs: &[&Tensor], grad: &Tensor, window: Window) -> Tensor {
    let channels: i64 = inputs.iter().map(|x| x.size()[4]).sum();
    let inputs = checked(inputs, channels as usize);
    let (size, of) = (inputs[0].size(), grad.size());
    let from = [size[2], size[3]].map(|n| n as usize);
    let to = [of[2], of[3]].map(|n| n as usize);
    assert!(
        grad.kind() == Kind::Float && of[..2] == size[..2] && to == from.map(|n| window.outputs(n)),
        "gradients {of:?} of a convolution of {size:?} by {window:?}"
    );
    let kernel = window.kernel as i64;
    let shape = [of[4], channels, 1, kernel, kernel];
    if grad.numel() == 0 {
        return Tensor::zeros(shape, (Kind::Float, grad.device()));
    }
    let grad = grad.detach().contiguous();
    let out = Tensor::empty(shape, (Kind::Float, grad.device()));
    let weight_grad = WeightGrad {
        sources: [source(inputs.first()), source(inputs.get(1))],
        grad: source(Some(&grad)),
        window,
        images: (size[0] * size[1]) as usize,
        from,
        to,
        out: out.data_ptr() as *mut f32,
    };
    // SAFETY: all tensors are contiguous, of these shapes and alive; the output is new.
    unsafe { weight_grad.run(isa) };
    out
}
