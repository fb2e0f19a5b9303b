//! Tables of betas, compared with diffusers and with their definition computed differently.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use vd_diffusion::{BetaTable, CosineDiscrete, Schedule, ScheduleConfig};

fn near(got: f64, expected: f64, relative: f64) {
    assert!((got - expected).abs() <= relative * expected.abs(), "{got} for {expected}");
}

/// Entries whose values are given below.
const PLACES: [usize; 6] = [0, 1, 250, 499, 750, 998];

/// `DDPMScheduler(...).betas` of diffusers 0.42, stored in f32.
const LINEAR: [f64; 6] = [
    9.999999747378752e-05,
    0.00011991991777904332,
    0.005079980008304119,
    0.010040040127933025,
    0.015039939433336258,
    0.01998008042573929,
];
const SCALED_LINEAR: [f64; 6] = [
    0.0008499999530613422,
    0.0008546985918655992,
    0.0024277609772980213,
    0.0048037925735116005,
    0.00801157858222723,
    0.01198237482458353,
];
const SIGMOID: [f64; 6] = [
    0.00014920519606675953,
    0.00014979831757955253,
    0.001046478282660246,
    0.01002012100070715,
    0.019064290449023247,
    0.019950199872255325,
];
const COSINE: [f64; 6] = [
    4.128422369831242e-05,
    4.614175122696906e-05,
    0.0013272239593788981,
    0.003145886119455099,
    0.007579122669994831,
    0.7499994039535522,
];

/// The default tables of 1000 entries with the values of diffusers.
fn tables() -> [(BetaTable, [f64; 6]); 4] {
    let cosine = CosineDiscrete::new(1000).unwrap();
    [
        (BetaTable::linear(1000, 1e-4, 0.02).unwrap(), LINEAR),
        (BetaTable::scaled_linear(1000, 0.00085, 0.012).unwrap(), SCALED_LINEAR),
        (BetaTable::sigmoid(1000, 1e-4, 0.02).unwrap(), SIGMOID),
        (BetaTable::new(cosine.betas()).unwrap(), COSINE),
    ]
}

#[test]
fn betas_are_those_of_diffusers() {
    for (table, known) in tables() {
        for (place, beta) in PLACES.into_iter().zip(known) {
            // f32: half a unit of 1.2e-7 per rounding; scaled-linear has an additional square.
            near(table.betas()[place], beta, 4e-7);
        }
    }
    // Only the last entry of the cosine differs: clipped at 0.9999 here and in
    // video-diffusion-pytorch, at 0.999 in diffusers.
    assert_eq!(tables()[3].0.betas()[999], 0.9999);
}

#[test]
fn default_configs_are_these_tables() {
    let configs =
        [ScheduleConfig::linear(), ScheduleConfig::scaled_linear(), ScheduleConfig::sigmoid()];
    for (config, (table, _)) in configs.into_iter().zip(tables()) {
        let schedule = config.build().unwrap();
        assert_eq!(schedule.steps(), Some(1000));
        for t in [0.0, 0.0005, 0.001, 0.3137, 0.5, 1.0] {
            assert_eq!(schedule.at(t), table.at(t));
        }
    }
}

#[test]
fn alpha_bar_is_the_product_summed_as_logarithms() {
    for (table, _) in tables() {
        let mut log_alpha_bar = 0.0;
        for (i, beta) in table.betas().iter().enumerate() {
            log_alpha_bar += (-beta).ln_1p();
            let at = table.at((i + 1) as f64 / 1000.0);
            // A thousand products on one side, a thousand sums of logarithms of up to 23 on the
            // other.
            near(at.alpha * at.alpha, f64::exp(log_alpha_bar), 1e-12);
            near(at.sigma * at.sigma, -log_alpha_bar.exp_m1(), 1e-12);
        }
    }
}

#[test]
fn one_entry_has_the_first_beta() {
    for table in
        [BetaTable::linear(1, 0.1, 0.3).unwrap(), BetaTable::scaled_linear(1, 0.1, 0.3).unwrap()]
    {
        near(table.betas()[0], 0.1, 1e-15);
    }
}

/// `rescale_betas_zero_snr = True` in diffusers' DDIM: alphas_cumprod at the places above.
const RESCALED_LINEAR: [f64; 6] = [
    0.9998999834060669,
    0.9997793436050415,
    0.5188605189323425,
    0.0760287269949913,
    0.0026441060472279787,
    4.213273285813557e-09,
];
const RESCALED_SCALED_LINEAR: [f64; 6] = [
    0.9991499781608582,
    0.9982334971427917,
    0.6524567604064941,
    0.24235899746418,
    0.03279908001422882,
    1.9679633567193378e-07,
];

#[test]
fn zero_terminal_snr_is_that_of_diffusers() {
    let [(linear, _), (scaled, _), ..] = tables();
    for (table, known) in [(linear, RESCALED_LINEAR), (scaled, RESCALED_SCALED_LINEAR)] {
        let table = table.zero_terminal_snr().unwrap();
        for (place, alpha_bar) in PLACES.into_iter().zip(known) {
            let at = table.at((place + 1) as f64 / 1000.0);
            // diffusers subtracts square roots and multiplies a thousand factors in f32: 1000 x
            // 6e-8; the last entry but one is a difference of 6e-5 (3e-4) between nearly equal
            // numbers.
            let relative = if place == 998 { 2e-3 } else { 6e-5 };
            near(at.alpha * at.alpha, alpha_bar, relative);
        }
    }
}

#[test]
fn zero_terminal_snr_is_the_shift_and_scale_of_the_paper() {
    for (table, _) in tables() {
        let rescaled = table.zero_terminal_snr().unwrap();
        let alpha = |i: usize| table.at(i as f64 / 1000.0).alpha;
        let (first, last) = (alpha(1), alpha(1000));
        assert_eq!(rescaled.betas()[0], table.betas()[0]);
        for i in 1..1000 {
            let expected = (alpha(i) - last) * first / (first - last);
            // The difference of two numbers, each accurate to about 1e-13.
            let off = (rescaled.at(i as f64 / 1000.0).alpha - expected).abs();
            assert!(off < 1e-12 * alpha(i), "{off} at {i}");
        }
        let end = rescaled.at(1.0);
        assert_eq!((end.alpha, end.sigma), (0.0, 1.0));
        // A second application changes nothing.
        let twice = rescaled.zero_terminal_snr().unwrap();
        for (again, once) in twice.betas().iter().zip(rescaled.betas()) {
            near(*again, *once, 1e-12);
        }
    }
}
