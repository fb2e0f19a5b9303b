//! The named parameters of a network.

mod init;
mod sketch;
mod watch;

use std::collections::BTreeMap;
use std::fmt::Display;

use tch::{Device, Kind, Tensor};

use crate::{Error, Result, derive_seed};
pub use init::Init;

/// One parameter of a network.
#[derive(Debug)]
pub struct Param {
    /// Its value; layers hold handles to the same storage.
    pub tensor: Tensor,
    /// Whether an optimiser changes it.
    pub trainable: bool,
}

/// The named parameters of a network, all of one dtype, on one device.
///
/// Initial values depend only on the seed and the parameter's name, not on the order in which
/// layers are made.
#[derive(Debug)]
pub struct Params {
    seed: u64,
    kind: Kind,
    device: Device,
    /// Whether parameters have shapes but no values.
    sketch: bool,
    entries: BTreeMap<String, Param>,
}

impl Params {
    /// An empty set of parameters.
    pub fn new(seed: u64, kind: Kind, device: Device) -> Self {
        Params { seed, kind, device, sketch: false, entries: BTreeMap::new() }
    }

    /// Where a network declares its parameters.
    pub fn root(&mut self) -> Scope<'_> {
        Scope { params: self, prefix: String::new() }
    }

    /// The device of the parameters.
    pub fn device(&self) -> Device {
        self.device
    }

    /// All parameters, sorted by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Param)> {
        self.entries.iter().map(|(name, param)| (name.as_str(), param))
    }

    /// The parameter with this name.
    pub fn get(&self, name: &str) -> Option<&Param> {
        self.entries.get(name)
    }

    /// The parameters that an optimiser changes, sorted by name.
    pub fn trainable(&self) -> Vec<(&str, &Tensor)> {
        self.iter().filter(|(_, p)| p.trainable).map(|(name, p)| (name, &p.tensor)).collect()
    }

    /// The number of values in all parameters that an optimiser changes.
    pub fn count(&self) -> usize {
        self.trainable().iter().map(|(_, t)| t.numel()).sum()
    }

    /// Handles to all parameters, by name, detached from any graph.
    pub fn tensors(&self) -> BTreeMap<String, Tensor> {
        self.iter().map(|(name, p)| (name.to_owned(), p.tensor.detach())).collect()
    }

    /// Copies values into the parameters, in place.
    ///
    /// Nothing is changed unless everything fits.
    ///
    /// # Errors
    /// Missing, unexpected, wrongly shaped or wrongly typed tensors, all of them named.
    pub fn load(&self, tensors: &BTreeMap<String, Tensor>) -> Result<()> {
        let complaints = self.complaints(tensors);
        if !complaints.is_empty() {
            return Err(Error::Mismatch(complaints.join("; ")));
        }
        tch::no_grad(|| {
            for (name, param) in &self.entries {
                if let Some(value) = tensors.get(name) {
                    param.tensor.shallow_clone().f_copy_(value)?;
                }
            }
            Ok(())
        })
    }

    fn complaints(&self, tensors: &BTreeMap<String, Tensor>) -> Vec<String> {
        let mut out = Vec::new();
        for (name, param) in &self.entries {
            let Some(value) = tensors.get(name) else {
                out.push(format!("`{name}` is missing"));
                continue;
            };
            let (expected, got) = (param.tensor.size(), value.size());
            if expected != got {
                out.push(format!("`{name}` has shape {got:?}, expected {expected:?}"));
            }
            if value.kind() != self.kind {
                out.push(format!("`{name}` is {:?}, expected {:?}", value.kind(), self.kind));
            }
        }
        let unexpected = tensors.keys().filter(|name| !self.entries.contains_key(*name));
        out.extend(unexpected.map(|name| format!("`{name}` is not a parameter of this network")));
        out
    }
}

/// A place in the tree of names where a layer declares its parameters.
#[derive(Debug)]
pub struct Scope<'a> {
    params: &'a mut Params,
    prefix: String,
}

impl Scope<'_> {
    /// The place below this one.
    pub fn sub(&mut self, name: impl Display) -> Scope<'_> {
        let prefix = self.full(name);
        Scope { params: self.params, prefix }
    }

    /// Declares a parameter that an optimiser changes.
    ///
    /// # Errors
    /// A name that is taken; a shape with an axis below 1.
    pub fn param(&mut self, name: impl Display, shape: &[i64], init: Init) -> Result<Tensor> {
        self.grown(name, shape, init, 0)
    }

    /// The same with `more` entries along the second axis, after those of `shape`, that start at
    /// zero.
    ///
    /// # Range
    /// `more`: 0 or more
    /// # Errors
    /// As [`Scope::param`]; `more` above 0 without a second axis.
    pub fn grown(
        &mut self,
        name: impl Display,
        shape: &[i64],
        init: Init,
        more: i64,
    ) -> Result<Tensor> {
        let name = self.full(name);
        if shape.iter().any(|n| *n < 1) {
            return Err(Error::shape(name, "every axis at least 1", shape));
        }
        let mut value = self.draw(&name, shape, init);
        if more != 0 {
            let mut zeros = shape.to_vec();
            match zeros.get_mut(1) {
                Some(second) if more > 0 => *second = more,
                _ => return Err(Error::shape(name, "a second axis to add entries to", shape)),
            }
            value = if self.params.sketch {
                zeros[1] += shape[1];
                self.params.outline(&zeros)
            } else {
                Tensor::cat(&[&value, &value.new_zeros(&zeros, (value.kind(), value.device()))], 1)
            };
        }
        self.insert(name, value.set_requires_grad(true), true)
    }

    /// Declares a value that is saved with the parameters and never trained.
    ///
    /// # Errors
    /// A name that is taken.
    pub fn fixed(&mut self, name: impl Display, value: &Tensor) -> Result<Tensor> {
        let name = self.full(name);
        let value = value.to_device(self.params.device).to_kind(self.params.kind).copy();
        self.insert(name, value, false)
    }

    /// A number for this place, derived from its name alone: identifies a layer without being a
    /// parameter.
    pub fn site(&self) -> u64 {
        let name: Vec<u64> = self.prefix.bytes().map(u64::from).collect();
        derive_seed(0, &name)
    }

    /// The dtype of the parameters.
    pub fn kind(&self) -> Kind {
        self.params.kind
    }

    /// The device of the parameters.
    pub fn device(&self) -> Device {
        self.params.device
    }

    fn full(&self, name: impl Display) -> String {
        if self.prefix.is_empty() { name.to_string() } else { format!("{}.{name}", self.prefix) }
    }

    fn insert(&mut self, name: String, tensor: Tensor, trainable: bool) -> Result<Tensor> {
        if self.params.entries.contains_key(&name) {
            return Err(Error::Duplicate(name));
        }
        let handle = tensor.shallow_clone();
        self.params.entries.insert(name, Param { tensor, trainable });
        Ok(handle)
    }

    fn draw(&self, name: &str, shape: &[i64], init: Init) -> Tensor {
        if self.params.sketch {
            return self.params.outline(shape);
        }
        init.draw((self.params.seed, name), shape, (self.params.kind, self.params.device))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn two(seed: u64, swapped: bool) -> Params {
        let mut params = Params::new(seed, Kind::Float, Device::Cpu);
        let names = if swapped { ["b.w", "a.w"] } else { ["a.w", "b.w"] };
        for name in names {
            let (scope, leaf) = name.split_once('.').unwrap();
            let _ = params.root().sub(scope).param(leaf, &[4, 5], Init::fan_in(5)).unwrap();
        }
        params
    }

    #[test]
    fn the_start_depends_on_seed_and_name_only() {
        let value = |p: &Params, name: &str| p.get(name).unwrap().tensor.detach();
        let (p, q, r) = (two(1, false), two(1, true), two(2, false));
        assert_eq!(value(&p, "a.w"), value(&q, "a.w"));
        assert_ne!(value(&p, "a.w"), value(&p, "b.w"));
        assert_ne!(value(&p, "a.w"), value(&r, "a.w"));
        assert!(value(&p, "a.w").abs().max().double_value(&[]) <= 1.0 / 5f64.sqrt());
    }

    #[test]
    fn loading_is_strict_and_names_every_offender() {
        let (p, q) = (two(1, false), two(9, false));
        let before = p.get("a.w").unwrap().tensor.copy();
        let mut file = q.tensors();
        file.insert("c".to_owned(), before.shallow_clone());
        file.insert("a.w".to_owned(), before.view([5, 4]));
        let w = file.remove("b.w").unwrap();
        let message = p.load(&file).unwrap_err().to_string();
        for part in ["`a.w` has shape [5, 4]", "`b.w` is missing", "`c` is not"] {
            assert!(message.contains(part), "{message}");
        }
        file.remove("c");
        file.insert("a.w".to_owned(), w.shallow_clone());
        file.insert("b.w".to_owned(), w.to_kind(Kind::Double));
        assert!(p.load(&file).unwrap_err().to_string().contains("Double"));
        assert_eq!(p.get("a.w").unwrap().tensor, before);
        p.load(&q.tensors()).unwrap();
        assert_eq!(p.get("a.w").unwrap().tensor, q.get("a.w").unwrap().tensor);
    }

    #[test]
    fn a_name_is_given_once() {
        let mut params = two(1, false);
        let again = params.root().sub("a").param("w", &[1], Init::Normal);
        assert!(matches!(again, Err(Error::Duplicate(name)) if name == "a.w"));
    }
}
