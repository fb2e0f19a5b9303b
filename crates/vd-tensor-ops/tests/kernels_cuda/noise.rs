//! Random numbers: those of the published cipher, and of the host.

use proptest::prelude::*;
use tch::{Device, Kind, Tensor};
use vd_tensor_ops::kernels::cuda::{self, Law, Streams};
use vd_tensor_ops::{Noise, SeededNoise};

use crate::{device, here};

/// The same draws by the host and by the kernels; one tensor for each (rows, values of a row, law).
fn both(seed: u64, first: u64, draws: &[(i64, i64, bool)]) -> Vec<(Tensor, Tensor)> {
    let drawn = |device: Device| {
        let mut noise = SeededNoise::new(seed, first);
        let one = |&(b, each, normal): &(i64, i64, bool)| {
            let like = Tensor::empty([b, each], (Kind::Float, device));
            let x = if normal { noise.normal(&like) } else { noise.uniform(&like) };
            x.to_device(Device::Cpu)
        };
        draws.iter().map(one).collect::<Vec<_>>()
    };
    drawn(Device::Cpu).into_iter().zip(here(|| drawn(device()))).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn a_device_draws_what_the_host_draws(
        // Fewer rows than before, and more: streams that are not equally far.
        draws in proptest::collection::vec((1i64..5, 0i64..5000, any::<bool>()), 1..5),
        seed in any::<u64>(), first in prop_oneof![0u64..9, any::<u64>()],
    ) {
        for ((host, there), draw) in both(seed, first, &draws).iter().zip(&draws) {
            if !draw.2 {
                prop_assert_eq!(host, there);
                continue;
            }
            prop_assert_eq!(host.size(), there.size());
            if host.numel() == 0 {
                continue;
            }
            // One rounding to f32, of values below 7 that f64 has to 1e-15.
            let apart = (host - there).abs() - host.abs() * 2f64.powi(-23);
            prop_assert!(apart.max().double_value(&[]) < 1e-14);
            let other = host.ne_tensor(there).sum(Kind::Double).double_value(&[]);
            prop_assert!(other <= 1.0, "{} of {} differ", other, host.numel());
        }
    }
}

#[test]
fn the_words_are_those_that_are_published_for_the_cipher() {
    // Key, counter and nonce of zeros: draft-strombergson-chacha-test-vectors-00, TC1, 256 bits, 8 rounds.
    let published = "3e00ef2f895f40d67f5bb8e81f09a5a12c840ec3ce9a7f3b181be188ef711a1e\
                     984ce172b9216f419f445367456d5619314a42a3da86b001387bfdb80e0cfe42";
    let byte = |i: usize| u32::from_str_radix(&published[2 * i..2 * i + 2], 16).unwrap();
    let word = |i: usize| (0..4).map(|k| byte(4 * i + k) << (8 * k)).sum::<u32>();
    let expected: Vec<f32> = (0..16).map(|i| (word(i) >> 8) as f32 / 16_777_216.0).collect();
    let drawn = here(|| {
        let on = cuda::machine(device()).unwrap();
        let streams = Streams { key: [0; 8], first: 0, word: 0 };
        cuda::draw(&*on, Law::Uniform, &streams, (1, 16), device()).unwrap()
    });
    assert_eq!(
        Vec::<f32>::try_from(drawn.flatten(0, -1).to_device(Device::Cpu)).unwrap(),
        expected
    );
}

#[test]
fn a_stream_that_has_no_more_words_is_an_error() {
    here(|| {
        let on = cuda::machine(device()).unwrap();
        let streams = Streams { key: [7; 8], first: 3, word: u64::MAX - 3 };
        let drawn = |law, each| cuda::draw(&*on, law, &streams, (2, each), device());
        assert!(drawn(Law::Normal, 3).unwrap_err().to_string().contains("no more words"));
        assert!(drawn(Law::Uniform, 3).is_ok());
    });
}
