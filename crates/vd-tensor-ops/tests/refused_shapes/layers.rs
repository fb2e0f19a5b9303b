//! The layers: what they take is what libtorch's operations take, with the same result.

use tch::{Device, Kind, Tensor};
use vd_tensor_ops::kernels::{Precision, with};
use vd_tensor_ops::layers::{
    ConvBlock, CrossAttention, Dropout, DropoutSeeds, GroupNorm, HeadShape, LayerNorm, Linear,
    NormKind, RelativeBias, RmsNorm, ScaleShift, SpaceConv, SpaceDown, SpaceUp, SpatialAttention,
    SpatialLinearAttention, TemporalAttention, TemporalConv, TokenShift, Wrap,
};
use vd_tensor_ops::{Params, Result, Scope};

use super::{caught, drawn_as, names, replaced, wrong};

type Forward = Box<dyn Fn(&[Tensor]) -> Tensor>;
type Make = Box<dyn Fn(&mut Scope) -> Result<Forward>>;

/// A layer of parameters of some kind, and operands that it takes.
struct Case {
    name: &'static str,
    operands: Vec<Tensor>,
    make: Make,
}

fn case<L: 'static>(
    name: &'static str,
    shapes: &[&[i64]],
    make: impl Fn(&mut Scope) -> Result<L> + 'static,
    forward: impl Fn(&L, &[Tensor]) -> Tensor + Clone + 'static,
) -> Case {
    let make = move |scope: &mut Scope| {
        let (layer, forward) = (make(scope)?, forward.clone());
        Ok(Box::new(move |t: &[Tensor]| forward(&layer, t)) as Forward)
    };
    Case { name, operands: drawn_as(shapes), make: Box::new(make) }
}

fn made(case: &Case, kind: Kind) -> (Forward, Params) {
    let mut params = Params::new(3, kind, Device::Cpu);
    let forward = (case.make)(&mut params.root()).unwrap();
    (forward, params)
}

const X: &[i64] = &[2, 3, 6, 5, 16];
const Y: &[i64] = &[2, 3, 6, 5, 32];

fn convolutions() -> Vec<Case> {
    let film: &[i64] = &[2, 3, 1, 1, 32];
    let block = |t: &[Tensor], b: &ConvBlock| {
        let film = ScaleShift { scale: t[1].shallow_clone(), shift: t[2].shallow_clone() };
        b.forward(&[&t[0]], Some(&film), Some(&t[3]))
    };
    let around = Wrap { height: true, width: false };
    let mut all = vec![
        case("SpaceConv 3", &[X], |s| SpaceConv::new(s, 16, 32, 3), |l, t| l.forward(&t[0])),
        case("SpaceConv 7", &[X], |s| SpaceConv::new(s, 16, 32, 7), |l, t| l.forward(&t[0])),
        case(
            "SpaceConv 7 of 3",
            &[&[2, 3, 6, 5, 3]],
            |s| SpaceConv::new(s, 3, 32, 7),
            |l, t| l.forward(&t[0]),
        ),
        case(
            "SpaceConv, a ring",
            &[X],
            move |s| Ok(SpaceConv::new(s, 16, 32, 3)?.wrapped(around)),
            |l, t| l.forward(&t[0]),
        ),
        case("SpaceDown", &[X], |s| SpaceDown::new(s, 16), |l, t| l.forward(&t[0])),
        case("SpaceUp", &[X], |s| SpaceUp::new(s, 16), |l, t| l.forward(&t[0])),
        case(
            "TemporalConv",
            &[X, &[2, 1, 1, 3, 3]],
            |s| TemporalConv::new(s, 16, 3),
            |l, t| l.forward(&t[0], Some(&t[1])),
        ),
        case(
            "ConvBlock of two",
            &[X, Y],
            |s| ConvBlock::new(s, 48, 16, NormKind::Rms),
            |l, t| l.forward(&[&t[0], &t[1]], None, None),
        ),
        case("Linear", &[X], |s| Linear::new(s, 16, 32), |l, t| l.forward(&t[0])),
        case(
            "Linear of two",
            &[X, Y],
            |s| Linear::pointwise(s, 48, 32, 3, true),
            |l, t| l.forward_parts(&[&t[0], &t[1]]),
        ),
    ];
    for (name, kind) in
        [("ConvBlock, RMS", NormKind::Rms), ("ConvBlock, groups", NormKind::Group { groups: 4 })]
    {
        let make = move |s: &mut Scope| ConvBlock::new(s, 16, 32, kind);
        all.push(case(name, &[X, film, film, Y], make, move |l, t| block(t, l)));
    }
    all
}

fn others() -> Vec<Case> {
    let shape = HeadShape { heads: 2, dim: 8 };
    let norm = |s: &mut Scope| LayerNorm::new(&mut s.sub("norm"), 16);
    vec![
        case("RmsNorm", &[X], |s| RmsNorm::new(s, 16), |l, t| l.forward(&t[0])),
        case("LayerNorm", &[X], |s| LayerNorm::new(s, 16), |l, t| l.forward(&t[0])),
        case("GroupNorm", &[X], |s| GroupNorm::new(s, 16, 4), |l, t| l.forward(&t[0])),
        case(
            "TemporalAttention",
            &[X, &[2, 3, 3], &[2, 1, 1, 3, 3]],
            move |s| Ok((TemporalAttention::new(s, 16, shape)?, norm(s)?)),
            |(l, norm), t| l.residual(norm, &t[0], Some(&t[1]), Some(&off_diagonal(&t[2]))),
        ),
        case(
            "TemporalAttention of distances",
            &[X],
            move |s| Ok((TemporalAttention::shaw(s, 16, shape, 2)?, norm(s)?)),
            |(l, norm), t| l.residual(norm, &t[0], None, None),
        ),
        case(
            "SpatialAttention",
            &[X, &[2, 30, 30]],
            move |s| Ok((SpatialAttention::new(s, 16, shape)?, norm(s)?)),
            |(l, norm), t| l.residual(norm, &t[0], Some(&t[1])),
        ),
        case(
            "SpatialLinearAttention",
            &[X],
            move |s| Ok((SpatialLinearAttention::new(s, 16, shape)?, norm(s)?)),
            |(l, norm), t| l.residual(&t[0], norm),
        ),
        case(
            "CrossAttention",
            &[X, &[2, 7, 12], &[2, 7]],
            move |s| CrossAttention::new(s, 16, 12, shape),
            |l, t| l.forward(&t[0], &t[1], &t[2].abs()),
        ),
        case(
            "Dropout",
            &[X],
            |_| Dropout::new(0.3, 5),
            |l, t| l.forward(&t[0], Some(&DropoutSeeds::new(&[1, 2]))),
        ),
        case(
            "TokenShift",
            &[X, &[2, 1, 1, 3, 3]],
            |_| Ok(TokenShift),
            |_, t| TokenShift::space(&TokenShift::time(&t[0], Some(&t[1]))),
        ),
    ]
}

/// Marks that leave every frame itself.
fn off_diagonal(t: &Tensor) -> Tensor {
    let size = t.size();
    match size.as_slice() {
        [.., a, b] if a == b && t.kind() == Kind::Bool => {
            let eye = Tensor::eye(*a, (Kind::Bool, Device::Cpu));
            t.logical_and(&eye.logical_not())
        }
        _ => t.shallow_clone(),
    }
}

/// The output and, where it has one, a gradient pass.
fn run(
    forward: &Forward,
    operands: &[Tensor],
    tracked: bool,
) -> std::result::Result<Tensor, String> {
    if !tracked {
        return caught(|| tch::no_grad(|| forward(operands)));
    }
    caught(|| {
        let y = forward(operands);
        if y.requires_grad() {
            y.sum(y.kind()).backward();
        }
        y.detach()
    })
}

/// What is wrong where operands are neither refused by name nor computed with as libtorch does.
fn check(what: &str, forward: &Forward, operands: &[Tensor]) -> Option<String> {
    [false, true].into_iter().find_map(|tracked| {
        let got = match run(forward, operands, tracked) {
            Err(said) if names(&said) => return None,
            Err(said) => return Some(format!("{what}: not by name: {said}")),
            Ok(got) => got,
        };
        match with(Precision::Reference, || run(forward, operands, tracked)) {
            Err(said) => Some(format!("{what}: libtorch refuses it: {said}")),
            Ok(want) => {
                let same = got.size() == want.size()
                    && got.kind() == want.kind()
                    && got.allclose(&want, 1e-3, 1e-3, true);
                (!same).then(|| format!("{what}: another result than libtorch's"))
            }
        }
    })
}

#[test]
fn layers_refuse_operands_that_do_not_go_together() {
    let mut failed = Vec::new();
    for case in convolutions().into_iter().chain(others()) {
        let (forward, _params) = made(&case, Kind::Float);
        let right = run(&forward, &case.operands, true);
        assert!(right.is_ok(), "{}: {right:?}", case.name);
        failed.extend(check(case.name, &forward, &case.operands));
        for (at, operand) in case.operands.iter().enumerate() {
            for wrong in wrong(operand) {
                let operands = replaced(&case.operands, at, &wrong.tensor);
                let what = format!("{}, operand {at}, {}", case.name, wrong.what);
                failed.extend(check(&what, &forward, &operands));
            }
        }
    }
    assert!(failed.is_empty(), "not refused:\n{}", failed.join("\n"));
}

#[test]
fn parameters_of_another_kind_are_refused_or_computed_with_by_libtorch() {
    let mut failed = Vec::new();
    for case in convolutions().into_iter().chain(others()) {
        for kind in [Kind::Half, Kind::BFloat16, Kind::Double] {
            let (forward, _params) = made(&case, kind);
            let what = format!("{} of {kind:?} given f32", case.name);
            failed.extend(check(&what, &forward, &case.operands));
        }
    }
    assert!(failed.is_empty(), "not refused:\n{}", failed.join("\n"));
}

#[test]
fn no_input_is_refused() {
    let mut params = Params::new(3, Kind::Float, Device::Cpu);
    let block = ConvBlock::new(&mut params.root().sub("a"), 16, 16, NormKind::Rms).unwrap();
    let linear = Linear::pointwise(&mut params.root().sub("b"), 16, 16, 3, true).unwrap();
    for said in [
        caught(|| drop(block.forward(&[], None, None))),
        caught(|| drop(tch::no_grad(|| linear.forward_parts(&[])))),
    ] {
        assert!(said.is_err_and(|said| super::is_ours(&said)));
    }
}

#[test]
fn buckets_of_any_distance_are_rows_of_the_table() {
    let mut params = Params::new(3, Kind::Float, Device::Cpu);
    let bias = RelativeBias::new(&mut params.root(), 2, 32).unwrap();
    for distance in [i64::MIN, -33, 0, 33, i64::MAX] {
        assert!((0..RelativeBias::BUCKETS).contains(&bias.bucket(distance)), "{distance}");
    }
}
