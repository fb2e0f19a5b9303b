//! Kernels touch no byte outside their operands: each lies between pages that must not be touched,
//! from the first byte of a page or up to the last one, which is no whole vector's.
#![allow(clippy::unwrap_used, clippy::expect_used)]
#![cfg(target_os = "linux")]

mod drawn;

use std::sync::Arc;

use tch::{Device, Kind, Tensor};
use vd_tensor_ops::kernels::cpu::{
    AdamWTensors, ConvCache, DirectCache, Finish, Frames, GroupFinish, Isa, LinearAttentionCache,
    LinearAttentionWeights, SpatialWeights, TemporalCache, TemporalWeights, Window, adamw, conv3x3,
    conv3x3_input_grad, conv3x3_weight_grad, direct, direct_transposed, direct_weight_grad,
    finish_grad, group_finish, group_finish_grad, linear_attention, linear_attention_backward,
    spatial_attention, spatial_attention_backward, temporal_attention, temporal_attention_backward,
};
use vd_tensor_ops::kernels::{Precision, with};
use vd_tensor_ops::layers::HeadShape;
use vd_tensor_ops::torch::AdamWStep;

use drawn::draw;

const PAGE: usize = 4096;

/// Where in its pages a tensor lies.
#[derive(Debug, Clone, Copy)]
enum Place {
    First,
    Last,
}

/// Makes guarded copies and keeps their memory.
struct Guard {
    place: Place,
    maps: Vec<(*mut libc::c_void, usize)>,
}

impl Guard {
    fn copy(&mut self, x: &Tensor) -> Tensor {
        let bytes = x.numel() * 4;
        let len = bytes.next_multiple_of(PAGE) + 2 * PAGE;
        // SAFETY: a new private mapping, of which the first and the last page are closed; the copy
        // lies within the others, and the mapping lives until the guard is dropped.
        unsafe {
            let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
            let protection = libc::PROT_READ | libc::PROT_WRITE;
            let map = libc::mmap(std::ptr::null_mut(), len, protection, flags, -1, 0);
            assert_ne!(map, libc::MAP_FAILED);
            self.maps.push((map, len));
            assert_eq!(libc::mprotect(map, PAGE, libc::PROT_NONE), 0);
            assert_eq!(libc::mprotect(map.byte_add(len - PAGE), PAGE, libc::PROT_NONE), 0);
            let at = match self.place {
                Place::First => map.byte_add(PAGE),
                Place::Last => map.byte_add(len - PAGE - bytes),
            };
            let size = x.size();
            let mut strides = vec![1; size.len()];
            for k in (1..size.len()).rev() {
                strides[k - 1] = strides[k] * size[k];
            }
            let copy = Tensor::from_blob(at.cast(), &size, &strides, Kind::Float, Device::Cpu);
            copy.shallow_clone().copy_(x);
            copy
        }
    }

    fn draw(&mut self, seed: u64, shape: &[i64]) -> Tensor {
        self.copy(&draw(seed, shape))
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        for (map, len) in &self.maps {
            // SAFETY: mapped in `copy`; the tensors are gone.
            unsafe { libc::munmap(*map, *len) };
        }
    }
}

/// Runs `outputs` with guarded operands and with plain ones: both give the same bits.
fn both(outputs: impl Fn(Isa, &mut dyn FnMut(u64, &[i64]) -> Tensor) -> Vec<Tensor>) {
    for isa in Isa::tested() {
        let plain = outputs(isa, &mut |seed, shape| draw(seed, shape));
        for place in [Place::First, Place::Last] {
            let mut guard = Guard { place, maps: Vec::new() };
            let guarded = outputs(isa, &mut |seed, shape| guard.draw(seed, shape));
            assert_eq!(plain, guarded, "{isa}, {place:?}");
        }
    }
}

/// h and w: one position, no whole tiles, and more than a block of tiles.
const PLANES: [[i64; 2]; 3] = [[1, 1], [5, 7], [28, 30]];

#[test]
fn convolutions_stay_within_their_operands() {
    for [h, w] in PLANES {
        both(|isa, draw| {
            let (x, y) = (draw(1, &[1, 2, h, w, 16]), draw(2, &[1, 2, h, w, 48]));
            let (weight, bias) = (draw(3, &[32, 64, 1, 3, 3]), draw(4, &[32]));
            let (gain, shift) = (draw(5, &[2, 32]), draw(6, &[2, 32]));
            let residual = draw(7, &[1, 2, h, w, 32]);
            let grad = draw(8, &[1, 2, h, w, 32]);
            let cache = ConvCache::default();
            let finish = Finish { gain: &gain, shift: Some(&shift), residual: Some(&residual) };
            let weights = (&weight, &cache);
            let backward = finish_grad(isa, &residual, &grad, &finish);
            vec![
                conv3x3(isa, &[&x, &y], weights, Some(&bias), Some(&finish)),
                conv3x3_input_grad(isa, &grad, weights),
                conv3x3_weight_grad(isa, &[&x, &y], &grad),
                backward.x,
                backward.gain,
                backward.shift,
            ]
        });
    }
}

#[test]
fn group_norms_stay_within_their_operands() {
    for [h, w] in PLANES {
        both(|isa, draw| {
            let (x, grad) = (draw(1, &[2, 2, h, w, 48]), draw(2, &[2, 2, h, w, 48]));
            let (gain, shift) = (draw(3, &[4, 48]), draw(4, &[4, 48]));
            let residual = draw(5, &[2, 2, h, w, 48]);
            let (gain, shift, residual) = (&gain, &shift, Some(&residual));
            let finish = GroupFinish { groups: 3, gain, shift, residual };
            let made = group_finish(isa, &x, &finish);
            let back = group_finish_grad(isa, (&x, &grad), &made.statistics, &finish);
            vec![made.y, made.statistics, back.x, back.gain, back.shift]
        });
    }
}

#[test]
fn direct_convolutions_stay_within_their_operands() {
    for (kernel, stride, padding) in [(3, 1, 1), (4, 2, 1), (7, 1, 3)] {
        let window = Window { kernel, stride, padding };
        for [h, w] in PLANES.map(|plane| plane.map(|n| n.max(kernel as i64 - 2))) {
            let [down, across] = [h, w].map(|n| window.outputs(n as usize) as i64);
            // Two inputs to whole vectors, and few channels to some that are none.
            for (first, second, o) in [(16, 40, 32), (3, 0, 21)] {
                both(|isa, draw| {
                    let inputs = [draw(1, &[1, 2, h, w, first]), draw(2, &[1, 2, h, w, second])];
                    let inputs: Vec<&Tensor> = inputs.iter().filter(|x| x.numel() > 0).collect();
                    let k = kernel as i64;
                    let weight = draw(3, &[o, first + second, 1, k, k]);
                    let (bias, grad) = (draw(4, &[o]), draw(5, &[1, 2, down, across, o]));
                    let cache = DirectCache::default();
                    let weights = (&weight, &cache, window);
                    let size = [h as usize, w as usize];
                    vec![
                        direct(isa, &inputs, weights, Some(&bias), None),
                        direct_transposed(isa, &grad, weights, None, size),
                        direct_weight_grad(isa, &inputs, &grad, window),
                    ]
                });
            }
        }
    }
}

#[test]
fn attentions_stay_within_their_operands() {
    let shape = HeadShape::new(3, 10).unwrap();
    for [h, w] in PLANES {
        both(|isa, draw| {
            let (x, grad) = (draw(1, &[1, 3, h, w, 16]), draw(2, &[1, 3, h, w, 16]));
            let (gamma, to_qkv) = (draw(3, &[16]), draw(4, &[90, 16]));
            let (to_out, bias) = (draw(5, &[16, 30]), draw(6, &[16]));
            let (turns, scores) = (draw(7, &[3, 5, 2]), draw(8, &[3, 3, 3]));
            let cache = Arc::<TemporalCache>::default();
            let (gamma, to_qkv, to_out) = (&gamma, &to_qkv, &to_out);
            let weights = TemporalWeights { gamma, to_qkv, to_out, shape, cache: &cache };
            let tables = [9, 10].map(|seed| draw(seed, &[5, 10]));
            let (turns, distances) = (&turns, Some(tables.each_ref()));
            let frames = Frames { turns, bias: Some(&scores), distances, forbidden: None };
            let time = temporal_attention_backward(isa, (&x, &grad), &weights, &frames);
            let mut out = vec![time.x, time.to_qkv];
            out.extend(time.distances.into_iter().flatten());
            for precision in [Precision::F32, Precision::Bf16] {
                out.push(with(precision, || temporal_attention(isa, &x, &weights, &frames)));
            }
            let weights = LinearAttentionWeights { gamma, to_qkv, to_out, bias: &bias };
            let cache = LinearAttentionCache::default();
            for precision in [Precision::F32, Precision::Bf16] {
                let run = || linear_attention(isa, &x, &weights, &cache, shape);
                out.push(with(precision, run));
            }
            let space = linear_attention_backward(isa, (&x, &grad), &weights, &cache, shape);
            out.extend([space.x, space.to_qkv]);
            out
        });
    }
}

#[test]
fn attentions_over_few_sites_stay_within_their_operands() {
    let shape = HeadShape::new(3, 10).unwrap();
    for [h, w] in [[1, 1], [3, 5], [7, 9]] {
        both(|isa, draw| {
            let (x, grad) = (draw(1, &[1, 7, h, w, 64]), draw(2, &[1, 7, h, w, 64]));
            let (gamma, to_qkv) = (&draw(3, &[64]), &draw(4, &[90, 64]));
            let (to_out, bias) = (&draw(5, &[64, 30]), &draw(6, &[64]));
            let weights = LinearAttentionWeights { gamma, to_qkv, to_out, bias };
            let cache = LinearAttentionCache::default();
            let y = linear_attention(isa, &x, &weights, &cache, shape);
            let of = linear_attention_backward(isa, (&x, &grad), &weights, &cache, shape);
            vec![y, of.x, of.gamma, of.to_qkv, of.to_out, of.bias]
        });
    }
}

#[test]
fn full_attention_over_space_stays_within_its_operands() {
    for ([h, w], dim) in PLANES.into_iter().zip([10, 1, 8]) {
        let shape = HeadShape::new(3, dim).unwrap();
        both(|isa, draw| {
            let (x, grad) = (draw(1, &[1, 2, h, w, 16]), draw(2, &[1, 2, h, w, 16]));
            let (gamma, to_qkv) = (draw(3, &[16]), draw(4, &[9 * dim, 16]));
            let (to_out, bias) = (draw(5, &[16, 3 * dim]), draw(6, &[3, h * w, h * w]));
            let cache = &Arc::default();
            let (gamma, to_qkv, to_out) = (&gamma, &to_qkv, &to_out);
            let weights = SpatialWeights { gamma, to_qkv, to_out, shape, cache };
            let of = spatial_attention_backward(isa, (&x, &grad), &weights, Some(&bias));
            let y = spatial_attention(isa, &x, &weights, Some(&bias));
            vec![y, of.x, of.gamma, of.to_qkv, of.to_out, of.bias.unwrap()]
        });
    }
}

#[test]
fn steps_of_the_optimiser_stay_within_their_operands() {
    let step = AdamWStep { lr: 1e-2, beta1: 0.9, beta2: 0.99, eps: 1e-8, weight_decay: 0.1 };
    for n in [1, 13, 4099] {
        both(|isa, draw| {
            let (param, grad, exp_avg) = (draw(1, &[n]), draw(2, &[n]), draw(3, &[n]));
            let (exp_avg_sq, average) = (draw(4, &[n]).square_(), draw(5, &[n]));
            let tensors = AdamWTensors {
                param: &param,
                grad: &grad,
                exp_avg: &exp_avg,
                exp_avg_sq: &exp_avg_sq,
                average: Some(&average),
            };
            adamw(isa, &step, 3, (0.7, 0.9), &[tensors]).unwrap();
            [param, exp_avg, exp_avg_sq, average].iter().map(Tensor::copy).collect()
        });
    }
}
