//! Noise levels and the batches that they fit.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod known;

use known::{cosine, random, values};
use vd_diffusion::tch::Kind;
use vd_diffusion::{Levels, Schedule};

#[test]
fn levels_fit_batches_of_their_own_lengths_alone() {
    let at = |n: usize| (1..=n).map(|k| cosine().at(k as f64 / n as f64)).collect::<Vec<_>>();
    let refused = |levels: &Levels, size: &[i64]| {
        let x = random(1, size, Kind::Double);
        levels.noised(&x, &x).unwrap_err().to_string()
    };
    let samples = Levels::per_sample(at(3));
    assert!(samples.noised(&random(1, &[3], Kind::Double), &random(2, &[3], Kind::Double)).is_ok());
    assert!(refused(&samples, &[2, 3]).contains("shape [3, ..], one noise level per sample"));
    assert!(refused(&samples, &[]).contains("one noise level per sample"));
    assert!(refused(&Levels::per_sample(vec![]), &[2]).contains("shape [0, ..]"));

    let frames = Levels::per_frame(2, at(3));
    assert_eq!(frames.log_snr().size(), [2, 3]);
    let x = random(3, &[2, 1, 3], Kind::Double);
    let noised = values(&frames.noised(&x, &x.zeros_like()).unwrap());
    for (k, (got, x)) in noised.iter().zip(values(&x)).enumerate() {
        assert_eq!(*got, x * at(3)[k % 3].alpha);
    }
    for size in [[2i64, 1, 4].as_slice(), &[3, 1, 3], &[2, 3]] {
        assert!(refused(&frames, size).contains("shape [2, c, 3, ..], one noise level per frame"));
    }
    // A negative number of samples means none.
    for b in [0, -1] {
        let none = Levels::per_frame(b, at(3));
        assert_eq!((none.log_snr().size(), none.values().len()), (vec![0, 3], 0));
    }
}
