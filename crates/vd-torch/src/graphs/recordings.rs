//! Recordings of one function, by the shapes of its inputs.

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

/// The maximum number of recordings at a time.
const MOST: usize = 4;
/// The maximum number of remembered shapes.
const KNOWN: usize = 32;
/// After this many calls without use, a recording may be replaced.
const STALE: u64 = 64;

/// The state of recording a function.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GraphState {
    /// The number of recordings.
    pub recorded: usize,
    /// The number of calls answered by a replay.
    pub replayed: u64,
    /// Why nothing is recorded any more, so that the function is called directly.
    pub refused: Option<String>,
}

/// The recordings of a function of tensors. `K` is everything else that the function depends on.
///
/// A recording holds addresses: those of its own copies of the inputs, into which the inputs of
/// each call are copied, of the parameters, which may change in place, and of cached copies of them
/// ([`Kept`](super::Kept)). The second call with the same shapes is recorded; all recordings share
/// one memory pool.
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

/// Equal for two calls that do the same work on a device.
#[derive(Debug, PartialEq)]
struct Signature<K> {
    what: K,
    inputs: Vec<(Vec<i64>, Kind)>,
    device: Device,
    /// The address of each parameter, and whether it wants a gradient.
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
    /// The current state.
    pub fn state(&self) -> GraphState {
        let state = self.0.borrow();
        let recorded = state.entries.iter().filter(|entry| entry.recorded.is_some()).count();
        GraphState { recorded, replayed: state.replayed, refused: state.refused.clone() }
    }

    /// Drops all recordings, and the record of failures.
    pub fn clear(&self) {
        *self.0.borrow_mut() = Recordings::default().0.into_inner();
    }

    /// `f(what, inputs)` by a replay, or None if `f` itself has to be called: on a device that
    /// records nothing, for a gradient with respect to an input, the first time (and as long as an
    /// earlier graph of the parameters is alive), while the backward of an earlier call is still to
    /// come, and permanently after something could not be recorded ([`GraphState::refused`]).
    ///
    /// `params` are the tensors besides its arguments that `f` reads and that may want gradients;
    /// `what` contains everything else that it depends on, apart from the state of
    /// [`autocast`](crate::autocast). `f` reads no value on the host and draws no random numbers.
    /// The gradients of one backward are views of one tensor.
    ///
    /// # Errors
    /// Any error of the device during a replay.
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
        // Borrowed already if `f` calls itself.
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
            // A backward runs on the stream on which its graph was made: a graph that is still
            // alive would lead out of the recording.
            if in_a_graph(&wanted) || !state.has_room() {
                return Ok(None);
            }
            if let Err(why) = state.record(at, &*recorder, (inputs, &wanted), &f) {
                // Earlier recordings are dropped too, to free their memory.
                state.entries.clear();
                // A pending device error is reported by the next call.
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
    /// The entry of a call, unless this is its first.
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

    /// Whether there is room for another recording, after dropping one that is no longer used.
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
