//! Row indices into a table, on the device of the table.

use std::cell::RefCell;
use std::collections::BTreeMap;

use tch::{Device, Tensor};

/// Row indices by number of frames, copied to the device once: a copy from the host waits for the
/// device, and cannot be part of a recorded graph. Entries are never removed, since recorded graphs
/// read them in place.
#[derive(Debug, Default)]
pub(super) struct Indices(RefCell<BTreeMap<i64, Tensor>>);

impl Indices {
    /// `make()` for `f` frames, on a device.
    pub(super) fn of(&self, f: i64, device: Device, make: impl FnOnce() -> Vec<i64>) -> Tensor {
        let mut known = self.0.borrow_mut();
        let indices = known.entry(f);
        indices.or_insert_with(|| Tensor::from_slice(&make()).to_device(device)).shallow_clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_are_made_once_for_each_number_of_frames() {
        let (indices, mut made) = (Indices::default(), 0);
        let mut ask = |f: i64| {
            let rows = indices.of(f, Device::Cpu, || {
                made += 1;
                (0..f).rev().collect()
            });
            (rows.data_ptr() as usize, rows)
        };
        let ((three, rows), (two, _)) = (ask(3), ask(2));
        assert_eq!(rows, Tensor::from_slice(&[2i64, 1, 0]));
        assert_eq!((ask(3).0, ask(2).0), (three, two));
        assert_eq!(made, 2);
    }
}
