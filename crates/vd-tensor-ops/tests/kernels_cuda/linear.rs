//! Linear attention over space between its products, over drawn shapes.

use proptest::prelude::*;
use tch::{Kind, Tensor};
use vd_tensor_ops::kernels::cuda;
use vd_tensor_ops::layers::HeadShape;

use crate::{bound, draw, here, off, rounded};

#[derive(Debug, Clone)]
struct Case {
    kind: Kind,
    images: i64,
    sites: i64,
    heads: HeadShape,
    /// Deviation of queries and keys.
    spread: f64,
    seed: u64,
}

fn case() -> impl Strategy<Value = Case> {
    let kind = prop_oneof![Just(Kind::Float), Just(Kind::BFloat16)];
    let sites = prop_oneof![1i64..20, 1i64..400];
    let dim = prop_oneof![Just(16i64), Just(32)];
    let spread = prop_oneof![Just(1.0), Just(8.0)];
    (kind, 1i64..4, sites, 1i64..4, dim, spread, any::<u64>()).prop_map(
        |(kind, images, sites, n, dim, spread, seed)| Case {
            kind,
            images,
            sites,
            heads: HeadShape::new(n, dim).unwrap(),
            spread,
            seed,
        },
    )
}

fn plain(qkv: &Tensor, heads: HeadShape) -> Tensor {
    let parts = qkv.unflatten(2, [3, heads.heads, heads.dim]); // i s 3 n d
    let [q, k, v] = [0, 1, 2].map(|i| parts.select(2, i).transpose(1, 2)); // i n s d
    let q = q.softmax(-1, Kind::Double) * heads.scale();
    let context = k.softmax(2, Kind::Double).transpose(2, 3).matmul(&v);
    q.matmul(&context).transpose(1, 2).flatten(2, 3)
}

fn check(case: &Case) {
    let Case { kind, images, sites, heads, seed, .. } = *case;
    let inner = heads.inner();
    let drawn = draw(seed ^ 1, &[images, sites, 3 * inner]);
    let _ = drawn.narrow(2, 0, 2 * inner).g_mul_scalar_(case.spread);
    let (qkv, wide_qkv) = rounded(&drawn, kind);
    let (grad, wide_grad) = rounded(&draw(seed ^ 2, &[images, sites, inner]), kind);
    let want_qkv = wide_qkv.detach().set_requires_grad(true);
    let want = plain(&want_qkv, heads);
    (&want * &wide_grad).sum(Kind::Double).backward();

    let qkv = qkv.detach().set_requires_grad(true);
    let got = here(|| {
        let on = cuda::linear_fits(&qkv, heads).expect("a kernel");
        cuda::linear(&on, &qkv, heads)
    });
    assert_eq!(got.kind(), kind);
    assert!(off(&got, &want) < bound(kind, 1e-5), "{:e} of {case:?}", off(&got, &want));
    (&got * &grad).sum(kind).backward();
    for (i, name) in ["queries", "keys", "values"].into_iter().enumerate() {
        let part = |t: &Tensor| t.narrow(2, i as i64 * inner, inner);
        let (got, want) = (part(&qkv.grad()), part(&want_qkv.grad()));
        // One site's keys move nothing: what is left is the rounding of differences.
        let whole = want_qkv.grad().norm().double_value(&[]).max(1e-6);
        let error = (got.to_kind(Kind::Double) - want).norm().double_value(&[]) / whole;
        assert!(error < bound(kind, 1e-4), "gradient of {name}: {error:e} of {case:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn linear_attention_and_its_gradients_are_those_of_libtorch(case in case()) {
        check(&case);
    }
}

#[test]
fn the_sites_of_an_image_are_shared_by_several_blocks() {
    for kind in [Kind::Float, Kind::BFloat16] {
        let heads = HeadShape::new(1, 32).unwrap();
        check(&Case { kind, images: 1, sites: 1000, heads, spread: 3.0, seed: 5 });
    }
}
