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

/// Rows of a trained table.
///
/// On CUDA `index_select` adds up the gradients of a row that is read more than once in any order
/// (`index_add_`, by atomics), so that no two runs give the same bits; `embedding` does it in one order.
///
/// # Shapes
/// `table`: n and any others; `rows`: r, Int64 -> r and those others
pub fn look_up(table: &Tensor, rows: &Tensor) -> Tensor {
    if !table.device().is_cuda() {
        return table.index_select(0, rows);
    }
    embedded(table, rows)
}

fn embedded(table: &Tensor, rows: &Tensor) -> Tensor {
    let mut size = table.size();
    let flat = table.reshape([size[0], size[1..].iter().product()]);
    size[0] = rows.size()[0];
    Tensor::embedding(&flat, rows, -1, false, false).view(size.as_slice())
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::Kind;

    #[test]
    fn both_ways_to_look_up_give_the_same_rows_and_gradients() {
        for size in [vec![7, 3], vec![7, 2, 5, 3]] {
            let count: i64 = size.iter().product();
            let values = (Tensor::arange(count, (Kind::Double, Device::Cpu)) * 1.7).sin();
            let table = values.view(size.as_slice()).set_requires_grad(true);
            let rows = Tensor::from_slice(&[3i64, 0, 3, 6, 6, 3, 1, 0]);
            let asked = |f: fn(&Tensor, &Tensor) -> Tensor| {
                let picked = f(&table, &rows);
                let weight = (Tensor::arange(picked.numel() as i64, (Kind::Double, Device::Cpu))
                    * 0.9)
                    .cos()
                    .view_as(&picked);
                let loss = (&picked * weight).sum(Kind::Double);
                let mut grads = Tensor::run_backward(&[loss], &[&table], false, false);
                (picked, grads.remove(0))
            };
            let (look_up, embedded) = (asked(look_up), asked(embedded));
            assert_eq!(look_up.0.size()[1..], size[1..]);
            assert_eq!(look_up.0, embedded.0);
            let apart = (look_up.1 - embedded.1).abs().max().double_value(&[]);
            assert!(apart <= 1e-15, "{apart:e}");
        }
    }

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
