//! What the comparisons with video-diffusion-pytorch share; vd-diffusion's tests use it too.
#![allow(dead_code)] // No test uses all of it.

pub(crate) mod case;
pub(crate) mod generator;
