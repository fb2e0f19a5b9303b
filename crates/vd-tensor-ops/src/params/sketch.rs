//! Parameters without values, and values that replace the initial ones.

use std::fmt::Display;

use tch::{Kind, Tensor};

use super::{Params, Scope};
use crate::{Error, Result};

impl Params {
    /// Parameters that have names and shapes but no memory: for inspecting a network that may be
    /// too large for the machine. Every value reads as 0 and shares one number; none can be
    /// written.
    pub fn sketch(kind: Kind) -> Self {
        Params { sketch: true, ..Params::new(0, kind, tch::Device::Cpu) }
    }

    /// A parameter of a sketch: one number, expanded to the shape.
    pub(super) fn outline(&self, shape: &[i64]) -> Tensor {
        Tensor::zeros([1], (self.kind, self.device)).expand(shape, false)
    }
}

impl Scope<'_> {
    /// Sets a parameter that was declared here, or below, to 0.
    ///
    /// # Errors
    /// A name that is not declared.
    pub fn zero(&mut self, name: impl Display) -> Result<()> {
        let name = self.full(name);
        let Some(param) = self.params.entries.get(&name) else {
            return Err(Error::Value {
                what: "parameter to initialise with zeros".to_owned(),
                expected: "a declared parameter".to_owned(),
                got: format!("`{name}`"),
            });
        };
        if !self.params.sketch {
            let _same = tch::no_grad(|| param.tensor.shallow_clone().f_zero_())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use crate::{Init, Params};
    use tch::{Device, Kind};

    #[test]
    fn a_sketch_has_the_names_and_shapes_of_parameters_and_none_of_their_memory() {
        let declare = |params: &mut Params| {
            let mut root = params.root();
            let _ = root.sub("a").param("w", &[3, 5], Init::Normal).unwrap();
            let _ = root.grown("b", &[4, 2, 7], Init::fan_in(2), 3).unwrap();
            root.zero("a.w").unwrap();
            assert!(root.zero("c").unwrap_err().to_string().contains("`c`"));
        };
        let shapes = |params: &Params| -> Vec<_> {
            params.iter().map(|(name, p)| (name.to_owned(), p.tensor.size())).collect()
        };
        let (mut sketch, mut real) =
            (Params::sketch(Kind::Float), Params::new(1, Kind::Float, Device::Cpu));
        declare(&mut sketch);
        declare(&mut real);
        assert_eq!(shapes(&sketch), shapes(&real));
        assert_eq!(sketch.count(), 15 + 4 * 5 * 7);
        let zeroed = &real.get("a.w").unwrap().tensor;
        assert!(zeroed.requires_grad() && zeroed.abs().max().double_value(&[]) == 0.0);
        let mut huge = Params::sketch(Kind::Float);
        let _ = huge.root().param("w", &[1 << 20, 1 << 20], Init::Normal).unwrap();
        assert_eq!(huge.count(), 1 << 40);
    }
}
