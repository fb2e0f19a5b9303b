//! Declarations of the C++ shim, and the conversion of its errors.

use std::ffi::{CStr, c_char, c_int, c_void};

use torch_sys::C_tensor;

use crate::{Error, Result};

unsafe extern "C" {
    pub(crate) fn vd_fused_adamw(
        params: *const *const C_tensor,
        grads: *const *const C_tensor,
        exp_avgs: *const *const C_tensor,
        exp_avg_sqs: *const *const C_tensor,
        steps: *const *const C_tensor,
        n: i64,
        lr: f64,
        beta1: f64,
        beta2: f64,
        weight_decay: f64,
        eps: f64,
        error: *mut *mut c_char,
    ) -> c_int;

    pub(crate) fn vd_mark_changed(
        tensors: *const *const C_tensor,
        n: i64,
        error: *mut *mut c_char,
    ) -> c_int;

    pub(crate) fn vd_shares(tensor: *const C_tensor) -> i64;

    pub(crate) fn vd_grad_enabled() -> c_int;

    pub(crate) fn vd_in_a_graph(leaves: *const *mut C_tensor, n: i64) -> c_int;

    pub(crate) fn vd_current_stream(
        device: c_int,
        stream: *mut *mut c_void,
        error: *mut *mut c_char,
    ) -> c_int;

    pub(crate) fn vd_upload(
        from: *const C_tensor,
        device: c_int,
        to: *mut *mut C_tensor,
        error: *mut *mut c_char,
    ) -> c_int;

    pub(crate) fn vd_download(
        from: *const C_tensor,
        to: *mut *mut C_tensor,
        fence: *mut *mut c_void,
        error: *mut *mut c_char,
    ) -> c_int;

    pub(crate) fn vd_moment(device: c_int, to: *mut *mut c_void, error: *mut *mut c_char) -> c_int;

    pub(crate) fn vd_elapsed(
        from: *const c_void,
        to: *const c_void,
        milliseconds: *mut f64,
        error: *mut *mut c_char,
    ) -> c_int;

    pub(crate) fn vd_deterministic_convolutions(only: c_int, error: *mut *mut c_char) -> c_int;

    pub(crate) fn vd_search_convolutions(search: c_int, error: *mut *mut c_char) -> c_int;

    pub(crate) fn vd_fence_wait(fence: *const c_void, error: *mut *mut c_char) -> c_int;

    pub(crate) fn vd_fence_drop(fence: *mut c_void);

    pub(crate) fn vd_stream_enter(
        device: c_int,
        before: *mut StreamBefore,
        error: *mut *mut c_char,
    ) -> c_int;

    pub(crate) fn vd_stream_leave(before: *const StreamBefore, error: *mut *mut c_char) -> c_int;

    pub(crate) fn vd_empty_cache(error: *mut *mut c_char) -> c_int;

    pub(crate) fn vd_autograd_attach(
        inputs: *const *const C_tensor,
        n_inputs: i64,
        outputs: *const *mut C_tensor,
        n_outputs: i64,
        saved: *const *const C_tensor,
        n_saved: i64,
        user: *mut c_void,
        backward: unsafe extern "C" fn(*const c_void, *const BackwardCall) -> *mut c_char,
        drop: unsafe extern "C" fn(*mut c_void),
        name: *const c_char,
        error: *mut *mut c_char,
    ) -> c_int;

    pub(crate) fn vd_autocast_enter(
        cuda: c_int,
        half: c_int,
        before: *mut AutocastBefore,
        error: *mut *mut c_char,
    ) -> c_int;

    pub(crate) fn vd_autocast_leave(before: *const AutocastBefore);

    pub(crate) fn vd_autocast_keeps(keep: c_int) -> c_int;

    pub(crate) fn vd_allow_tf32(allow: c_int, error: *mut *mut c_char) -> c_int;

    pub(crate) fn vd_restart_tf32(error: *mut *mut c_char) -> c_int;

    pub(crate) fn vd_cudnn_attention(allow: c_int) -> c_int;

    pub(crate) fn vd_synchronize(index: c_int, error: *mut *mut c_char) -> c_int;

    pub(crate) fn vd_device_memory(
        index: c_int,
        figures: *mut i64,
        error: *mut *mut c_char,
    ) -> c_int;

    pub(crate) fn vd_restart_device_peak(index: c_int, error: *mut *mut c_char) -> c_int;

    pub(crate) fn vd_record_start(handle: *mut u64, error: *mut *mut c_char) -> c_int;

    pub(crate) fn vd_record_stop(handle: u64) -> *mut c_char;

    pub(crate) fn vd_autograd_grad(
        outputs: *const *const C_tensor,
        seeds: *const *const C_tensor,
        n_outputs: i64,
        inputs: *const *const C_tensor,
        n_inputs: i64,
        result: *mut *mut C_tensor,
        error: *mut *mut c_char,
    ) -> c_int;
}

/// The previous autocast state; as the shim declares it.
#[repr(C)]
#[derive(Debug, Default)]
pub(crate) struct AutocastBefore {
    cuda: c_int,
    enabled: c_int,
    dtype: c_int,
}

/// The previous stream and device; as the shim declares it.
#[repr(C)]
#[derive(Debug, Default)]
pub(crate) struct StreamBefore {
    stream: i64,
    device: c_int,
    current: c_int,
}

/// The arguments of a node's backward; as the shim declares it.
#[repr(C)]
pub(crate) struct BackwardCall {
    pub(crate) saved: *const *mut C_tensor,
    pub(crate) n_saved: i64,
    pub(crate) grads: *const *mut C_tensor,
    pub(crate) n_grads: i64,
    pub(crate) needs: *const u8,
    pub(crate) result: *mut *mut C_tensor,
    pub(crate) n_inputs: i64,
}

/// Calls into the shim with a slot for its error.
pub(crate) fn call(f: impl FnOnce(*mut *mut c_char) -> c_int) -> Result<()> {
    let mut error = std::ptr::null_mut();
    if f(&mut error) == 0 {
        return Ok(());
    }
    if error.is_null() {
        return Err(Error::Torch("failed without a message".to_owned()));
    }
    // SAFETY: the shim returns a string made by strdup, and hands it over.
    Err(Error::Torch(unsafe { owned(error) }))
}

/// The text of a string of the shim, which is freed; empty where there was no memory for it.
///
/// # Safety
/// Null, or a NUL-terminated string made by strdup that nobody else frees.
pub(crate) unsafe fn owned(text: *mut c_char) -> String {
    if text.is_null() {
        return String::new();
    }
    // SAFETY: by contract of this function.
    let copy = unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned();
    // SAFETY: made by strdup, freed once.
    unsafe { libc::free(text.cast()) };
    copy
}
