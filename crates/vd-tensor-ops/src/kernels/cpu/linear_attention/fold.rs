//! The steps between the passes over an image: from the sums to M, and the backward of that.

use super::backward::Gradients;
use super::buffers::Buffers;
use super::pack::{Folded, Shape, Unfolded};
use super::product::{Panels, Product};
use super::sums::merge;
use crate::kernels::cpu::{Scratch, Simd, gemm};

/// The sums, contexts and rows of M of some heads, from the sums of all parts.
///
/// # Safety
/// As [`Simd`]; the sums have been computed.
#[inline(always)]
pub(super) unsafe fn fold<S: Simd>(
    shape: &Shape,
    packed: &Folded,
    buffers: &Buffers,
    heads: (usize, usize),
) {
    let Shape { c, dim, .. } = *shape;
    let parts: Vec<_> = (0..buffers.parts).map(|part| buffers.sums(part)).collect();
    let ([top, share, mean], (context, width)) = (buffers.features(), buffers.context());
    let [whole, mixed] = buffers.whole();
    let mut merged = Scratch::take(dim * c + dim);
    let merged = merged.as_mut_ptr();
    for head in heads.0..heads.1 {
        let first = head * dim;
        // SAFETY: guaranteed by the caller.
        unsafe {
            let (sums, total) = merge::<S>(shape, head, &parts, merged);
            for d in 0..dim {
                let n = first + d;
                let one = 1.0 / *total.add(d);
                let tops = parts.iter().map(|part| *part.top.add(n));
                *top.add(n) = tops.fold(f32::NEG_INFINITY, f32::max);
                *share.add(n) = one;
                for k in (0..c).step_by(S::LANES) {
                    let sum = S::load(sums.add(d * c + k));
                    S::store(whole.add(n * c + k), S::mul(sum, S::splat(one)));
                }
            }
            let (a, to) = ((whole.add(first * c).cast_const(), c, 1), context.add(first * width));
            let panels = packed.values.as_ptr().add(head * c * dim.next_multiple_of(2 * S::LANES));
            let size = [dim, dim, c];
            S::call(Panels { a, b: panels, c: (to, width), shape: size, add: false });
            let (a, b) = ((to.cast_const(), width, 1), (packed.out.as_ptr().add(first * c), c));
            let to = (mixed.add(first * c), c);
            S::call(Product { a, b, c: to, shape: [dim, c, dim], add: false });
        }
    }
    if heads.0 < heads.1 && heads.1 == shape.heads {
        // Padding features of the last vector.
        for n in shape.inner()..shape.inner().next_multiple_of(S::LANES) {
            for at in [top, share, mean] {
                // SAFETY: there is room for whole vectors.
                unsafe { *at.add(n) = 0.0 };
            }
        }
    }
}

/// The gradients of the sums of some heads, and of the weights that M is made from, from the
/// gradients of M of all parts.
///
/// # Safety
/// As [`Simd`]; [`fold`] has run, and the gradients of M have been computed.
#[inline(always)]
pub(super) unsafe fn unfold<S: Simd>(
    shape: &Shape,
    back: &Unfolded,
    buffers: &Buffers,
    heads: (usize, usize),
    gradients: &Gradients,
) {
    let Shape { c, dim, .. } = *shape;
    let ((context, width), [whole, _]) = (buffers.context(), buffers.whole());
    let mut grad = Scratch::take(dim * width);
    let grad = grad.as_mut_ptr();
    for head in heads.0..heads.1 {
        let (first, size) = (head * dim, [dim, c, dim]);
        // SAFETY: guaranteed by the caller.
        unsafe {
            let mixed = mixed_grad::<S>(shape, buffers, head);
            let panels = back.out.as_ptr().add(head * c * dim.next_multiple_of(gemm::panel::<S>()));
            let (a, to) = ((mixed, c, 1), (grad, width));
            S::call(Panels { a, b: panels, c: to, shape: [dim, dim, c], add: false });
            let context = context.add(first * width).cast_const();
            let (a, to) = ((context, 1, width), (gradients.part(3).add(first * c), c));
            S::call(Product { a, b: (mixed, c), c: to, shape: size, add: true });
            let (a, b) = ((grad.cast_const(), 1, width), (whole.add(first * c).cast_const(), c));
            let to = (gradients.part(2).add(first * c), c);
            S::call(Product { a, b, c: to, shape: size, add: true });
            for d in 0..dim {
                let row = |at: *const f32| std::slice::from_raw_parts(at.add(d * width), dim);
                let products = row(grad).iter().zip(row(context)).map(|(a, b)| a * b);
                *buffers.features()[2].add(first + d) = products.sum();
            }
            sums_grad::<S>(shape, back, buffers, head, (grad, width));
        }
    }
}

/// The gradient of a head's rows of M, summed over all parts.
#[inline(always)]
unsafe fn mixed_grad<S: Simd>(shape: &Shape, buffers: &Buffers, head: usize) -> *const f32 {
    let (first, size) = (head * shape.dim * shape.c, shape.dim * shape.c);
    // SAFETY: guaranteed by the caller.
    unsafe {
        let to = buffers.mixed_grad(0).add(first);
        for part in 1..buffers.parts {
            let from = buffers.mixed_grad(part).add(first);
            for k in (0..size).step_by(S::LANES) {
                S::store(to.add(k), S::add(S::load(to.add(k)), S::load(from.add(k))));
            }
        }
        to
    }
}

/// The gradient of a head's sums from that of its context, as panels of both axes.
#[inline(always)]
unsafe fn sums_grad<S: Simd>(
    shape: &Shape,
    back: &Unfolded,
    buffers: &Buffers,
    head: usize,
    (grad, row): (*mut f32, usize),
) {
    let Shape { c, dim, .. } = *shape;
    let (first, inner, width) = (head * dim, shape.inner(), gemm::panel::<S>());
    let [by_channels, by_features] = buffers.sums_grad();
    for panel in 0..c.div_ceil(width) {
        let (channel, columns) = (panel * width, width.min(c - panel * width));
        // SAFETY: guaranteed by the caller.
        unsafe {
            let b = (back.values.as_ptr().add(first * c + channel), c);
            let to = by_channels.add((panel * inner + first) * width);
            let (a, size) = ((grad.cast_const(), row, 1), [dim, columns, dim]);
            S::call(Product { a, b, c: (to, width), shape: size, add: false });
            for d in 0..dim {
                let n = first + d;
                let at = by_features.add((n / width) * width * c + n % width);
                for k in 0..columns {
                    *at.add((channel + k) * width) = *to.add(d * width + k);
                }
            }
        }
    }
}
