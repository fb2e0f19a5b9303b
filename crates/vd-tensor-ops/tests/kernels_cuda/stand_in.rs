//! Rows and what stands in for them, with gradients of both.

use proptest::prelude::*;
use tch::{Kind, Tensor};
use vd_tensor_ops::kernels::cuda;
use vd_tensor_ops::layers::or_stand_in;

use crate::{bound, device, draw, here, off, rounded};

/// The output and the gradients of rows and stand-in.
fn run(rows: &Tensor, null: &Tensor, mask: &Tensor, weights: &Tensor) -> [Tensor; 3] {
    let leaf = |x: &Tensor| x.detach().copy().set_requires_grad(true);
    let (rows, null) = (leaf(rows), leaf(null));
    let y = or_stand_in(&rows, &null, mask);
    (&y * weights).sum(y.kind()).backward();
    [y.detach(), rows.grad(), null.grad()]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn rows_and_stand_ins_answer_and_learn_as_by_libtorchs_operations(
        b in 1i64..20, f in 1i64..5, d in prop_oneof![1i64..70, Just(200i64)],
        of_frames in any::<(bool, bool)>(), share in 0.0f64..1.0, half in any::<bool>(), seed in any::<u64>(),
    ) {
        let kind = if half { Kind::BFloat16 } else { Kind::Float };
        let frames = |each: bool| if each { f } else { 1 };
        let all = frames(of_frames.0).max(frames(of_frames.1));
        let mask = draw(seed ^ 1, &[b, frames(of_frames.1), 1]).gt(4.0 * share - 2.0);
        let (rows, wide_rows) = rounded(&draw(seed ^ 2, &[b, frames(of_frames.0), d]), kind);
        let (null, wide_null) = rounded(&draw(seed ^ 3, &[1, d]), kind);
        let (weights, wide_weights) = rounded(&draw(seed ^ 4, &[b, all, d]), kind);
        let got = here(|| {
            assert!(cuda::stand_in_fits(&rows, &null, &mask).is_some());
            run(&rows, &null, &mask, &weights)
        });
        let want = run(&wide_rows, &wide_null, &mask, &wide_weights);
        assert!(got[0].to_kind(Kind::Double) == want[0]);
        for (got, want) in got.iter().zip(&want) {
            assert_eq!(got.size(), want.size());
            let error = (got.to_kind(Kind::Double) - want).norm().double_value(&[]);
            // Sums may cancel, of as many values as there are rows.
            let whole = want.norm().double_value(&[]).max(0.1 * ((b * all * d) as f64).sqrt());
            assert!(error <= bound(kind, 1e-5) * whole, "{error:e} of {whole}");
        }
    }
}

#[test]
fn rows_that_need_no_gradient_get_none_and_other_kinds_are_left_to_libtorch() {
    let (rows, mask) = (draw(1, &[4, 1, 8]), draw(2, &[4, 1, 1]).gt(0.0));
    let null = draw(3, &[1, 8]).set_requires_grad(true);
    let y = here(|| or_stand_in(&rows, &null, &mask));
    y.sum(Kind::Float).backward();
    let count = mask.to_kind(Kind::Float).sum(Kind::Float);
    assert!(off(&null.grad(), &count.to_kind(Kind::Double).expand([1, 8], false)) < 1e-6);
    let fits =
        |rows: &Tensor, mask: &Tensor| here(|| cuda::stand_in_fits(rows, &null, mask).is_some());
    assert!(fits(&rows, &mask));
    assert!(
        !fits(&rows.to_kind(Kind::BFloat16), &mask) && !fits(&rows.to_kind(Kind::Double), &mask)
    );
    assert!(!fits(&rows, &mask.to_kind(Kind::Uint8)) && !fits(&rows.select(1, 0), &mask));
    let empty = Tensor::empty([0, 1, 8], (Kind::Float, device()));
    assert!(!fits(&empty, &mask.narrow(0, 0, 0)));
}
