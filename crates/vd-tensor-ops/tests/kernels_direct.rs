//! Convolutions by their products, their transposes and gradients against libtorch in f64, over drawn
//! shapes, for every set of instructions that the machine has.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod drawn;

use drawn::{draw, error};
use proptest::prelude::*;
use tch::{Kind, Tensor};
use vd_tensor_ops::kernels::cpu::{
    DirectCache, Finish, Isa, Window, direct, direct_transposed, direct_weight_grad, finish,
};

/// What the kernels are held to, relative L2 against f64. Measured: outputs up to 1.1e-6 off, gradients
/// 7.4e-7.
const FORWARD: f64 = 5e-6;
const GRADIENT: f64 = 5e-6;

fn wide(x: &Tensor) -> Tensor {
    x.to_kind(Kind::Double)
}

/// b f h w c -> (b f) c h w in f64.
fn images(x: &Tensor) -> Tensor {
    wide(x).flatten(0, 1).permute([0, 3, 1, 2])
}

fn video(images: &Tensor, like: &Tensor) -> Tensor {
    images.permute([0, 2, 3, 1]).unflatten(0, [like.size()[0], like.size()[1]])
}

fn plain(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>, window: Window) -> Tensor {
    let [s, p] = [window.stride, window.padding].map(|n| [n as i64; 2]);
    let weight = wide(weight).squeeze_dim(2);
    video(&images(x).conv2d(&weight, bias.map(wide), s, p, [1, 1], 1), x)
}

fn plain_transposed(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>, window: Window) -> Tensor {
    let [s, p] = [window.stride, window.padding].map(|n| [n as i64; 2]);
    let weight = wide(weight).squeeze_dim(2);
    let out = images(x).conv_transpose2d(&weight, bias.map(wide), s, p, [0, 0], 1, [1, 1]);
    video(&out, x)
}

#[derive(Debug, Clone)]
struct Case {
    shape: [i64; 4],
    inputs: Vec<i64>,
    outputs: i64,
    window: Window,
    seed: u64,
    bias: bool,
}

/// Channels of all kinds: few, whole vectors, tails, and more than the depth of a step.
fn channels() -> impl Strategy<Value = i64> {
    prop_oneof![1i64..16, (1i64..5).prop_map(|k| 16 * k), 17i64..70, Just(260)]
}

fn window() -> impl Strategy<Value = Window> {
    let three = Window { kernel: 3, stride: 1, padding: 1 };
    let four = Window { kernel: 4, stride: 2, padding: 1 };
    let any = (1usize..6, 1usize..4, 0usize..4).prop_map(|(kernel, stride, padding)| Window {
        kernel,
        stride,
        padding,
    });
    prop_oneof![Just(three), Just(four), any, Just(Window { kernel: 7, stride: 1, padding: 3 })]
}

fn case() -> impl Strategy<Value = Case> {
    let shape = (1i64..3, 1i64..3, 1i64..11, 1i64..11).prop_map(|(b, f, h, w)| [b, f, h, w]);
    let inputs = prop::collection::vec(channels(), 1..3);
    let drawn = (shape, inputs, channels(), window(), any::<u64>(), any::<bool>());
    drawn.prop_map(|(shape, inputs, outputs, window, seed, bias)| Case {
        shape,
        inputs,
        outputs,
        window,
        seed,
        bias,
    })
}

/// Slopes of sum(grad y) by the inputs, all channels, and by the weight.
fn slopes(x: &Tensor, weight: &Tensor, grad: &Tensor, window: Window) -> [Tensor; 2] {
    let [x, weight] = [x, weight].map(|t| wide(t).detach().copy().set_requires_grad(true));
    let out = (plain(&x, &weight, None, window) * wide(grad)).sum(Kind::Double);
    Tensor::run_backward(&[out], &[&x, &weight], false, false).try_into().unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn convolution_and_its_gradients_are_those_of_libtorch(case in case()) {
        let ([b, f, h, w], o, window) = (case.shape, case.outputs, case.window);
        prop_assume!(window.outputs(h as usize) > 0 && window.outputs(w as usize) > 0);
        let inputs: Vec<Tensor> = case.inputs.iter().zip(1..)
            .map(|(c, k)| draw(case.seed ^ k, &[b, f, h, w, *c])).collect();
        let inputs: Vec<&Tensor> = inputs.iter().collect();
        let joined = Tensor::cat(&inputs, -1);
        let (i, k) = (joined.size()[4], window.kernel as i64);
        let weight = draw(case.seed ^ 11, &[o, i, 1, k, k]) / ((k * k * i) as f64).sqrt();
        let bias = case.bias.then(|| draw(case.seed ^ 12, &[o]));
        let conv = plain(&joined, &weight, bias.as_ref(), window);
        let grad = draw(case.seed ^ 13, &conv.size());
        let [input, slope] = slopes(&joined, &weight, &grad, window);
        for isa in Isa::tested() {
            let cache = DirectCache::default();
            let weights = (&weight, &cache, window);
            let got = direct(isa, &inputs, weights, bias.as_ref(), None);
            prop_assert!(error(&got, &conv) < FORWARD, "{isa}: {}", error(&got, &conv));
            let got = direct_transposed(isa, &grad, weights, None, [h as usize, w as usize]);
            prop_assert!(error(&got, &input) < GRADIENT, "{isa}: {}", error(&got, &input));
            let got = direct_weight_grad(isa, &inputs, &grad, window);
            prop_assert!(error(&got, &slope) < GRADIENT, "{isa}: {}", error(&got, &slope));
        }
    }

    #[test]
    fn the_transpose_is_that_of_libtorch(case in case()) {
        let ([b, f, h, w], i, window) = (case.shape, case.inputs[0], case.window);
        prop_assume!(window.transposed(h as usize) > 0 && window.transposed(w as usize) > 0);
        let x = draw(case.seed, &[b, f, h, w, i]);
        let (o, k) = (case.outputs, window.kernel as i64);
        let weight = draw(case.seed ^ 11, &[i, o, 1, k, k]) / ((k * k * i) as f64).sqrt();
        let bias = case.bias.then(|| draw(case.seed ^ 12, &[o]));
        let size = [h, w].map(|n| window.transposed(n as usize));
        let whole = plain_transposed(&x, &weight, bias.as_ref(), window);
        for isa in Isa::tested() {
            let weights = (&weight, &DirectCache::default(), window);
            let got = direct_transposed(isa, &x, weights, bias.as_ref(), size);
            prop_assert!(error(&got, &whole) < FORWARD, "{isa}: {}", error(&got, &whole));
        }
    }

    #[test]
    fn what_follows_is_done_in_place(
        [b, f, h, w] in [1i64..3, 1i64..3, 1i64..11, 1i64..11], vectors in 1i64..6,
        [shift, residual] in any::<[bool; 2]>(), seed: u64,
    ) {
        let o = 16 * vectors;
        let window = Window { kernel: 3, stride: 1, padding: 1 };
        let x = draw(seed, &[b, f, h, w, 24]);
        let weight = draw(seed ^ 1, &[o, 24, 1, 3, 3]) / 15.0;
        let (gain, bias) = (draw(seed ^ 2, &[b, o]) + 4.0, draw(seed ^ 3, &[o]));
        let shift = shift.then(|| draw(seed ^ 4, &[b, o]));
        let residual = residual.then(|| draw(seed ^ 5, &[b, f, h, w, o]));
        let follow = Finish { gain: &gain, shift: shift.as_ref(), residual: residual.as_ref() };
        for isa in Isa::tested() {
            let weights = (&weight, &DirectCache::default(), window);
            let alone = direct(isa, &[&x], weights, Some(&bias), None);
            let both = direct(isa, &[&x], weights, Some(&bias), Some(&follow));
            prop_assert_eq!(both, finish(isa, &alone, &follow), "{}", isa);
        }
    }
}

#[test]
fn changed_weights_are_packed_again() {
    let (isa, window) = (Isa::current(), Window { kernel: 3, stride: 1, padding: 1 });
    let (x, cache) = (draw(1, &[1, 2, 8, 8, 16]), DirectCache::default());
    let mut weight = draw(2, &[16, 16, 1, 3, 3]);
    for _ in 0..2 {
        let got = direct(isa, &[&x], (&weight, &cache, window), None, None);
        assert!(error(&got, &plain(&x, &weight, None, window)) < FORWARD);
        weight += 0.5;
    }
}
