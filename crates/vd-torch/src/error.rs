//! Why a call into libtorch was refused.

/// Errors of this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// libtorch refused the operation.
    #[error("libtorch: {0}")]
    Torch(String),
    /// A CUDA device was asked for that cannot be had.
    #[error(
        "no CUDA device {wanted}: {why}; choose device \"cpu\" or \"auto\", or mend the cause (`vd doctor` shows it)"
    )]
    NoCuda {
        /// What was asked for.
        wanted: String,
        /// What stands in the way.
        why: String,
    },
    /// `VD_CUDA=require` where CUDA cannot be used.
    #[error(
        "VD_CUDA=require, but there is no CUDA: {0}; choose device \"cpu\", unset VD_CUDA, or mend the cause (`vd doctor` shows it)"
    )]
    CudaRequired(String),
    /// `VD_CUDA` holds an unknown word.
    #[error("VD_CUDA is \"{0}\", expected auto, off or require")]
    BadCudaMode(String),
    /// A device's name was not understood.
    #[error("device \"{0}\", expected \"auto\", \"cpu\" or \"cuda:N\"")]
    BadDevice(String),
    /// The compiler of kernels cannot be had.
    #[error(
        "no NVRTC, which compiles the kernels for CUDA: {0}; `cargo xtask kernels` gets it, or set VD_NVRTC to libnvrtc.so.13"
    )]
    NoNvrtc(String),
    /// A text that is no kernel, or not for this GPU.
    #[error("kernels `{name}` for {arch}: {why}")]
    Kernel {
        /// Which text.
        name: String,
        /// For which generation of GPUs.
        arch: crate::cuda::Arch,
        /// What the compiler said.
        why: String,
    },
    /// The driver refused something.
    #[error("{what}: {why}")]
    Driver {
        /// Of what.
        what: String,
        /// What it said.
        why: String,
    },
    /// A dtype of autocast was not understood.
    #[error("autocast \"{0}\", expected off, bf16 or fp16")]
    BadAutocast(String),
    /// Lists that belong together have different lengths.
    #[error("{what}: expected {expected} tensors, as many as there are parameters, got {got}")]
    Length {
        /// Which list.
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

/// The message of libtorch without the addresses of its C++ stack, which follow it.
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
