#![allow(clippy::unwrap_used)]
use super::*;
use tch::Device;
use vd_tensor_ops::{Init, Noise, SeededNoise};

fn params() -> Params {
    let mut params = Params::new(5, Kind::Float, Device::Cpu);
    let _ = params.root().param("a", &[4, 6], Init::Normal).unwrap();
    let _ = params.root().param("b", &[3], Init::Normal).unwrap();
    params
}

fn grads(params: &Params, seed: u64) -> Vec<Tensor> {
    let mut noise = SeededNoise::new(seed, 0);
    params.trainable().iter().map(|(_, t)| noise.normal(&t.detach())).collect()
}

fn values(params: &Params) -> Vec<Tensor> {
    params.trainable().iter().map(|(_, t)| t.detach().copy()).collect()
}

#[test]
fn a_saved_state_goes_on_bit_for_bit() {
    let (whole, parts) = (params(), params());
    let mut one = AdamW::new(&whole, [0.9, 0.99], 0.01);
    let mut two = AdamW::new(&parts, [0.9, 0.99], 0.01);
    for k in 0..6 {
        one.step(0.01, &grads(&whole, k), 1.0, None).unwrap();
        if k == 3 {
            let saved = two.state().into_iter().map(|(n, t)| (n, t.copy())).collect();
            two = AdamW::new(&parts, [0.9, 0.99], 0.01);
            two.load(&saved).unwrap();
        }
        two.step(0.01, &grads(&parts, k), 1.0, None).unwrap();
    }
    assert_eq!(values(&whole), values(&parts));
    assert_eq!(one.state(), two.state());
    assert_ne!(values(&whole), values(&params()));
}

#[test]
fn the_strides_of_a_gradient_do_not_matter() {
    let (straight, turned) = (params(), params());
    let mut grads = grads(&straight, 3);
    AdamW::new(&straight, [0.9, 0.99], 0.0).step(0.1, &grads, 1.0, None).unwrap();
    // the same values, laid out column by column
    grads[0] = grads[0].transpose(0, 1).contiguous().transpose(0, 1);
    assert!(!grads[0].is_contiguous());
    AdamW::new(&turned, [0.9, 0.99], 0.0).step(0.1, &grads, 1.0, None).unwrap();
    assert_eq!(values(&straight), values(&turned));
}

#[test]
fn a_foreign_state_is_refused_and_every_offender_named() {
    let params = params();
    let mut optimizer = AdamW::new(&params, [0.9, 0.99], 0.0);
    let mut state = optimizer.state();
    let moved = state.remove("exp_avg.a").unwrap();
    state.insert("exp_avg.c".to_owned(), moved.shallow_clone());
    state.insert("exp_avg_sq.b".to_owned(), moved);
    let message = optimizer.load(&state).unwrap_err().to_string();
    for part in ["`exp_avg.a` is missing", "`exp_avg.c` is unexpected", "`exp_avg_sq.b` is"] {
        assert!(message.contains(part), "{message}");
    }
}

#[test]
fn both_roads_shrink_step_and_average_alike() {
    let (one, two) = (params(), params());
    let averages = [params(), params()];
    let mut optimizers = [&one, &two].map(|of| AdamW::new(of, [0.9, 0.99], 0.01));
    for k in 0..4 {
        let roads = [Precision::F32, Precision::Reference];
        for ((optimizer, average), road) in optimizers.iter_mut().zip(&averages).zip(roads) {
            let grads = grads(&one, k);
            let step = || optimizer.step(0.01, &grads, 0.3, Some((average, 0.9)));
            kernels::with(road, step).unwrap();
        }
    }
    for (a, b) in [(&one, &two), (&averages[0], &averages[1])] {
        for (a, b) in values(a).iter().zip(values(b)) {
            // Values of order 1, rounded in a different order in each of four steps.
            assert!((a - b).abs().max().double_value(&[]) < 1e-6);
        }
    }
    assert_ne!(values(&averages[0]), values(&params()));
}

#[test]
fn gradients_that_are_not_the_parameters_are_refused_and_change_nothing() {
    let params = params();
    let before: Vec<Tensor> = params.trainable().iter().map(|(_, t)| t.detach().copy()).collect();
    let mut optimizer = AdamW::new(&params, [0.9, 0.99], 0.0);
    let good = || grads(&params, 5);
    let mut refused = |lr: f64, grads: &[Tensor], part: &str| {
        let error = optimizer.step(lr, grads, 1.0, None).unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
    };
    let with = |i: usize, grad: Tensor| {
        let mut all = good();
        all[i] = grad;
        all
    };
    refused(f64::NAN, &good(), "learning rate");
    refused(-1.0, &good(), "learning rate");
    refused(0.1, &good()[1..], "gradients: expected 2");
    refused(0.1, &with(0, good()[0].transpose(0, 1).contiguous()), "gradient of a");
    refused(0.1, &with(1, good()[1].to_kind(Kind::Double)), "gradient of b");
    refused(0.1, &with(1, Tensor::new()), "pass zeros");
    assert_eq!(optimizer.state()["step"], Tensor::from_slice(&[0i64]));
    for (before, (_, now)) in before.iter().zip(params.trainable()) {
        assert_eq!(before, now);
    }
    // The caller's gradients are not modified, by libtorch's code path either.
    let (grads, copies) = (good(), good());
    let step = || optimizer.step(0.1, &grads, 0.25, None);
    kernels::with(Precision::Reference, step).unwrap();
    assert_eq!(grads, copies);
}
