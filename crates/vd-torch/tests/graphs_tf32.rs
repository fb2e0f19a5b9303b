//! How operators round is a setting of the process, so this test has one to itself.
#![allow(clippy::unwrap_used)]

use tch::Tensor;
use vd_torch::graphs::{Recordings, StandIn, imitated};
use vd_torch::{Error, allow_tf32, restart_tf32};

#[test]
fn what_was_recorded_with_another_rounding_is_not_replayed() {
    let of = Recordings::default();
    let x = Tensor::from_slice(&[1f32, 2.0]);
    imitated(StandIn::new(), || {
        let ask = || {
            let answer = of.answer((), &[&x], &[], |(), inputs: &[Tensor]| {
                Ok::<_, Error>(vec![&inputs[0] * 3.0])
            });
            answer.unwrap().is_some()
        };
        assert_eq!([ask(), ask()], [false, true]);
        allow_tf32(false).unwrap();
        assert_eq!([ask(), ask()], [false, true]);
        allow_tf32(false).unwrap();
        assert!(ask());
        restart_tf32().unwrap();
        assert!(ask());
    });
}
