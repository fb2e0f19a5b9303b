//! Tensors of wrong shapes and dtypes are refused by name, or computed with as libtorch does: no public
//! function reads beyond a tensor.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod cuda;
#[path = "../drawn/mod.rs"]
mod drawn;
mod kernels;
mod layers;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Once;

use drawn::draw;
use tch::{Kind, Tensor};

/// What is wrong with one operand.
struct Wrong {
    what: String,
    /// The axis whose length is another one, where that is all.
    axis: Option<usize>,
    tensor: Tensor,
}

/// A tensor's shape with one axis off, doubled, missing or more, and its values in other kinds.
fn wrong(x: &Tensor) -> Vec<Wrong> {
    let size = x.size();
    let drawn = |what: String, axis, shape: &[i64]| {
        let tensor = draw(9, shape);
        let tensor = if x.kind() == Kind::Bool { tensor.ge(1.5) } else { tensor };
        Wrong { what, axis, tensor }
    };
    let mut all = Vec::new();
    for (axis, n) in size.iter().enumerate() {
        for n in [n + 1, n - 1, 2 * n, n / 2, 64 * n].into_iter().filter(|m| *m > 0 && m != n) {
            let mut shape = size.clone();
            shape[axis] = n;
            all.push(drawn(format!("{size:?} as {shape:?}"), Some(axis), &shape));
        }
        let mut less = size.clone();
        less.remove(axis);
        all.push(drawn(format!("{size:?} as {less:?}"), None, &less));
    }
    let mut more = size.clone();
    more.insert(0, 1);
    all.push(drawn(format!("{size:?} as {more:?}"), None, &more));
    more.rotate_left(1);
    all.push(drawn(format!("{size:?} as {more:?}"), None, &more));
    let kinds = [Kind::Half, Kind::BFloat16, Kind::Float, Kind::Double, Kind::Int64, Kind::Bool];
    for kind in kinds {
        if kind != x.kind() {
            let what = format!("{size:?} as {kind:?}");
            all.push(Wrong { what, axis: None, tensor: x.to_kind(kind) });
        }
    }
    all
}

/// The operands with one of them replaced.
fn replaced(operands: &[Tensor], at: usize, by: &Tensor) -> Vec<Tensor> {
    let pick = |(k, t): (usize, &Tensor)| if k == at { by } else { t }.shallow_clone();
    operands.iter().enumerate().map(pick).collect()
}

/// What `f` gives, or what its panic says.
fn caught<R>(f: impl FnOnce() -> R) -> Result<R, String> {
    static QUIET: Once = Once::new();
    QUIET.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            let text = info.payload().downcast_ref::<String>();
            if text.is_some_and(|text| text.starts_with("not refused")) {
                before(info);
            }
        }));
    });
    catch_unwind(AssertUnwindSafe(f)).map_err(|payload| {
        let text = payload.downcast_ref::<String>().cloned();
        text.or_else(|| payload.downcast_ref::<&str>().map(|text| (*text).to_owned()))
            .unwrap_or_default()
    })
}

/// Whether a message is of this library: what was expected, and what was given.
fn is_ours(message: &str) -> bool {
    message.contains("expected") && message.contains("got")
}

/// Whether a message says which shape or dtype is wrong, in this library's words or in libtorch's.
fn names(message: &str) -> bool {
    let words =
        ["shape", "size", "dimension", "dtype", "type", "channels", "expand", "implemented"];
    is_ours(message) || words.iter().any(|word| message.contains(word))
}

/// Standard normal values; marks, few of them, where the shape is one of masks.
fn drawn_as(shapes: &[&[i64]]) -> Vec<Tensor> {
    let drawn = |(shape, seed): (&&[i64], u64)| match shape {
        [_, 1, 1, _, _] | [_, _, 1] => draw(seed, shape).ge(1.5),
        _ => draw(seed, shape),
    };
    shapes.iter().zip(1..).map(drawn).collect()
}
