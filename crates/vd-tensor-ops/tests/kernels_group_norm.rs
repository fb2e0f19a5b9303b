//! The kernel of group norm and what follows it against libtorch in f64, over drawn shapes, for every
//! set of instructions that the machine has.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod drawn;

use drawn::{draw, error};
use proptest::prelude::*;
use tch::{Device, Kind, Tensor};
use vd_tensor_ops::Params;
use vd_tensor_ops::kernels::cpu::{
    GroupFinish, GroupFinished, Isa, group_finish, group_finish_grad,
};
use vd_tensor_ops::kernels::{Precision, with};
use vd_tensor_ops::layers::{ConvBlock, NormKind, ScaleShift};

#[derive(Debug, Clone)]
struct Case {
    shape: [i64; 5],
    groups: i64,
    /// Rows of gains and shifts.
    rows: i64,
    residual: bool,
    /// Mean of x, whose deviation is 2.
    mean: f64,
    seed: u64,
}

fn case() -> impl Strategy<Value = Case> {
    // Up to 18 x 18 positions of several frames: more than are summed up in f32 at a time.
    let side = || prop_oneof![Just(1i64), 1i64..6, 1i64..19];
    let shape = (1i64..4, 1i64..4, side(), side(), (1i64..5).prop_map(|k| 16 * k));
    let rest =
        (any::<u16>(), 0..3usize, any::<bool>(), prop_oneof![Just(0.0), Just(1.0)], any::<u64>());
    (shape, rest).prop_map(|((b, f, h, w, c), (group, rows, residual, mean, seed))| {
        let divisors: Vec<i64> = (1..=c).filter(|n| c % n == 0).collect();
        let groups = divisors[usize::from(group) % divisors.len()];
        let rows = [1, b, b * f][rows];
        Case { shape: [b, f, h, w, c], groups, rows, residual, mean, seed }
    })
}

/// Operands, as drawn.
struct Operands {
    x: Tensor,
    gain: Tensor,
    shift: Tensor,
    residual: Option<Tensor>,
}

impl Operands {
    fn draw(case: &Case) -> Self {
        let (seed, rows) = (case.seed, [case.rows, case.shape[4]]);
        Operands {
            x: draw(seed ^ 1, &case.shape) * 2.0 + case.mean,
            gain: draw(seed ^ 2, &rows) * 0.3 + 1.0,
            shift: draw(seed ^ 3, &rows) * 0.5,
            residual: case.residual.then(|| draw(seed ^ 4, &case.shape)),
        }
    }

    fn finish(&self, groups: i64) -> GroupFinish<'_> {
        let Operands { gain, shift, residual, .. } = self;
        GroupFinish { groups, gain, shift, residual: residual.as_ref() }
    }
}

/// x with mean 0 and variance 1 over groups, and one over the deviation of each position's group.
fn normal(x: &Tensor, groups: i64) -> (Tensor, Tensor) {
    let size = x.size();
    let grouped = x.reshape([size[0], -1, groups, size[4] / groups]);
    let (variance, mean) = grouped.var_mean_correction([1i64, 3].as_slice(), 0, true);
    let factor = (variance + 1e-5).rsqrt();
    let normal = ((&grouped - mean) * &factor).view(size.as_slice());
    (normal, factor.expand_as(&grouped).reshape(size.as_slice()))
}

/// Rows of c as they stand for the positions of b f h w c.
fn over(rows: &Tensor, shape: &[i64; 5]) -> Tensor {
    let [b, f, _, _, c] = *shape;
    let each = b * f / rows.size()[0];
    rows.repeat_interleave_self_int(each, 0, None).view([b, f, 1, 1, c])
}

/// What the kernel computes, by libtorch.
fn plain(x: &Tensor, gain: &Tensor, shift: &Tensor, case: &Case) -> Tensor {
    let (normal, _) = normal(x, case.groups);
    (normal * over(gain, &case.shape) + over(shift, &case.shape)).silu()
}

fn wide(x: &Tensor) -> Tensor {
    x.to_kind(Kind::Double)
}

fn check(case: &Case) {
    let of = Operands::draw(case);
    let mut want = plain(&wide(&of.x), &wide(&of.gain), &wide(&of.shift), case);
    if let Some(residual) = &of.residual {
        want += residual;
    }
    for isa in Isa::tested() {
        let GroupFinished { y, .. } = group_finish(isa, &of.x, &of.finish(case.groups));
        let off = error(&y, &want);
        assert!(off < 1e-5, "{isa}: {off:e} of {case:?}");
    }
}

/// Of x, gain and shift.
fn check_gradients(case: &Case) {
    let of = Operands::draw(case);
    let grad = draw(case.seed ^ 5, &case.shape) + 0.3;
    let leaves = [&of.x, &of.gain, &of.shift].map(|t| wide(t).set_requires_grad(true));
    let [x, gain, shift] = &leaves;
    (plain(x, gain, shift, case) * &grad).sum(Kind::Double).backward();
    // What the gradient of x is a difference of, and how many times its rounding that of x is, where
    // the values of a group are close together.
    let factor = normal(&x.detach(), case.groups).1;
    let inner = wide(&grad) * over(&gain.detach(), &case.shape) * &factor;
    let inner = inner * (x.detach().abs() * factor + 1.0);
    let norm = |t: &Tensor| t.norm().double_value(&[]);
    for isa in Isa::tested() {
        let finish = of.finish(case.groups);
        let GroupFinished { statistics, .. } = group_finish(isa, &of.x, &finish);
        let got = group_finish_grad(isa, (&of.x, &grad), &statistics, &finish);
        let pairs = [(&got.x, x), (&got.gain, gain), (&got.shift, shift)];
        for ((got, leaf), name) in pairs.into_iter().zip(["x", "gain", "shift"]) {
            let want = leaf.grad();
            assert_eq!(got.size(), want.size());
            let off = norm(&(wide(got) - &want));
            // A group of two values moves with neither of them: a gradient of zero comes out as the
            // rounding of a difference.
            let rounding = if name == "x" { 1e-6 * norm(&inner) } else { 0.0 };
            let bound = 1e-4 * norm(&want) + rounding;
            assert!(off <= bound, "{isa}: gradient of {name} off by {off:e} > {bound:e}, {case:?}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn group_norm_and_what_follows_is_that_of_libtorch(case in case()) {
        check(&case);
    }

    #[test]
    fn gradients_are_those_of_libtorch(case in case()) {
        check_gradients(&case);
    }
}

#[test]
fn groups_need_not_be_whole_vectors() {
    // From one channel a group to all of them; 3 and 6 are no part of a vector.
    for groups in [1, 2, 3, 8, 16, 48] {
        for rows in [1, 2, 4] {
            let shape = [2, 2, 5, 7, 48];
            let case = Case { shape, groups, rows, residual: true, mean: 0.5, seed: 31 };
            check(&case);
            check_gradients(&case);
        }
    }
}

#[test]
fn a_team_shares_samples_and_parts_of_them() {
    let threads = vd_tensor_ops::torch::threads();
    vd_tensor_ops::torch::set_threads(3);
    for (b, f, side) in [(1, 1, 1), (2, 1, 1), (1, 2, 9), (5, 2, 9), (4, 1, 12)] {
        for rows in [1, b, b * f] {
            let shape = [b, f, side, side, 16];
            let case = Case { shape, groups: 4, rows, residual: false, mean: 0.0, seed: 7 };
            check(&case);
            check_gradients(&case);
        }
    }
    vd_tensor_ops::torch::set_threads(threads);
}

#[test]
fn a_mean_that_is_large_costs_no_more_than_it_costs_libtorch() {
    // Sums of squares from zero would be off by 2^-24 times a million.
    let shape = [2, 3, 16, 16, 32];
    let case = Case { shape, groups: 8, rows: 1, residual: false, mean: 2000.0, seed: 91 };
    let of = Operands::draw(&case);
    let want = plain(&wide(&of.x), &wide(&of.gain), &wide(&of.shift), &case);
    let first = of.x.permute([0, 4, 1, 2, 3]).contiguous();
    let theirs = first.group_norm(8, Some(of.gain.get(0)), Some(of.shift.get(0)), 1e-5, false);
    let theirs = error(&theirs.silu().permute([0, 2, 3, 4, 1]), &want);
    for isa in Isa::tested() {
        let ours = error(&group_finish(isa, &of.x, &of.finish(8)).y, &want);
        assert!(ours < 1.5 * theirs + 1e-6, "{isa}: {ours:e}, libtorch {theirs:e}");
    }
}

#[test]
fn the_block_answers_and_learns_as_by_libtorchs_operations() {
    // Rows of the embedding for samples, for frames, or none; 10 channels are no whole vectors.
    for (c, frames, seed) in [(16, Some(1), 1), (16, Some(3), 2), (16, None, 3), (10, Some(1), 4)] {
        let mut params = Params::new(5, Kind::Float, Device::Cpu);
        let groups = NormKind::Group { groups: 2 };
        let block = ConvBlock::new(&mut params.root(), 2 * c, c, groups).unwrap();
        for (name, param) in params.iter() {
            let like = draw(seed ^ name.len() as u64, &param.tensor.size()) * 0.2;
            let _ = tch::no_grad(|| param.tensor.shallow_clone().g_add_(&like));
        }
        let (shape, norms) = ([2, 3, 6, 5, c], frames.map(|frames| [2, frames, 1, 1, c]));
        let both = [Precision::Reference, Precision::F32].map(|precision| {
            let leaf = |k: u64, shape: &[i64]| draw(seed ^ k, shape).set_requires_grad(true);
            let inputs = [leaf(16, &shape), leaf(17, &shape), leaf(18, &shape)];
            let film = norms.map(|norms| [leaf(19, &norms), leaf(20, &norms)]);
            let scale_shift = film.as_ref().map(|[scale, shift]| ScaleShift {
                scale: scale.shallow_clone(),
                shift: shift.shallow_clone(),
            });
            let [x, skip, residual] = &inputs;
            let y =
                with(precision, || block.forward(&[x, skip], scale_shift.as_ref(), Some(residual)));
            (&y * draw(seed ^ 21, &shape)).sum(Kind::Float).backward();
            let mut all = vec![y.detach()];
            all.extend(inputs.iter().chain(film.iter().flatten()).map(Tensor::grad));
            for (_, param) in params.iter() {
                all.push(param.tensor.grad().copy());
                let _ = param.tensor.grad().zero_();
            }
            all
        });
        assert_eq!(both[0].len(), if norms.is_some() { 10 } else { 8 });
        for (want, got) in both[0].iter().zip(&both[1]) {
            let off = error(got, &wide(want));
            assert!(off < 2e-5, "{off:e} of {c} channels, {frames:?}");
        }
    }
}
