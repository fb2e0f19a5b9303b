//! Means of polynomials, for the multistep rules.

/// The eight Gauss-Legendre points on -1..1, one of each symmetric pair: abscissa and weight.
const GAUSS: [(f64, f64); 4] = [
    (0.183_434_642_495_649_8, 0.362_683_783_378_362),
    (0.525_532_409_916_329, 0.313_706_645_877_887_27),
    (0.796_666_477_413_626_7, 0.222_381_034_453_374_48),
    (0.960_289_856_497_536_3, 0.101_228_536_290_376_26),
];

/// Number of pieces of a range: a density exp(u) stays accurate to 1e-12 over a range of 16.
const PIECES: usize = 8;

/// The mean of `f` over a range, under a density that need not be normalised.
pub(super) fn mean(
    (a, b): (f64, f64),
    density: impl Fn(f64) -> f64,
    f: impl Fn(f64) -> f64,
) -> f64 {
    let half = 0.5 * (b - a) / PIECES as f64;
    let (mut total, mut sum) = (0.0, 0.0);
    for piece in 0..PIECES {
        let middle = a + half * (2 * piece + 1) as f64;
        for (y, w) in GAUSS.iter().flat_map(|(y, w)| [(-*y, *w), (*y, *w)]) {
            let u = middle + half * y;
            let mass = w * density(u);
            total += mass;
            sum += mass * f(u);
        }
    }
    sum / total
}

/// Weights of the values at some points such that their weighted sum is the mean, over a range and
/// under a density, of the polynomial through them.
pub(super) fn mean_weights(
    points: &[f64],
    range: (f64, f64),
    density: impl Fn(f64) -> f64,
) -> Vec<f64> {
    // A single point has weight 1, however long the range.
    if let [_] = points {
        return vec![1.0];
    }
    let weight = |j: usize| {
        let others = || points.iter().enumerate().filter(move |(k, _)| *k != j);
        mean(range, &density, |u| others().map(|(_, p)| (u - p) / (points[j] - p)).product::<f64>())
    };
    (0..points.len()).map(weight).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mean_of_a_parabola_under_an_exponential_is_its_integral() {
        // Integrals of exp(c u) u^k over 0..1, by parts.
        for c in [-16.0f64, -3.0, 0.5, 2.0, 16.0] {
            let total = c.exp_m1() / c;
            let first = (c.exp() - total) / c;
            let second = (c.exp() - 2.0 * first) / c;
            let points = [0.0, -0.7, -1.9];
            let weights = mean_weights(&points, (0.0, 1.0), |u| (c * u).exp());
            let parabola = |u: f64| 2.0 - 3.0 * u + 0.7 * u * u;
            let got: f64 = points.iter().zip(&weights).map(|(p, w)| w * parabola(*p)).sum();
            let expected = 2.0 - 3.0 * first / total + 0.7 * second / total;
            assert!((got - expected).abs() < 1e-10, "{c}: {got} for {expected}");
        }
    }

    #[test]
    fn the_weights_of_even_points_are_those_of_adams_and_bashforth() {
        let weights = mean_weights(&[0.0, -1.0, -2.0, -3.0], (0.0, 1.0), |_| 1.0);
        for (got, expected) in weights.iter().zip([55.0, -59.0, 37.0, -9.0]) {
            assert!((24.0 * got - expected).abs() < 1e-12, "{got} for {expected} / 24");
        }
    }
}
