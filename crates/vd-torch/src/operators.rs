//! Recording libtorch's operator calls.

use std::cell::Cell;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tch::Kind;

use crate::{Error, Result, shim};

/// An input or output tensor of an operator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Operand {
    /// Its dtype.
    pub kind: Kind,
    /// The length of each axis.
    pub size: Vec<i64>,
    /// The stride of each axis, in entries.
    pub stride: Vec<i64>,
    /// The address of its memory.
    storage: usize,
}

impl Operand {
    /// Entries in memory: those repeated by an expanded axis count once.
    pub fn len(&self) -> i64 {
        let axes = self.size.iter().zip(&self.stride);
        axes.map(|(n, step)| if *step == 0 { (*n).min(1) } else { *n }).product()
    }

    /// Whether it has no entries.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes in memory.
    pub fn bytes(&self) -> i64 {
        self.len() * self.kind.elt_size_in_bytes() as i64
    }

    /// Whether it is contiguous in the order of the axes.
    pub fn is_contiguous(&self) -> bool {
        let mut next = 1;
        self.size.iter().zip(&self.stride).rev().all(|(n, step)| {
            let fits = *n == 1 || *step == next;
            next *= n;
            fits
        })
    }
}

/// One call of a libtorch operator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Operator {
    /// Its name, with the namespace: `aten::add`.
    pub name: String,
    /// The number of operator calls that enclose it.
    pub depth: usize,
    /// Whether it calls no other operator.
    pub leaf: bool,
    /// The input tensors.
    pub inputs: Vec<Operand>,
    /// The output tensors.
    pub outputs: Vec<Operand>,
}

impl Operator {
    /// Whether it accesses memory: it calls no other operator, and neither creates a view nor just
    /// allocates.
    pub fn works(&self) -> bool {
        let changes = self.name.ends_with('_') || self.name.ends_with("_out");
        let old = |t: &Operand| self.inputs.iter().any(|input| input.storage == t.storage);
        let view = !self.outputs.is_empty() && self.outputs.iter().all(old);
        let room = self.inputs.is_empty() && self.name.starts_with("aten::empty");
        let like = ["aten::empty_like", "aten::new_empty", "aten::new_empty_strided"];
        let room = room || like.contains(&self.name.as_str());
        self.leaf && !room && (changes || !view) && self.outputs.iter().any(|t| !t.is_empty())
    }

    /// Bytes that it reads and writes if it passes over each tensor once.
    pub fn bytes(&self) -> i64 {
        // These only write to their first tensor, although it is an input.
        let unread = ["aten::copy_", "aten::fill_", "aten::zero_"].contains(&self.name.as_str());
        let read = self.inputs.iter().skip(usize::from(unread));
        read.chain(&self.outputs).map(Operand::bytes).sum()
    }
}

/// Runs `f`, and returns the operators that libtorch executed on this thread and on libtorch's
/// backward threads for it, in order. Kernels outside libtorch are not included.
///
/// The operators that an operator calls follow it, one level deeper. Below the outermost level a
/// CPU's operators differ in part from those of a GPU: there a convolution is one call of cuDNN.
/// Concurrent calls on several threads run one after the other.
///
/// # Errors
/// A nested call; any error of libtorch.
pub fn operators<R>(f: impl FnOnce() -> R) -> Result<(R, Vec<Operator>)> {
    let mut recording = Recording::start()?;
    let result = f();
    Ok((result, parse(&recording.stop())))
}

static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

thread_local! {
    static HERE: Cell<bool> = const { Cell::new(false) };
}

/// Ends the recording when dropped, also by a panic.
struct Recording {
    handle: Option<u64>,
    _alone: MutexGuard<'static, ()>,
}

impl Recording {
    fn start() -> Result<Self> {
        if HERE.get() {
            return Err(Error::Torch("operators: counted already on this thread".to_owned()));
        }
        let alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
        let mut handle = 0;
        // SAFETY: writes one number, and the error.
        shim::call(|error| unsafe { shim::vd_record_start(&raw mut handle, error) })?;
        HERE.set(true);
        Ok(Recording { handle: Some(handle), _alone: alone })
    }

    fn stop(&mut self) -> String {
        let Some(handle) = self.handle.take() else { return String::new() };
        HERE.set(false);
        // SAFETY: a handle of vd_record_start, once; the string is handed over.
        unsafe { shim::owned(shim::vd_record_stop(handle)) }
    }
}

impl Drop for Recording {
    fn drop(&mut self) {
        self.stop();
    }
}

fn parse(text: &str) -> Vec<Operator> {
    let mut all: Vec<Operator> = text.lines().filter_map(operator).collect();
    for i in 1..all.len() {
        all[i - 1].leaf = all[i].depth <= all[i - 1].depth;
    }
    all
}

fn operator(line: &str) -> Option<Operator> {
    let mut parts = line.split('\t');
    let mut next = || parts.next();
    let (depth, name) = (next()?.parse().ok()?, next()?.to_owned());
    let (inputs, outputs) = (operands(next()?), operands(next()?));
    Some(Operator { name, depth, leaf: true, inputs, outputs })
}

fn operands(text: &str) -> Vec<Operand> {
    let numbers =
        |list: &str| -> Vec<i64> { list.split('x').filter_map(|n| n.parse().ok()).collect() };
    let one = |text: &str| {
        let mut parts = text.split(':');
        let kind = kind(parts.next()?.parse().ok()?)?;
        let (size, stride) = (numbers(parts.next()?), numbers(parts.next()?));
        Some(Operand { kind, size, stride, storage: parts.next()?.parse().ok()? })
    };
    text.split(';').filter_map(one).collect()
}

/// As numbered in c10/core/ScalarType.h.
fn kind(number: u32) -> Option<Kind> {
    Some(match number {
        0 => Kind::Uint8,
        1 => Kind::Int8,
        2 => Kind::Int16,
        3 => Kind::Int,
        4 => Kind::Int64,
        5 => Kind::Half,
        6 => Kind::Float,
        7 => Kind::Double,
        9 => Kind::ComplexFloat,
        10 => Kind::ComplexDouble,
        11 => Kind::Bool,
        15 => Kind::BFloat16,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use tch::{Device, Tensor};

    fn names(all: &[Operator]) -> Vec<&str> {
        let working = all.iter().filter(|op| op.works());
        working.map(|op| op.name.as_str()).collect()
    }

    #[test]
    fn what_works_on_memory_is_told_from_what_looks_at_it() {
        let a = Tensor::from_slice(&[1f32, 2.0, 3.0, 4.0]).view([2, 2]);
        let row = Tensor::from_slice(&[1f32, 2.0]).view([1, 2]);
        let ((), all) = operators(|| {
            let _ = a.transpose(0, 1).contiguous() + row.expand([2, 2], false);
            let _ = a.to_kind(Kind::BFloat16);
            let _ = Tensor::zeros([3], (Kind::Float, Device::Cpu));
        })
        .unwrap();
        let working = names(&all);
        assert_eq!(working, ["aten::copy_", "aten::add", "aten::copy_", "aten::zero_"], "{all:?}");
        let add = all.iter().find(|op| op.name == "aten::add").unwrap();
        // The row is in memory once.
        assert_eq!((add.bytes(), add.inputs[1].len()), (16 + 8 + 16, 2));
        let cast = all.iter().filter(|op| op.name == "aten::copy_").nth(1).unwrap();
        assert!(cast.inputs.iter().any(|t| t.kind == Kind::BFloat16 && t.bytes() == 8), "{cast:?}");
        assert_eq!((cast.bytes(), cast.depth), (16 + 8, 2), "{cast:?}");
    }

    #[test]
    fn a_backward_is_counted_and_nothing_afterwards_also_after_a_panic() {
        let w = Tensor::from_slice(&[1f32, 2.0]).set_requires_grad(true);
        let loss = (&w * &w).sum(Kind::Float);
        let ((), all) = operators(|| loss.backward()).unwrap();
        assert!(names(&all).contains(&"aten::mul"), "{all:?}");
        let panics = std::panic::catch_unwind(|| operators(|| panic!("in the midst")));
        assert!(panics.is_err());
        let ((), all) = operators(|| ()).unwrap();
        assert!(all.is_empty(), "{all:?}");
        let (inner, _) = operators(|| operators(|| ()).is_err()).unwrap();
        assert!(inner, "one within another");
    }
}
