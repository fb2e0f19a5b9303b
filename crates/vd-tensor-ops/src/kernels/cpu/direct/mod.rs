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
use crate::kernels::check;

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
    ///
    /// # Panics
    /// Another weight than one of the window, f32 on the CPU.
    fn packed(&self, weight: &Tensor, key: Key) -> std::sync::Arc<Packed> {
        let size = check::five("the weight of a convolution", weight, "o i 1 k k");
        let [o, i, ..] = size;
        let k = key.window.kernel as i64;
        check::plain_of("the weight of a convolution", weight, &[o, i, 1, k, k]);
        assert!(
            o > 0 && i > 0,
            "the weight of a convolution: expected channels, got shape {size:?}"
        );
        let pack = || {
            let weight = weight.detach().contiguous();
            let shape = (o as usize, i as usize);
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
    window.check();
    let size = check::joined("a convolution", inputs);
    let key = Key { weight: version(weight), isa, window, way: Way::Straight };
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
    window.check();
    let key = Key { weight: version(weight), isa, window, way: Way::Transposed };
    run(&cache.packed(weight, key), key, &[x], bias, (size, None))
}

fn source(x: Option<&Tensor>) -> Source {
    match x {
        Some(x) => Source { at: pointer(x), channels: x.size()[4] as usize },
        None => Source { at: std::ptr::null(), channels: 0 },
    }
}

/// Contiguous inputs, and the sizes that they have together.
///
/// # Panics
/// No inputs, or more than two; sizes that do not go together; tensors that are not f32 on the CPU.
fn checked(inputs: &[&Tensor]) -> (Vec<Tensor>, [i64; 5]) {
    let size = check::joined("a convolution", inputs);
    assert!(
        inputs.len() <= 2 && size[4] > 0,
        "a convolution: expected one or two inputs with channels, got {} of together {size:?}",
        inputs.len()
    );
    inputs.iter().for_each(|x| check::plain("the input of a convolution", x));
    (inputs.iter().map(|x| x.detach().contiguous()).collect(), size)
}

fn run(
    packed: &Packed,
    key: Key,
    inputs: &[&Tensor],
    bias: Option<&Tensor>,
    (to, finish): ([usize; 2], Option<&Finish<'_>>),
) -> Tensor {
    let (inputs, size) = checked(inputs);
    assert!(
        size[4] as usize == packed.inputs,
        "a convolution: expected inputs of {} channels together, got {:?}",
        packed.inputs,
        inputs.iter().map(Tensor::size).collect::<Vec<_>>()
    );
    let from = [size[2], size[3]].map(|n| n as usize);
    let images = (size[0] * size[1]) as usize;
    let outputs = packed.outputs;
    assert!(
        finish.is_none() || outputs.is_multiple_of(key.isa.lanes()),
        "what follows a convolution: expected channels that are a multiple of {}, got {outputs}",
        key.isa.lanes()
    );
    let shape = [size[0], size[1], to[0] as i64, to[1] as i64, outputs as i64];
    if let Some(bias) = bias {
        check::plain_of("the bias of a convolution", bias, &[outputs as i64]);
    }
    let held = finish.map(|finish| Held::new(finish, &shape));
    let out = Tensor::empty(shape, (Kind::Float, inputs[0].device()));
    let width = packed.panels() * 2 * key.isa.lanes();
    let mut start = Scratch::take(width);
    // SAFETY: the values that were allocated, and those of the bias.
    unsafe {
        start.as_mut_ptr().write_bytes(0, width);
        if let Some(bias) = bias.map(|bias| bias.detach().contiguous()) {
            pointer(&bias).copy_to_nonoverlapping(start.as_mut_ptr(), outputs);
        }
    }
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
    window.check();
    let (inputs, size) = checked(inputs);
    let from = [size[2], size[3]].map(|n| n as usize);
    let to = from.map(|n| window.outputs(n));
    let outputs = check::video("the gradient of a convolution", grad)[4];
    let of = [size[0], size[1], to[0] as i64, to[1] as i64, outputs];
    check::plain_of("the gradient of a convolution", grad, &of);
    let kernel = window.kernel as i64;
    let shape = [outputs, size[4], 1, kernel, kernel];
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
