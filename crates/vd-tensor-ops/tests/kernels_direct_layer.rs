//! Layers that convolve by their products: their two roads, forward and backward.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod drawn;

use drawn::draw;
use proptest::prelude::*;
use tch::{Device, Kind, Tensor};
use vd_tensor_ops::Params;
use vd_tensor_ops::kernels::{self, Precision};
use vd_tensor_ops::layers::{
    ConvBlock, Linear, NormKind, ScaleShift, SpaceConv, SpaceDown, SpaceUp,
};

#[derive(Debug, Clone, Copy)]
enum Layer {
    /// Few channels, or many, and the kernel.
    Conv(i64, i64),
    /// Two inputs, what follows them, and whether there is a residual.
    Block(NormKind, bool),
    /// A product over channels, of two inputs or one.
    Pointwise(bool),
    Down,
    Up,
}

#[derive(Debug, Clone)]
struct Case {
    size: [i64; 4],
    layer: Layer,
    seed: u64,
}

/// Output, with and without a graph, and gradients of all parameters and inputs.
fn road(precision: Precision, case: &Case) -> Vec<Tensor> {
    let Case { size: [b, f, h, w], layer, seed } = *case;
    let mut params = Params::new(seed, Kind::Float, Device::Cpu);
    let leaf = |k: u64, shape: &[i64]| draw(seed ^ k, shape).set_requires_grad(true);
    let channels = if let Layer::Conv(c, _) = layer { c } else { 32 };
    let x = leaf(1, &[b, f, h, w, channels]);
    let second = leaf(2, &[b, f, h, w, 16]);
    let residual = leaf(3, &[b, f, h, w, 48]);
    let [scale, shift] = [4, 5].map(|k| leaf(k, &[b, 1, 1, 1, 48]));
    let mut leaves = vec![x.shallow_clone()];
    let root = &mut params.root();
    let run: Box<dyn Fn() -> Tensor> = match layer {
        Layer::Conv(c, kernel) => {
            let layer = SpaceConv::new(root, c, 48, kernel).unwrap();
            Box::new(move || layer.forward(&x))
        }
        Layer::Block(norm, more) => {
            let layer = ConvBlock::new(root, 48, 48, norm).unwrap();
            leaves.extend([&second, &scale, &shift].map(Tensor::shallow_clone));
            leaves.extend(more.then(|| residual.shallow_clone()));
            let film = ScaleShift { scale, shift };
            let residual = more.then_some(residual);
            Box::new(move || layer.forward(&[&x, &second], Some(&film), residual.as_ref()))
        }
        Layer::Pointwise(two) => {
            let inputs = if two { 48 } else { 32 };
            let layer = Linear::pointwise(root, inputs, 48, 3, true).unwrap();
            leaves.extend(two.then(|| second.shallow_clone()));
            Box::new(move || {
                if two { layer.forward_parts(&[&x, &second]) } else { layer.forward_parts(&[&x]) }
            })
        }
        Layer::Down => {
            let layer = SpaceDown::new(root, channels).unwrap();
            Box::new(move || layer.forward(&x))
        }
        Layer::Up => {
            let layer = SpaceUp::new(root, channels).unwrap();
            Box::new(move || layer.forward(&x))
        }
    };
    leaves.extend(params.trainable().into_iter().map(|(_, t)| t.shallow_clone()));
    kernels::with(precision, || {
        let y = run();
        let value = (&y * draw(seed ^ 6, &y.size())).sum(Kind::Float);
        let mut all = Tensor::run_backward(&[value], &leaves, false, false);
        all.push(y.detach());
        all.push(tch::no_grad(run));
        all
    })
}

fn case() -> impl Strategy<Value = Case> {
    let layer = prop_oneof![
        (prop_oneof![Just(3i64), Just(4), Just(24)], prop_oneof![Just(1i64), Just(3), Just(7)])
            .prop_map(|(c, kernel)| Layer::Conv(c, kernel)),
        (prop_oneof![Just(NormKind::Rms), Just(NormKind::Group { groups: 8 })], any::<bool>())
            .prop_map(|(norm, more)| Layer::Block(norm, more)),
        any::<bool>().prop_map(Layer::Pointwise),
        Just(Layer::Down),
        Just(Layer::Up),
    ];
    // A window of four with a border of one needs two pixels.
    let size = (1i64..3, 1i64..3, 2i64..9, 2i64..9).prop_map(|(b, f, h, w)| [b, f, h, w]);
    (size, layer, any::<u64>()).prop_map(|(size, layer, seed)| Case { size, layer, seed })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn both_roads_give_the_same_values_and_gradients(case in case()) {
        let (direct, plain) = (road(Precision::Exact, &case), road(Precision::Reference, &case));
        prop_assert_eq!(direct.len(), plain.len());
        let norm = |t: &Tensor| t.norm().double_value(&[]);
        for (i, (direct, plain)) in direct.iter().zip(&plain).enumerate() {
            prop_assert_eq!(direct.size(), plain.size());
            let error = norm(&(direct - plain));
            // Both round in f32; the sums of gradients have up to a thousand terms.
            prop_assert!(error <= 2e-5 * norm(plain) + 1e-6, "{i}: {error} of {}", norm(plain));
        }
    }
}
