//! The layer of attention along time with norm and residual: its two roads, forward and backward.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use proptest::prelude::*;
use tch::{Device, Kind, Tensor};
use vd_tensor_ops::kernels::{self, Precision};
use vd_tensor_ops::layers::{HeadShape, LayerNorm, RelativeBias, TemporalAttention};
use vd_tensor_ops::{FrameMask, Noise, Params, SeededNoise};

/// Output, and gradients of all parameters and the input.
fn road(precision: Precision, case: &Case) -> Vec<Tensor> {
    let [b, f, .., c] = case.size;
    let mut params = Params::new(case.seed, Kind::Float, Device::Cpu);
    let mut root = params.root();
    let heads = case.shape.heads;
    let bias =
        (case.distance == 0).then(|| RelativeBias::new(&mut root.sub("bias"), heads, 32).unwrap());
    let bias = |f: i64| bias.as_ref().map(|bias| bias.forward(f));
    let norm = LayerNorm::new(&mut root.sub("norm"), c).unwrap();
    let mut scope = root.sub("attention");
    let layer = match case.distance {
        0 => TemporalAttention::new(&mut scope, c, case.shape),
        distance => TemporalAttention::shaw(&mut scope, c, case.shape, distance),
    };
    let layer = layer.unwrap();
    let draw = |seed: u64| {
        let like = Tensor::empty(case.size, (Kind::Float, Device::Cpu));
        SeededNoise::new(case.seed ^ seed, 0).normal(&like)
    };
    let (x, grad) = (draw(1).set_requires_grad(true), draw(2));
    let focus: Vec<bool> = (0..b).map(|i| i % 2 == 0).collect();
    let mask = if case.masked {
        FrameMask::Focus(Tensor::from_slice(&focus)).forbidden(f, Device::Cpu)
    } else {
        None
    };
    let mut leaves: Vec<Tensor> =
        params.trainable().into_iter().map(|(_, t)| t.shallow_clone()).collect();
    leaves.push(x.shallow_clone());
    kernels::with(precision, || {
        let y = layer.residual(&norm, &x, bias(f).as_ref(), mask.as_ref());
        let value = (&y * grad).sum(Kind::Float);
        let mut all = Tensor::run_backward(&[value], &leaves, false, false);
        all.push(y.detach());
        let _no_gradients = tch::no_grad_guard();
        all.push(layer.residual(&norm, &x, bias(f).as_ref(), mask.as_ref()));
        all
    })
}

#[derive(Debug, Clone)]
struct Case {
    size: [i64; 5],
    shape: HeadShape,
    masked: bool,
    /// Up to which vectors differ; 0 for rotary positions and a bias.
    distance: i64,
    seed: u64,
}

fn case() -> impl Strategy<Value = Case> {
    let size = (1i64..3, 2i64..8, 1i64..6, 1i64..6, 1i64..3);
    // Heads that turn in part, as a whole, and that no kernel takes.
    let dim = prop_oneof![Just(8i64), Just(32), Just(40), Just(34), Just(33)];
    (size, 1i64..4, dim, (any::<bool>(), 0i64..7), any::<u64>()).prop_map(
        |((b, f, h, w, c), heads, dim, (masked, distance), seed)| {
            let shape = HeadShape { heads, dim };
            Case { size: [b, f, h, w, 16 * c], shape, masked, distance, seed }
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn both_roads_give_the_same_values_and_gradients(case in case()) {
        let (fused, plain) = (road(Precision::F32, &case), road(Precision::Reference, &case));
        prop_assert_eq!(fused.len(), plain.len());
        let norm = |t: &Tensor| t.norm().double_value(&[]);
        for (i, (fused, plain)) in fused.iter().zip(&plain).enumerate() {
            let error = norm(&(fused - plain));
            // Both round in f32; the sums of gradients have up to a thousand terms.
            prop_assert!(error <= 2e-5 * norm(plain) + 1e-6, "{i}: {error} of {}", norm(plain));
        }
    }
}
