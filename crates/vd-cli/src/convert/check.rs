//! Compares a network's output with the reference in a file.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use serde::Serialize;
use tch::{Device, Kind, Tensor};
use vd_tensor_ops::{FrameMask, Weights};
use vd_unet3d::{Backbone, Cond};

/// The tensors that a reference file may contain.
const KNOWN: [&str; 6] = ["x", "time", "out", "cond", "focus_present_mask", "null_mask"];

/// The inputs of a network and its reference output.
#[derive(Debug)]
pub(crate) struct Answer {
    x: Tensor,
    time: Tensor,
    out: Tensor,
    cond: Cond,
    frames: FrameMask,
}

/// The difference between our output and the one in the file.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct Verdict {
    /// |ours - out| / |out|, in f64.
    pub(crate) relative_l2: f64,
    pub(crate) max_abs_error: f64,
    pub(crate) passed: bool,
}

impl Answer {
    /// Reads a reference file; the network itself checks its shapes.
    pub(crate) fn read(path: &Path, device: Device) -> Result<Answer> {
        let tensors = Weights::read(path, device)?.tensors;
        Self::from_tensors(tensors).with_context(|| path.display().to_string())
    }

    fn from_tensors(mut tensors: BTreeMap<String, Tensor>) -> Result<Answer> {
        if let Some(name) = tensors.keys().find(|name| !KNOWN.contains(&name.as_str())) {
            bail!("tensor `{name}` is not known; expected {}", KNOWN.join(", "));
        }
        let mut take = |name: &str, kind: Kind| {
            let Some(tensor) = tensors.remove(name) else { return Ok(None) };
            let got = tensor.f_kind()?;
            ensure!(got == kind, "tensor `{name}` is {got:?}, expected {kind:?}");
            Ok(Some(tensor))
        };
        let x = take("x", Kind::Float)?.context("no tensor `x`, the network's input")?;
        let time = take("time", Kind::Int64)?.context("no tensor `time`, the steps (i64)")?;
        let out = take("out", Kind::Float)?.context("no tensor `out`, the expected answer")?;
        let size = x.size();
        ensure!(size.len() == 5, "tensor `x` has shape {size:?}, expected b c f h w");
        let cond = Cond {
            pooled: take("cond", Kind::Float)?,
            null: take("null_mask", Kind::Bool)?,
            ..Cond::none()
        };
        let frames = match take("focus_present_mask", Kind::Bool)? {
            Some(mask) => FrameMask::Focus(mask),
            None => FrameMask::All,
        };
        Ok(Answer { x, time, out, cond, frames })
    }

    /// Frames, height and width of the input.
    pub(crate) fn frames_and_size(&self) -> [i64; 3] {
        let size = self.x.size();
        [size[2], size[3], size[4]]
    }

    /// Runs the network and compares.
    pub(crate) fn compare(&self, network: &dyn Backbone, tolerance: f64) -> Result<Verdict> {
        let ours =
            tch::no_grad(|| network.forward(&self.x, &self.time, &self.cond, &self.frames, None))?;
        let (size, expected) = (ours.size(), self.out.size());
        ensure!(
            size == expected,
            "tensor `out` has shape {expected:?}, but the network answers with {size:?}"
        );
        let ours = ours.f_to_kind(Kind::Double)?;
        let out = self.out.f_to_kind(Kind::Double)?;
        let error = ours.f_sub(&out)?;
        let number = |t: Tensor| t.f_double_value(&[]);
        let relative_l2 = number(error.f_norm()?)? / number(out.f_norm()?)?;
        let max_abs_error = number(error.f_abs()?.f_max()?)?;
        // NaN fails this comparison.
        Ok(Verdict { relative_l2, max_abs_error, passed: relative_l2 <= tolerance })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use vd_tensor_ops::{Noise, SeededNoise};
    use vd_unet3d::Result as NetworkResult;

    /// Returns half of its input.
    #[derive(Debug)]
    struct Half;

    impl Backbone for Half {
        fn forward(
            &self,
            x: &Tensor,
            _t: &Tensor,
            _cond: &Cond,
            _frames: &FrameMask,
            _train: Option<&mut dyn Noise>,
        ) -> NetworkResult<Tensor> {
            Ok(x * 0.5)
        }
    }

    fn tensors() -> BTreeMap<String, Tensor> {
        let like = Tensor::empty([2, 3, 2, 4, 4], (Kind::Float, Device::Cpu));
        let x = SeededNoise::new(3, 0).normal(&like);
        let named = [("out", &x * 0.5), ("x", x), ("time", Tensor::from_slice(&[3i64, 9]))];
        named.into_iter().map(|(name, tensor)| (name.to_owned(), tensor)).collect()
    }

    fn compare(tensors: BTreeMap<String, Tensor>) -> Verdict {
        Answer::from_tensors(tensors).unwrap().compare(&Half, 1e-5).unwrap()
    }

    #[test]
    fn equal_answers_pass_and_a_change_is_measured() {
        let verdict = compare(tensors());
        assert_eq!(verdict, Verdict { relative_l2: 0.0, max_abs_error: 0.0, passed: true });
        let mut off = tensors();
        let out = off["out"].copy();
        let _ = out.view([-1]).get(7).f_add_scalar_(0.25).unwrap();
        let norm = out.norm().double_value(&[]);
        off.insert("out".to_owned(), out);
        let verdict = compare(off);
        assert!(!verdict.passed && (verdict.max_abs_error - 0.25).abs() < 1e-6);
        assert!((verdict.relative_l2 - 0.25 / norm).abs() < 1e-6);
    }

    #[test]
    fn an_answer_of_no_number_does_not_pass() {
        let mut bad = tensors();
        bad.insert("out".to_owned(), &bad["out"] * f64::NAN);
        assert!(!compare(bad).passed);
    }

    #[test]
    fn files_with_other_tensors_are_refused_by_name() {
        let message = |name: &str, tensor: Option<Tensor>| {
            let mut all = tensors();
            match tensor {
                Some(tensor) => all.insert(name.to_owned(), tensor),
                None => all.remove(name),
            };
            Answer::from_tensors(all).unwrap_err().to_string()
        };
        assert!(message("time", None).contains("no tensor `time`"));
        assert!(message("time", Some(Tensor::from_slice(&[1f32]))).contains("expected Int64"));
        assert!(message("mask", Some(Tensor::from_slice(&[1f32]))).contains("`mask` is not known"));
        assert!(message("x", Some(Tensor::from_slice(&[1f32]))).contains("b c f h w"));
    }
}
