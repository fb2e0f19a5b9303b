//! The loss of a clip and of independent images after it.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::cell::RefCell;

use proptest::prelude::*;
use tch::{Device, Kind, Tensor};
use vd_diffusion::{
    Backbone, Cond, Diffusion, DiffusionConfig, FrameMask, FrameTimes, LossRequest, Noise,
    Parameterization, ScheduleConfig, SeededNoise, TimeSampling,
};

/// Returns half of its input, and records its inputs.
#[derive(Debug, Default)]
struct Half(RefCell<Vec<(Tensor, Tensor)>>);

impl Backbone for Half {
    fn forward(
        &self,
        x: &Tensor,
        t: &Tensor,
        _: &Cond,
        _: &FrameMask,
        _: Option<&mut dyn Noise>,
    ) -> vd_unet3d::Result<Tensor> {
        self.0.borrow_mut().push((x.shallow_clone(), t.shallow_clone()));
        Ok(x * 0.5)
    }
}

fn times() -> impl Strategy<Value = (TimeSampling, FrameTimes)> {
    let laws = vec![
        TimeSampling::Uniform,
        TimeSampling::Stratified,
        TimeSampling::LogitNormal { mean: 0.0, std: 1.0 },
    ];
    let frames =
        vec![FrameTimes::Shared, FrameTimes::Independent, FrameTimes::Context { frames: 1 }];
    (prop::sample::select(laws), prop::sample::select(frames))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_clip_has_the_times_and_the_noise_that_it_has_without_images(
        (times, frame_times) in times(), b in 1i64..4, clip in 2i64..5, images in 1i64..4, seed: u64,
    ) {
        let config = DiffusionConfig {
            schedule: ScheduleConfig::cosine(),
            parameterization: Parameterization::V,
            times,
            frame_times,
            ..Default::default()
        };
        let diffusion = Diffusion::new(&config).unwrap();
        let like = |f: i64| Tensor::empty([b, 2, f, 3, 2], (Kind::Float, Device::Cpu));
        let x0 = SeededNoise::new(seed ^ 1, 0).normal(&like(clip + images));
        let asked = |x0: &Tensor, frames: &FrameMask| {
            let network = Half::default();
            let request = LossRequest { frames: Some(frames), ..Default::default() };
            let mut noise = SeededNoise::new(seed, 0);
            let loss = diffusion.loss(&network, x0, &Cond::none(), request, &mut noise).unwrap();
            let (x, t) = network.0.take().remove(0);
            (x, t, loss)
        };
        let (alone, t_alone, _) = asked(&x0.narrow(2, 0, clip), &FrameMask::All);
        let (joint, t, loss) = asked(&x0, &FrameMask::ClipAndImages { clip });
        prop_assert_eq!(joint.narrow(2, 0, clip), alone);
        if frame_times == FrameTimes::Shared {
            prop_assert_eq!(&t, &t_alone);
        } else {
            // Each image has its own time.
            prop_assert_eq!(t.narrow(1, 0, clip), t_alone);
            let mut own: Vec<f32> = Vec::try_from(t.narrow(1, clip, images).flatten(0, 1)).unwrap();
            own.sort_by(f32::total_cmp);
            own.dedup();
            prop_assert_eq!(own.len() as i64, b * images);
            prop_assert!(own.iter().all(|t| *t > 0.0));
        }
        // An image counts as much as a noisy frame of the clip.
        let counts = loss.counts.sum(Kind::Double).double_value(&[]);
        let clean = if matches!(frame_times, FrameTimes::Context { .. }) { 1 } else { 0 };
        prop_assert_eq!(counts as i64, b * (clip + images - clean) * 2 * 3 * 2);
        // The same number of frames in a clip without images gets other random values.
        let whole = asked(&x0, &FrameMask::ClipAndImages { clip: clip + images });
        let all = asked(&x0, &FrameMask::All);
        prop_assert_eq!((whole.0, whole.1), (all.0, all.1));
    }
}
