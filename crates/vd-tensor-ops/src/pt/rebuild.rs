//! The few calls in a pickle that have a meaning here: containers, bytes and tensors. All others
//! are kept as the name of a class with its arguments.

use std::sync::Arc;

use tch::Kind;

use super::Parse;
use super::heap::{Heap, Id, Node, Object};
use super::tensor::{Layout, Storage, TensorInfo};
use super::value::{Class, Value};

/// More axes than any tensor has.
const MAX_RANK: usize = 64;

/// The object that `function(*args)` returns.
pub(super) fn call(heap: &mut Heap, function: Id, args: Id) -> Parse<Id> {
    let items = heap.tuple(args).ok_or("a call whose arguments are not a tuple")?;
    let first = items.first().copied();
    let name = heap.class(function).map(|class| (&*class.module, &*class.name));
    let node = match (name, first) {
        (Some(("collections", "OrderedDict")), None)
        | (Some(("collections", "defaultdict")), _)
        | (Some(("collections", "Counter")), None) => Node::Dict(Vec::new()),
        (Some(("collections", "Counter")), Some(dict)) if is_dict(heap, dict) => return Ok(dict),
        (Some(("torch", "Size")), Some(tuple)) if heap.tuple(tuple).is_some() => return Ok(tuple),
        (Some(("__builtin__" | "builtins", "set" | "frozenset")), Some(list)) => {
            set(heap, list)?.map_or_else(|| object(heap, function, args, None), Ok)?
        }
        (Some(("__builtin__" | "builtins", "bytes" | "bytearray")), None) => {
            Node::Leaf(Value::Bytes(Arc::new([])))
        }
        (Some(("_codecs", "encode") | ("__builtin__" | "builtins", "bytearray")), Some(text)) => {
            bytes(heap, text)?.map_or_else(|| object(heap, function, args, None), Ok)?
        }
        (Some(("torch._utils", "_rebuild_parameter" | "_rebuild_parameter_with_state")), _) => {
            return parameter(heap, first);
        }
        (Some(("torch._tensor", "_rebuild_from_type_v2")), _) => {
            subclass(heap, items).unwrap_or_else(|| object(heap, function, args, None))?
        }
        _ => tensor(heap, function, args).unwrap_or_else(|| object(heap, function, args, None))?,
    };
    heap.add(node)
}

/// An object without a meaning here.
pub(super) fn object(heap: &Heap, function: Id, args: Id, kwargs: Option<Id>) -> Parse<Node> {
    if heap.tuple(args).is_none() {
        return Err("a call whose arguments are not a tuple".to_owned());
    }
    let class = match heap.node(function)? {
        Node::Class(class) => class.clone(),
        // The result of one opaque call is called again: keep the first one's name.
        Node::Object(object) => object.class.clone(),
        _ => return Err("a call of something that is not a class".to_owned()),
    };
    let (items, entries) = (Vec::new(), Vec::new());
    Ok(Node::Object(Box::new(Object { class, args, kwargs, state: None, items, entries })))
}

/// The storage that a persistent id, `("storage", class, key, location, numel)`, names.
pub(super) fn storage(heap: &Heap, id: Id) -> Parse<Storage> {
    let fields = match heap.tuple(id) {
        Some([tag, class, key, _, numel]) => {
            let is_storage = heap.str(*tag).is_some_and(|tag| &**tag == "storage");
            is_storage.then(|| Some((heap.class(*class)?, heap.str(*key)?, heap.int(*numel)?)))
        }
        _ => None,
    };
    let (class, key, numel) = fields.flatten().ok_or("a persistent id that is not a storage")?;
    if numel < 0 {
        return Err(format!("a storage of {numel} elements"));
    }
    Ok(Storage { class: class.clone(), key: key.clone(), numel })
}

fn is_dict(heap: &Heap, id: Id) -> bool {
    matches!(heap.node(id), Ok(Node::Dict(_)))
}

fn set(heap: &mut Heap, list: Id) -> Parse<Option<Node>> {
    let Node::List(items) = heap.node(list)? else { return Ok(None) };
    let items = items.clone();
    heap.charge(items.len())?;
    Ok(Some(Node::Set(items)))
}

/// Protocol 2 writes bytes as a text with one character for each byte.
fn bytes(heap: &mut Heap, text: Id) -> Parse<Option<Node>> {
    let bytes: Arc<[u8]> = match heap.node(text)? {
        Node::Leaf(Value::Bytes(bytes)) => bytes.clone(),
        Node::Leaf(Value::Str(text)) => {
            let latin1: Option<Vec<u8>> = text.chars().map(|c| u8::try_from(c).ok()).collect();
            match latin1 {
                Some(bytes) => bytes.into(),
                None => return Ok(None),
            }
        }
        _ => return Ok(None),
    };
    // Charged since it is a copy, which a tiny pickle could request again and again.
    heap.charge(bytes.len() / 16)?;
    Ok(Some(Node::Leaf(Value::Bytes(bytes))))
}

/// A parameter is its tensor.
fn parameter(heap: &Heap, tensor: Option<Id>) -> Parse<Id> {
    let tensor = tensor.ok_or("a parameter without a tensor")?;
    match heap.node(tensor)? {
        Node::Leaf(Value::Tensor(_)) | Node::Object(_) => Ok(tensor),
        _ => Err("a parameter that is not a tensor".to_owned()),
    }
}

/// `(function, class, args, state)` of a subclass of Tensor.
fn subclass(heap: &Heap, items: &[Id]) -> Option<Parse<Node>> {
    let &[function, _, args, _] = items else { return None };
    tensor(heap, function, args)
}

/// A strided tensor; `None` if the call makes something else.
fn tensor(heap: &Heap, function: Id, args: Id) -> Option<Parse<Node>> {
    let class = heap.class(function)?;
    if &*class.module != "torch._utils" {
        return None;
    }
    // (storage, offset, size, stride, requires_grad, hooks, [dtype,] [metadata])
    let items = heap.tuple(args)?;
    let (dtype, metadata) = match &*class.name {
        "_rebuild_tensor" => (None, None),
        "_rebuild_tensor_v2" => (None, items.get(6)),
        "_rebuild_tensor_v3" => (Some(items.get(6)), items.get(7)),
        _ => return None,
    };
    // Conjugate or negated views are refused: their bytes are not their values.
    let unchanged = |id: &Id| match heap.node(*id) {
        Ok(Node::Dict(entries)) => entries.is_empty(),
        Ok(Node::Leaf(Value::None)) => true,
        _ => false,
    };
    if !metadata.is_none_or(unchanged) {
        return None;
    }
    let info = match dtype {
        None => layout(heap, items, None),
        Some(Some(dtype)) => heap.class(*dtype).and_then(|dtype| layout(heap, items, Some(dtype))),
        Some(None) => None,
    };
    Some(match info {
        Some(info) => Ok(Node::Leaf(Value::Tensor(info))),
        None => Err("a tensor without a storage, an offset, sizes and strides".to_owned()),
    })
}

fn layout(heap: &Heap, items: &[Id], dtype: Option<&Class>) -> Option<TensorInfo> {
    let &[storage, offset, shape, stride, ..] = items else { return None };
    let Ok(Node::Storage(storage)) = heap.node(storage) else { return None };
    let dtype = dtype.unwrap_or(&storage.class).clone();
    Some(TensorInfo::new(Layout {
        kind: kind(&dtype),
        dtype,
        storage: storage.clone(),
        offset: heap.int(offset)?,
        shape: heap.ints(shape, MAX_RANK)?,
        stride: heap.ints(stride, MAX_RANK)?,
    }))
}

/// The element type that a dtype or a class of storages names.
pub(super) fn kind(class: &Class) -> Option<Kind> {
    if !matches!(&*class.module, "torch" | "torch.storage") {
        return None;
    }
    Some(match &*class.name {
        "float64" | "DoubleStorage" => Kind::Double,
        "float32" | "FloatStorage" => Kind::Float,
        "float16" | "HalfStorage" => Kind::Half,
        "bfloat16" | "BFloat16Storage" => Kind::BFloat16,
        "int64" | "LongStorage" => Kind::Int64,
        "int32" | "IntStorage" => Kind::Int,
        "int16" | "ShortStorage" => Kind::Int16,
        "int8" | "CharStorage" => Kind::Int8,
        "uint8" | "ByteStorage" | "UntypedStorage" => Kind::Uint8,
        "bool" | "BoolStorage" => Kind::Bool,
        "float8_e4m3fn" => Kind::Float8e4m3fn,
        "float8_e5m2" => Kind::Float8e5m2,
        "float8_e4m3fnuz" => Kind::Float8e4m3fnuz,
        "float8_e5m2fnuz" => Kind::Float8e5m2fnuz,
        "complex32" => Kind::ComplexHalf,
        "complex64" | "ComplexFloatStorage" => Kind::ComplexFloat,
        "complex128" | "ComplexDoubleStorage" => Kind::ComplexDouble,
        _ => return None,
    })
}
