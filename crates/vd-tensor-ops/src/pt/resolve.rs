//! From the table of a pickle to a value: shared parts stay shared, cycles are refused.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::Parse;
use super::heap::{Heap, Id, Node, Object};
use super::value::{Class, Opaque, Value};

/// Maximum nesting of a value. Dropping and walking recurse, and must fit a thread's stack.
const MAX_DEPTH: usize = 128;

type Entries = Arc<[(Value, Value)]>;

/// The value of `root`.
pub(super) fn resolve(heap: &Heap, root: Id) -> Parse<Value> {
    let mut resolver = Resolver { heap, done: HashMap::new(), open: HashSet::new() };
    Ok(resolver.value(root, 0)?.0)
}

struct Resolver<'a> {
    heap: &'a Heap,
    /// Finished containers with the depth of nesting within them.
    done: HashMap<Id, (Value, usize)>,
    /// The containers that enclose the current one.
    open: HashSet<Id>,
}

impl Resolver<'_> {
    /// A node's value and the depth of nesting within it.
    fn value(&mut self, id: Id, depth: usize) -> Parse<(Value, usize)> {
        let node = self.heap.node(id)?;
        match node {
            Node::Leaf(value) => return Ok((value.clone(), 0)),
            Node::Class(class) => return Ok((bare(class), 0)),
            Node::Storage(storage) => return Ok((bare(&storage.class), 0)),
            _ => {}
        }
        let known = self.done.get(&id).cloned();
        if depth + known.as_ref().map_or(1, |(_, height)| *height) > MAX_DEPTH {
            return Err(format!("objects nest more than {MAX_DEPTH} deep"));
        }
        if let Some(known) = known {
            return Ok(known);
        }
        if !self.open.insert(id) {
            return Err("an object contains itself".to_owned());
        }
        let (value, within) = self.container(node, depth + 1)?;
        self.open.remove(&id);
        self.done.insert(id, (value.clone(), within + 1));
        Ok((value, within + 1))
    }

    fn container(&mut self, node: &Node, depth: usize) -> Parse<(Value, usize)> {
        Ok(match node {
            Node::List(items) => {
                let (items, height) = self.items(items, depth)?;
                (Value::List(items), height)
            }
            Node::Tuple(items) => {
                let (items, height) = self.items(items, depth)?;
                (Value::Tuple(items), height)
            }
            Node::Set(items) => {
                let (items, height) = self.items(items, depth)?;
                (Value::Set(items), height)
            }
            Node::Dict(entries) => {
                let (entries, height) = self.entries(entries, depth)?;
                (Value::Dict(entries), height)
            }
            Node::Object(object) => self.object(object, depth)?,
            Node::Leaf(_) | Node::Class(_) | Node::Storage(_) => return Err("no container".into()),
        })
    }

    fn items(&mut self, ids: &[Id], depth: usize) -> Parse<(Arc<[Value]>, usize)> {
        let mut items = Vec::with_capacity(ids.len());
        let mut highest = 0;
        for &id in ids {
            let (value, height) = self.value(id, depth)?;
            highest = highest.max(height);
            items.push(value);
        }
        Ok((items.into(), highest))
    }

    /// The entries; if two have the same text as key, the later value counts, as in Python.
    fn entries(&mut self, ids: &[(Id, Id)], depth: usize) -> Parse<(Entries, usize)> {
        let mut entries: Vec<(Value, Value)> = Vec::with_capacity(ids.len());
        let mut places: HashMap<Arc<str>, usize> = HashMap::new();
        let mut highest = 0;
        for &(key, value) in ids {
            let (key, key_height) = self.value(key, depth)?;
            let (value, height) = self.value(value, depth)?;
            highest = highest.max(key_height).max(height);
            let place = match &key {
                Value::Str(text) => *places.entry(text.clone()).or_insert(entries.len()),
                _ => entries.len(),
            };
            match entries.get_mut(place) {
                Some(entry) => entry.1 = value,
                None => entries.push((key, value)),
            }
        }
        Ok((entries.into(), highest))
    }

    fn object(&mut self, object: &Object, depth: usize) -> Parse<(Value, usize)> {
        let (args, mut highest) = self.value(object.args, depth)?;
        let (items, height) = self.items(&object.items, depth)?;
        let (entries, entries_height) = self.entries(&object.entries, depth)?;
        highest = highest.max(height).max(entries_height);
        let mut part = |id: Option<Id>| -> Parse<Option<Value>> {
            let Some(id) = id else { return Ok(None) };
            let (value, height) = self.value(id, depth)?;
            highest = highest.max(height);
            Ok(Some(value))
        };
        let (kwargs, state) = (part(object.kwargs)?, part(object.state)?);
        let class = object.class.clone();
        let opaque = Opaque { class, args: Some(args), kwargs, state, items, entries };
        Ok((Value::Opaque(Arc::new(opaque)), highest))
    }
}

/// A class that is not called.
fn bare(class: &Class) -> Value {
    Value::Opaque(Arc::new(Opaque {
        class: class.clone(),
        args: None,
        kwargs: None,
        state: None,
        items: Arc::new([]),
        entries: Arc::new([]),
    }))
}
