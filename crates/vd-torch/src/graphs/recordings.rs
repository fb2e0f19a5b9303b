//! What was recorded of one function, by the shapes of its inputs.

use std::cell::RefCell;
use std::fmt::{Debug, Display};
use std::panic::{AssertUnwindSafe, catch_unwind};

use tch::{Device, Kind, Tensor};

use super::recorded::Recorded;
use super::{Pool, Recorder, recorder};
use crate::autocast::autocast_now;
use crate::autograd::in_a_graph;
use crate::device_memory::{rounding, said_by};
use crate::{Autocast, Result, grad_enabled};

/// The most recordings at a time.
const MOST: usize = 4;
/// The most shapes that are remembered.
const KNOWN: usize = 32;
/// Calls after which a recording that none of them used gives its place to another.
const STALE: u64 = 64;

/// What became of recording a function.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GraphState {
    /// How many recordings there are.
    pub recorded: usize,
    /// How many calls a recording has answered.
    pub replayed: u64,
    /// Why nothing is recorded any more; the function is called as it is.
    pub refused: Option<String>,
}

/// The recordings of a function of tensors. `K` is all that it depends on besides them.
///
/// A recording holds addresses: of its own copies of the inputs, into which those of each call are
/// copied, of the parameters, which may change in place, and of what is [`Kept`](super::Kept) of them.
/// What is called for the second time with
/// the same shapes is recorded; all recordings share their memory.
#[derive(Debug)]
pub struct Recordings<K>(RefCell<State<K>>);

#[derive(Debug)]
struct State<K> {
    calls: u64,
    replayed: u64,
    refused: Option<String>,
    pool: Option<Pool>,
    entries: Vec<Entry<K>>,
}

#[derive(Debug)]
struct Entry<K> {
    signature: Signature<K>,
    used: u64,
    recorded: Option<Recorded>,
}

/// What two calls have in common that do the same on a device.
#[derive(Debug, PartialEq)]
struct Signature<K> {
    what: K,
    inputs: Vec<(Vec<i64>, Kind)>,
    device: Device,
    /// Where each parameter lies, and whether it wants a gradient.
    params: Vec<(usize, bool)>,
    cast: (Device, Autocast),
    rounding: u8,
}

impl<K> Default for Recordings<K> {
    fn default() -> Self {
        let (entries, pool) = (Vec::new(), None);
        Recordings(RefCell::new(State { calls: 0, replayed: 0, refused: None, pool, entries }))
    }
}

impl<K: Debug + PartialEq> Recordings<K> {
    /// What became of them.
    pub fn state(&self) -> GraphState {
        let state = self.0.borrow();
        let recorded = state.entries.iter().filter(|entry| entry.recorded.is_some()).count();
        GraphState { recorded, replayed: state.replayed, refused: state.refused.clone() }
    }

    /// Drops all of them, and what has failed.
    pub fn clear(&self) {
        *self.0.borrow_mut() = Recordings::default().0.into_inner();
    }

    /// `f(what, inputs)` by a recording, or None where `f` itself is to be called: on a device that
    /// records nothing, for a gradient with respect to an input, the first time (and as long as a
    /// graph of the parameters is there from before), while the backward of an earlier call is still to
    /// come, and for good after something could not be recorded ([`GraphState::refused`]).
    ///
    /// `params` are the tensors besides its arguments that `f` reads and that may want gradients;
    /// what else it depends on is in `what`, the state of [`autocast`](crate::autocast) aside. `f`
    /// reads no value on the host, and draws nothing. A gradient is a part of a tensor that all
    /// gradients of a backward share.
    ///
    /// # Errors
    /// Whatever the device says to a replay.
    pub fn answer<E: Display>(
        &self,
        what: K,
        inputs: &[&Tensor],
        params: &[Tensor],
        f: impl Fn(&K, &[Tensor]) -> std::result::Result<Vec<Tensor>, E>,
    ) -> Result<Option<Vec<Tensor>>> {
        let Some(found) = inputs.first().and_then(|first| recorder(first.device())) else {
            return Ok(None);
        };
        // Taken already where `f` calls itself.
        let Ok(mut state) = self.0.try_borrow_mut() else { return Ok(None) };
        if state.refused.is_some() {
            return Ok(None);
        }
        let recorder = match found {
            Ok(recorder) => recorder,
            Err(error) => {
                state.refused = Some(error.to_string());
                return Ok(None);
            }
        };
        let graph = grad_enabled();
        if graph && inputs.iter().any(|t| t.requires_grad()) {
            return Ok(None);
        }
        let signature = Signature::new(what, inputs, params, graph);
        let state = &mut *state;
        let Some(at) = state.seen_before(signature) else { return Ok(None) };
        let pending = |entry: &Entry<K>| entry.recorded.as_ref().is_some_and(Recorded::is_pending);
        if state.entries.iter().any(pending) {
            return Ok(None);
        }
        let wanted = state.entries[at].signature.wanted(params);
        if state.entries[at].recorded.is_none() {
            // A backward goes to the stream that its graph was made on: one that is still there would
            // lead out of the recording.
            if in_a_graph(&wanted) || !state.has_room() {
                return Ok(None);
            }
            if let Err(why) = state.record(at, &*recorder, (inputs, &wanted), &f) {
                // What was recorded before goes too: the memory is wanted.
                state.entries.clear();
                // Where the device has an error to tell, the next call hears it.
                let _ = recorder.aside(&mut || recorder.clear());
                state.refused = Some(why);
                return Ok(None);
            }
        }
        let Entry { signature, recorded: Some(recorded), .. } = &mut state.entries[at] else {
            return Ok(None);
        };
        let answer = recorded.answer(inputs, &wanted, &|inputs| f(&signature.what, inputs))?;
        state.replayed += 1;
        Ok(Some(answer))
    }
}

impl<K> Signature<K> {
    fn new(what: K, inputs: &[&Tensor], params: &[Tensor], graph: bool) -> Self {
        Signature {
            what,
            inputs: inputs.iter().map(|t| (t.size(), t.kind())).collect(),
            device: inputs.first().map_or(Device::Cpu, |t| t.device()),
            params: params
                .iter()
                .map(|p| (p.data_ptr() as usize, graph && p.requires_grad()))
                .collect(),
            cast: autocast_now(),
            rounding: rounding(),
        }
    }

    /// The parameters that want a gradient.
    fn wanted(&self, params: &[Tensor]) -> Vec<Tensor> {
        let wanted = params.iter().zip(&self.params).filter(|(_, (_, wants))| *wants);
        wanted.map(|(param, _)| param.shallow_clone()).collect()
    }
}

impl<K: PartialEq> State<K> {
    /// The entry of a call, if it is not its first.
    fn seen_before(&mut self, signature: Signature<K>) -> Option<usize> {
        self.calls += 1;
        let used = self.calls;
        let at = self.entries.iter().position(|entry| entry.signature == signature);
        if let Some(at) = at {
            self.entries[at].used = used;
            return Some(at);
        }
        if self.entries.len() >= KNOWN {
            let unrecorded = self.entries.iter().enumerate().filter(|(_, e)| e.recorded.is_none());
            let oldest = unrecorded.min_by_key(|(_, entry)| entry.used).map(|(at, _)| at);
            oldest.map(|at| self.entries.swap_remove(at));
        }
        self.entries.push(Entry { signature, used, recorded: None });
        None
    }

    /// Whether another recording may be made, for which one that is out of use may have gone.
    fn has_room(&mut self) -> bool {
        let recorded = self.entries.iter_mut().filter(|entry| entry.recorded.is_some());
        let recorded: Vec<_> = recorded.collect();
        if recorded.len() < MOST {
            return true;
        }
        let calls = self.calls;
        let oldest = recorded.into_iter().min_by_key(|entry| entry.used);
        match oldest.filter(|entry| calls - entry.used > STALE) {
            Some(oldest) => {
                oldest.recorded = None;
                true
            }
            None => false,
        }
    }

    fn record<E: Display>(
        &mut self,
        at: usize,
        recorder: &dyn Recorder,
        (inputs, wanted): (&[&Tensor], &[Tensor]),
        f: &impl Fn(&K, &[Tensor]) -> std::result::Result<Vec<Tensor>, E>,
    ) -> std::result::Result<(), String> {
        let make = || {
            let pool = match self.pool {
                Some(pool) => pool,
                None => *self.pool.insert(recorder.pool()?),
            };
            let what = &self.entries[at].signature.what;
            let wanted = wanted.iter().map(Tensor::shallow_clone).collect();
            Recorded::new(recorder, pool, inputs, wanted, &|inputs| f(what, inputs))
        };
        let made = catch_unwind(AssertUnwindSafe(make));
        let recorded =
            made.map_err(|panic| said_by(&*panic))?.map_err(|error| error.to_string())?;
        self.entries[at].recorded = Some(recorded);
        Ok(())
    }
}
