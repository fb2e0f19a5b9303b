//! The embedding of a prompt does not depend on the other prompts of the batch.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use proptest::prelude::*;
use tch::{Device, Tensor};
use vd_text_cond::{Hashed, TextEncoder};

fn embed(width: i64, prompts: &[&str]) -> Tensor {
    let encoder = Hashed::new(width).unwrap();
    encoder.encode(prompts, Device::Cpu).unwrap().pooled.unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn alone_or_in_any_batch_the_bits_are_the_same(
        prompts in prop::collection::vec("\\PC{0,40}", 1..6),
        width in 1i64..40,
    ) {
        let list: Vec<_> = prompts.iter().map(String::as_str).collect();
        let together = embed(width, &list);
        prop_assert_eq!(together.size(), [list.len() as i64, width]);
        for (row, prompt) in list.iter().enumerate() {
            prop_assert_eq!(embed(width, &[prompt]).get(0), together.get(row as i64));
        }
    }

    #[test]
    fn a_narrower_encoder_gives_the_first_coordinates_of_a_wider_one(
        prompt in "[a-z]{1,8}( [a-z]{1,8}){0,5}",
        narrow in 1i64..20,
        more in 0i64..20,
    ) {
        let wide = embed(narrow + more, &[&prompt]);
        prop_assert_eq!(embed(narrow, &[&prompt]), wide.narrow(1, 0, narrow));
    }

    #[test]
    fn prompts_of_other_words_have_other_embeddings(
        a in "[a-z]{1,8}( [a-z]{1,8}){0,5}",
        b in "[a-z]{1,8}( [a-z]{1,8}){0,5}",
    ) {
        prop_assume!(a != b);
        prop_assert_ne!(embed(16, &[&a]), embed(16, &[&b]));
    }
}
