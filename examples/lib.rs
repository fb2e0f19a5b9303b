//! Holds only the examples beside it: one per library crate, and the demo.
