//! RMS norm and group norm with what follows them, over drawn shapes.

use proptest::prelude::*;
use tch::{Kind, Tensor};
use vd_tensor_ops::kernels::cpu::GroupFinish;
use vd_tensor_ops::kernels::cuda::{self, LayerNormed, RmsFinish};

use crate::{bound, device, draw, here, off, rounded};

#[derive(Debug, Clone)]
struct Case {
    kind: Kind,
    shape: [i64; 5],
    /// None for RMS norm.
    groups: Option<i64>,
    rows: i64,
    shift: bool,
    residual: bool,
    mean: f64,
    seed: u64,
}

fn case(grouped: bool) -> impl Strategy<Value = Case> {
    let kind = prop_oneof![Just(Kind::Float), Just(Kind::BFloat16)];
    let side = || prop_oneof![Just(1i64), 1i64..6, 1i64..12];
    // Up to the channels at which a lane has two vectors; more are in the test of fixed shapes.
    let shape = (1i64..4, 1i64..4, side(), side(), 1i64..36);
    let rest = (any::<u16>(), 0..3usize, any::<bool>(), any::<bool>(), any::<u64>());
    (kind, shape, rest).prop_map(
        move |(kind, (b, f, h, w, c), (group, rows, shift, residual, seed))| {
            let c = 8 * c;
            let divisors: Vec<i64> = (1..=c).filter(|n| c % n == 0).collect();
            let groups = grouped.then(|| divisors[usize::from(group) % divisors.len()]);
            let rows = [1, b, b * f][rows];
            let mean = if seed % 2 == 0 { 0.0 } else { 1.0 };
            Case { kind, shape: [b, f, h, w, c], groups, rows, shift, residual, mean, seed }
        },
    )
}

/// x with mean 0 and variance 1 over groups, or of unit length.
fn normal(x: &Tensor, groups: Option<i64>) -> Tensor {
    let size = x.size();
    let Some(groups) = groups else {
        let squares = (x * x).sum_dim_intlist([-1i64].as_slice(), true, None::<Kind>);
        return x * squares.clamp_min(1e-24).rsqrt();
    };
    let grouped = x.reshape([size[0], -1, groups, size[4] / groups]);
    let (variance, mean) = grouped.var_mean_correction([1i64, 3].as_slice(), 0, true);
    ((&grouped - mean) * (variance + 1e-5).rsqrt()).view(size.as_slice())
}

/// What a position is multiplied by: one over its group's deviation, or its length.
fn factor(x: &Tensor, groups: Option<i64>) -> Tensor {
    let size = x.size();
    let Some(groups) = groups else {
        return (x * x).sum_dim_intlist([-1i64].as_slice(), true, None::<Kind>).rsqrt();
    };
    let grouped = x.reshape([size[0], -1, groups, size[4] / groups]);
    let (variance, _) = grouped.var_mean_correction([1i64, 3].as_slice(), 0, true);
    (variance + 1e-5).rsqrt().expand_as(&grouped).reshape(size.as_slice())
}

/// Rows of c as they stand for the positions of b f h w c.
fn over(rows: &Tensor, shape: &[i64; 5]) -> Tensor {
    let [b, f, _, _, c] = *shape;
    let each = b * f / rows.size()[0];
    rows.repeat_interleave_self_int(each, 0, None).view([b, f, 1, 1, c])
}

/// What a kernel is given, and what that stands for in f64, with a graph each.
fn leaves(x: &Tensor, kind: Kind) -> (Tensor, Tensor) {
    let (own, wide) = rounded(x, kind);
    (own.detach().set_requires_grad(true), wide.detach().set_requires_grad(true))
}

/// The rows of an RMS norm: gain and bias of one row, scale and shift of several.
struct Film {
    bias: (Tensor, Tensor),
    gain: (Tensor, Tensor),
    both: (Tensor, Tensor),
}

impl Film {
    fn new(case: &Case) -> Film {
        let Case { kind, shape, rows, seed, .. } = *case;
        let row = |k, factor| leaves(&(draw(seed ^ k, &[shape[4]]) * factor + 0.7), Kind::Float);
        let both = leaves(&(draw(seed ^ 12, &[rows, 2 * shape[4]]) * 0.5), kind);
        Film { bias: row(10, 0.5), gain: row(11, 0.3), both }
    }

    fn halves(both: &Tensor) -> [Tensor; 2] {
        let c = both.size()[1] / 2;
        [0, c].map(|first| both.narrow(1, first, c))
    }

    /// The plain road, in f64.
    fn plain(&self, case: &Case, x: &Tensor) -> Tensor {
        let x = if case.mean > 0.0 { x + &self.bias.1 } else { x.shallow_clone() };
        let y = normal(&x, None) * &self.gain.1 * 2.5;
        let [scale, shift] = Film::halves(&self.both.1).map(|t| over(&t, &case.shape));
        if case.shift { (y * (scale + 1.0) + shift).silu() } else { y.silu() }
    }

    fn kernel(&self, case: &Case, x: &Tensor, residual: Option<&Tensor>) -> Tensor {
        let film = Film::halves(&self.both.0);
        let finish = RmsFinish {
            bias: (case.mean > 0.0).then_some(&self.bias.0),
            gain: &self.gain.0,
            factor: 2.5,
            film: case.shift.then(|| film.each_ref()),
            residual,
        };
        let on = cuda::rms_fits(x, &finish).expect("a kernel");
        cuda::rms_finished(&on, x, &finish)
    }
}

/// The gradients of a kernel and of the plain road.
fn same_gradients(case: &Case, pairs: &[(&Tensor, &Tensor, &str)], inner: f64) {
    for (got, want, name) in pairs {
        let (got, want) = (got.grad(), want.grad());
        assert_eq!(got.defined(), want.defined(), "gradient of {name} of {case:?}");
        if !want.defined() {
            continue;
        }
        // A group of few values hardly moves with them: what is left is the rounding of differences, of
        // numbers as large as its deviation is small. A bias is a sum of such.
        let least_whole = match *name {
            "x" => 0.05 * inner,
            "bias" => inner,
            _ => 1e-6,
        };
        let whole = want.norm().double_value(&[]).max(least_whole);
        let error = (got.to_kind(Kind::Double) - &want).norm().double_value(&[]) / whole;
        let least = if *name == "x" { 1e-4 } else { 2e-5 };
        assert!(error < bound(case.kind, least), "gradient of {name}: {error:e} of {case:?}");
    }
}

fn check(case: &Case) {
    let Case { kind, shape, groups, seed, .. } = *case;
    let rows = [case.rows, shape[4]];
    let (x, wide_x) = leaves(&(draw(seed ^ 1, &shape) * 2.0 + case.mean), kind);
    let gain = leaves(&(draw(seed ^ 2, &rows) * 0.3 + 1.0), Kind::Float);
    let shift = leaves(&(draw(seed ^ 3, &rows) * 0.5), Kind::Float);
    let residual = case.residual.then(|| leaves(&draw(seed ^ 4, &shape), kind));
    let (grad, wide_grad) = rounded(&(draw(seed ^ 5, &shape) + 0.3), kind);
    let film = Film::new(case);

    let plain = match groups {
        None => film.plain(case, &wide_x),
        Some(_) => {
            let inner = normal(&wide_x, groups);
            (inner * over(&gain.1, &shape) + over(&shift.1, &shape)).silu()
        }
    };
    let want_y = residual.as_ref().map_or(plain.shallow_clone(), |(_, residual)| &plain + residual);
    (&want_y * &wide_grad).sum(Kind::Double).backward();

    let own = residual.as_ref().map(|(own, _)| own);
    let y = here(|| match groups {
        None => film.kernel(case, &x, own),
        Some(groups) => {
            let finish = GroupFinish { groups, gain: &gain.0, shift: &shift.0, residual: own };
            let on = cuda::group_fits(&x, &finish).expect("a kernel");
            cuda::group_finished(&on, &x, &finish)
        }
    });
    assert_eq!(y.kind(), kind);
    let error = off(&y, &want_y);
    assert!(error < bound(kind, 1e-5), "{error:e} of {case:?}");

    y.backward_with(&grad);
    let inner = tch::no_grad(|| {
        let bias = if groups.is_none() && case.mean > 0.0 { 1.0 } else { 0.0 };
        let x = &wide_x + &film.bias.1 * bias;
        (&wide_grad * factor(&x, groups)).norm().double_value(&[])
    });
    let mut pairs = vec![(&x, &wide_x, "x")];
    if groups.is_some() {
        pairs.extend([(&gain.0, &gain.1, "gain"), (&shift.0, &shift.1, "shift")]);
    } else {
        let Film { bias, gain, both } = &film;
        pairs.extend([(&bias.0, &bias.1, "bias"), (&gain.0, &gain.1, "gain")]);
        pairs.push((&both.0, &both.1, "scale and shift"));
    }
    same_gradients(case, &pairs, inner);
    if let Some((residual, _)) = residual {
        assert_eq!(residual.grad(), grad);
    }
}

/// A layer norm, and the sum with what goes around it.
fn check_layer_norm(case: &Case) {
    let Case { kind, shape, seed, .. } = *case;
    let (x, wide_x) = leaves(&(draw(seed ^ 1, &shape) * 2.0 + case.mean), kind);
    let gain = leaves(&(draw(seed ^ 2, &[shape[4]]) * 0.3 + 1.0), Kind::Float);
    let (grad, wide_grad) = rounded(&(draw(seed ^ 5, &shape) + 0.3), kind);
    let (mean, variance) = {
        let (variance, mean) = wide_x.var_mean_correction([4i64].as_slice(), 0, true);
        (mean, variance)
    };
    let unit = (variance + 1e-5).rsqrt();
    let want = (&wide_x - mean) * &unit * &gain.1;
    let whole = if case.residual { &wide_x + &want * 3.0 } else { want.shallow_clone() };
    (whole * &wide_grad).sum(Kind::Double).backward();

    let (y, sum) = here(|| {
        let on = cuda::layer_norm_fits(&x, &gain.0).expect("a kernel");
        let LayerNormed { y, around } = cuda::layer_norm(&on, &x, &gain.0);
        let around = around.expect("a graph");
        let sum = case.residual.then(|| cuda::add_around(&x, &around, &(&y * 3.0)));
        (y.shallow_clone(), sum.unwrap_or(y))
    });
    assert!(y.kind() == kind && sum.kind() == kind);
    assert!(off(&y, &want) < bound(kind, 1e-5), "{:e} of {case:?}", off(&y, &want));
    sum.backward_with(&grad);
    let inner = (&wide_grad * unit).norm().double_value(&[]);
    let pairs = [(&x, &wide_x, "x"), (&gain.0, &gain.1, "gain")];
    same_gradients(case, &pairs, inner);
}

/// Seeds the gradient of a backward.
trait Backward {
    fn backward_with(&self, grad: &Tensor);
}

impl Backward for Tensor {
    fn backward_with(&self, grad: &Tensor) {
        // The product's own gradient with respect to y is `grad`, in its kind.
        (self * grad).sum(self.kind()).backward();
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn rms_norm_and_its_gradients_are_those_of_libtorch(case in case(false)) {
        check(&case);
    }

    #[test]
    fn layer_norm_and_its_gradients_are_those_of_libtorch(case in case(false)) {
        check_layer_norm(&case);
    }

    #[test]
    fn group_norm_and_its_gradients_are_those_of_libtorch(case in case(true)) {
        check(&case);
    }
}

#[test]
fn every_number_of_vectors_of_a_lane_has_its_kernels() {
    for (i, c) in [8, 32, 136, 256, 512, 760, 1024].into_iter().enumerate() {
        for kind in [Kind::Float, Kind::BFloat16] {
            for groups in [None, Some(8)] {
                let shape = [2, 2, 3, 5, c];
                let seed = 40 + i as u64;
                let case = Case {
                    kind,
                    shape,
                    groups,
                    rows: 2,
                    shift: true,
                    residual: true,
                    mean: 0.5,
                    seed,
                };
                check(&case);
                if groups.is_none() {
                    check_layer_norm(&case);
                }
            }
        }
    }
}

#[test]
fn rows_that_are_few_or_many_are_folded_by_all_warps() {
    // One row for many blocks, as many as warps, and more of them.
    for (i, (shape, rows)) in
        [([1, 1, 64, 64, 40], 1), ([4, 4, 3, 3, 40], 16), ([5, 7, 2, 3, 72], 35)]
            .into_iter()
            .enumerate()
    {
        for kind in [Kind::Float, Kind::BFloat16] {
            let seed = 60 + i as u64;
            let (shift, residual) = (true, false);
            check(&Case { kind, shape, groups: None, rows, shift, residual, mean: 0.5, seed });
        }
    }
}

#[test]
fn what_goes_around_a_norm_has_its_gradient_though_nothing_follows_the_norm() {
    let x = draw(1, &[1, 2, 3, 3, 16]).set_requires_grad(true);
    let gain = (draw(2, &[16]) + 1.0).set_requires_grad(true);
    here(|| {
        let on = cuda::layer_norm_fits(&x, &gain).expect("a kernel");
        let LayerNormed { around, .. } = cuda::layer_norm(&on, &x, &gain);
        let other = draw(3, &x.size());
        (cuda::add_around(&x, &around.expect("a graph"), &other) * 2.0).sum(Kind::Float).backward();
    });
    assert_eq!(x.grad(), x.ones_like() * 2.0);
    assert!(!gain.grad().defined());
    let LayerNormed { around, .. } = here(|| {
        let on = cuda::layer_norm_fits(&x, &gain).expect("a kernel");
        tch::no_grad(|| cuda::layer_norm(&on, &x, &gain))
    });
    assert!(around.is_none());
}

#[test]
fn a_mean_that_is_large_hides_no_variance() {
    // Sums of squares from zero would be off by 2^-24 times a million.
    let case = Case {
        kind: Kind::Float,
        shape: [2, 3, 16, 16, 32],
        groups: Some(8),
        rows: 1,
        shift: true,
        residual: false,
        mean: 0.0,
        seed: 91,
    };
    let x = draw(1, &case.shape) * 2.0 + 2000.0;
    let ones = Tensor::ones([1, 32], (Kind::Float, x.device()));
    let zeros = ones.zeros_like();
    let finish = GroupFinish { groups: 8, gain: &ones, shift: &zeros, residual: None };
    let y = here(|| {
        let on = cuda::group_fits(&x, &finish).expect("a kernel");
        cuda::group_finished(&on, &x, &finish)
    });
    let want = normal(&x.to_kind(Kind::Double), Some(8)).silu();
    // The mean itself has 24 bits: 2000 times 2^-24 is 1.2e-4, in units of a deviation of 2.
    assert!(off(&y, &want) < 1e-4, "{:e}", off(&y, &want));
}

#[test]
fn a_position_of_zeros_has_a_gradient_as_large_as_its_bound_says() {
    let x = Tensor::zeros([1, 1, 2, 2, 16], (Kind::Float, device())).set_requires_grad(true);
    let gain = Tensor::ones([16], (Kind::Float, device()));
    let y = here(|| {
        let finish = RmsFinish { bias: None, gain: &gain, factor: 1.0, film: None, residual: None };
        cuda::rms_finished(&cuda::rms_fits(&x, &finish).expect("a kernel"), &x, &finish)
    });
    y.sum(Kind::Float).backward();
    // silu'(0) / 1e-12
    let off = (x.grad() * 2e-12 - 1.0).abs().max().double_value(&[]);
    assert!(y.abs().max().double_value(&[]) == 0.0 && off < 1e-5, "{off:e}");
}
