//! The examples: one per library crate, the demo, and comparisons. This library has the code that
//! the comparisons share.

mod drawn;

pub use drawn::Opened;
