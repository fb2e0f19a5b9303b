//! The convolution along time: a matrix product for each tap, accumulated in place.
//!
//! Frames are adjacent in memory, so a tap over a run of frames is one matrix product, and nothing
//! is shifted, padded or masked in a copy: masked frames are not multiplied.

use tch::{Kind, Tensor};
use vd_torch::{BoxError, Function, Saved};

use super::{none, one};
use crate::kernels::check;

/// Neighbouring frames of a sample that a tap reads, and those that it adds them to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Run {
    sample: i64,
    from: i64,
    to: i64,
    count: i64,
}

impl Run {
    /// Rows of the frames from `first` on: a view.
    ///
    /// # Shapes
    /// `x`: b f h w c, contiguous -> (frames h w) c
    fn rows(&self, x: &Tensor, first: i64) -> Tensor {
        x.get(self.sample).narrow(0, first, self.count).flatten(0, 2)
    }
}

/// The runs of all taps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TapRuns {
    taps: Vec<Vec<Run>>,
    /// Samples, and frames of each.
    of: (i64, i64),
}

impl TapRuns {
    /// For `taps` taps, an odd number, over `b` samples of `f` frames; `forbidden` masks pairs of
    /// frames, per sample or for all. A frame always sees itself.
    ///
    /// # Shapes
    /// `forbidden`: (b or 1) f f, queries first
    ///
    /// # Panics
    /// An even number of taps; another number of marks.
    pub fn new(taps: i64, (b, f): (i64, i64), forbidden: Option<&[bool]>) -> Self {
        assert!(
            taps > 0 && taps % 2 == 1 && b >= 0 && f >= 0,
            "a convolution along time: expected an odd number of taps over videos, got {taps} over {b} \
             samples of {f} frames"
        );
        let pairs = (f * f) as usize;
        if let Some(marks) = forbidden {
            let fits = marks.len() == pairs || marks.len() == b as usize * pairs;
            assert!(
                fits,
                "marks of pairs of frames: expected shape ({b} or 1) {f} {f}, got {} marks",
                marks.len()
            );
        }
        let sees = |sample: i64, to: i64, from: i64| {
            forbidden.is_none_or(|marks| {
                let first = if marks.len() == pairs { 0 } else { sample as usize * pairs };
                !marks[first + (to * f + from) as usize]
            })
        };
        let half = taps / 2;
        let of = |offset: i64| {
            let mut runs: Vec<Run> = Vec::new();
            for sample in 0..b {
                for to in (-offset).max(0)..f - offset.max(0) {
                    let from = to + offset;
                    if offset != 0 && !sees(sample, to, from) {
                        continue;
                    }
                    match runs.last_mut() {
                        Some(run) if run.sample == sample && run.to + run.count == to => {
                            run.count += 1;
                        }
                        _ => runs.push(Run { sample, from, to, count: 1 }),
                    }
                }
            }
            runs
        };
        TapRuns { taps: (-half..=half).map(of).collect(), of: (b, f) }
    }

    /// Each tap but the one in the middle, with its runs.
    fn others(&self) -> impl Iterator<Item = (usize, &[Run])> {
        let runs = self.taps.iter().map(Vec::as_slice).enumerate();
        runs.filter(|(tap, _)| *tap != self.taps.len() / 2)
    }
}

/// The weight of each tap: o i.
fn taps(weight: &Tensor) -> Vec<Tensor> {
    weight.detach().flatten(2, -1).permute([2, 0, 1]).contiguous().unbind(0)
}

/// A differentiable convolution along time.
///
/// # Shapes
/// `x`: b f h w i; `weight`: o i k 1 1; `bias`: o -> b f h w o
///
/// # Panics
/// Sizes that do not go together, or runs of other frames or taps; what libtorch refuses.
pub fn temporal_conv(x: &Tensor, (weight, bias): (&Tensor, &Tensor), runs: &TapRuns) -> Tensor {
    let size = check::video("the input of a convolution along time", x);
    let [o, ..] = check::five("the weight of a convolution along time", weight, "o i k 1 1");
    let k = runs.taps.len() as i64;
    check::shape("the weight of a convolution along time", weight, &[o, size[4], k, 1, 1]);
    check::shape("the bias of a convolution along time", bias, &[o]);
    assert!(
        runs.of == (size[0], size[1]),
        "a convolution along time: expected a video of {:?} samples and frames, got shape {size:?}",
        runs.of
    );
    let forward = |saved: &mut Saved| {
        let x = x.contiguous();
        [&x, weight].into_iter().for_each(|t| saved.keep(t));
        let taps = taps(weight);
        let y = x.linear(&taps[taps.len() / 2], Some(bias));
        for (tap, runs) in runs.others() {
            for run in runs {
                let _ = run.rows(&y, run.to).addmm_(&run.rows(&x, run.from), &taps[tap].tr());
            }
        }
        (y, TemporalConv(runs.clone()))
    };
    one(&[x, weight, bias], forward)
}

#[derive(Debug)]
struct TemporalConv(TapRuns);

impl TemporalConv {
    fn of_input(&self, grad: &Tensor, weight: &Tensor) -> Tensor {
        let taps = taps(weight);
        let of = grad.matmul(&taps[taps.len() / 2]);
        for (tap, runs) in self.0.others() {
            for run in runs {
                let _ = run.rows(&of, run.from).addmm_(&run.rows(grad, run.to), &taps[tap]);
            }
        }
        of
    }

    fn of_weight(&self, grad: &Tensor, x: &Tensor, weight: &Tensor) -> Tensor {
        let taps = self.0.taps.len() as i64;
        let of =
            weight.new_zeros([taps, weight.size()[0], weight.size()[1]], (x.kind(), x.device()));
        let mut own = of.get(taps / 2);
        let _ = own.addmm_(&grad.flatten(0, 3).tr(), &x.flatten(0, 3));
        for (tap, runs) in self.0.others() {
            for run in runs {
                let grad = run.rows(grad, run.to);
                let _ = of.get(tap as i64).addmm_(&grad.tr(), &run.rows(x, run.from));
            }
        }
        of.permute([1, 2, 0]).contiguous().view_as(weight)
    }
}

impl Function for TemporalConv {
    fn backward(
        &self,
        saved: &[Tensor],
        grads: &[Option<Tensor>],
        needs: &[bool],
    ) -> Result<Vec<Option<Tensor>>, BoxError> {
        let ([x, weight], Some(Some(grad)), [of_x, of_weight, of_bias]) =
            (saved, grads.first(), needs)
        else {
            return Ok(none(needs.len()));
        };
        let grad = grad.contiguous();
        Ok(vec![
            of_x.then(|| self.of_input(&grad, weight)),
            of_weight.then(|| self.of_weight(&grad, x, weight)),
            of_bias.then(|| grad.sum_dim_intlist([0i64, 1, 2, 3].as_slice(), false, None::<Kind>)),
        ])
    }

    fn name(&self) -> &'static str {
        "convolution along time"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_end_where_frames_do_not_see_each_other() {
        let runs = TapRuns::new(3, (2, 4), None);
        let run = |sample, from, to, count| Run { sample, from, to, count };
        assert_eq!(runs.taps[0], [run(0, 0, 1, 3), run(1, 0, 1, 3)]);
        assert_eq!(runs.taps[2], [run(0, 1, 0, 3), run(1, 1, 0, 3)]);
        // A clip of two frames, and two images; for the first sample and for both.
        let clip: Vec<bool> =
            (0..16).map(|at| at / 4 != at % 4 && (at / 4).max(at % 4) > 1).collect();
        let both = TapRuns::new(5, (2, 4), Some(&clip));
        assert_eq!(both.taps[1], [run(0, 0, 1, 1), run(1, 0, 1, 1)]);
        assert!(both.taps[0].is_empty() && both.taps[4].is_empty());
        let one: Vec<bool> = clip.into_iter().chain([false; 16]).collect();
        let one = TapRuns::new(3, (2, 4), Some(&one));
        assert_eq!(one.taps[2], [run(0, 1, 0, 1), run(1, 1, 0, 3)]);
        // Taps beyond both ends have none.
        assert!(TapRuns::new(5, (1, 1), None).others().all(|(_, runs)| runs.is_empty()));
    }
}
