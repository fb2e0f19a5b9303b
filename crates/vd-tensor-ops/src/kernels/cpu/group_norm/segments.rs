//! Sums over neighbouring positions that several threads share.

use crate::kernels::cpu::Simd;

/// Positions whose sums are accumulated in f32.
const BLOCK: usize = 64;
/// Positions at a time, with their sums in registers.
const TILE: usize = 4;

/// Positions in segments of equal length, divided over a team.
#[derive(Debug, Clone, Copy)]
pub(super) struct Segments {
    /// Positions of a segment.
    pub(super) each: usize,
    /// Positions of all.
    pub(super) total: usize,
    /// Members of the team.
    pub(super) members: usize,
}

/// The part of a segment that a member of the team takes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Piece {
    pub(super) segment: usize,
    pub(super) from: usize,
    pub(super) to: usize,
    /// The slot for its sums, used by no other piece.
    pub(super) slot: usize,
}

impl Segments {
    /// Number of slots.
    pub(super) fn slots(&self) -> usize {
        self.total / self.each + self.members
    }

    fn share(&self, member: usize) -> (usize, usize) {
        (self.total * member / self.members, self.total * (member + 1) / self.members)
    }

    fn piece(&self, member: usize, segment: usize) -> Option<Piece> {
        let share = self.share(member);
        let from = share.0.max(segment * self.each);
        let to = share.1.min((segment + 1) * self.each);
        // Each member begins in the segment where the one before it ends, or later.
        (from < to).then_some(Piece { segment, from, to, slot: segment + member })
    }

    /// The pieces of a member, in order.
    pub(super) fn pieces(self, member: usize) -> impl Iterator<Item = Piece> {
        let (from, to) = self.share(member);
        let segments = from / self.each..to.div_ceil(self.each);
        segments.filter_map(move |segment| self.piece(member, segment))
    }

    /// The slots of a segment, in the order of the members.
    pub(super) fn slots_of(self, segment: usize) -> impl Iterator<Item = usize> {
        let pieces = (0..self.members).filter_map(move |member| self.piece(member, segment));
        pieces.map(|piece| piece.slot)
    }
}

/// Two numbers of each channel of a position, to be summed over positions.
pub(super) trait Pairs {
    /// Adds the numbers of `N` positions from `position` on to `near`: c values, and c more.
    ///
    /// # Safety
    /// As [`Simd`]; the positions exist.
    unsafe fn add<S: Simd, const N: usize>(&self, position: usize, c: usize, near: *mut f32);
}

/// Adds the pairs of the positions `from..to` to `sums`, with f64 accumulation across blocks.
///
/// # Safety
/// As [`Simd`]; `near` and `sums` are valid for 2 c values, `c` is a multiple of the lanes.
#[inline(always)]
pub(super) unsafe fn sum<S: Simd, P: Pairs>(
    pairs: &P,
    (from, to): (usize, usize),
    c: usize,
    (near, sums): (*mut f32, *mut f64),
) {
    for first in (from..to).step_by(BLOCK) {
        let end = to.min(first + BLOCK);
        // SAFETY: guaranteed by the caller.
        unsafe {
            for k in (0..2 * c).step_by(S::LANES) {
                S::store(near.add(k), S::zero());
            }
            let mut position = first;
            while end - position >= TILE {
                pairs.add::<S, TILE>(position, c, near);
                position += TILE;
            }
            while position < end {
                pairs.add::<S, 1>(position, c, near);
                position += 1;
            }
            for k in 0..2 * c {
                *sums.add(k) += f64::from(*near.add(k));
            }
        }
    }
}
