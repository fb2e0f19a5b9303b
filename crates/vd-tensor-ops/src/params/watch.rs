//! Which parameters a part of a network declares.

use std::collections::BTreeSet;

use tch::Tensor;

use super::Scope;

impl Scope<'_> {
    /// The result of `declare`, run here or below, with handles on the trainable parameters that it
    /// declared, sorted by name.
    pub fn watched<T>(&mut self, declare: impl FnOnce(&mut Scope<'_>) -> T) -> (T, Vec<Tensor>) {
        let before: BTreeSet<String> = self.params.entries.keys().cloned().collect();
        let made = declare(&mut Scope { params: self.params, prefix: self.prefix.clone() });
        let new = self.params.entries.iter().filter(|(name, _)| !before.contains(*name));
        let trained = new.filter(|(_, param)| param.trainable);
        (made, trained.map(|(_, param)| param.tensor.shallow_clone()).collect())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use crate::{Init, Params};
    use tch::{Device, Kind, Tensor};

    #[test]
    fn what_was_declared_in_between_and_is_trained_is_handed_out() {
        let mut params = Params::new(0, Kind::Float, Device::Cpu);
        let mut root = params.root();
        let _ = root.param("before", &[2], Init::Normal).unwrap();
        let (made, handles) = root.sub("part").watched(|scope| {
            let _ = scope.fixed("known", &Tensor::from(1f32)).unwrap();
            let _ = scope.sub("b").param("w", &[3], Init::Normal).unwrap();
            scope.param("a", &[4], Init::Normal).unwrap()
        });
        let _ = root.param("after", &[2], Init::Normal).unwrap();
        assert_eq!(handles, [made, params.get("part.b.w").unwrap().tensor.shallow_clone()]);
        assert!(handles.iter().all(Tensor::requires_grad));
    }
}
