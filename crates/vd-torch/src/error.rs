//! Errors of calls into libtorch, the kernel compiler and the driver.

/// Errors of this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// libtorch refused the operation.
    #[error("libtorch: {0}")]
    Torch(String),
    /// The requested CUDA device is not available.
    #[error(
        "no CUDA device {wanted}: {why}; choose device \"cpu\" or \"auto\", or fix the cause (`vd doctor` shows it)"
    )]
    NoCuda {
        /// The requested device.
        wanted: String,
        /// The reason.
        why: String,
    },
    /// `VD_CUDA=require`, but CUDA cannot be used.
    #[error(
        "VD_CUDA=require, but CUDA is unavailable: {0}; choose device \"cpu\", unset VD_CUDA, or fix the cause (`vd doctor` shows it)"
    )]
    CudaRequired(String),
    /// `VD_CUDA` holds an unknown word.
    #[error("VD_CUDA is \"{0}\", expected auto, off or require")]
    BadCudaMode(String),
    /// An unknown device name.
    #[error("device \"{0}\", expected \"auto\", \"cpu\" or \"cuda:N\"")]
    BadDevice(String),
    /// The kernel compiler is not available.
    #[error(
        "NVRTC, which compiles the CUDA kernels, was not found: {0}; run `cargo xtask kernels` to get it, or set VD_NVRTC to libnvrtc.so.13"
    )]
    NoNvrtc(String),
    /// A text that is not a valid kernel, or not for this GPU.
    #[error("kernels `{name}` for {arch}: {why}")]
    Kernel {
        /// Name of the text.
        name: String,
        /// The GPU architecture it was compiled for.
        arch: crate::cuda::Arch,
        /// The compiler's message.
        why: String,
    },
    /// The driver refused a call.
    #[error("{what}: {why}")]
    Driver {
        /// The subject of the call.
        what: String,
        /// The driver's message.
        why: String,
    },
    /// An unknown autocast dtype.
    #[error("autocast \"{0}\", expected off, bf16 or fp16")]
    BadAutocast(String),
    /// Lists that belong together have different lengths.
    #[error("{what}: expected {expected} tensors, one for each parameter, got {got}")]
    Length {
        /// Name of the list.
        what: &'static str,
        /// The number of parameters.
        expected: usize,
        /// The length of the list.
        got: usize,
    },
}

impl From<tch::TchError> for Error {
    fn from(error: tch::TchError) -> Self {
        Error::Torch(brief(&error))
    }
}

/// Result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// The message of libtorch without the C++ stack addresses that follow it.
pub fn brief(error: &tch::TchError) -> String {
    let whole = error.to_string();
    let message = whole.split("\nException raised from").next().unwrap_or(&whole);
    message.trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_message_of_libtorch_comes_without_its_stack() {
        let error = tch::Tensor::from_slice(&[1.0, 2.0]).f_view([3]).unwrap_err();
        assert!(error.to_string().contains("Exception raised from"), "{error}");
        let brief = brief(&error);
        assert!(brief.contains("invalid for input of size 2"), "{brief}");
        assert!(!brief.contains('\n') && !brief.contains("0x"), "{brief}");
        assert_eq!(Error::from(error).to_string(), format!("libtorch: {brief}"));
    }
}
