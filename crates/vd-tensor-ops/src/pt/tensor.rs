//! The location of a tensor within its storage, with every number of the file checked.

use std::sync::Arc;

use tch::{Kind, Tensor};

use super::Parse;
use super::rebuild::kind;
use super::value::Class;

/// The location of a tensor of a checkpoint; equal infos are views of the same numbers.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TensorInfo(Arc<Layout>);

#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct Layout {
    pub(super) dtype: Class,
    /// `None` if libtorch has the dtype but this crate does not support it.
    pub(super) kind: Option<Kind>,
    pub(super) storage: Arc<Storage>,
    pub(super) offset: i64,
    pub(super) shape: Vec<i64>,
    pub(super) stride: Vec<i64>,
}

/// A block of elements, a file within the archive.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct Storage {
    pub(super) class: Class,
    pub(super) key: Arc<str>,
    pub(super) numel: i64,
}

/// The part of a storage that a tensor touches, in elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Window {
    /// The lowest element touched.
    pub(super) start: usize,
    /// One past the highest.
    pub(super) end: usize,
    /// Number of elements of the tensor, more than `end - start` if a view repeats some.
    pub(super) numel: usize,
    /// Row-major, without gaps or repetition.
    pub(super) contiguous: bool,
}

impl TensorInfo {
    pub(super) fn new(layout: Layout) -> Self {
        TensorInfo(Arc::new(layout))
    }

    pub(super) fn layout(&self) -> &Layout {
        &self.0
    }

    /// The length of each axis, as stated in the file; checked by
    /// [`PtFile::tensor`](super::PtFile::tensor).
    pub fn shape(&self) -> &[i64] {
        &self.0.shape
    }

    /// The element type, `None` if this crate does not support it.
    pub fn kind(&self) -> Option<Kind> {
        self.0.kind
    }

    /// The dtype, or the class of the storage that implies it.
    pub fn dtype(&self) -> &Class {
        &self.0.dtype
    }
}

impl Layout {
    pub(super) fn supported_kind(&self) -> Parse<Kind> {
        self.kind.ok_or_else(|| format!("dtype {} is not supported", self.dtype))
    }

    /// The part of the storage that the tensor touches, checked to lie inside it.
    pub(super) fn window(&self, item_bytes: usize) -> Parse<Window> {
        let Layout { shape, stride, offset, .. } = self;
        let described = || format!("offset {offset}, shape {shape:?}, stride {stride:?}");
        if shape.len() != stride.len() || shape.iter().chain(stride).chain([offset]).any(|&n| n < 0)
        {
            return Err(format!("a tensor of {}", described()));
        }
        let too_large = || format!("a tensor larger than any memory: {}", described());
        // Zero-size axes count as one: libtorch multiplies the others.
        let full = shape.iter().try_fold(item_bytes as i64, |n, &d| n.checked_mul(d.max(1)));
        let full = full.ok_or_else(too_large)?;
        if shape.contains(&0) {
            return Ok(Window { start: 0, end: 0, numel: 0, contiguous: true });
        }
        let reach = shape.iter().zip(stride).try_fold(*offset, |last, (&d, &step)| {
            (d - 1).checked_mul(step).and_then(|reach| last.checked_add(reach))
        });
        let end = reach.and_then(|last| last.checked_add(1)).ok_or_else(too_large)?;
        let index = |n: i64| usize::try_from(n).map_err(|_| too_large());
        Ok(Window {
            start: index(*offset)?,
            end: index(end)?,
            numel: index(full)? / item_bytes,
            contiguous: self.is_contiguous(),
        })
    }

    fn is_contiguous(&self) -> bool {
        let mut expected = 1i64;
        for (&d, &step) in self.shape.iter().zip(&self.stride).rev() {
            if d != 1 && step != expected {
                return false;
            }
            expected = expected.saturating_mul(d);
        }
        true
    }

    /// The bytes of the storage's window; `content` is the whole storage.
    pub(super) fn bytes<'a>(&self, window: Window, content: &'a [u8]) -> Parse<&'a [u8]> {
        let Storage { class, key, numel } = &*self.storage;
        if let Some(declared) = kind(class) {
            let held = content.len() / declared.elt_size_in_bytes();
            if i64::try_from(held) != Ok(*numel) {
                return Err(format!(
                    "storage `{key}` holds {held} elements, the pickle says {numel}: damaged"
                ));
            }
        }
        let item_bytes = self.supported_kind()?.elt_size_in_bytes();
        let range = window.start.checked_mul(item_bytes).zip(window.end.checked_mul(item_bytes));
        range.and_then(|(start, end)| content.get(start..end)).ok_or_else(|| {
            format!(
                "the tensor reaches element {} of storage `{key}`, which holds {}",
                window.end,
                content.len() / item_bytes
            )
        })
    }

    /// Copies a strided view out of a flat tensor of the whole storage.
    pub(super) fn view(&self, flat: &Tensor) -> Parse<Tensor> {
        let view = flat.f_as_strided(&self.shape, &self.stride, self.offset);
        view.and_then(|view| view.f_contiguous()).map_err(|e| e.to_string())
    }
}
