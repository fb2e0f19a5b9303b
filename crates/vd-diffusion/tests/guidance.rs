//! Classifier-free guidance.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod known;

use known::{Toy, largest, random};
use vd_diffusion::tch::{Kind, Tensor};
use vd_diffusion::{
    Cond, Denoiser, Diffusion, DiffusionConfig, FrameMask, Parameterization, ScheduleConfig,
};

fn diffusion(parameterization: Parameterization) -> Diffusion {
    let schedule = ScheduleConfig::cosine();
    Diffusion::new(&DiffusionConfig { schedule, parameterization, ..Default::default() }).unwrap()
}

fn focus() -> FrameMask {
    FrameMask::Focus(Tensor::from_slice(&[true, false, true]))
}

#[test]
fn guidance_at_scale_one_is_the_network_itself_asked_once() {
    let diffusion = diffusion(Parameterization::V);
    let x = random(1, &[3, 2, 4, 2, 2], Kind::Float);
    let cond = Cond::pooled(random(2, &[3, 5], Kind::Float));
    let at = diffusion.schedule().at(0.6);
    let (toy, guided_toy) = (Toy::conditional(), Toy::conditional());
    let plain = diffusion.denoiser(&toy, cond.shallow_clone(), focus());
    let guided = diffusion.guided(&guided_toy, cond, focus(), 1.0).unwrap();
    assert_eq!(plain.denoise(&x, at).unwrap(), guided.denoise(&x, at).unwrap());
    assert_eq!(guided_toy.batches(), [3]);
}

#[test]
fn guidance_is_two_answers_in_one_batch() {
    for parameterization in [Parameterization::Epsilon, Parameterization::V, Parameterization::X0] {
        let diffusion = diffusion(parameterization);
        let x = random(3, &[3, 2, 4], Kind::Double);
        let cond = Cond::pooled(random(4, &[3, 5], Kind::Double));
        // One of the rows lacks its conditioning: both of its outputs are the null one.
        let cond = cond.with_null(Tensor::from_slice(&[false, true, false]));
        let at = diffusion.schedule().at(0.4);
        let (toy, apart) = (Toy::conditional(), Toy::conditional());
        let answer = |cond: Cond| diffusion.denoiser(&apart, cond, focus()).denoise(&x, at);
        let (null, given) = (answer(cond.nulled()).unwrap(), answer(cond.shallow_clone()).unwrap());
        for scale in [0.0, 2.0, 7.5, -1.0] {
            let guided = diffusion.guided(&toy, cond.shallow_clone(), focus(), scale).unwrap();
            // x0-hat is affine in the prediction, so guidance may act on either.
            let expected = &null + (&given - &null) * scale;
            let got = guided.denoise(&x, at).unwrap();
            assert!(largest(&(&got - expected)) < 1e-12, "{parameterization:?} at {scale}");
            assert!(largest(&(got.get(1) - null.get(1))) < 1e-12);
        }
        assert_eq!(toy.batches(), [6; 4]);
        let calls = toy.calls.lock().unwrap();
        assert!(calls.iter().all(|(_, t)| t.iter().all(|t| (t - 400.0).abs() < 1e-9)));
    }
}

#[test]
fn guidance_that_cannot_be_given_is_refused() {
    let diffusion = diffusion(Parameterization::V);
    let cond = || Cond::pooled(random(5, &[3, 5], Kind::Float));
    let refused = |toy: &Toy, cond: Cond, scale: f64| {
        diffusion.guided(toy, cond, FrameMask::All, scale).unwrap_err().to_string()
    };
    let message = refused(&Toy::default(), cond(), 2.0);
    assert!(message.contains("scale 2") && message.contains("no conditioning"), "{message}");
    let message = refused(&Toy::conditional(), Cond::none(), 2.0);
    assert!(message.contains("no conditioning was given"), "{message}");
    let message = refused(&Toy::conditional(), cond(), f64::NAN);
    assert!(message.contains("finite"), "{message}");
    assert!(diffusion.guided(&Toy::default(), Cond::none(), FrameMask::All, 1.0).is_ok());
}

#[test]
fn guided_x0_is_differentiable_in_x() {
    let diffusion = diffusion(Parameterization::V);
    let toy = Toy::conditional();
    let cond = Cond::pooled(random(6, &[2, 5], Kind::Double));
    let guided = diffusion.guided(&toy, cond, FrameMask::All, 3.0).unwrap();
    let at = diffusion.schedule().at(0.5);
    let x = random(7, &[2, 3], Kind::Double).set_requires_grad(true);
    let direction = random(8, &[2, 3], Kind::Double);
    let value = |x: &Tensor| guided.denoise(x, at).unwrap().square().sum(Kind::Double);
    let slope = (&Tensor::run_backward(&[value(&x)], &[&x], false, false)[0] * &direction)
        .sum(Kind::Double)
        .double_value(&[]);
    let h = 1e-5;
    let moved = |h: f64| value(&(x.detach() + &direction * h)).double_value(&[]);
    let finite = (moved(h) - moved(-h)) / (2.0 * h);
    // Central differences: truncation of h^2, rounding of 1e-16 / h.
    assert!((slope - finite).abs() < 1e-7 * (1.0 + finite.abs()), "{slope} for {finite}");
}
