//! The optimiser step and the moving average of the weights, in one pass over memory.

use tch::{Device, Kind, Tensor};
use vd_torch::{AdamWStep, mark_changed, team};

use super::{Isa, Simd, Work};

/// Tensors of one parameter, f32 and contiguous on the CPU.
#[derive(Debug, Clone, Copy)]
pub struct AdamWTensors<'a> {
    /// Changed in place.
    pub param: &'a Tensor,
    /// The gradient.
    pub grad: &'a Tensor,
    /// The first moment, changed in place.
    pub exp_avg: &'a Tensor,
    /// The second moment, changed in place.
    pub exp_avg_sq: &'a Tensor,
    /// The moving average of the parameter, changed in place.
    pub average: Option<&'a Tensor>,
}

impl AdamWTensors<'_> {
    /// Whether [`adamw`] can take them.
    pub fn fits(&self) -> bool {
        self.all().all(|t| {
            t.device() == Device::Cpu
                && t.kind() == Kind::Float
                && t.is_contiguous()
                && t.numel() == self.param.numel()
        })
    }

    /// The parameter and what goes with it.
    pub(crate) fn all(&self) -> impl Iterator<Item = &Tensor> {
        [self.param, self.grad, self.exp_avg, self.exp_avg_sq].into_iter().chain(self.average)
    }

    /// Why a kernel does not take them.
    pub(crate) fn refused(&self, expected: &str) -> vd_torch::Error {
        let got: Vec<_> = self.all().map(|t| (t.kind(), t.device(), t.size())).collect();
        vd_torch::Error::Driver {
            what: "a step of AdamW".to_owned(),
            why: format!("expected {expected}, as many values of each; got {got:?}"),
        }
    }
}

/// Step `done` (from 1) of AdamW on gradients times `shrink`, and then average + (1 - `decay`)
/// (parameter - average). The result of every entry is independent of the number of threads.
///
/// # Errors
/// Tensors that do not [fit](AdamWTensors::fits), of which none is changed; tensors that libtorch counts
/// no versions of.
/// # Reference
/// Loshchilov & Hutter 2019, algorithm 2, arXiv:1711.05101.
pub fn adamw(
    isa: Isa,
    step: &AdamWStep,
    done: i64,
    (shrink, decay): (f64, f64),
    tensors: &[AdamWTensors<'_>],
) -> vd_torch::Result<()> {
    if let Some(of) = tensors.iter().find(|of| !of.fits()) {
        return Err(of.refused("contiguous f32 on the CPU"));
    }
    let numbers = Numbers::new(step, done, (shrink, decay));
    let at = |t: &Tensor| t.data_ptr() as *mut f32;
    let all: Vec<Run> = tensors
        .iter()
        .map(|t| Run {
            param: at(t.param),
            grad: at(t.grad).cast_const(),
            exp_avg: at(t.exp_avg),
            exp_avg_sq: at(t.exp_avg_sq),
            average: t.average.map_or(std::ptr::null_mut(), at),
            count: t.param.numel(),
        })
        .collect();
    let total = all.iter().map(|run| run.count).sum();
    let all = Runs(all);
    let all = &all;
    team(|member| {
        let range = member.share(total);
        let mut start = 0;
        for run in &all.0 {
            let (first, last) = (range.start.max(start), range.end.min(start + run.count));
            if first < last {
                // SAFETY: within the tensors, which are alive; threads take different entries.
                let run = unsafe { run.part(first - start, last - first) };
                isa.run(Entries { run, numbers });
            }
            start += run.count;
        }
    });
    // Packed forms of them, and values that a graph saved, are stale now.
    mark_changed(changed(tensors))
}

/// The tensors that a step changes, which others may have read.
pub(crate) fn changed<'a>(
    tensors: &'a [AdamWTensors<'_>],
) -> impl Iterator<Item = &'a Tensor> + use<'a> {
    tensors.iter().flat_map(|of| [Some(of.param), of.average]).flatten()
}

/// The numbers of a step; the GPU kernel takes them in this order.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Numbers {
    pub(crate) shrink: f32,
    pub(crate) keep: f32,
    /// 1 - beta, of both moments: taken in f64, for of 0.999 in f32 it would be 5e-5 off.
    pub(crate) fresh1: f32,
    pub(crate) fresh2: f32,
    pub(crate) rate: f32,
    pub(crate) root: f32,
    pub(crate) eps: f32,
    pub(crate) follow: f32,
}

impl Numbers {
    /// The numbers of step `done`, from 1, on gradients times `shrink`, with an average that keeps
    /// `decay`.
    pub(crate) fn new(step: &AdamWStep, done: i64, (shrink, decay): (f64, f64)) -> Self {
        let corrected = |beta: f64| 1.0 - beta.powf(done as f64);
        Numbers {
            shrink: shrink as f32,
            keep: (1.0 - step.lr * step.weight_decay) as f32,
            fresh1: (1.0 - step.beta1) as f32,
            fresh2: (1.0 - step.beta2) as f32,
            rate: (step.lr / corrected(step.beta1)) as f32,
            root: (1.0 / corrected(step.beta2).sqrt()) as f32,
            eps: step.eps as f32,
            follow: (1.0 - decay) as f32,
        }
    }
}

/// A run of entries of a parameter.
#[derive(Debug, Clone, Copy)]
struct Run {
    param: *mut f32,
    grad: *const f32,
    exp_avg: *mut f32,
    exp_avg_sq: *mut f32,
    /// Or null.
    average: *mut f32,
    count: usize,
}

struct Runs(Vec<Run>);

// SAFETY: threads take different entries.
unsafe impl Sync for Runs {}

impl Run {
    /// # Safety
    /// There are `start + count` entries.
    unsafe fn part(&self, start: usize, count: usize) -> Run {
        // SAFETY: guaranteed by the caller; the average may be null, and stays so.
        unsafe {
            let average =
                if self.average.is_null() { self.average } else { self.average.add(start) };
            Run {
                param: self.param.add(start),
                grad: self.grad.add(start),
                exp_avg: self.exp_avg.add(start),
                exp_avg_sq: self.exp_avg_sq.add(start),
                average,
                count,
            }
        }
    }
}

struct Entries {
    run: Run,
    numbers: Numbers,
}

impl Entries {
    /// One vector of entries.
    #[inline(always)]
    unsafe fn vector<S: Simd>(&self, run: Run) {
        let n = &self.numbers;
        // SAFETY: guaranteed by the caller.
        unsafe {
            let grad = S::mul(S::load(run.grad), S::splat(n.shrink));
            let m = S::load(run.exp_avg);
            let m = S::fma(S::splat(n.fresh1), S::sub(grad, m), m);
            let v = S::load(run.exp_avg_sq);
            let v = S::fma(S::splat(n.fresh2), S::sub(S::mul(grad, grad), v), v);
            let bound = S::fma(S::sqrt(v), S::splat(n.root), S::splat(n.eps));
            let p = S::mul(S::load(run.param), S::splat(n.keep));
            let p = S::fnma(S::splat(n.rate), S::div(m, bound), p);
            S::store(run.exp_avg, m);
            S::store(run.exp_avg_sq, v);
            S::store(run.param, p);
            if !run.average.is_null() {
                let average = S::load(run.average);
                S::store(run.average, S::fma(S::splat(n.follow), S::sub(p, average), average));
            }
        }
    }
}

impl Work for Entries {
    type Out = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let whole = self.run.count / S::LANES * S::LANES;
        // SAFETY: guaranteed by the caller.
        unsafe {
            for start in (0..whole).step_by(S::LANES) {
                self.vector::<S>(self.run.part(start, S::LANES));
            }
            // The rest is computed the same way, as a padded vector.
            let (rest, count) = (self.run.part(whole, 0), self.run.count - whole);
            if count > 0 {
                let mut gradient = [0f32; 16];
                std::ptr::copy_nonoverlapping(rest.grad, gradient.as_mut_ptr(), count);
                let grad = gradient.as_ptr();
                let mut lanes = [[0f32; 16]; 4];
                let from = [rest.param, rest.exp_avg, rest.exp_avg_sq, rest.average];
                let there = if rest.average.is_null() { 3 } else { 4 };
                for (lanes, from) in lanes.iter_mut().zip(from).take(there) {
                    std::ptr::copy_nonoverlapping(from, lanes.as_mut_ptr(), count);
                }
                let [param, exp_avg, exp_avg_sq, average] =
                    lanes.each_mut().map(|lanes| lanes.as_mut_ptr());
                let average = if rest.average.is_null() { rest.average } else { average };
                self.vector::<S>(Run { param, grad, exp_avg, exp_avg_sq, average, count });
                for (lanes, to) in lanes.iter().zip(from).take(there) {
                    std::ptr::copy_nonoverlapping(lanes.as_ptr(), to, count);
                }
            }
        }
    }
}
