//! The objects of a pickle while it is read: a flat table, in which objects refer to each other by
//! index.
//!
//! Python's objects may be changed after others refer to them, and may contain themselves. Indices
//! allow both without reference counting, and a table drops without recursion.

use std::sync::Arc;

use super::Parse;
use super::tensor::Storage;
use super::value::{Class, Value};

/// Index of a node.
pub(super) type Id = u32;

/// One object.
#[derive(Debug)]
pub(super) enum Node {
    /// A value without parts.
    Leaf(Value),
    List(Vec<Id>),
    Tuple(Vec<Id>),
    Set(Vec<Id>),
    Dict(Vec<(Id, Id)>),
    Class(Class),
    Storage(Arc<Storage>),
    Object(Box<Object>),
}

/// An object of a class without a meaning here.
#[derive(Debug)]
pub(super) struct Object {
    pub(super) class: Class,
    pub(super) args: Id,
    pub(super) kwargs: Option<Id>,
    pub(super) state: Option<Id>,
    pub(super) items: Vec<Id>,
    pub(super) entries: Vec<(Id, Id)>,
}

/// All objects of one pickle.
#[derive(Debug, Default)]
pub(super) struct Heap {
    nodes: Vec<Node>,
    /// Objects, references and copies so far; bounds memory and time together.
    count: usize,
}

impl Heap {
    /// Far more than any checkpoint has: each tensor of a state dict takes about 25.
    pub(super) const MAX_COUNT: usize = 1 << 23;

    /// Counts `n` more objects or references to objects.
    pub(super) fn charge(&mut self, n: usize) -> Parse<()> {
        self.count = self.count.saturating_add(n);
        if self.count > Self::MAX_COUNT {
            return Err(format!("more than {} objects and references", Self::MAX_COUNT));
        }
        Ok(())
    }

    /// Adds an object.
    pub(super) fn add(&mut self, node: Node) -> Parse<Id> {
        self.charge(1)?;
        let id = Id::try_from(self.nodes.len()).map_err(|_| "too many objects")?;
        self.nodes.push(node);
        Ok(id)
    }

    pub(super) fn node(&self, id: Id) -> Parse<&Node> {
        self.nodes.get(id as usize).ok_or_else(|| "no such object".to_owned())
    }

    pub(super) fn node_mut(&mut self, id: Id) -> Parse<&mut Node> {
        self.nodes.get_mut(id as usize).ok_or_else(|| "no such object".to_owned())
    }

    /// The elements, if it is a tuple.
    pub(super) fn tuple(&self, id: Id) -> Option<&[Id]> {
        match self.node(id) {
            Ok(Node::Tuple(items)) => Some(items),
            _ => None,
        }
    }

    pub(super) fn class(&self, id: Id) -> Option<&Class> {
        match self.node(id) {
            Ok(Node::Class(class)) => Some(class),
            _ => None,
        }
    }

    pub(super) fn int(&self, id: Id) -> Option<i64> {
        match self.node(id) {
            Ok(Node::Leaf(Value::Int(v))) => Some(*v),
            _ => None,
        }
    }

    pub(super) fn str(&self, id: Id) -> Option<&Arc<str>> {
        match self.node(id) {
            Ok(Node::Leaf(Value::Str(v))) => Some(v),
            _ => None,
        }
    }

    /// The integers of a tuple, at most `longest` of them.
    pub(super) fn ints(&self, id: Id, longest: usize) -> Option<Vec<i64>> {
        let items = self.tuple(id).filter(|items| items.len() <= longest)?;
        items.iter().map(|&item| self.int(item)).collect()
    }
}
