//! Keeps gradients at the same memory addresses.

use tch::Tensor;

use crate::Result;

/// The maximum number of gradients that are copied to their previous address.
const FEW: usize = 16;

/// The addresses of gradients. Those of a recorded network have the same ones at every step; a few
/// others, of parameters outside it or of parameters that a loss does not reach, are copied to
/// separate memory.
#[derive(Debug, Default)]
pub(crate) struct Landing {
    /// The address of each in the step before.
    places: Vec<usize>,
    own: Vec<Option<Tensor>>,
}

impl Landing {
    /// The gradients at their previous addresses, unless more than a few have moved.
    pub(crate) fn settle(&mut self, grads: &[Tensor]) -> Result<Vec<Tensor>> {
        let places: Vec<usize> = grads.iter().map(|grad| grad.data_ptr() as usize).collect();
        if self.places.len() == places.len() {
            let moved = |k: &usize| self.own[*k].is_none() && self.places[*k] != places[*k];
            let moved: Vec<usize> = (0..grads.len()).filter(moved).collect();
            if moved.len() <= FEW {
                for k in moved {
                    self.own[k] = Some(grads[k].f_empty_like()?);
                }
            }
        } else {
            self.own = grads.iter().map(|_| None).collect();
        }
        self.places = places;
        let settled = self.own.iter_mut().zip(grads).map(|(own, grad)| match own {
            Some(own) => {
                own.f_copy_(grad)?;
                Ok(own.shallow_clone())
            }
            None => Ok(grad.shallow_clone()),
        });
        settled.collect()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// One gradient per number, each with different values.
    fn grads(numbers: &[f32]) -> Vec<Tensor> {
        numbers.iter().map(|k| Tensor::from_slice(&[*k, k.sin(), k.exp()])).collect()
    }

    fn places(grads: &[Tensor]) -> Vec<usize> {
        grads.iter().map(|grad| grad.data_ptr() as usize).collect()
    }

    #[test]
    fn a_few_that_move_are_copied_to_where_they_lay() {
        let (mut landing, kept) = (Landing::default(), grads(&[0.3, 1.1]));
        let mut steps = Vec::new();
        for step in 0..4 {
            let moving = grads(&[step as f32 + 0.7]);
            let all = [kept[0].shallow_clone(), moving[0].shallow_clone(), kept[1].shallow_clone()];
            let settled = landing.settle(&all).unwrap();
            assert_eq!(settled, all);
            // Kept alive, so that the next one gets another address.
            steps.push((places(&settled), moving));
        }
        let [first, second, third, fourth] = [0, 1, 2, 3].map(|k| &steps[k].0);
        assert!(first != second && second == third && third == fourth, "{first:?} {second:?}");
    }

    #[test]
    fn many_that_move_are_left_where_they_are() {
        let (mut landing, numbers) = (Landing::default(), [0.4; FEW + 1]);
        let (before, after) = (grads(&numbers), grads(&numbers));
        assert_eq!(places(&landing.settle(&before).unwrap()), places(&before));
        assert_eq!(places(&landing.settle(&after).unwrap()), places(&after));
    }
}
