//! Differentiable functions whose forward and backward are written in Rust.

use std::ffi::{CString, c_char, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::slice;

use tch::Tensor;
use torch_sys::C_tensor;

use crate::shim::{self, BackwardCall};
use crate::{Error, Result};

/// Any error; its message reaches the caller of backward.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// The backward of a function, with the state other than tensors that it keeps from the forward.
///
/// Keep tensors through [`Saved::keep`]: a tensor held in a field is not checked for in-place
/// changes. The value is dropped with the saved tensors, after the backward or with the graph.
pub trait Function: Send + 'static {
    /// The gradients with respect to the inputs, in the order and shapes of the inputs.
    ///
    /// `saved` holds the tensors passed to [`Saved::keep`], in that order. `grads` are the
    /// gradients with respect to the outputs, None for an output that does not contribute to the
    /// result; at least one is present. `needs` tells which inputs want a gradient; the others may
    /// stay None, as may a gradient that is zero. Runs with gradients off, on the thread of the
    /// backward or, for CUDA, on one of libtorch's. The incoming gradients must not be changed in
    /// place.
    ///
    /// # Errors
    /// Any; it becomes the error of the call to backward, as a panic does.
    fn backward(
        &self,
        saved: &[Tensor],
        grads: &[Option<Tensor>],
        needs: &[bool],
    ) -> std::result::Result<Vec<Option<Tensor>>, BoxError>;

    /// The name of the function in errors; by default the name of the type.
    fn name(&self) -> &'static str {
        std::any::type_name::<Self>()
    }
}

/// Collects the tensors that the backward will read.
#[derive(Debug)]
pub struct Saved {
    needs: Vec<bool>,
    tensors: Vec<Tensor>,
}

impl Saved {
    /// Keeps a tensor (an input, an output or any other) for the backward; does nothing if there
    /// will be none.
    ///
    /// If the tensor is changed in place before the backward, the backward fails.
    pub fn keep(&mut self, tensor: &Tensor) {
        if self.tracked() {
            self.tensors.push(tensor.shallow_clone());
        }
    }

    /// Whether there will be a backward.
    pub fn tracked(&self) -> bool {
        self.needs.contains(&true)
    }

    /// Whether input `i` will want a gradient; false if there is no such input.
    pub fn needs(&self, i: usize) -> bool {
        self.needs.get(i).copied().unwrap_or(false)
    }
}

/// Runs `forward` outside the graph, then adds its outputs to the graph as a function of `inputs`
/// with the backward that it returns.
///
/// With gradients off, or if no input requires one, the outputs are returned unchanged and nothing
/// is kept. Outputs that are not of a floating or complex kind have no gradient. The function can
/// be differentiated once: a second derivative through it is an error.
///
/// # Errors
/// Any error of `forward`; an output that is in a graph already, or shares memory with an input.
pub fn apply<F: Function>(
    inputs: &[&Tensor],
    forward: impl FnOnce(&mut Saved) -> Result<(Vec<Tensor>, F)>,
) -> Result<Vec<Tensor>> {
    let enabled = grad_enabled();
    let needs = inputs.iter().map(|t| enabled && t.requires_grad()).collect();
    let mut saved = Saved { needs, tensors: Vec::new() };
    let (mut outputs, function) = {
        let _guard = tch::no_grad_guard();
        forward(&mut saved)?
    };
    if saved.tracked() {
        attach(inputs, &mut outputs, &saved.tensors, function)?;
    }
    Ok(outputs)
}

/// Whether operations on this thread are added to the graph.
pub fn grad_enabled() -> bool {
    // SAFETY: reads a setting of this thread.
    unsafe { shim::vd_grad_enabled() != 0 }
}

/// Whether one of these parameters is in a graph that is still alive.
pub(crate) fn in_a_graph(params: &[Tensor]) -> bool {
    let params: Vec<_> = params.iter().map(|t| t.as_ptr().cast_mut()).collect();
    // SAFETY: pointers to borrowed tensors, as many as stated.
    unsafe { shim::vd_in_a_graph(params.as_ptr(), params.len() as i64) != 0 }
}

fn attach<F: Function>(
    inputs: &[&Tensor],
    outputs: &mut [Tensor],
    saved: &[Tensor],
    function: F,
) -> Result<()> {
    let name = c_string(function.name());
    let inputs: Vec<_> = inputs.iter().map(|t| t.as_ptr()).collect();
    let outputs: Vec<_> = outputs.iter_mut().map(Tensor::as_mut_ptr).collect();
    let saved: Vec<_> = saved.iter().map(Tensor::as_ptr).collect();
    let user = Box::into_raw(Box::new(function)).cast::<c_void>();
    shim::call(|error| {
        // SAFETY: arrays of pointers to borrowed tensors, as many as stated, those of the outputs
        // exclusive; `user` is a boxed `F`, handed over, and the two functions expect one.
        unsafe {
            shim::vd_autograd_attach(
                inputs.as_ptr(),
                inputs.len() as i64,
                outputs.as_ptr(),
                outputs.len() as i64,
                saved.as_ptr(),
                saved.len() as i64,
                user,
                run_backward::<F>,
                drop_function::<F>,
                name.as_ptr(),
                error,
            )
        }
    })
}

/// The gradients of `sum(outputs[i] * seeds[i])` with respect to `inputs`, None for an input that
/// does not contribute to the outputs; nothing is accumulated, and the graph is freed.
///
/// # Errors
/// Lists of different lengths; any error of libtorch or of a backward.
pub fn grad(
    outputs: &[&Tensor],
    seeds: &[&Tensor],
    inputs: &[&Tensor],
) -> Result<Vec<Option<Tensor>>> {
    if outputs.len() != seeds.len() {
        return Err(Error::Torch(format!(
            "grad: expected {} seeds, one for each output, got {}",
            outputs.len(),
            seeds.len()
        )));
    }
    let pointers = |list: &[&Tensor]| list.iter().map(|t| t.as_ptr()).collect::<Vec<_>>();
    let (outs, seeds, ins) = (pointers(outputs), pointers(seeds), pointers(inputs));
    let mut result = vec![std::ptr::null_mut(); inputs.len()];
    shim::call(|error| {
        // SAFETY: arrays of pointers to borrowed tensors, as many as stated, and room for the
        // result.
        unsafe {
            shim::vd_autograd_grad(
                outs.as_ptr(),
                seeds.as_ptr(),
                outs.len() as i64,
                ins.as_ptr(),
                ins.len() as i64,
                result.as_mut_ptr(),
                error,
            )
        }
    })?;
    let own = |p: *mut C_tensor| {
        // SAFETY: a tensor made by the shim and handed over, once.
        (!p.is_null()).then(|| unsafe { Tensor::from_ptr(p) })
    };
    Ok(result.into_iter().map(own).collect())
}

/// Called by the node to run a [`Function`]; nothing unwinds out of it.
unsafe extern "C" fn run_backward<F: Function>(
    user: *const c_void,
    call: *const BackwardCall,
) -> *mut c_char {
    // SAFETY: the node hands in its boxed `F`, under a lock, and a call that lives until the return.
    let (function, call) = unsafe { (&*user.cast::<F>(), &*call) };
    // SAFETY: the call describes its arrays.
    let message = match catch_unwind(AssertUnwindSafe(|| unsafe { answer(function, call) })) {
        Ok(Ok(())) => return std::ptr::null_mut(),
        Ok(Err(error)) => error.to_string(),
        Err(payload) => match payload.downcast::<String>() {
            Ok(text) => *text,
            Err(other) => other.downcast_ref::<&str>().copied().unwrap_or("a panic").to_owned(),
        },
    };
    // The message ends with the addresses of a C++ stack; libtorch appends a new one.
    let message = message.split("\nException raised from").next().unwrap_or_default();
    // SAFETY: a NUL-terminated string, copied; the shim frees the copy.
    unsafe { libc::strdup(c_string(message).as_ptr()) }
}

/// # Safety
/// The arrays of `call` have the lengths that it states.
unsafe fn answer<F: Function>(
    function: &F,
    call: &BackwardCall,
) -> std::result::Result<(), BoxError> {
    // SAFETY: by contract of this function.
    let (saved, grads) = unsafe {
        (list(call.saved, call.n_saved as usize), list(call.grads, call.n_grads as usize))
    };
    let saved: Vec<Tensor> = saved.into_iter().flatten().collect();
    let n = call.n_inputs as usize;
    // SAFETY: by contract of this function; there is an input, or there would be no node.
    let needs = unsafe { slice::from_raw_parts(call.needs, n) };
    let needs: Vec<bool> = needs.iter().map(|b| *b != 0).collect();
    let result = function.backward(&saved, &grads, &needs)?;
    if result.len() != n {
        let got = result.len();
        return Err(format!("expected {n} gradients, one for each input, got {got}").into());
    }
    for (i, tensor) in result.into_iter().enumerate() {
        if let Some(mut tensor) = tensor.filter(|_| needs[i]) {
            // SAFETY: the place of input i, empty so far; the tensor is handed over.
            unsafe { *call.result.add(i) = tensor.as_mut_ptr() };
            std::mem::forget(tensor);
        }
    }
    Ok(())
}

/// # Safety
/// `first` points to `n` pointers to tensors, which may be null.
unsafe fn list(first: *const *mut C_tensor, n: usize) -> Vec<Option<Tensor>> {
    (0..n)
        .map(|i| {
            // SAFETY: by contract of this function.
            let p = unsafe { *first.add(i) };
            // SAFETY: not null, hence a tensor; the clone shares its memory and owns its handle.
            (!p.is_null()).then(|| unsafe { Tensor::clone_from_ptr(p) })
        })
        .collect()
}

unsafe extern "C" fn drop_function<F>(user: *mut c_void) {
    // SAFETY: the node hands its boxed `F` over, once.
    let function = unsafe { Box::from_raw(user.cast::<F>()) };
    // There is nobody to report a panic to: any thread may free the node at any time.
    let _ = catch_unwind(AssertUnwindSafe(|| drop(function)));
}

fn c_string(text: &str) -> CString {
    CString::new(text.replace('\0', " ")).unwrap_or_default()
}
