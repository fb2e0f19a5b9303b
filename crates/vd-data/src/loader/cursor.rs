//! A position in the order of clips, and the walk from there on.

use serde::{Deserialize, Serialize};

use super::Dataset;
use super::workers::Ticket;
use crate::{Error, Result};

/// A position in the order of clips. A loader that is given a saved one continues there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cursor {
    /// Determines the order and all random draws.
    pub seed: u64,
    /// The number of completed epochs; always 0 for a generator, which has one endless epoch.
    pub epoch: u64,
    /// The number of clips of this epoch that are done, skipped ones included.
    pub position: u64,
    /// The number of clips in an epoch when this was saved; another number now means another data
    /// set.
    pub clips: Option<u64>,
}

impl Cursor {
    /// The beginning of the order for `seed`.
    pub fn start(seed: u64) -> Self {
        Self { seed, epoch: 0, position: 0, clips: None }
    }
}

/// Walks through the order, epoch after epoch.
#[derive(Debug)]
pub(super) struct Walk {
    at: Cursor,
    number: u64,
    /// The order, and the epoch that it belongs to.
    order: Option<(u64, Vec<usize>)>,
}

impl Walk {
    /// Checks that the cursor fits a data set of `clips` clips an epoch.
    pub(super) fn new(mut at: Cursor, clips: Option<usize>) -> Result<Self> {
        let clips = clips.map(|n| n as u64);
        if at.clips.is_some() && at.clips != clips {
            let count =
                |n: Option<u64>| n.map_or("an unlimited number of".to_owned(), |n| n.to_string());
            return Err(Error::Cursor {
                expected: format!("{} clips per epoch, as when it was saved", count(at.clips)),
                got: format!("{} clips", count(clips)),
            });
        }
        let legal = match clips {
            Some(n) => at.position <= n,
            None => at.epoch == 0,
        };
        if !legal {
            let clips = clips.unwrap_or(0);
            return Err(Error::Cursor {
                expected: format!("a position of at most {clips}, or epoch 0 of a generator"),
                got: format!("epoch {} position {}", at.epoch, at.position),
            });
        }
        at.clips = clips;
        Ok(Self { at, number: 0, order: None })
    }

    pub(super) fn cursor(&self) -> Cursor {
        self.at
    }

    /// The next position and its clip.
    pub(super) fn step(&mut self, dataset: &Dataset) -> Ticket {
        let seed = self.at.seed;
        if self.at.clips == Some(self.at.position) {
            self.at.epoch += 1;
            self.at.position = 0;
        }
        let Cursor { epoch, position, .. } = self.at;
        let index = match self.at.clips {
            None => position,
            Some(_) => {
                if self.order.as_ref().is_none_or(|(of, _)| *of != epoch) {
                    self.order = Some((epoch, dataset.order(seed, epoch)));
                }
                let order = self.order.as_ref().map_or(&[][..], |(_, order)| order);
                order[position as usize] as u64
            }
        };
        self.at.position += 1;
        self.number += 1;
        Ticket { number: self.number, seed, epoch, index, after: self.at }
    }
}
