//! The kernels of the CPU.

use std::sync::Arc;

use tch::Tensor;
use vd_tensor_ops::kernels::cpu::{
    self, AdamWTensors, ConvCache, ConvWeights, DirectCache, DropMask, Finish, Frames, GroupFinish,
    Isa, LinearAttentionCache, LinearAttentionWeights, Road, SpatialWeights, TapRuns,
    TemporalWeights, Window,
};
use vd_tensor_ops::layers::HeadShape;
use vd_tensor_ops::torch::AdamWStep;

use super::{caught, drawn_as, is_ours, names, replaced, wrong};

type Run = Box<dyn Fn(&[Tensor])>;

/// A kernel, operands that it takes, and which axes of which may have any length.
struct Case {
    name: &'static str,
    operands: Vec<Tensor>,
    free: &'static [(usize, usize)],
    run: Run,
}

fn case(
    name: &'static str,
    shapes: &[&[i64]],
    free: &'static [(usize, usize)],
    run: impl Fn(&[Tensor]) + 'static,
) -> Case {
    Case { name, operands: drawn_as(shapes), free, run: Box::new(run) }
}

const X: &[i64] = &[2, 3, 6, 5, 16];
const Y: &[i64] = &[2, 3, 6, 5, 32];
const PLANE: &[(usize, usize)] = &[(0, 0), (0, 1), (0, 2), (0, 3)];
const THREE: Window = Window { kernel: 3, stride: 1, padding: 1 };
const FOUR: Window = Window { kernel: 4, stride: 2, padding: 1 };
const HEADS: HeadShape = HeadShape { heads: 3, dim: 10 };

fn isa() -> Isa {
    Isa::current()
}

/// Of gain, shift and residual.
fn finish(t: &[Tensor]) -> Finish<'_> {
    Finish { gain: &t[0], shift: Some(&t[1]), residual: t.get(2) }
}

fn convolutions() -> Vec<Case> {
    let rows: &[i64] = &[6, 32];
    let (w3, w4): (&[i64], &[i64]) = (&[32, 16, 1, 3, 3], &[32, 16, 1, 4, 4]);
    vec![
        case("conv3x3", &[X, w3, &[32], rows, rows, Y], &[], |t| {
            let weight = (&t[1], &ConvCache::default());
            drop(cpu::conv3x3(isa(), &[&t[0]], weight, Some(&t[2]), Some(&finish(&t[3..]))));
        }),
        case("conv3x3 of two", &[X, Y, &[16, 48, 1, 3, 3]], &[(2, 0)], |t| {
            drop(cpu::conv3x3(isa(), &[&t[0], &t[1]], (&t[2], &ConvCache::default()), None, None));
        }),
        case("conv3x3_input_grad", &[Y, w3], &[(0, 0), (0, 1), (0, 2), (0, 3), (1, 1)], |t| {
            let grad = cpu::conv3x3_input_grad(isa(), &t[0], (&t[1], &ConvCache::default()));
            assert_eq!(grad.size()[4], t[1].size()[1]);
        }),
        case("conv3x3_weight_grad", &[X, Y], &[(0, 4), (1, 4)], |t| {
            drop(cpu::conv3x3_weight_grad(isa(), &[&t[0]], &t[1]));
        }),
        case("finish", &[Y, rows, rows, Y], &[], |t| {
            drop(cpu::finish(isa(), &t[0], &finish(&t[1..])));
        }),
        case("finished", &[Y, rows, rows, Y], &[], |t| {
            drop(cpu::finished(isa(), &t[0], &finish(&t[1..])));
        }),
        case("finish_grad", &[Y, rows, rows, Y], &[], |t| {
            cpu::finish_grad(isa(), &t[0], &t[3], &finish(&t[1..3]));
        }),
        case("direct", &[X, w3, &[32], rows, rows, Y], &[], |t| {
            let weight = (&t[1], &DirectCache::default(), THREE);
            drop(cpu::direct(isa(), &[&t[0]], weight, Some(&t[2]), Some(&finish(&t[3..]))));
        }),
        case("direct of two", &[X, Y, &[21, 48, 1, 3, 3], &[21]], &[], |t| {
            let weight = (&t[2], &DirectCache::default(), THREE);
            drop(cpu::direct(isa(), &[&t[0], &t[1]], weight, Some(&t[3]), None));
        }),
        case("direct_transposed", &[Y, w4, &[16]], PLANE, |t| {
            let weight = (&t[1], &DirectCache::default(), FOUR);
            drop(cpu::direct_transposed(isa(), &t[0], weight, Some(&t[2]), [12, 10]));
        }),
        case(
            "direct_weight_grad",
            &[X, &[2, 3, 3, 2, 32]],
            &[(0, 2), (0, 3), (0, 4), (1, 4)],
            |t| {
                drop(cpu::direct_weight_grad(isa(), &[&t[0]], &t[1], FOUR));
            },
        ),
        case("conv", &[X, w3, &[32], rows, rows, Y], &[], |t| {
            let road = Road::Winograd(Arc::default());
            let weights = ConvWeights { weight: &t[1], bias: &t[2], road: &road };
            drop(cpu::conv(isa(), &[&t[0]], weights, Some(&finish(&t[3..]))));
        }),
        case("conv, transposed", &[Y, w4, &[16]], PLANE, |t| {
            let road = Road::Transposed(Arc::default(), FOUR);
            let weights = ConvWeights { weight: &t[1], bias: &t[2], road: &road };
            drop(cpu::conv(isa(), &[&t[0]], weights, None));
        }),
        case("temporal_conv", &[X, &[32, 16, 3, 1, 1], &[32]], &[(0, 2), (0, 3)], |t| {
            drop(cpu::temporal_conv(&t[0], (&t[1], &t[2]), &TapRuns::new(3, (2, 3), None)));
        }),
    ]
}

fn norms() -> Vec<Case> {
    fn group(t: &[Tensor]) -> GroupFinish<'_> {
        GroupFinish { groups: 4, gain: &t[0], shift: &t[1], residual: t.get(2) }
    }
    let rows: &[i64] = &[6, 32];
    vec![
        case("group_finish", &[Y, rows, rows, Y], &[], |t| {
            cpu::group_finish(isa(), &t[0], &group(&t[1..]));
        }),
        case("group_finished", &[Y, rows, rows, Y], &[], |t| {
            drop(cpu::group_finished(isa(), &t[0], &group(&t[1..])));
        }),
        case("group_finish_grad", &[Y, rows, rows, Y, &[2, 2, 32]], &[], |t| {
            cpu::group_finish_grad(isa(), (&t[0], &t[3]), &t[4], &group(&t[1..3]));
        }),
        case("drop_out", &[X], &[(0, 1), (0, 2), (0, 3), (0, 4)], |t| {
            let mask = DropMask { seeds: Arc::new([1, 2]), site: 3, rate: 0.3, gain: 1.0 };
            assert!(t[0].dim() == 5, "expected five axes, got others");
            drop(cpu::drop_out(isa(), &t[0], &mask));
            drop(cpu::dropped_out(isa(), &t[0], &mask));
        }),
        case("adamw", &[&[7, 5], &[7, 5], &[7, 5], &[7, 5], &[7, 5]], &[], |t| {
            let step =
                AdamWStep { lr: 1e-2, beta1: 0.9, beta2: 0.99, eps: 1e-8, weight_decay: 0.1 };
            let tensors = AdamWTensors {
                param: &t[0],
                grad: &t[1],
                exp_avg: &t[2],
                exp_avg_sq: &t[3],
                average: Some(&t[4]),
            };
            // Axes of 1 change no number of values.
            assert!(t.iter().all(|t| t.dim() == 2), "expected two axes, got others");
            if let Err(error) = cpu::adamw(isa(), &step, 1, (1.0, 0.9), &[tensors]) {
                panic!("{error}");
            }
        }),
    ]
}

fn attentions() -> Vec<Case> {
    fn time(t: &[Tensor], backward: bool) {
        let cache = Arc::default();
        let (gamma, to_qkv, to_out) = (&t[1], &t[2], &t[3]);
        assert_eq!(gamma.dim(), 1, "expected one axis, got others");
        let weights = TemporalWeights { gamma, to_qkv, to_out, shape: HEADS, cache: &cache };
        let of = Frames {
            turns: &t[4],
            bias: Some(&t[5]),
            distances: Some([&t[6], &t[6]]),
            forbidden: Some(&t[7]),
        };
        if backward {
            cpu::temporal_attention_backward(isa(), (&t[0], &t[8]), &weights, &of);
        } else {
            drop(cpu::temporal(isa(), &t[0], &weights, &of));
        }
    }
    fn space(t: &[Tensor], backward: bool) {
        let cache = &Arc::default();
        let (gamma, to_qkv, to_out) = (&t[1], &t[2], &t[3]);
        assert_eq!(gamma.dim(), 1, "expected one axis, got others");
        let weights = SpatialWeights { gamma, to_qkv, to_out, shape: HEADS, cache };
        if backward {
            cpu::spatial_attention_backward(isa(), (&t[0], &t[5]), &weights, Some(&t[4]));
        } else {
            drop(cpu::spatial(isa(), &t[0], &weights, Some(&t[4])));
        }
    }
    fn linear(t: &[Tensor], backward: bool) {
        let [gamma, to_qkv, to_out, bias] = [1, 2, 3, 4].map(|i| &t[i]);
        for (t, axes) in [(gamma, 1), (to_qkv, 2), (to_out, 2), (bias, 1)] {
            assert_eq!(t.dim(), axes, "expected {axes} axes, got others");
        }
        let weights = LinearAttentionWeights { gamma, to_qkv, to_out, bias };
        let cache = LinearAttentionCache::default();
        if backward {
            cpu::linear_attention_backward(isa(), (&t[0], &t[5]), &weights, &cache, HEADS);
        } else {
            drop(cpu::linear_attention(isa(), &t[0], &weights, &cache, HEADS));
        }
    }
    let mut all: Vec<&[i64]> =
        vec![X, &[16], &[90, 16], &[16, 30], &[3, 5, 2], &[3, 3, 3], &[5, 10]];
    let marks: &[i64] = &[2, 1, 1, 3, 3];
    all.extend([marks, X]);
    let over: [&[i64]; 6] = [X, &[16], &[90, 16], &[16, 30], &[3, 30, 30], X];
    let sites: [&[i64]; 6] = [X, &[16], &[90, 16], &[16, 30], &[16], X];
    const FREE: &[(usize, usize)] = &[(0, 2), (0, 3), (4, 1), (7, 0)];
    vec![
        case("temporal", &all[..8], FREE, |t| time(t, false)),
        case("temporal backward", &all, &[(4, 1), (7, 0)], |t| time(t, true)),
        case("spatial", &over[..5], &[(0, 0), (0, 1)], |t| space(t, false)),
        case("spatial backward", &over, &[], |t| space(t, true)),
        case("linear attention", &sites[..5], PLANE, |t| linear(t, false)),
        case("linear attention backward", &sites, &[], |t| linear(t, true)),
    ]
}

#[test]
fn kernels_refuse_operands_that_do_not_go_together() {
    let mut failed = Vec::new();
    for case in convolutions().into_iter().chain(norms()).chain(attentions()) {
        (case.run)(&case.operands);
        for (at, operand) in case.operands.iter().enumerate() {
            for wrong in wrong(operand) {
                let operands = replaced(&case.operands, at, &wrong.tensor);
                let free = wrong.axis.is_some_and(|axis| case.free.contains(&(at, axis)));
                let said = caught(|| (case.run)(&operands));
                // The products along time are libtorch's, and so is what refuses a kind.
                let named =
                    |said: &String| is_ours(said) || case.name == "temporal_conv" && names(said);
                let taken = said.is_ok() && free;
                let refused = said.as_ref().is_err_and(named);
                if !taken && !refused {
                    failed.push(format!("{}: operand {at}, {}: {said:?}", case.name, wrong.what));
                }
            }
        }
    }
    assert!(failed.is_empty(), "not refused:\n{}", failed.join("\n"));
}

#[test]
fn windows_that_are_not_the_weights_are_refused() {
    let t = drawn_as(&[&[1, 1, 16, 16, 32], &[32, 32, 1, 3, 3]]);
    let cache = DirectCache::default();
    let window = |kernel, stride, padding| Window { kernel, stride, padding };
    for window in [
        window(63, 1, 31),
        window(9, 1, 4),
        window(1, 1, 0),
        window(0, 1, 0),
        window(3, 0, 1),
        window(3, 1, usize::MAX),
        window(3, usize::MAX, 1),
    ] {
        let weight = (&t[1], &cache, window);
        let said = [
            caught(|| drop(cpu::direct(isa(), &[&t[0]], weight, None, None))),
            caught(|| drop(cpu::direct_transposed(isa(), &t[0], weight, None, [16, 16]))),
            caught(|| drop(cpu::direct_weight_grad(isa(), &[&t[0]], &t[0], window))),
        ];
        for (k, said) in said.into_iter().enumerate() {
            let said = said.err().unwrap_or_default();
            // Gradients have no weight: a kernel of 9 or of 63 with its padding keeps the frame.
            let keeps = k == 2 && [9, 63, 1].contains(&window.kernel);
            assert!(keeps || is_ours(&said), "not refused: {window:?}, {k}: {said}");
        }
    }
}

#[test]
fn inputs_that_are_none_or_too_many_are_refused() {
    let (x, weight) = (&drawn_as(&[X])[0], &drawn_as(&[&[32, 48, 1, 3, 3]])[0]);
    let three = [x, x, x];
    for inputs in [&[] as &[&Tensor], &three] {
        let all: [Box<dyn Fn()>; 4] = [
            Box::new(|| {
                let cache = ConvCache::default();
                drop(cpu::conv3x3(isa(), inputs, (weight, &cache), None, None));
            }),
            Box::new(|| {
                let cache = DirectCache::default();
                drop(cpu::direct(isa(), inputs, (weight, &cache, THREE), None, None));
            }),
            Box::new(|| drop(cpu::conv3x3_weight_grad(isa(), inputs, x))),
            Box::new(|| drop(cpu::direct_weight_grad(isa(), inputs, x, THREE))),
        ];
        for (k, run) in all.iter().enumerate() {
            let said = caught(run).err().unwrap_or_default();
            assert!(is_ours(&said), "not refused: {k} of {} inputs: {said}", inputs.len());
        }
    }
}

#[test]
fn a_cache_knows_views_of_other_sizes_apart() {
    let t = drawn_as(&[&[1, 1, 8, 8, 16], &[1, 1, 8, 8, 32], &[32, 16, 1, 3, 3]]);
    let turned = t[2].view([16, 32, 1, 3, 3]);
    let (winograd, direct) = (ConvCache::default(), DirectCache::default());
    for (x, weight) in [(&t[0], &t[2]), (&t[1], &turned), (&t[0], &t[2])] {
        let made = [
            cpu::conv3x3(isa(), &[x], (weight, &winograd), None, None),
            cpu::direct(isa(), &[x], (weight, &direct, THREE), None, None),
        ];
        let images = x.flatten(0, 1).permute([0, 3, 1, 2]);
        let want = images.conv2d(&weight.squeeze_dim(2), None::<Tensor>, [1, 1], [1, 1], [1, 1], 1);
        let want = want.permute([0, 2, 3, 1]).unsqueeze(0);
        for made in made {
            assert!(made.allclose(&want, 1e-3, 1e-3, false));
        }
    }
}

#[test]
fn heads_that_are_no_number_are_refused() {
    let t = drawn_as(&[X, &[16], &[90, 16], &[16, 30], &[16]]);
    let weights =
        LinearAttentionWeights { gamma: &t[1], to_qkv: &t[2], to_out: &t[3], bias: &t[4] };
    for (heads, dim) in [(-3, -10), (0, 0), (i64::MAX, i64::MAX), (1 << 62, 4), (30, 2)] {
        let of = HeadShape { heads, dim };
        let cache = LinearAttentionCache::default();
        let run = || cpu::linear_attention(isa(), &t[0], &weights, &cache, of);
        let said = caught(|| drop(run())).err().unwrap_or_default();
        assert!(is_ours(&said), "not refused: {of:?}: {said}");
    }
}
