//! A recorded function, with the tensors that it reads and writes.

use std::fmt::Display;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use tch::{Kind, Tensor};

use super::back::{Back, BackTensors, Replayed};
use super::kept::{Holds, freshen, noted, reading};
use super::once::{gradients, run};
use super::{Pool, Recorder, Recording};
use crate::autograd::apply;
use crate::{Error, Result};

/// The largest accepted difference between a replay and the function itself, relative L2:
/// half-precision matrix products may be summed in another order, and a wrong result differs by
/// more.
const FAR: f64 = 0.05;

/// The function that is recorded.
type Run<'a, E> = dyn Fn(&[Tensor]) -> std::result::Result<Vec<Tensor>, E> + 'a;

/// A function of tensors, recorded.
#[derive(Debug)]
pub(super) struct Recorded {
    inputs: Vec<Tensor>,
    outputs: Vec<Tensor>,
    /// The cached copies of weights that it reads.
    holds: Holds,
    forward: Box<dyn Recording>,
    /// The backward, if there is one.
    back: Option<Arc<Mutex<Back>>>,
    pending: Weak<()>,
}

/// The results of a function, computed directly.
struct Once {
    outputs: Vec<Tensor>,
    /// Gradients with respect to the outputs, and the resulting ones with respect to the
    /// parameters.
    back: Option<(Vec<Tensor>, Tensor)>,
}

impl Recorded {
    /// Runs `f` directly on copies of the inputs, records it, and compares the two. `params` are
    /// the parameters for which a backward is recorded; empty without a backward.
    ///
    /// # Errors
    /// Any error of `f`, a panic included; work that cannot be recorded; a replay whose results
    /// differ from those of `f`.
    pub(super) fn new<E: Display>(
        recorder: &dyn Recorder,
        pool: Pool,
        inputs: &[&Tensor],
        params: Vec<Tensor>,
        f: &Run<'_, E>,
    ) -> Result<Self> {
        let inputs = copies(inputs.iter().copied())?;
        let mut made = None;
        recorder.aside(&mut || {
            // Memory belongs to a stream: what earlier calls have left on theirs would stay taken beside
            // what this one takes here.
            recorder.clear()?;
            let graph = !params.is_empty();
            let (once, holds) = noted(graph, || once(&inputs, &params, f));
            let once = once?;
            recorder.clear()?;
            let (forward, outputs) =
                reading(&holds, || forward(recorder, pool, &inputs, graph, f))?;
            let back = match &once.back {
                Some((seeds, _)) => Some(back(recorder, pool, &outputs, seeds, &params)?),
                None => None,
            };
            let outputs: Vec<Tensor> = outputs.iter().map(Tensor::detach).collect();
            made = Some((once, holds, forward, outputs, back));
            Ok(())
        })?;
        let Some((once, holds, forward, outputs, back)) = made else {
            return Err(Error::Torch("nothing was recorded".to_owned()));
        };
        let back = back.map(|back| Arc::new(Mutex::new(back)));
        let pending = Weak::new();
        let mut recorded = Recorded { inputs, outputs, holds, forward, back, pending };
        recorded.check(&once, f)?;
        Ok(recorded)
    }

    /// Whether a backward may still follow, which needs memory of the pool.
    pub(super) fn is_pending(&self) -> bool {
        self.pending.strong_count() > 0
    }

    /// `f(inputs)`, by a replay; `params` are the same as when it was recorded.
    pub(super) fn answer<E: Display>(
        &mut self,
        inputs: &[&Tensor],
        params: &[Tensor],
        f: &Run<'_, E>,
    ) -> Result<Vec<Tensor>> {
        let Some(back) = self.back.clone() else {
            return tch::no_grad(|| self.forward(inputs, f));
        };
        let params: Vec<&Tensor> = params.iter().collect();
        let pending = Arc::new(());
        self.pending = Arc::downgrade(&pending);
        apply(&params, |saved| {
            // If weights change before the backward, it fails.
            params.iter().for_each(|param| saved.keep(param));
            Ok((self.forward(inputs, f)?, Replayed { back, _pending: pending }))
        })
    }

    fn forward<E: Display>(&mut self, inputs: &[&Tensor], f: &Run<'_, E>) -> Result<Vec<Tensor>> {
        for (own, given) in self.inputs.iter_mut().zip(inputs) {
            own.f_copy_(given)?;
        }
        self.replay(f)?;
        // Copies, since the next replay overwrites the outputs.
        copies(self.outputs.iter())
    }

    fn replay<E: Display>(&mut self, f: &Run<'_, E>) -> Result<()> {
        let Recorded { inputs, outputs, holds, forward, back, .. } = self;
        freshen(holds)?;
        forward.replay(&mut || {
            let fresh = reading(holds, || run(back.is_some(), || f(inputs)))?;
            for (own, fresh) in outputs.iter_mut().zip(&fresh) {
                tch::no_grad(|| own.f_copy_(&fresh.detach()))?;
            }
            if let Some(back) = back {
                lock(back).tensors.outputs = fresh;
            }
            Ok(())
        })
    }

    /// Compares a replay with the directly computed results.
    fn check<E: Display>(&mut self, once: &Once, f: &Run<'_, E>) -> Result<()> {
        // Cleared first, so that old values are not taken for results of the replay.
        let back = self.back.as_ref().map(|back| lock(back).tensors.all.shallow_clone());
        for tensor in self.outputs.iter().chain(&back).filter(|t| t.is_floating_point()) {
            let _ = tch::no_grad(|| tensor.shallow_clone().f_fill_(f64::NAN))?;
        }
        self.replay(f)?;
        for (replayed, expected) in self.outputs.iter().zip(&once.outputs) {
            close("its output", replayed, expected)?;
        }
        if let (Some(back), Some((_, expected))) = (&self.back, &once.back) {
            let mut back = lock(back);
            back.replay()?;
            close("its gradients", &back.tensors.all, expected)?;
        }
        Ok(())
    }
}

/// Copies of the values, outside any graph.
fn copies<'a>(tensors: impl Iterator<Item = &'a Tensor>) -> Result<Vec<Tensor>> {
    tch::no_grad(|| tensors.map(|t| Ok(t.detach().f_detach_copy()?)).collect())
}

fn lock(back: &Mutex<Back>) -> MutexGuard<'_, Back> {
    back.lock().unwrap_or_else(PoisonError::into_inner)
}

fn once<E: Display>(inputs: &[Tensor], params: &[Tensor], f: &Run<'_, E>) -> Result<Once> {
    let fresh = run(!params.is_empty(), || f(inputs))?;
    let outputs: Vec<Tensor> = fresh.iter().map(Tensor::detach).collect();
    if params.is_empty() {
        return Ok(Once { outputs, back: None });
    }
    if !fresh.iter().all(Tensor::requires_grad) {
        return Err(Error::Torch("an output depends on no parameter".to_owned()));
    }
    // Arbitrary varied values, of norm 1 so that half precision does not overflow.
    let seeds = outputs.iter().map(|t| {
        let norm =
            t.f_to_kind(Kind::Float)?.f_norm()?.f_add_scalar(f64::from(f32::MIN_POSITIVE))?;
        Ok(t.f_div(&norm)?.f_to_kind(t.kind())?)
    });
    let seeds = seeds.collect::<Result<Vec<_>>>()?;
    let (all, _) = gradients(&fresh, &seeds, params)?;
    Ok(Once { outputs, back: Some((seeds, all)) })
}

/// Records the function; also returns its directly computed results, in a graph if there is a
/// backward.
fn forward<E: Display>(
    recorder: &dyn Recorder,
    pool: Pool,
    inputs: &[Tensor],
    graph: bool,
    f: &Run<'_, E>,
) -> Result<(Box<dyn Recording>, Vec<Tensor>)> {
    let mut outputs = Vec::new();
    let recording = recorder.record(pool, &mut || {
        outputs = run(graph, || f(inputs))?;
        Ok(())
    })?;
    Ok((recording, outputs))
}

fn back(
    recorder: &dyn Recorder,
    pool: Pool,
    outputs: &[Tensor],
    seeds: &[Tensor],
    params: &[Tensor],
) -> Result<Back> {
    let mut found = None;
    let recording = recorder.record(pool, &mut || {
        found = Some(gradients(outputs, seeds, params)?);
        Ok(())
    })?;
    let Some((all, places)) = found else {
        return Err(Error::Torch("no gradients were recorded".to_owned()));
    };
    let clone = |list: &[Tensor]| list.iter().map(Tensor::shallow_clone).collect::<Vec<_>>();
    let (seeds, params) = (clone(seeds), clone(params));
    let tensors = BackTensors { seeds, all, places, params, outputs: Vec::new(), handed: None };
    Ok(Back { recording, tensors })
}

/// Refuses a replay that is far from the direct results; values that are not finite are not
/// compared.
fn close(what: &str, replayed: &Tensor, expected: &Tensor) -> Result<()> {
    let wide = |t: &Tensor| t.f_to_kind(Kind::Float);
    let apart = wide(replayed)?.f_sub(&wide(expected)?)?.f_norm()?;
    let read = Tensor::f_stack(&[&apart, &wide(expected)?.f_norm()?], 0)?;
    let read: Vec<f32> = Vec::try_from(&read)?;
    let [apart, norm] = [f64::from(read[0]), f64::from(read[1])];
    let is_close = apart <= FAR * norm;
    if norm.is_finite() && !is_close {
        return Err(Error::Torch(format!(
            "a replay does not reproduce the recorded step: {what} is off by {apart:.2e} of {norm:.2e}"
        )));
    }
    Ok(())
}
