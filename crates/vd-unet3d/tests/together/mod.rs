//! Inputs of a clip and the images after it.

#![allow(dead_code, unreachable_pub)]

use tch::{Kind, Tensor};
use vd_unet3d::ops::derive_seed;
use vd_unet3d::ops::torch::testing::device;
use vd_unet3d::{Cond, FrameMask, Tokens, UNet3dConfig};

use crate::oracle::draw::{normal, uniform};
use crate::small::{Scene, bits, levels, scene, told, with_cond};

const LENGTH: i64 = 3;

/// All conditioning inputs; the clip's frames share one text, each image has its own, and some are
/// null in some frames. `clip` is the number of the clip's frames.
fn told_jointly(config: &UNet3dConfig, kind: Kind, seed: u64, size: [i64; 4], clip: i64) -> Cond {
    let [b, f, _, _] = size;
    let texts = 1 + f - clip;
    let reads = Tensor::arange(f, (Kind::Int64, device())).f_sub_scalar(clip - 1).unwrap();
    let group = reads.clamp_min(0).expand([b, -1], false);
    let mut cond = told(config, kind, seed, size, true);
    let draw = |part: u64, shape: &[i64]| normal(derive_seed(seed, &[part]), shape).to_kind(kind);
    if let Some(d) = config.cond_dim {
        cond.pooled = Some(draw(40, &[b, f, d]));
    }
    if let Some(tokens) = &config.tokens {
        let weight = uniform(derive_seed(seed, &[41]), &[b, f, LENGTH], 0.2, 2.0);
        let weight = weight * Tensor::from_slice(&[1.0, 0.0, 1.0]).to_device(device());
        let values = draw(42, &[b, texts, LENGTH, tokens.dim]);
        cond = cond.with_groups(Tokens { values, weight: weight.to_kind(Kind::Float) }, group);
    }
    let null = |draws: u64| bits(b * f, draws).view([b, f]);
    if cond.has_text() {
        cond.null = Some(null(seed >> 3));
    }
    for (i, given) in cond.signals.values_mut().enumerate() {
        given.null = Some(null(seed >> (5 + 3 * i)));
    }
    cond
}

/// The inputs of `one`, with those of `other` in some frames.
pub fn in_frames(one: &Scene, other: &Scene, frames: &[bool]) -> Scene {
    let here = Tensor::from_slice(frames).to_device(device());
    let f = frames.len() as i64;
    let mixed = |axis: i64, own: &Tensor, new: &Tensor| {
        let mut shape = vec![1; own.dim()];
        shape[axis as usize] = f;
        new.where_self(&here.view(shape.as_slice()), own)
    };
    let mut cond = one.cond.shallow_clone();
    let new = other.cond.shallow_clone();
    let maybe = |own: Option<Tensor>, new: Option<Tensor>| Some(mixed(1, &own?, &new?));
    cond.pooled = maybe(cond.pooled, new.pooled);
    cond.null = maybe(cond.null, new.null);
    if let (Some(own), Some(new), Some(group)) = (&mut cond.tokens, &new.tokens, &cond.group) {
        own.weight = mixed(1, &own.weight, &new.weight);
        // The texts that the frames use.
        let read: Vec<i64> = Vec::try_from(group.get(0)).unwrap();
        let mut texts = vec![false; own.values.size()[1] as usize];
        for (text, _) in read.iter().zip(frames).filter(|(_, here)| **here) {
            texts[*text as usize] = true;
        }
        let texts = Tensor::from_slice(&texts).to_device(device()).view([1, -1, 1, 1]);
        own.values = new.values.where_self(&texts, &own.values);
    }
    for (name, given) in &mut cond.signals {
        let axis = if given.value.dim() == 5 { 2 } else { 1 };
        given.value = mixed(axis, &given.value, &new_value(&other.cond, name));
        given.null = maybe(
            given.null.take(),
            Some(other.cond.signals[name].null.as_ref().unwrap().shallow_clone()),
        );
    }
    Scene {
        x: mixed(2, &one.x, &other.x),
        t: mixed(1, &one.t, &other.t),
        cond,
        frames: one.frames.shallow_clone(),
    }
}

fn new_value(cond: &Cond, name: &str) -> Tensor {
    cond.signals[name].value.shallow_clone()
}

/// Inputs of a clip and images, with all conditioning and random values per frame.
pub fn jointly(config: &UNet3dConfig, kind: Kind, seed: u64, size: [i64; 4], clip: i64) -> Scene {
    let base = scene(config, kind, seed, size);
    let base = with_cond(&base, told_jointly(config, kind, seed, size, clip));
    let t = levels(seed ^ 9, &size[..2]).to_kind(kind);
    Scene { t, frames: FrameMask::ClipAndImages { clip }, ..base }
}
