//! Compares the network with its reference implementation.

use ndarray::{Array1, Array3, ArrayD, Axis};
use tch::{Kind, Tensor};
use vd_unet3d::{Backbone, FrameMask, SignalConfig, UNet3dConfig};

use super::{Network, Question};
use crate::oracle::attention::Sight;
use crate::oracle::text::Text;
use crate::oracle::{Weights, array, relative, video};
use crate::small::{Scene, build};

/// Relative difference explained by f64 arithmetic: measured below 2e-14.
const EXACT: f64 = 1e-12;
/// The same in f32: measured below 2e-6.
const SINGLE: f64 = 2e-5;

/// Which frames attend to each other: sample, query, key.
fn sees(frames: &FrameMask) -> Sight {
    match frames {
        FrameMask::All => Box::new(|_, _, _| true),
        FrameMask::Focus(mask) => {
            let mask = Vec::<bool>::try_from(mask).unwrap();
            Box::new(move |b, i, j| !mask[b] || i == j)
        }
        FrameMask::ClipAndImages { clip } => {
            let clip = *clip as usize;
            Box::new(move |_, i, j| i == j || i.max(j) < clip)
        }
    }
}

/// Levels of every frame: b f 1.
fn every_frame(t: &Tensor, f: usize) -> Array3<f64> {
    let t = array(t);
    Array3::from_shape_fn(
        (t.shape()[0], f, 1),
        |(b, f, _)| {
            if t.ndim() == 1 { t[[b]] } else { t[[b, f]] }
        },
    )
}

/// Whether a mask marks a sample.
fn is(mask: Option<&Tensor>, b: usize) -> bool {
    mask.is_some_and(|mask| Vec::<bool>::try_from(mask).unwrap()[b])
}

/// Conditioning of a sample and a frame: rows of `own` axes, one per sample or one per frame.
fn of_frame(given: &ArrayD<f64>, b: usize, f: usize, own: usize) -> Array1<f64> {
    let given = given.index_axis(Axis(0), b);
    let given = if given.ndim() > own { given.index_axis(Axis(0), f) } else { given };
    given.iter().copied().collect()
}

/// The difference between network and reference in f64 and in f32.
fn compare(config: &UNet3dConfig, seed: u64, make: &dyn Fn(Kind) -> Scene) -> [f64; 2] {
    [Kind::Double, Kind::Float].map(|kind| {
        let (net, params) = build(config, kind, seed);
        let scene = make(kind);
        let got = net.forward(&scene.x, &scene.t, &scene.cond, &scene.frames, None).unwrap();
        assert_eq!(got.kind(), kind);

        let frames = scene.x.size()[2] as usize;
        let null = scene.cond.null.as_ref();
        let pooled = scene.cond.pooled.as_ref().map(array);
        let cond = |b: usize, f: usize| -> Option<Array1<f64>> {
            let given = pooled.as_ref().filter(|_| !is(null, b))?;
            Some(of_frame(given, b, f, 1))
        };
        let text = scene.cond.tokens.as_ref().map(|tokens| {
            let (values, weight) = (array(&tokens.values), array(&tokens.weight));
            let size = (values.shape()[0], frames, values.shape()[1]);
            Text {
                tokens: values.into_dimensionality().unwrap(),
                weight: Array3::from_shape_fn(size, |(b, f, l)| {
                    if is(null, b) { 0.0 } else { of_frame(&weight, b, f, 1)[l] }
                }),
            }
        });
        let signal = |name: &str, b: usize, f: usize| -> Option<Array1<f64>> {
            let given = scene.cond.signals.get(name).filter(|g| !is(g.null.as_ref(), b))?;
            let own = usize::from(matches!(config.signals[name], SignalConfig::Series { .. }));
            Some(of_frame(&array(&given.value), b, f, own))
        };
        let shown = |name: &str, b: usize| -> Option<ArrayD<f64>> {
            let given = scene.cond.signals.get(name).filter(|g| !is(g.null.as_ref(), b))?;
            Some(array(&given.value).index_axis(Axis(0), b).to_owned())
        };
        let everyone = sees(&FrameMask::All);
        let masked = sees(&scene.frames);
        let spared = matches!(scene.frames, FrameMask::Focus(_)) && !config.mask_first_temporal;
        let question = Question {
            t: every_frame(&scene.t, frames),
            x: video(&scene.x),
            cond: &cond,
            text,
            signal: &signal,
            shown: &shown,
            first_sees: if spared { &everyone } else { &masked },
            sees: &masked,
        };
        let weights = Weights::of(&params);
        relative(&got, &Network { config, weights: &weights }.answer(&question))
    })
}

pub fn holds(config: &UNet3dConfig, seed: u64, make: &dyn Fn(Kind) -> Scene) {
    let [double, single] = compare(config, seed, make);
    assert!(double <= EXACT, "f64: {double:e} for {config:?}");
    assert!(single <= SINGLE, "f32: {single:e} for {config:?}");
}
