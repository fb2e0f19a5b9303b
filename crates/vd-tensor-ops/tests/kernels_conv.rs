//! The convolution kernels against libtorch in f64, over drawn shapes, for every set of instructions
//! that the machine has.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod drawn;

use proptest::prelude::*;
use tch::{Kind, Tensor};
use vd_tensor_ops::kernels::cpu::{
    ConvCache, Finish, Isa, conv_fits, conv3x3, conv3x3_input_grad, conv3x3_weight_grad, finish,
    finish_grad,
};

use drawn::{draw, error};

/// b f h w i -> b f h w o in f64.
fn plain(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Tensor {
    let (b, f) = (x.size()[0], x.size()[1]);
    let images = x.to_kind(Kind::Double).flatten(0, 1).permute([0, 3, 1, 2]);
    let weight = weight.to_kind(Kind::Double).squeeze_dim(2);
    let bias = bias.map(|bias| bias.to_kind(Kind::Double));
    let out = images.conv2d(&weight, bias, [1, 1], [1, 1], [1, 1], 1);
    out.permute([0, 2, 3, 1]).unflatten(0, [b, f])
}

/// What follows, in f64; gain and shift b (1 or f) c.
fn plain_finish(
    x: &Tensor,
    gain: &Tensor,
    shift: Option<&Tensor>,
    residual: Option<&Tensor>,
) -> Tensor {
    let wide = |t: &Tensor| t.to_kind(Kind::Double).unsqueeze(2).unsqueeze(3);
    let length = (x * x).sum_dim_intlist([-1i64].as_slice(), true, None::<Kind>).sqrt();
    let mut z = x / length.clamp_min(1e-12) * wide(gain);
    if let Some(shift) = shift {
        z += wide(shift);
    }
    let y = z.silu();
    match residual {
        Some(residual) => y + residual.to_kind(Kind::Double),
        None => y,
    }
}

/// Slopes of sum(grad y) in f64: of the weight where y is the convolution; of the convolution, gain,
/// bias and shift where y is what follows it.
fn slopes(
    x: &Tensor,
    weight: &Tensor,
    (bias, gain, shift): (&Tensor, &Tensor, Option<&Tensor>),
    grad: &Tensor,
) -> Vec<Tensor> {
    let leaf = |t: &Tensor| t.to_kind(Kind::Double).detach().copy().set_requires_grad(true);
    let [weight, bias, gain] = [weight, bias, gain].map(leaf);
    let shift = leaf(shift.unwrap_or(&gain.zeros_like()));
    let grad = grad.to_kind(Kind::Double);
    let conv = plain(x, &weight, Some(&bias));
    let direct =
        Tensor::run_backward(&[(&conv * &grad).sum(Kind::Double)], &[&weight], true, false);
    let finished = plain_finish(&conv, &gain, Some(&shift), None);
    let of = [&conv, &gain, &bias, &shift];
    let rest = Tensor::run_backward(&[(finished * grad).sum(Kind::Double)], &of, false, false);
    let flat = |(k, t): (usize, Tensor)| if k % 2 == 1 { t.flatten(0, 1) } else { t };
    direct.into_iter().chain(rest.into_iter().enumerate().map(flat)).collect()
}

#[derive(Debug, Clone)]
struct Case {
    shape: [i64; 4],
    inputs: Vec<i64>,
    outputs: i64,
    seed: u64,
    per_frame: bool,
    shift: bool,
    residual: bool,
}

fn case() -> impl Strategy<Value = Case> {
    let shape = (1i64..3, 1i64..4, 1i64..18, 1i64..18).prop_map(|(b, f, h, w)| [b, f, h, w]);
    let inputs = prop::collection::vec((1i64..5).prop_map(|k| 16 * k), 1..3);
    (shape, inputs, 1i64..6, any::<u64>(), any::<[bool; 3]>()).prop_map(
        |(shape, inputs, outputs, seed, [per_frame, shift, residual])| Case {
            shape,
            inputs,
            outputs: 16 * outputs,
            seed,
            per_frame,
            shift,
            residual,
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn convolution_and_what_follows_are_those_of_libtorch(case in case()) {
        let [b, f, h, w] = case.shape;
        let o = case.outputs;
        let inputs: Vec<Tensor> = case.inputs.iter().zip(1..)
            .map(|(c, k)| draw(case.seed ^ k, &[b, f, h, w, *c])).collect();
        let inputs: Vec<&Tensor> = inputs.iter().collect();
        let i: i64 = case.inputs.iter().sum();
        let weight = draw(case.seed ^ 11, &[o, i, 1, 3, 3]) / (9.0 * i as f64).sqrt();
        let bias = draw(case.seed ^ 12, &[o]);
        let rows = if case.per_frame { f } else { 1 };
        let gain = draw(case.seed ^ 13, &[b, rows, o]) + 4.0;
        let shift = case.shift.then(|| draw(case.seed ^ 14, &[b, rows, o]));
        let residual = case.residual.then(|| draw(case.seed ^ 15, &[b, f, h, w, o]));
        let flat = |t: &Tensor| t.flatten(0, 1);
        let (flat_gain, flat_shift) = (flat(&gain), shift.as_ref().map(flat));
        let follow = Finish { gain: &flat_gain, shift: flat_shift.as_ref(), residual: residual.as_ref() };

        let conv = plain(&Tensor::cat(&inputs, -1), &weight, Some(&bias));
        let whole = plain_finish(&conv, &gain, shift.as_ref(), residual.as_ref());
        let grad = draw(case.seed ^ 16, &[b, f, h, w, o]);
        let turned = weight.transpose(0, 1).flip([3, 4]);
        let back = plain(&grad, &turned, None);
        let slopes = slopes(&Tensor::cat(&inputs, -1), &weight, (&bias, &gain, shift.as_ref()), &grad);
        for isa in Isa::tested() {
            prop_assert!(conv_fits(isa, &case.inputs, o));
            let cache = ConvCache::default();
            let got = conv3x3(isa, &inputs, (&weight, &cache), Some(&bias), None);
            prop_assert!(error(&got, &conv) < 5e-6, "{isa}: {}", error(&got, &conv));
            let alone = finish(isa, &got, &follow);
            prop_assert!(error(&alone, &whole) < 1e-5, "{isa}: {}", error(&alone, &whole));
            let got = conv3x3(isa, &inputs, (&weight, &cache), Some(&bias), Some(&follow));
            prop_assert!(error(&got, &whole) < 1e-5, "{isa}: {}", error(&got, &whole));
            let got = conv3x3_input_grad(isa, &grad, (&weight, &cache));
            prop_assert!(error(&got, &back) < 5e-6, "{isa}: {}", error(&got, &back));
            let got = conv3x3_weight_grad(isa, &inputs, &grad);
            prop_assert!(error(&got, &slopes[0]) < 2e-5, "{isa}: {}", error(&got, &slopes[0]));
            let got = finish_grad(isa, &conv.to_kind(Kind::Float), &grad, &follow);
            for (k, got) in [(1, &got.x), (2, &got.gain), (3, &got.bias), (4, &got.shift)] {
                if k < 4 || case.shift {
                    prop_assert!(error(got, &slopes[k]) < 2e-5, "{isa}, {k}: {}", error(got, &slopes[k]));
                }
            }
        }
    }
}

#[test]
fn changed_weights_are_packed_again() {
    let isa = Isa::current();
    let (x, cache) = (draw(1, &[1, 2, 8, 8, 16]), ConvCache::default());
    let mut weight = draw(2, &[16, 16, 1, 3, 3]);
    for _ in 0..2 {
        let got = conv3x3(isa, &[&x], (&weight, &cache), None, None);
        assert!(error(&got, &plain(&x, &weight, None)) < 5e-6);
        weight += 0.5;
    }
}

#[test]
fn channels_that_are_no_whole_vectors_are_refused() {
    assert!(!conv_fits(Isa::Portable, &[6], 16) && !conv_fits(Isa::Portable, &[16], 6));
    assert!(!conv_fits(Isa::Portable, &[16, 16, 16], 16));
}
