//! An encoder that needs no weights.

use std::collections::BTreeMap;

use tch::{Device, Tensor};
use vd_tensor_ops::torch::upload;
use vd_unet3d::Cond;

use super::TextEncoder;
use super::cache::Identity;
use crate::{EncoderConfig, Error, Result};

/// Weight of a pair of neighbouring words, relative to a single word: word order matters a little.
const PAIR_WEIGHT: f64 = 0.5;
/// More than any prompt needs, and the limit of a network's conditioning.
const MOST_WIDTH: i64 = 1_048_576;

/// Words and pairs of neighbouring words, each hashed to a fixed pseudo-random vector, and summed.
///
/// A trained model depends on the embedding, so it never changes, on any machine:
/// - words are the lower-case strings between white space and ASCII punctuation; a pair is two
///   neighbouring words with one space between them;
/// - each is hashed with FNV-1a (64 bits, of its UTF-8 bytes), and coordinate i of its vector is
///   `sqrt(3) (2 u - 1)`, where u in [0, 1) is given by the upper 53 bits of output i of SplitMix64
///   seeded with the hash: mean 0, variance 1;
/// - the vectors are summed in f64, words with weight 1 and pairs with 0.5, both times their number
///   of occurrences, and divided by the root of the sum of the squared weights, so that each
///   coordinate has variance 1 over prompts.
///
/// The embedding of a prompt without words is the zero vector.
///
/// # Reference
/// Weinberger et al. 2009, Feature Hashing for Large Scale Multitask Learning, arXiv:0902.2206.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hashed {
    width: i64,
}

impl Hashed {
    /// An encoder of this width.
    ///
    /// # Errors
    /// A width below 1 or above 1,048,576.
    pub fn new(width: i64) -> Result<Self> {
        EncoderConfig::Hashed { width }.validate()?;
        if width > MOST_WIDTH {
            return Err(Error::Value {
                what: "text.encoder.width",
                expected: format!("at most {MOST_WIDTH}"),
                got: width.to_string(),
            });
        }
        Ok(Hashed { width })
    }

    fn embed(&self, prompt: &str, row: &mut [f32]) {
        let features = features(prompt);
        let norm = features.values().map(|weight| weight * weight).sum::<f64>().sqrt();
        let mut sum = vec![0f64; row.len()];
        for (feature, weight) in &features {
            let mut state = fnv1a(feature.as_bytes());
            for value in &mut sum {
                *value += weight / norm * unit_variance(splitmix(&mut state));
            }
        }
        for (out, value) in row.iter_mut().zip(&sum) {
            *out = *value as f32;
        }
    }
}

impl TextEncoder for Hashed {
    fn width(&self) -> i64 {
        self.width
    }

    fn identity(&self) -> Result<Option<String>> {
        Ok(Some(Identity::of_encoder(&format!("hashed {}", self.width), &[]).hex()))
    }

    fn encode(&self, prompts: &[&str], device: Device) -> Result<Cond> {
        let width = self.width as usize;
        let mut values = vec![0f32; prompts.len() * width];
        for (prompt, row) in prompts.iter().zip(values.chunks_exact_mut(width)) {
            self.embed(prompt, row);
        }
        let pooled = Tensor::f_from_slice(&values)?.f_view([prompts.len() as i64, self.width])?;
        Ok(Cond::pooled(upload(&pooled, device)?))
    }
}

/// Words and pairs with their weights; sorted, so that the order of summation is fixed.
fn features(prompt: &str) -> BTreeMap<String, f64> {
    let lower = prompt.to_lowercase();
    let words: Vec<_> = lower
        .split(|c: char| c.is_whitespace() || c.is_ascii_punctuation())
        .filter(|word| !word.is_empty())
        .collect();
    let mut features = BTreeMap::new();
    for word in &words {
        *features.entry((*word).to_owned()).or_insert(0.0) += 1.0;
    }
    for pair in words.windows(2) {
        *features.entry(pair.join(" ")).or_insert(0.0) += PAIR_WEIGHT;
    }
    features
}

fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xCBF2_9CE4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01B3)
    })
}

fn splitmix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let x = (*state ^ (*state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    x ^ (x >> 31)
}

fn unit_variance(bits: u64) -> f64 {
    let u = (bits >> 11) as f64 / (1u64 << 53) as f64;
    3f64.sqrt() * (2.0 * u - 1.0)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn embed(prompts: &[&str], width: i64) -> Tensor {
        let encoder = Hashed::new(width).unwrap();
        encoder.encode(prompts, Device::Cpu).unwrap().pooled.unwrap()
    }

    fn cosine(a: &Tensor, b: &Tensor) -> f64 {
        (a.dot(b) / (a.norm() * b.norm())).double_value(&[])
    }

    #[test]
    fn the_hash_functions_have_their_published_values() {
        // Fowler, Noll & Vo's own test vectors, and the first outputs of SplitMix64 from 0
        assert_eq!(fnv1a(b""), 0xCBF2_9CE4_8422_2325);
        assert_eq!(fnv1a(b"a"), 0xAF63_DC4C_8601_EC8C);
        assert_eq!(fnv1a(b"foobar"), 0x8594_4171_F739_67E8);
        let mut state = 0;
        assert_eq!(splitmix(&mut state), 0xE220_A839_7B1D_CDAF);
        assert_eq!(splitmix(&mut state), 0x6E78_9E6A_A1B9_65F4);
    }

    #[test]
    fn a_known_embedding_stays_what_it_is() {
        let got: Vec<f32> = Vec::try_from(embed(&["a red firework"], 4).view([-1])).unwrap();
        // from tests/golden/hashed.py
        let expected =
            [-0.14450756469925546, 2.002284545784811, 1.1056307699907753, -0.004764280261760394];
        for (got, expected) in got.iter().zip(expected) {
            assert!((f64::from(*got) - expected).abs() < 1e-7, "{got} {expected}");
        }
    }

    #[test]
    fn coordinates_have_mean_0_and_variance_1_over_prompts() {
        let prompts: Vec<_> = (0..40).map(|i| format!("clip {i} of {} things", i * i)).collect();
        let prompts: Vec<_> = prompts.iter().map(String::as_str).collect();
        let x = embed(&prompts[..1], 20_000).to_kind(tch::Kind::Double);
        // 20,000 samples: standard errors 0.007 and about 0.01; the bounds are five of them
        assert!(x.mean(tch::Kind::Double).double_value(&[]).abs() < 0.035);
        assert!((x.var(true).double_value(&[]) - 1.0).abs() < 0.05);
        assert_eq!(embed(&prompts, 8).size(), [40, 8]);
    }

    #[test]
    fn case_and_punctuation_do_not_count_but_words_and_a_little_their_order_do() {
        let x = embed(
            &["Green, then GOLD!", "green then gold", "gold then green", "two red bursts"],
            4096,
        );
        assert_eq!(x.get(0), x.get(1));
        // three words of weight 1 in common of 3 + 2 / 4 in all: cosine 3 / 3.5 on average
        let reordered = cosine(&x.get(1), &x.get(2));
        assert!((reordered - 3.0 / 3.5).abs() < 0.08, "{reordered}");
        let unrelated = cosine(&x.get(1), &x.get(3));
        assert!(unrelated.abs() < 0.08, "{unrelated}");
    }

    #[test]
    fn a_prompt_without_words_is_the_zero_vector() {
        let x = embed(&["", " ... ", "x"], 16);
        assert_eq!(x.narrow(0, 0, 2).abs().sum(tch::Kind::Float).double_value(&[]), 0.0);
        assert!(x.get(2).abs().max().double_value(&[]) > 0.1);
        assert!(embed(&["\u{1F386}"], 16).abs().max().double_value(&[]) > 0.1);
    }

    #[test]
    fn a_width_out_of_range_is_refused() {
        assert!(Hashed::new(i64::MAX).unwrap_err().to_string().contains("at most 1048576"));
        assert!(Hashed::new(0).unwrap_err().to_string().contains("width"));
    }
}
