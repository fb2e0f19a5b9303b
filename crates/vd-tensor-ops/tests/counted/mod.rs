//! What a pass asks of libtorch, in classes, as far as a CPU that stands in for a GPU can tell.

#![allow(dead_code, unreachable_pub)]

use std::collections::BTreeMap;
use std::fmt;

use vd_tensor_ops::torch::{Operand, Operator, operators};

/// Operators that are one kernel or a library's on a GPU, whatever they call on a CPU.
const WHOLE: [(&str, &str); 15] = [
    ("aten::convolution", "convolution"),
    ("aten::convolution_backward", "convolution backward"),
    ("aten::addmm", "product"),
    ("aten::mm", "product"),
    ("aten::bmm", "product"),
    ("aten::baddbmm", "product"),
    ("aten::_scaled_dot_product_flash_attention_for_cpu", "attention"),
    ("aten::_scaled_dot_product_flash_attention_for_cpu_backward", "attention backward"),
    ("aten::_scaled_dot_product_attention_math", "attention by parts"),
    ("aten::silu_backward", "other"),
    ("aten::gelu_backward", "other"),
    ("aten::gelu", "other"),
    ("aten::silu", "other"),
    ("aten::sum", "other"),
    ("aten::cat", "other"),
];

/// The operators of libtorch's f32 list for CUDA that layers may meet: there autocast casts what
/// they are given. That of a CPU does not.
const IN_F32: [&str; 9] = [
    "aten::layer_norm",
    "aten::group_norm",
    "aten::softmax",
    "aten::sum",
    "aten::exp",
    "aten::log",
    "aten::pow",
    "aten::rsqrt",
    "aten::reciprocal",
];

/// Calls and bytes of each class.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Counts(pub BTreeMap<String, (usize, i64)>);

impl Counts {
    fn note(&mut self, class: &str, bytes: i64) {
        let entry = self.0.entry(class.to_owned()).or_default();
        *entry = (entry.0 + 1, entry.1 + bytes);
    }

    /// How many calls are of a class.
    pub fn of(&self, class: &str) -> usize {
        self.0.get(class).map_or(0, |entry| entry.0)
    }

    /// Those of the classes that begin so.
    pub fn all(&self, start: &str) -> usize {
        self.0.iter().filter(|(class, _)| class.starts_with(start)).map(|(_, entry)| entry.0).sum()
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|(class, (calls, bytes))| {
            writeln!(f, "{calls:6} {:9.1} kB  {class}", *bytes as f64 / 1e3)
        })
    }
}

/// Counts the operators of `f`. `large` tells activations from weights and what is small.
pub fn counted<R>(large: impl Fn(&Operand) -> bool, f: impl FnOnce() -> R) -> (R, Counts) {
    let (result, all) = operators(f).unwrap();
    let mut counts = Counts::default();
    // Where a product began, as deep as it is.
    let mut within = None;
    for op in &all {
        if within.is_some_and(|depth| op.depth > depth) {
            continue;
        }
        within = None;
        if IN_F32.contains(&op.name.as_str())
            && op.inputs.iter().any(|t| t.kind == tch::Kind::BFloat16 && large(t))
        {
            counts.note("activation cast by the f32 list", op.bytes());
        }
        if let Some((_, class)) = WHOLE.iter().find(|(name, _)| *name == op.name) {
            let class = if *class == "other" { name_of(op, &large) } else { (*class).to_owned() };
            counts.note(&class, op.bytes());
            within = Some(op.depth);
        } else if op.works() {
            counts.note(&name_of(op, &large), op.bytes());
        }
    }
    (result, counts)
}

fn name_of(op: &Operator, large: &impl Fn(&Operand) -> bool) -> String {
    let whose = if op.outputs.iter().chain(&op.inputs).any(large) { "large" } else { "small" };
    let name = op.name.trim_start_matches("aten::");
    match op.inputs.as_slice() {
        [to, from, ..] if name == "copy_" => {
            let what = if to.kind != from.kind {
                "cast"
            } else if from.stride.contains(&0) {
                "expand"
            } else if from.is_contiguous() {
                "copy"
            } else {
                "permute"
            };
            format!("{whose} {what}")
        }
        _ => format!("{whose} {name}"),
    }
}
