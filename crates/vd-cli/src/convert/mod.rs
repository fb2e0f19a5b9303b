//! Converts a checkpoint of video-diffusion-pytorch.

mod betas;
mod check;
mod source;

pub(crate) use betas::schedule;
pub(crate) use check::{Answer, Verdict};
pub(crate) use source::{Network, Source};
