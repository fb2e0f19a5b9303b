//! The pickle machine: a stack, a memo and a table of objects. It runs no code: a call becomes an
//! object that records the call, unless [`rebuild`] gives it a meaning.

use std::collections::HashMap;
use std::sync::Arc;

use super::Parse;
use super::cursor::Cursor;
use super::heap::{Heap, Id, Node};
use super::opcode as op;
use super::rebuild;
use super::resolve::resolve;
use super::scalar::scalar;
use super::value::{Class, Value};

/// The newest existing protocol.
const NEWEST_PROTOCOL: u8 = 5;

/// The value that a pickle describes.
pub(super) fn parse(pickle: &[u8]) -> Parse<Value> {
    let mut machine = Machine {
        input: Cursor::new(pickle),
        heap: Heap::default(),
        stack: Vec::new(),
        marks: Vec::new(),
        memo: HashMap::new(),
    };
    let root = machine.run().map_err(|e| format!("pickle, byte {}: {e}", machine.input.at()))?;
    resolve(&machine.heap, root)
}

struct Machine<'a> {
    input: Cursor<'a>,
    heap: Heap,
    stack: Vec<Id>,
    /// Stack heights at which a MARK lies; nothing pops below the last one.
    marks: Vec<usize>,
    memo: HashMap<u32, Id>,
}

impl Machine<'_> {
    fn run(&mut self) -> Parse<Id> {
        loop {
            let code = self.input.u8()?;
            if code == op::STOP {
                break;
            }
            let known = self.scalar(code)?
                || self.container(code)?
                || self.bookkeeping(code)?
                || self.object(code)?;
            if !known {
                return Err(format!("opcode 0x{code:02x} {}", op::refusal(code)));
            }
        }
        let root = self.pop()?;
        if !self.stack.is_empty() || !self.marks.is_empty() || self.input.left() > 0 {
            return Err("there is trailing data: the pickle is damaged".to_owned());
        }
        Ok(root)
    }

    /// Each group of opcodes returns `false` for those of other groups.
    fn scalar(&mut self, code: u8) -> Parse<bool> {
        let Some(value) = scalar(code, &mut self.input)? else { return Ok(false) };
        self.push_new(Node::Leaf(value))?;
        Ok(true)
    }

    fn container(&mut self, code: u8) -> Parse<bool> {
        match code {
            op::EMPTY_LIST => self.push_new(Node::List(Vec::new()))?,
            op::EMPTY_TUPLE => self.push_new(Node::Tuple(Vec::new()))?,
            op::EMPTY_DICT => self.push_new(Node::Dict(Vec::new()))?,
            op::EMPTY_SET => self.push_new(Node::Set(Vec::new()))?,
            op::TUPLE1 | op::TUPLE2 | op::TUPLE3 => {
                let items = self.pop_n(usize::from(code - op::TUPLE1) + 1)?;
                self.push_new(Node::Tuple(items))?;
            }
            op::TUPLE => {
                let items = self.pop_to_mark()?;
                self.push_new(Node::Tuple(items))?;
            }
            op::FROZENSET => {
                let items = self.pop_to_mark()?;
                self.push_new(Node::Set(items))?;
            }
            op::APPEND => {
                let items = self.pop_n(1)?;
                self.extend(items)?;
            }
            op::APPENDS | op::ADDITEMS => {
                let items = self.pop_to_mark()?;
                self.extend(items)?;
            }
            op::SETITEM => {
                let items = self.pop_n(2)?;
                self.set_items(&items)?;
            }
            op::SETITEMS => {
                let items = self.pop_to_mark()?;
                self.set_items(&items)?;
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// The protocol, the stack and the memo.
    fn bookkeeping(&mut self, code: u8) -> Parse<bool> {
        match code {
            op::PROTO => {
                let version = self.input.u8()?;
                if version > NEWEST_PROTOCOL {
                    return Err(format!("protocol {version}, expected 2 to {NEWEST_PROTOCOL}"));
                }
            }
            op::FRAME => {
                let len = u64::from_le_bytes(self.input.array()?);
                if len > self.input.left() as u64 {
                    return Err("truncated: a frame ends after the pickle".to_owned());
                }
            }
            op::MARK => {
                self.heap.charge(1)?;
                self.marks.push(self.stack.len());
            }
            op::POP if self.marks.last() == Some(&self.stack.len()) => {
                self.marks.pop();
            }
            op::POP => {
                self.pop()?;
            }
            op::POP_MARK => {
                self.pop_to_mark()?;
            }
            op::DUP => self.push(self.top()?)?,
            op::BINPUT | op::LONG_BINPUT => {
                let key = self.memo_key(code == op::LONG_BINPUT)?;
                self.memoize(key)?;
            }
            op::MEMOIZE => {
                let key = u32::try_from(self.memo.len()).map_err(|_| "memo too long")?;
                self.memoize(key)?;
            }
            op::BINGET | op::LONG_BINGET => {
                let key = self.memo_key(code == op::LONG_BINGET)?;
                let id = self.memo.get(&key).ok_or_else(|| format!("memo {key} is not set"))?;
                self.push(*id)?;
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn object(&mut self, code: u8) -> Parse<bool> {
        match code {
            op::GLOBAL => {
                let (module, name) = (self.input.line()?.into(), self.input.line()?.into());
                self.push_new(Node::Class(Class { module, name }))?;
            }
            op::STACK_GLOBAL => {
                let (name, module) = (self.pop()?, self.pop()?);
                let (Some(module), Some(name)) = (self.heap.str(module), self.heap.str(name))
                else {
                    return Err("a class whose name is not a text".to_owned());
                };
                let class = Class { module: module.clone(), name: name.clone() };
                self.push_new(Node::Class(class))?;
            }
            op::REDUCE | op::NEWOBJ => {
                let (args, function) = (self.pop()?, self.pop()?);
                let id = rebuild::call(&mut self.heap, function, args)?;
                self.push(id)?;
            }
            op::NEWOBJ_EX => {
                let (kwargs, args, class) = (self.pop()?, self.pop()?, self.pop()?);
                let object = rebuild::object(&self.heap, class, args, Some(kwargs))?;
                self.push_new(object)?;
            }
            op::BUILD => {
                let state = self.pop()?;
                let target = self.top()?;
                if let Node::Object(object) = self.heap.node_mut(target)? {
                    object.state = Some(state);
                }
                // Attributes of other objects (`OrderedDict._metadata`, hooks) are not content.
            }
            op::BINPERSID => {
                let id = self.pop()?;
                let storage = rebuild::storage(&self.heap, id)?;
                self.push_new(Node::Storage(Arc::new(storage)))?;
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn extend(&mut self, items: Vec<Id>) -> Parse<()> {
        let target = self.top()?;
        match self.heap.node_mut(target)? {
            Node::List(list) | Node::Set(list) => list.extend(items),
            Node::Object(object) => object.items.extend(items),
            _ => return Err("elements for something that is not a list or set".to_owned()),
        }
        Ok(())
    }

    fn set_items(&mut self, items: &[Id]) -> Parse<()> {
        let target = self.top()?;
        let (pairs, []) = items.as_chunks::<2>() else {
            return Err("a key without a value".to_owned());
        };
        let pairs = pairs.iter().map(|&[key, value]| (key, value));
        match self.heap.node_mut(target)? {
            Node::Dict(entries) => entries.extend(pairs),
            Node::Object(object) => object.entries.extend(pairs),
            _ => return Err("entries for something that is not a dict".to_owned()),
        }
        Ok(())
    }

    fn push_new(&mut self, node: Node) -> Parse<()> {
        let id = self.heap.add(node)?;
        self.push(id)
    }

    fn push(&mut self, id: Id) -> Parse<()> {
        self.heap.charge(1)?;
        self.stack.push(id);
        Ok(())
    }

    fn memoize(&mut self, key: u32) -> Parse<()> {
        self.heap.charge(1)?;
        self.memo.insert(key, self.top()?);
        Ok(())
    }

    fn memo_key(&mut self, long: bool) -> Parse<u32> {
        Ok(if long { u32::from_le_bytes(self.input.array()?) } else { u32::from(self.input.u8()?) })
    }

    /// The lowest height that may be popped to.
    fn floor(&self) -> usize {
        self.marks.last().copied().unwrap_or(0)
    }

    fn top(&self) -> Parse<Id> {
        let above = self.stack.get(self.floor()..).unwrap_or_default();
        above.last().copied().ok_or_else(|| "the stack is empty".to_owned())
    }

    fn pop(&mut self) -> Parse<Id> {
        let id = self.top()?;
        self.stack.pop();
        Ok(id)
    }

    fn pop_n(&mut self, n: usize) -> Parse<Vec<Id>> {
        match self.stack.len().checked_sub(n) {
            Some(start) if start >= self.floor() => Ok(self.stack.split_off(start)),
            _ => Err("the stack is empty".to_owned()),
        }
    }

    fn pop_to_mark(&mut self) -> Parse<Vec<Id>> {
        let mark = self.marks.pop().ok_or("no mark on the stack")?;
        Ok(self.stack.split_off(mark))
    }
}
