//! Values that are dropped: the host's masks, on the way forward and back.

use proptest::prelude::*;
use tch::{Device, Kind, Tensor};
use vd_tensor_ops::layers::{Dropout, DropoutSeeds};

use crate::{draw, here};

/// The output and the gradient of a sum with weights.
fn run(layer: &Dropout, (x, weights): (&Tensor, &Tensor), seeds: &DropoutSeeds) -> [Tensor; 2] {
    let x = x.detach().copy().set_requires_grad(true);
    let y = layer.forward(&x, Some(seeds));
    (&y * weights).sum(x.kind()).backward();
    [y.detach(), x.grad()].map(|t| t.to_device(Device::Cpu))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    #[test]
    fn a_device_drops_what_the_host_drops(
        b in 1i64..4, f in 1i64..4, each in prop_oneof![1i64..40, Just(4096i64), Just(9000i64)],
        half in any::<bool>(), rate in 0.01f64..0.9, seed in any::<u64>(), site in any::<u64>(),
    ) {
        let kind = if half { Kind::BFloat16 } else { Kind::Float };
        let layer = Dropout::new(rate, site).unwrap();
        let seeds: Vec<u64> = (0..b as u64).map(|k| seed.wrapping_mul(k + 1)).collect();
        let seeds = DropoutSeeds::new(&seeds);
        let [x, weights] = [1, 2].map(|k| draw(seed ^ k, &[b, f, each]).to_kind(kind));
        let there = here(|| run(&layer, (&x, &weights), &seeds));
        // On the host in f32, of which a result in bf16 is the rounding.
        let [x, weights] = [x, weights].map(|t| t.to_device(Device::Cpu).to_kind(Kind::Float));
        let host = run(&layer, (&x, &weights), &seeds);
        for (got, want) in there.iter().zip(&host) {
            prop_assert_eq!(got, &want.to_kind(kind));
        }
    }
}

#[test]
fn more_samples_than_one_launch_takes_all_have_their_mask() {
    let layer = Dropout::new(0.5, 3).unwrap();
    let seeds = DropoutSeeds::new(&(0..700).collect::<Vec<_>>());
    let [x, weights] = [1, 2].map(|k| draw(k, &[700, 2, 3]));
    let there = here(|| run(&layer, (&x, &weights), &seeds));
    let [x, weights] = [x, weights].map(|t| t.to_device(Device::Cpu));
    assert_eq!(there, run(&layer, (&x, &weights), &seeds));
}
