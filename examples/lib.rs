//! Holds the examples beside it: one per library crate, the demo, and comparisons with what these
//! have in common.

mod drawn;

pub use drawn::Opened;
