//! Explicit randomness, one stream per sample.

mod bridge;
mod brownian;
mod ziggurat;

pub use brownian::BrownianNoise;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};
use tch::{Device, Kind, Tensor};
use vd_torch::upload;

use crate::kernels::cuda::{self, Law, Streams, Unit};

/// A source of random tensors whose first axis is the batch.
///
/// Row k of every result comes from its own stream, so a sample does not depend on the batch it is
/// made in.
pub trait Noise {
    /// Standard normal values, of the shape, kind and device of `like`.
    fn normal(&mut self, like: &Tensor) -> Tensor;

    /// Values uniform on [0, 1), of the shape, kind and device of `like`.
    fn uniform(&mut self, like: &Tensor) -> Tensor;

    /// Standard normal noise for the interval between two noise levels.
    ///
    /// The clock is the signal-to-noise ratio, alpha^2 / sigma^2 (0 at alpha = 0): with a Brownian
    /// path the noise of the halves of an interval sums to that of the whole ([`BrownianNoise`]).
    /// The default draws fresh noise.
    fn between(&mut self, from_snr: f64, to_snr: f64, like: &Tensor) -> Tensor {
        let _ = (from_snr, to_snr);
        self.normal(like)
    }

    /// Switches to a path that [`between`](Noise::between) has not followed yet.
    ///
    /// A loop over noise levels calls it when it begins and whenever the level rises again, since
    /// the noise of each descent must be independent of all earlier noise. Sources of fresh draws
    /// need not implement it; a wrapper around another source passes it on.
    fn new_path(&mut self) {}
}

/// Noise from a seed: sample k with seed s is the same, bit for bit, in any batch.
///
/// Values are drawn with ChaCha (8 rounds) and the Box-Muller transform in f64: on the host for a
/// tensor on the CPU, on the GPU for a tensor there, which rounds one normal value in some millions
/// differently.
#[derive(Debug, Clone)]
pub struct SeededNoise {
    seed: u64,
    first_sample: u64,
    rows: Vec<ChaCha8Rng>,
}

impl SeededNoise {
    /// Row k of the noise belongs to sample `first_sample + k`.
    pub fn new(seed: u64, first_sample: u64) -> Self {
        SeededNoise { seed, first_sample, rows: Vec::new() }
    }

    fn fill(&mut self, like: &Tensor, law: Law) -> Tensor {
        let shape = like.size();
        let (b, each) = match shape.split_first() {
            Some((b, rest)) => (*b as usize, rest.iter().product::<i64>() as usize),
            None => (1, 1),
        };
        for k in self.rows.len()..b {
            let mut row = ChaCha8Rng::seed_from_u64(self.seed);
            row.set_stream(self.first_sample.wrapping_add(k as u64));
            self.rows.push(row);
        }
        if let Some(drawn) = self.fill_there(like.device(), law, (b, each)) {
            return drawn.view(shape.as_slice()).to_kind(like.kind());
        }
        let draw = match law {
            Law::Normal => fill_normal,
            Law::Uniform => fill_uniform,
        };
        let mut values = vec![0f32; b * each];
        if each > 0 {
            for (row, out) in self.rows.iter_mut().zip(values.chunks_mut(each)) {
                draw(row, out);
            }
        }
        to_tensor(&values, &shape, like.kind(), like.device())
    }

    /// The same on the device, if it has the kernel: b samples, f32. The streams advance past the
    /// values drawn.
    fn fill_there(
        &mut self,
        device: Device,
        law: Law,
        (b, each): (usize, usize),
    ) -> Option<Tensor> {
        let on = cuda::machine_with(Unit::NOISE, device)?;
        let words = law.words(each as u64);
        let mut drawn = Vec::new();
        let mut first = self.first_sample;
        // Consecutive rows with the same stream position: usually all of them.
        for rows in self.rows[..b].chunk_by(|a, b| a.get_word_pos() == b.get_word_pos()) {
            let word = u64::try_from(rows[0].get_word_pos()).ok()?;
            let streams = Streams { key: key_of(&rows[0]), first, word };
            let size = (rows.len() as u64, each as u64);
            // If the device cannot, the host draws the same values.
            drawn.push(cuda::draw(&*on, law, &streams, size, device).ok()?);
            first = first.wrapping_add(rows.len() as u64);
        }
        let drawn = match drawn.len() {
            1 => drawn.pop(),
            _ => Tensor::f_cat(&drawn, 0).ok(),
        }?;
        // Not before all of them are there: the host would go on from the wrong word.
        for row in &mut self.rows[..b] {
            row.set_word_pos(row.get_word_pos() + u128::from(words));
        }
        Some(drawn)
    }
}

/// The ChaCha key of a stream.
fn key_of(row: &ChaCha8Rng) -> [u32; 8] {
    let seed = row.get_seed();
    std::array::from_fn(|i| u32::from_le_bytes(std::array::from_fn(|k| seed[4 * i + k])))
}

impl Noise for SeededNoise {
    fn normal(&mut self, like: &Tensor) -> Tensor {
        self.fill(like, Law::Normal)
    }

    fn uniform(&mut self, like: &Tensor) -> Tensor {
        self.fill(like, Law::Uniform)
    }
}

/// A seed for a purpose: mixes `seed` with the numbers that identify the purpose (step, sample,
/// ...).
pub fn derive_seed(seed: u64, purpose: &[u64]) -> u64 {
    // Mixed twice, so that seed and purpose are not interchangeable: seed 1 for 2 differs from seed
    // 2 for 1.
    purpose.iter().fold(splitmix(seed), |state, p| splitmix(splitmix(state) ^ p))
}

/// Fills with standard normal values, two at a time.
pub(crate) fn fill_normal(rng: &mut ChaCha8Rng, out: &mut [f32]) {
    for pair in out.chunks_mut(2) {
        // Uniform on (0, 1], so that the logarithm is finite.
        let u = (f64::from(rng.next_u32()) + 1.0) / 4_294_967_296.0;
        let angle = std::f64::consts::TAU * f64::from(rng.next_u32()) / 4_294_967_296.0;
        let radius = (-2.0 * u.ln()).sqrt();
        let (sin, cos) = angle.sin_cos();
        pair[0] = (radius * cos) as f32;
        if let Some(second) = pair.get_mut(1) {
            *second = (radius * sin) as f32;
        }
    }
}

/// Fills with values uniform on [0, 1).
fn fill_uniform(rng: &mut ChaCha8Rng, out: &mut [f32]) {
    out.fill_with(|| unit(rng.next_u32()));
}

/// Uniform on [0, 1): 24 bits, exact in f32.
pub(crate) fn unit(bits: u32) -> f32 {
    (bits >> 8) as f32 / 16_777_216.0
}

/// The stream of a named parameter.
pub(crate) fn named_stream(seed: u64, name: &str) -> ChaCha8Rng {
    let purpose: Vec<u64> = name.bytes().map(u64::from).collect();
    ChaCha8Rng::seed_from_u64(derive_seed(seed, &purpose))
}

/// A tensor of given f32 values on a device.
pub(crate) fn to_tensor(values: &[f32], shape: &[i64], kind: Kind, device: Device) -> Tensor {
    there(&Tensor::from_slice(values).view(shape), device).to_kind(kind)
}

/// Copies host values to a device without waiting.
///
/// # Panics
/// A device error.
pub(crate) fn there(host: &Tensor, device: Device) -> Tensor {
    match upload(host, device) {
        Ok(there) => there,
        Err(error) => panic!("values do not reach {device:?}: {error}"),
    }
}

/// Steele, Lea & Flood 2014: a bijective 64-bit mixing function.
fn splitmix(x: u64) -> u64 {
    let x = x.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    x ^ (x >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn like(shape: &[i64]) -> Tensor {
        Tensor::empty(shape, (Kind::Float, Device::Cpu))
    }

    #[test]
    fn a_sample_does_not_depend_on_its_batch() {
        let mut whole = SeededNoise::new(7, 0);
        let mut tail = SeededNoise::new(7, 2);
        for _ in 0..3 {
            let all = whole.normal(&like(&[5, 3, 7]));
            let part = tail.normal(&like(&[2, 3, 7]));
            assert_eq!(all.narrow(0, 2, 2), part);
            assert_eq!(whole.uniform(&like(&[5, 2])).narrow(0, 2, 2), tail.uniform(&like(&[2, 2])));
        }
    }

    #[test]
    fn moments_are_those_of_a_normal() {
        let x = SeededNoise::new(1, 0).normal(&like(&[4, 250_000])).to_kind(Kind::Double);
        let moment = |p: f64| x.pow_tensor_scalar(p).mean(Kind::Double).double_value(&[]);
        // Four standard errors at a million draws: sqrt(Var(x^p) / n) * 4.
        assert!(moment(1.0).abs() < 4e-3);
        assert!((moment(2.0) - 1.0).abs() < 4.0 * 2f64.sqrt() * 1e-3);
        assert!(moment(3.0).abs() < 4.0 * 15f64.sqrt() * 1e-3);
        assert!((moment(4.0) - 3.0).abs() < 4.0 * 96f64.sqrt() * 1e-3);
    }

    #[test]
    fn uniform_values_stay_in_their_range_and_have_its_moments() {
        let x = SeededNoise::new(2, 9).uniform(&like(&[2, 200_000])).to_kind(Kind::Double);
        assert!(x.min().double_value(&[]) >= 0.0 && x.max().double_value(&[]) < 1.0);
        let n = 400_000f64;
        assert!(
            (x.mean(Kind::Double).double_value(&[]) - 0.5).abs() < 4.0 * (1.0 / 12.0 / n).sqrt()
        );
    }

    #[test]
    fn seeds_and_purposes_separate() {
        let seeds = [
            derive_seed(0, &[]),
            derive_seed(0, &[0]),
            derive_seed(0, &[1]),
            derive_seed(1, &[0]),
            derive_seed(1, &[1]),
            derive_seed(0, &[0, 1]),
            derive_seed(0, &[1, 0]),
        ];
        for (i, a) in seeds.iter().enumerate() {
            assert!(seeds[i + 1..].iter().all(|b| a != b));
        }
    }
}
