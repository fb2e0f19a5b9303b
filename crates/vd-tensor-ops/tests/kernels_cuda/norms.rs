//! RMS norm and group norm with what follows them, over drawn shapes.

use proptest::prelude::*;
use tch::{Kind, Tensor};
use vd_tensor_ops::kernels::cpu::{Finish, GroupFinish};
use vd_tensor_ops::kernels::cuda;

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

fn check(case: &Case) {
    let Case { kind, shape, groups, seed, .. } = *case;
    let rows = [case.rows, shape[4]];
    let (x, wide_x) = rounded(&(draw(seed ^ 1, &shape) * 2.0 + case.mean), kind);
    let gain = draw(seed ^ 2, &rows) * 0.3 + 1.0;
    let shift = draw(seed ^ 3, &rows) * 0.5;
    let shift = if case.shift || groups.is_some() { shift } else { shift.zeros_like() };
    let residual = case.residual.then(|| rounded(&draw(seed ^ 4, &shape), kind));
    let (grad, wide_grad) = rounded(&(draw(seed ^ 5, &shape) + 0.3), kind);

    let leaf = |t: &Tensor| t.detach().to_kind(Kind::Double).set_requires_grad(true);
    let want = [leaf(&wide_x), leaf(&gain), leaf(&shift)];
    let inner = normal(&want[0], groups);
    let plain = (&inner * over(&want[1], &shape) + over(&want[2], &shape)).silu();
    let want_y = match &residual {
        Some((_, residual)) => &plain + residual,
        None => plain.shallow_clone(),
    };
    (&want_y * &wide_grad).sum(Kind::Double).backward();

    let own = |t: &Tensor| t.detach().set_requires_grad(true);
    let (x, gain, shift) = (own(&x), own(&gain), own(&shift));
    let residual = residual.map(|(residual, _)| own(&residual));
    let y = here(|| match groups {
        None => {
            let shift = case.shift.then_some(&shift);
            let finish = Finish { gain: &gain, shift, residual: residual.as_ref() };
            let on = cuda::rms_fits(&x, &finish).expect("a kernel");
            cuda::rms_finished(&on, &x, &finish)
        }
        Some(groups) => {
            let finish =
                GroupFinish { groups, gain: &gain, shift: &shift, residual: residual.as_ref() };
            let on = cuda::group_fits(&x, &finish).expect("a kernel");
            cuda::group_finished(&on, &x, &finish)
        }
    });
    assert_eq!(y.kind(), kind);
    let error = off(&y, &want_y);
    assert!(error < bound(kind, 1e-5), "{error:e} of {case:?}");

    y.backward_with(&grad);
    let mut pairs = vec![(&x, &want[0], "x"), (&gain, &want[1], "gain")];
    if case.shift || groups.is_some() {
        pairs.push((&shift, &want[2], "shift"));
    }
    for (got, want, name) in pairs {
        let (got, want) = (got.grad(), want.grad());
        // A group of few values hardly moves with them: what is left is the rounding of differences, of
        // numbers as large as its deviation is small.
        let inner = (&wide_grad * factor(&wide_x, groups)).norm().double_value(&[]);
        let least_whole = if name == "x" { 0.05 * inner } else { 1e-6 };
        let whole = want.norm().double_value(&[]).max(least_whole);
        let error = (got.to_kind(Kind::Double) - &want).norm().double_value(&[]) / whole;
        let least = if name == "x" { 1e-4 } else { 2e-5 };
        assert!(error < bound(kind, least), "gradient of {name}: {error:e} of {case:?}");
    }
    if let Some(residual) = residual {
        assert_eq!(residual.grad(), grad);
    }
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
            }
        }
    }
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
    let gain = Tensor::ones([1, 16], (Kind::Float, device()));
    let y = here(|| {
        let finish = Finish { gain: &gain, shift: None, residual: None };
        cuda::rms_finished(&cuda::rms_fits(&x, &finish).expect("a kernel"), &x, &finish)
    });
    y.sum(Kind::Float).backward();
    // silu'(0) / 1e-12
    let off = (x.grad() * 2e-12 - 1.0).abs().max().double_value(&[]);
    assert!(y.abs().max().double_value(&[]) == 0.0 && off < 1e-5, "{off:e}");
}
