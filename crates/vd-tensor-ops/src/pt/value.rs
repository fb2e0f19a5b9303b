//! The contents of a checkpoint: Python's plain types, tensors, and everything else by name.

use std::fmt;
use std::sync::Arc;

use super::tensor::TensorInfo;

/// One value of a checkpoint.
///
/// Parts that the file shares are shared here too: clones are cheap. A value has no cycles and
/// nests at most 128 deep, so it can be walked by recursion; but a hostile file can share so often
/// that a walk without memoisation does not terminate. Prefer [`Value::get`].
#[derive(Clone)]
#[non_exhaustive]
pub enum Value {
    /// `None`.
    None,
    /// `True` or `False`.
    Bool(bool),
    /// An integer of at most 64 bits.
    Int(i64),
    /// A longer integer: two's complement, the lowest byte first.
    BigInt(Arc<[u8]>),
    /// A float.
    Float(f64),
    /// A text.
    Str(Arc<str>),
    /// `bytes` or `bytearray`.
    Bytes(Arc<[u8]>),
    /// A list.
    List(Arc<[Value]>),
    /// A tuple or a `torch.Size`.
    Tuple(Arc<[Value]>),
    /// A set or a frozen set, in the file's order.
    Set(Arc<[Value]>),
    /// A dict, an `OrderedDict`, a `defaultdict` or a `Counter`, in the file's order.
    Dict(Arc<[(Value, Value)]>),
    /// The location of a tensor; [`PtFile::tensor`](super::PtFile::tensor) reads it.
    Tensor(TensorInfo),
    /// An object of any other class, or a class itself.
    Opaque(Arc<Opaque>),
}

/// The name of a Python class or function; nothing is ever imported or called.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Class {
    /// The module, such as `argparse`.
    pub module: Arc<str>,
    /// The name within the module, such as `Namespace`.
    pub name: Arc<str>,
}

/// An object of a class unknown to this reader: what Python would build it from.
#[derive(Clone)]
pub struct Opaque {
    /// The class, or the function that would make the object.
    pub class: Class,
    /// The arguments of the call, a tuple; `None` if the value is the class itself.
    pub args: Option<Value>,
    /// The keyword arguments of the call.
    pub kwargs: Option<Value>,
    /// The state, for most classes the dict of attributes.
    pub state: Option<Value>,
    /// Elements appended to it, if it is list-like.
    pub items: Arc<[Value]>,
    /// Entries set in it, if it is dict-like.
    pub entries: Arc<[(Value, Value)]>,
}

impl Value {
    /// The value for a text key, of a dict or a dict-like object.
    pub fn get(&self, key: &str) -> Option<&Value> {
        let entries = match self {
            Value::Dict(entries) => entries,
            Value::Opaque(object) => &object.entries,
            _ => return None,
        };
        entries.iter().find(|(k, _)| k.as_str() == Some(key)).map(|(_, value)| value)
    }

    /// The integer, if it is one of at most 64 bits.
    pub fn as_i64(&self) -> Option<i64> {
        if let Value::Int(v) = self { Some(*v) } else { None }
    }

    /// The number as a float, if it is a float or an integer of at most 64 bits.
    pub fn as_f64(&self) -> Option<f64> {
        match self {
            Value::Float(v) => Some(*v),
            Value::Int(v) => Some(*v as f64),
            _ => None,
        }
    }

    /// The truth value, if it is one.
    pub fn as_bool(&self) -> Option<bool> {
        if let Value::Bool(v) = self { Some(*v) } else { None }
    }

    /// The text, if it is one.
    pub fn as_str(&self) -> Option<&str> {
        if let Value::Str(v) = self { Some(v) } else { None }
    }

    /// The bytes, if it is `bytes` or `bytearray`.
    pub fn as_bytes(&self) -> Option<&[u8]> {
        if let Value::Bytes(v) = self { Some(v) } else { None }
    }

    /// The elements, if it is a list, a tuple or a set.
    pub fn as_slice(&self) -> Option<&[Value]> {
        match self {
            Value::List(v) | Value::Tuple(v) | Value::Set(v) => Some(v),
            _ => None,
        }
    }

    /// The entries in the file's order, if it is a dict.
    pub fn as_dict(&self) -> Option<&[(Value, Value)]> {
        if let Value::Dict(v) = self { Some(v) } else { None }
    }

    /// The tensor's location, if it is one.
    pub fn as_tensor(&self) -> Option<&TensorInfo> {
        if let Value::Tensor(v) = self { Some(v) } else { None }
    }
}

/// One level only: a nested value is shown as its kind and size.
impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::None => f.write_str("None"),
            Value::Bool(v) => write!(f, "{v}"),
            Value::Int(v) => write!(f, "{v}"),
            Value::BigInt(v) => write!(f, "int of {} bytes", v.len()),
            Value::Float(v) => write!(f, "{v:?}"),
            Value::Str(v) => write!(f, "\"{}\"", Shown(v)),
            Value::Bytes(v) => write!(f, "{} bytes", v.len()),
            Value::List(v) => write!(f, "list of {}", v.len()),
            Value::Tuple(v) => write!(f, "tuple of {}", v.len()),
            Value::Set(v) => write!(f, "set of {}", v.len()),
            Value::Dict(v) => write!(f, "dict of {}", v.len()),
            Value::Tensor(v) => write!(f, "tensor {:?} {:?}", v.dtype(), v.shape()),
            Value::Opaque(v) => v.fmt(f),
        }
    }
}

impl fmt::Debug for Opaque {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = if self.args.is_some() { "object" } else { "class" };
        write!(f, "{what} {}", self.class)
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", Shown(&self.module), Shown(&self.name))
    }
}

/// A text of the file for use in a message: short, and without control characters.
pub(super) struct Shown<'a>(pub(super) &'a str);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const LONGEST: usize = 120;
        let end = self.0.char_indices().nth(LONGEST).map_or(self.0.len(), |(at, _)| at);
        write!(f, "{}", self.0[..end].escape_debug())?;
        if end < self.0.len() { f.write_str("...") } else { Ok(()) }
    }
}
