//! Spacings compared with the timesteps and sigmas of diffusers 0.42.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use vd_diffusion::{BetaTable, Edm, Schedule, Spacing};

/// The network's time input at every level except the clean one.
fn told(spacing: &Spacing, steps: usize) -> Vec<f64> {
    let table = BetaTable::linear(1000, 1e-4, 0.02).unwrap();
    let grid = spacing.grid(&table, steps).unwrap();
    grid[..steps].iter().map(|at| table.time_input(at.t)).collect()
}

/// One number that identifies an ordered list of timesteps.
fn fold(from: u64, timesteps: &[f64]) -> u64 {
    let modulus = (1u128 << 61) - 1;
    let add = |h: u128, t: &f64| (h * 1_000_003 + *t as u128 + 1) % modulus;
    timesteps.iter().fold(u128::from(from), add) as u64
}

/// Timesteps of `DDIMScheduler(timestep_spacing = ...)` with 1000 training steps, hashed into one
/// number: for 50, 999 and 1000 steps, and for each number of steps from 1 to 1000 in turn.
///
/// For 62 of these numbers (61, 103, 121, ...) diffusers' trailing list has one entry too many, a
/// step -1 caused by rounding in `arange`; it is omitted here.
const FOLDED: [(Spacing, [u64; 4]); 3] = [
    (
        Spacing::Trailing,
        [1283659970045664405, 336556054675708682, 2002624746538740296, 120433955919437733],
    ),
    (
        Spacing::Leading,
        [1447741432668006378, 972691250529295195, 2002624746538740296, 551447459820546135],
    ),
    (
        Spacing::Linspace,
        [654623690880535731, 336556054675708682, 2002624746538740296, 360413305740019711],
    ),
];

#[test]
fn entries_are_the_timesteps_of_diffusers() {
    let known = [
        (Spacing::Trailing, [999., 799., 599., 399., 199.]),
        (Spacing::Leading, [800., 600., 400., 200., 0.]),
        (Spacing::Linspace, [999., 749., 500., 250., 0.]),
    ];
    for (spacing, timesteps) in known {
        assert_eq!(told(&spacing, 5), timesteps, "{spacing:?}");
    }
    let linspace = [
        999., 946., 894., 841., 789., 736., 684., 631., 578., 526., 473., 421., 368., 315., 263.,
        210., 158., 105., 53., 0.,
    ];
    assert_eq!(told(&Spacing::Linspace, 20), linspace);
    let fiftieths: Vec<f64> = (0..20).map(|i| 950.0 - 50.0 * f64::from(i)).collect();
    assert_eq!(told(&Spacing::Leading, 20), fiftieths);
    let before: Vec<f64> = fiftieths.iter().map(|t| t + 49.0).collect();
    assert_eq!(told(&Spacing::Trailing, 20), before);
    for (spacing, [fifty, one_less, whole, _]) in FOLDED {
        assert_eq!(fold(0, &told(&spacing, 50)), fifty, "{spacing:?}");
        assert_eq!(fold(0, &told(&spacing, 999)), one_less, "{spacing:?}");
        assert_eq!(fold(0, &told(&spacing, 1000)), whole, "{spacing:?}");
    }
}

#[test]
fn no_number_of_steps_rounds_otherwise() {
    for (spacing, [.., all]) in FOLDED {
        let folded = (1..=1000).fold(0, |h, steps| fold(h, &told(&spacing, steps)));
        assert_eq!(folded, all, "{spacing:?}");
    }
}

/// Index, sigma and timestep: `EulerDiscreteScheduler` with Karras or exponential sigmas.
type Known = [(usize, f64, f64); 3];

#[test]
fn karras_and_exponential_are_the_sigmas_of_diffusers() {
    let linear = BetaTable::linear(1000, 1e-4, 0.02).unwrap();
    let scaled = BetaTable::scaled_linear(1000, 0.00085, 0.012).unwrap();
    let cases: [(&BetaTable, Spacing, usize, Known); 8] = [
        (
            &linear,
            Spacing::karras(),
            5,
            [
                (1, 36.90918731689453, 843.356201171875),
                (2, 5.911306858062744, 592.9973754882812),
                (3, 0.4913186728954315, 141.8219757080078),
            ],
        ),
        (
            &linear,
            Spacing::karras(),
            20,
            [
                (7, 16.44732666015625, 742.7259521484375),
                (13, 1.0348687171936035, 264.6331787109375),
                (18, 0.027706105262041092, 4.36981201171875),
            ],
        ),
        (
            &linear,
            Spacing::Exponential,
            5,
            [
                (1, 14.053452491760254, 721.5664672851562),
                (2, 1.2547039985656738, 302.31646728515625),
                (3, 0.11202101409435272, 30.149518966674805),
            ],
        ),
        (
            &linear,
            Spacing::Exponential,
            20,
            [
                (7, 4.474801540374756, 546.4649047851562),
                (13, 0.21155132353305817, 60.919898986816406),
                (18, 0.016632240265607834, 1.4655780792236328),
            ],
        ),
        (
            &scaled,
            Spacing::karras(),
            5,
            [
                (1, 4.796544075012207, 785.9539794921875),
                (2, 1.2741053104400635, 427.4897766113281),
                (3, 0.2479517161846161, 58.891502380371094),
            ],
        ),
        (
            &scaled,
            Spacing::karras(),
            20,
            [
                (7, 2.640847682952881, 639.61474609375),
                (13, 0.396392285823822, 123.39510345458984),
                (18, 0.04848191514611244, 1.782949686050415),
            ],
        ),
        (
            &scaled,
            Spacing::Exponential,
            5,
            [
                (1, 3.0889875888824463, 680.6669921875),
                (2, 0.6528960466384888, 233.20973205566406),
                (3, 0.13799770176410675, 20.001972198486328),
            ],
        ),
        (
            &scaled,
            Spacing::Exponential,
            20,
            [
                (7, 1.4794235229492188, 472.9736633300781),
                (13, 0.2077285200357437, 43.197635650634766),
                (18, 0.04045750945806503, 0.9397950172424316),
            ],
        ),
    ];
    for (table, spacing, steps, known) in cases {
        let grid = spacing.grid(table, steps).unwrap();
        for (i, sigma, timestep) in known {
            let (ratio, told) = (grid[i].sigma / grid[i].alpha, table.time_input(grid[i].t));
            // f32: a thousand factors of alpha-bar, half of that in sigma; near clean, 1 -
            // alpha-bar of 1e-4 has five digits left, and the timestep depends on sigma.
            assert!((ratio / sigma - 1.0).abs() < 3e-4, "{ratio} for {sigma} at {i} of {steps}");
            assert!((told - timestep).abs() < 2e-2, "{told} for {timestep} at {i} of {steps}");
        }
        assert_eq!(
            (table.time_input(grid[0].t), table.time_input(grid[steps - 1].t)),
            (999.0, 0.0)
        );
        assert_eq!(grid[steps].sigma, 0.0);
    }
}

#[test]
fn karras_on_edm_is_the_grid_of_the_paper() {
    let edm = Edm::new(0.002, 80.0).unwrap();
    // EDMEulerScheduler() of diffusers 0.42, in f32: index and sigma of 20 steps.
    let known = [(0, 80.0), (7, 7.468906879425049), (13, 0.3838553726673126)];
    let grid = Spacing::karras().grid(&edm, 20).unwrap();
    for (i, sigma) in known {
        assert!((grid[i].sigma / sigma - 1.0).abs() < 2e-6, "{} for {sigma}", grid[i].sigma);
    }
    for rho in [1.0, 3.0, 7.0, 20.0] {
        let grid = Spacing::Karras { rho }.grid(&edm, 20).unwrap();
        for (i, at) in grid[..20].iter().enumerate() {
            let root = |sigma: f64| sigma.powf(1.0 / rho);
            let up = i as f64 / 19.0;
            let sigma = (root(80.0) + up * (root(0.002) - root(80.0))).powf(rho);
            assert!((at.sigma / sigma - 1.0).abs() < 1e-10, "{} for {sigma}", at.sigma);
        }
        assert_eq!(grid[20].sigma, 0.0);
    }
}
