//! Losses per level: one time per frame, clean context, bins of log-SNR, learned uncertainty.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod known;

use std::sync::Mutex;

use known::{largest, random, values};
use vd_diffusion::Parameterization::{self, Edm, Epsilon, Flow, V, X0};
use vd_diffusion::tch::{Device, Kind, Tensor};
use vd_diffusion::{
    Backbone, Bin, Cond, Diffusion, DiffusionConfig, FrameMask, FrameTimes, Levels, Loss,
    LossRequest, Noise, ScheduleConfig, SeededNoise, TimeSampling, Uncertainty, Weighting, unet3d,
};
use vd_tensor_ops::Params;

const SIZE: [i64; 5] = [2, 3, 4, 2, 2];
const ALL: [Parameterization; 5] = [Epsilon, X0, V, Flow, Edm { sigma_data: 0.5 }];

/// Returns 0.3 x, and records its inputs.
#[derive(Debug, Default)]
struct Watching(Mutex<Vec<(Tensor, Tensor)>>);

impl Backbone for Watching {
    fn forward(
        &self,
        x: &Tensor,
        t: &Tensor,
        _: &Cond,
        _: &FrameMask,
        _: Option<&mut dyn Noise>,
    ) -> unet3d::Result<Tensor> {
        self.0.lock().unwrap().push((x.shallow_clone(), t.shallow_clone()));
        Ok(x * 0.3)
    }
}

fn diffusion(parameterization: Parameterization, weighting: Weighting) -> Diffusion {
    Diffusion::new(&DiffusionConfig { parameterization, weighting, ..Default::default() }).unwrap()
}

fn times(t: &[f64]) -> Tensor {
    Tensor::from_slice(t).view([SIZE[0], SIZE[2]])
}

fn run(diffusion: &Diffusion, network: &Watching, request: LossRequest<'_>) -> Loss {
    let x0 = random(1, &SIZE, Kind::Double);
    let noise = &mut SeededNoise::new(2, 0);
    diffusion.loss(network, &x0, &Cond::none(), request, noise).unwrap()
}

/// Mean over frame (i, j) alone, by a mask that keeps nothing else.
fn of_frame(diffusion: &Diffusion, t: &Tensor, i: i64, j: i64) -> f64 {
    let keep = Tensor::zeros([SIZE[0], 1, SIZE[2], 1, 1], (Kind::Double, Device::Cpu));
    let _ = keep.get(i).select(1, j).fill_(1.0);
    let request = LossRequest { t: Some(t), keep: Some(&keep), ..Default::default() };
    run(diffusion, &Watching::default(), request).mean.double_value(&[])
}

#[test]
fn clean_frames_are_shown_clean_and_do_not_count() {
    let t = times(&[0.0, 0.0, 0.4, 0.9, 0.0, 0.3, 0.3, 1.0]);
    let x0 = random(1, &SIZE, Kind::Double);
    for kind in ALL {
        for weighting in [Weighting::Uniform, Weighting::Snr, Weighting::TruncatedSnr] {
            let (diffusion, network) = (diffusion(kind, weighting), Watching::default());
            let got = run(&diffusion, &network, LossRequest { t: Some(&t), ..Default::default() });
            let (shown, told) = network.0.lock().unwrap().pop().unwrap();
            // The input of the EDM network is divided by the standard deviation of clean data.
            let scale = if let Edm { sigma_data } = kind { sigma_data } else { 1.0 };
            for (i, j) in [(0, 0), (0, 1), (1, 0)] {
                let frame = |x: &Tensor| x.get(i).select(1, j);
                assert!(largest(&(frame(&shown) * scale - frame(&x0))) < 1e-15, "{kind:?}");
                assert_eq!(told.double_value(&[i, j]), -1.0);
            }
            assert!(told.double_value(&[0, 2]) >= 0.0);
            let noisy = [(0, 2), (0, 3), (1, 1), (1, 2), (1, 3)];
            let own = noisy.map(|(i, j)| of_frame(&diffusion, &t, i, j));
            let near = |got: f64, expected: f64| {
                assert!((got - expected).abs() < 1e-9 * expected.abs(), "{got} for {expected}");
            };
            near(got.mean.double_value(&[]), own.iter().sum::<f64>() / 5.0);
            near(got.per_sample.double_value(&[0]), (own[0] + own[1]) / 2.0);
            near(got.per_sample.double_value(&[1]), (own[2] + own[3] + own[4]) / 3.0);
            for ((i, j), own) in noisy.into_iter().zip(own) {
                near(got.per_level.double_value(&[i, j]), own);
            }
            assert_eq!(values(&got.counts), [0.0, 0.0, 12.0, 12.0, 0.0, 12.0, 12.0, 12.0]);
            assert_eq!(got.log_snr.double_value(&[0, 0]), f64::INFINITY);
        }
    }
}

/// A mask over pixels and frames, together with clean frames.
#[test]
fn a_mask_and_clean_frames_act_together() {
    let t = times(&[0.0, 0.2, 0.4, 0.9, 0.5, 0.3, 0.3, 1.0]);
    let keep = random(3, &SIZE, Kind::Double).gt(0.2); // b c f h w
    let diffusion = diffusion(V, Weighting::Uniform);
    let request = LossRequest { t: Some(&t), keep: Some(&keep), ..Default::default() };
    let got = run(&diffusion, &Watching::default(), request);
    let both = keep.logical_and(&t.gt(0.0).view([SIZE[0], 1, SIZE[2], 1, 1]));
    let request = LossRequest { t: Some(&t), keep: Some(&both), ..Default::default() };
    let expected = run(&diffusion, &Watching::default(), request);
    assert_eq!(got.mean, expected.mean);
    assert_eq!(got.per_sample, expected.per_sample);
    assert_eq!(got.counts, expected.counts);
    assert_eq!(got.counts, both.sum_dim_intlist([1, 3, 4].as_slice(), false, Kind::Double));
}

#[test]
fn a_batch_in_which_nothing_counts_is_refused() {
    let diffusion = diffusion(V, Weighting::Uniform);
    let refused = |t: &[f64], keep: Option<&Tensor>| {
        let (t, x0) = (times(t), random(1, &SIZE, Kind::Double));
        let request = LossRequest { t: Some(&t), keep, ..Default::default() };
        let noise = &mut SeededNoise::new(2, 0);
        let got = diffusion.loss(&Watching::default(), &x0, &Cond::none(), request, noise);
        got.unwrap_err().to_string()
    };
    let message = refused(&[0.0; 8], None);
    assert!(message.contains("at least one frame with t > 0"), "{message}");
    // The mask keeps only the clean frames.
    let first = Tensor::from_slice(&[1.0, 0.0, 0.0, 0.0]).view([1, 1, 4, 1, 1]);
    let message = refused(&[0.0, 0.5, 0.5, 0.5, 0.0, 0.5, 0.5, 0.5], Some(&first));
    assert!(message.contains("at least one that counts"), "{message}");
}

#[test]
fn bins_hold_the_losses_of_their_levels() {
    let diffusion = diffusion(V, Weighting::MinSnr { gamma: 5.0 });
    let t = times(&[0.0, 0.1, 0.4, 0.9, 0.5, 0.3, 0.7, 1.0]);
    let got =
        run(&diffusion, &Watching::default(), LossRequest { t: Some(&t), ..Default::default() });
    let edges = [f64::NEG_INFINITY, -3.0, 0.0, 2.0, f64::INFINITY];
    let bins = got.by_log_snr(&edges).unwrap();
    let counts: Vec<usize> = bins.iter().map(|bin| bin.count).collect();
    assert_eq!(counts.iter().sum::<usize>(), 7);
    let mut pooled = 0.0;
    for bin in &bins {
        let mut own = Vec::new();
        for (k, t_of) in values(&t).into_iter().enumerate() {
            let log_snr = diffusion.schedule().at(t_of).log_snr();
            if t_of > 0.0 && bin.from <= log_snr && log_snr < bin.to {
                own.push(of_frame(&diffusion, &t, k as i64 / SIZE[2], k as i64 % SIZE[2]));
            }
        }
        assert_eq!(own.len(), bin.count);
        let mean = own.iter().sum::<f64>() / own.len() as f64;
        assert!(own.is_empty() || (bin.mean - mean).abs() < 1e-10 * mean, "{bin:?} {mean}");
        pooled += if own.is_empty() { 0.0 } else { bin.mean * own.len() as f64 };
    }
    // Every frame has the same number of values: the bins pool to the mean.
    assert!((pooled / 7.0 - got.mean.double_value(&[])).abs() < 1e-10);
    let upper = got.by_log_snr(&[1e3, 1e4]).unwrap()[0];
    assert!(upper.count == 0 && upper.mean.is_nan());
    for edges in [&[0.0] as &[f64], &[0.0, 0.0], &[1.0, 0.0], &[0.0, f64::NAN]] {
        assert!(got.by_log_snr(edges).unwrap_err().to_string().contains("edges of bins"));
    }
    let uneven = Bin::of(&[0.0, 1.0], &[2.0], &[1.0, 1.0], &[0.0, 1.0]).unwrap_err();
    assert!(uneven.to_string().contains("as many means and counts"), "{uneven}");
    let weighed = Bin::of(&[0.0, 1.0], &[2.0, 5.0], &[3.0, 1.0], &[0.0, 2.0]).unwrap();
    assert_eq!(weighed, [Bin { from: 0.0, to: 2.0, count: 2, mean: 2.75 }]);
}

#[test]
fn frames_that_share_no_time_draw_their_own() {
    let config = |frame_times, times| DiffusionConfig {
        schedule: ScheduleConfig::cosine(),
        parameterization: V,
        times,
        frame_times,
        ..Default::default()
    };
    let t = |frame_times, times| {
        let diffusion = Diffusion::new(&config(frame_times, times)).unwrap();
        run(&diffusion, &Watching::default(), LossRequest::default()).t
    };
    let own = t(FrameTimes::Independent, TimeSampling::Uniform);
    assert_eq!(own.size(), [SIZE[0], SIZE[2]]);
    let mut all = values(&own);
    all.sort_by(f64::total_cmp);
    assert!(all.windows(2).all(|pair| pair[0] < pair[1]));
    // Stratified over the two clips, separately for each frame.
    let spread = t(FrameTimes::Independent, TimeSampling::Stratified);
    let apart = values(&(spread.get(0) - spread.get(1)).abs());
    assert!(apart.iter().all(|d| (d - 0.5).abs() < 1e-12), "{apart:?}");
    let first = values(&spread.get(0));
    assert!(first.windows(2).all(|pair| (pair[0] - pair[1]).abs() > 1e-3), "{first:?}");
    let context = t(FrameTimes::Context { frames: 3 }, TimeSampling::Uniform);
    let shared = t(FrameTimes::Shared, TimeSampling::Uniform);
    assert_eq!(context.narrow(1, 0, 3), Tensor::zeros([2, 3], (Kind::Double, Device::Cpu)));
    assert_eq!(context.select(1, 3), shared);
    let diffusion =
        Diffusion::new(&config(FrameTimes::Context { frames: 4 }, TimeSampling::Uniform)).unwrap();
    let refused = |x0: &Tensor| {
        let (noise, request) = (&mut SeededNoise::new(2, 0), LossRequest::default());
        let got = diffusion.loss(&Watching::default(), x0, &Cond::none(), request, noise);
        got.unwrap_err().to_string()
    };
    let message = refused(&random(1, &SIZE, Kind::Double));
    assert!(message.contains("less than the number of frames, 4"), "{message}");
    let message = refused(&random(1, &[2, 3], Kind::Double));
    assert!(message.contains("b c f"), "{message}");
}

fn uncertainty() -> (Params, Uncertainty) {
    let mut params = Params::new(1, Kind::Double, Device::Cpu);
    let uncertainty = Uncertainty::new(&mut params.root().sub("uncertainty"), 64).unwrap();
    (params, uncertainty)
}

#[test]
fn an_untrained_uncertainty_changes_nothing() {
    let (params, uncertainty) = uncertainty();
    let names: Vec<&str> = params.iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["uncertainty.frequencies", "uncertainty.phases", "uncertainty.weight"]);
    assert_eq!(params.count(), 64);
    let diffusion = diffusion(V, Weighting::Uniform);
    let with = |uncertainty| {
        let request = LossRequest { uncertainty, ..Default::default() };
        run(&diffusion, &Watching::default(), request)
    };
    let (plain, got) = (with(None), with(Some(&uncertainty)));
    assert_eq!(got.mean.detach(), plain.mean);
    assert_eq!(got.per_sample, plain.per_sample);
    assert!(got.mean.requires_grad());
    let mut params = Params::new(1, Kind::Double, Device::Cpu);
    assert!(Uncertainty::new(&mut params.root(), 0).unwrap_err().to_string().contains("channels"));
}

/// loss / exp(u) + u, frame by frame; the reported loss is unchanged.
#[test]
fn an_uncertainty_divides_the_loss_of_its_level() {
    let (params, uncertainty) = uncertainty();
    let weight = params.get("uncertainty.weight").unwrap().tensor.detach();
    weight.shallow_clone().copy_(&random(7, &[64], Kind::Double));
    let diffusion = diffusion(V, Weighting::Uniform);
    let t = times(&[0.0, 0.1, 0.4, 0.9, 0.5, 0.3, 0.7, 1.0]);
    let request =
        LossRequest { t: Some(&t), uncertainty: Some(&uncertainty), ..Default::default() };
    let got = run(&diffusion, &Watching::default(), request);
    let levels = Levels::at_times(diffusion.schedule(), &t).unwrap();
    let u = values(&uncertainty.of(&levels).unwrap().detach());
    let own = values(&got.per_level);
    // The first frame is clean.
    let expected = (1..8).map(|k| own[k] / u[k].exp() + u[k]).sum::<f64>() / 7.0;
    assert!((got.mean.double_value(&[]) - expected).abs() < 1e-12);
    let plain =
        run(&diffusion, &Watching::default(), LossRequest { t: Some(&t), ..Default::default() });
    assert_eq!(got.per_level, plain.per_level);
    assert!(u.iter().all(|u| u.is_finite()) && u[1] != u[2]);
    let ends = [(1.0, 0.0), (0.0, 1.0)]
        .map(|(alpha, sigma)| Levels::from(vd_diffusion::NoiseLevel { t: 0.5, alpha, sigma }));
    assert!(ends.iter().all(|at| uncertainty.of(at).unwrap().double_value(&[]).is_finite()));
}

/// The minimum of loss / exp(u) + u is at u = ln(loss): gradient descent finds it.
#[test]
fn an_uncertainty_learns_the_logarithm_of_the_loss() {
    let (params, uncertainty) = uncertainty();
    let weight = params.get("uncertainty.weight").unwrap().tensor.shallow_clone();
    let diffusion = diffusion(V, Weighting::Uniform);
    let t = Tensor::from_slice(&[0.2, 0.7]);
    let mut last = None;
    for _ in 0..300 {
        let request =
            LossRequest { t: Some(&t), uncertainty: Some(&uncertainty), ..Default::default() };
        let loss = run(&diffusion, &Watching::default(), request);
        let grad = Tensor::run_backward(&[&loss.mean], &[&weight], false, false);
        vd_diffusion::tch::no_grad(|| {
            let _ = weight.shallow_clone().g_sub_(&(&grad[0] * 0.3));
        });
        last = Some(loss.per_sample);
    }
    let levels = Levels::at_times(diffusion.schedule(), &t).unwrap();
    let u = uncertainty.of(&levels).unwrap().detach();
    // Measured: 1e-16 after 300 steps.
    let off = largest(&(u - last.unwrap().log()));
    assert!(off < 1e-6);
}
