//! Strict weight files.

/// Stand-in.
#[derive(Debug)]
pub struct Weights;
