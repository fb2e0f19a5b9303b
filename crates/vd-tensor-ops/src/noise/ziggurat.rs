//! Standard normal numbers from little more than 32 bits each.

use std::sync::LazyLock;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::RngCore;

/// Where the tail begins.
const R: f64 = 3.654_152_885_361_009;

/// The area of each of the 256 layers under exp(-x^2 / 2).
const V: f64 = 0.004_928_673_233_99;

/// Right edges of the layers, the widest first, and the density at each.
struct Layers {
    x: [f64; 257],
    density: [f64; 257],
}

static LAYERS: LazyLock<Layers> = LazyLock::new(|| {
    let density = |x: f64| (-0.5 * x * x).exp();
    let mut x = [0.0; 257];
    // The lowest layer includes the tail, with a width that gives it the area of the others.
    (x[0], x[1]) = (V / density(R), R);
    for i in 1..255 {
        x[i + 1] = (-2.0 * (V / x[i] + density(x[i])).ln()).sqrt();
    }
    Layers { x, density: x.map(density) }
});

/// Fills with standard normal values, five times as fast as Box-Muller pairs; the number of bits
/// per value varies, so a stream serves one fill only.
///
/// Marsaglia & Tsang 2000, with separate bits for the layer and the position in it (Doornik 2005).
pub(super) fn fill_normal(rng: &mut ChaCha8Rng, out: &mut [f32]) {
    let layers = &*LAYERS;
    out.fill_with(|| normal(layers, rng) as f32);
}

fn normal(layers: &Layers, rng: &mut ChaCha8Rng) -> f64 {
    loop {
        let bits = rng.next_u32();
        let i = (bits & 255) as usize;
        let sign = if bits & 256 == 0 { 1.0 } else { -1.0 };
        let x = (f64::from(bits >> 9) + 0.5) / 8_388_608.0 * layers.x[i];
        if x < layers.x[i + 1] {
            return sign * x;
        }
        if i == 0 {
            return sign * tail(rng);
        }
        let (low, high) = (layers.density[i], layers.density[i + 1]);
        if low + (high - low) * open(rng) < (-0.5 * x * x).exp() {
            return sign * x;
        }
    }
}

/// A value beyond the last layer.
#[cold]
fn tail(rng: &mut ChaCha8Rng) -> f64 {
    loop {
        let beyond = -open(rng).ln() / R;
        if -2.0 * open(rng).ln() > beyond * beyond {
            return R + beyond;
        }
    }
}

/// Uniform on the open interval (0, 1).
fn open(rng: &mut ChaCha8Rng) -> f64 {
    (f64::from(rng.next_u32()) + 0.5) / 4_294_967_296.0
}

#[cfg(test)]
mod tests {
    use rand_chacha::rand_core::SeedableRng;

    use super::*;

    #[test]
    fn the_layers_meet_at_the_top() {
        // The remainder above the second-highest layer also has the area of a layer.
        let top = LAYERS.x[255] * (1.0 - LAYERS.density[255]);
        assert!((top / V - 1.0).abs() < 1e-6, "{top}");
        assert_eq!(LAYERS.x[256], 0.0);
    }

    #[test]
    fn every_part_of_the_bell_has_its_share() {
        let mut values = vec![0f32; 2_000_000];
        fill_normal(&mut ChaCha8Rng::seed_from_u64(1), &mut values);
        // Tail probabilities of |x| for the normal distribution (erfc(x / sqrt 2)).
        for (beyond, share) in [
            (0.1, 0.920_344_325_445_942),
            (0.5, 0.617_075_077_451_974),
            (1.0, 0.317_310_507_862_914),
            (2.0, 0.045_500_263_896_358),
            (3.0, 0.002_699_796_063_260),
            (3.7, 0.000_215_599_4),
            (4.5, 0.000_006_795_3),
        ] {
            let n = values.len() as f64;
            for sign in [1.0, -1.0] {
                let got = values.iter().filter(|x| sign * f64::from(**x) > beyond).count() as f64;
                let expected = 0.5 * share * n;
                // Four standard errors of a count.
                let apart = (got - expected).abs() / (expected * (1.0 - 0.5 * share)).sqrt();
                assert!(apart < 4.0, "{got} beyond {beyond} for {expected}");
            }
        }
        let fourth =
            values.iter().map(|x| f64::from(*x).powi(4)).sum::<f64>() / values.len() as f64;
        // Four standard errors: the variance of x^4 is 96.
        assert!((fourth - 3.0).abs() < 4.0 * (96.0 / values.len() as f64).sqrt(), "{fourth}");
    }
}
