//! Common parts of the comparisons with video-diffusion-pytorch; also used by vd-diffusion's tests.
#![allow(dead_code)] // Each test uses only a part of it.

pub(crate) mod case;
pub(crate) mod generator;
