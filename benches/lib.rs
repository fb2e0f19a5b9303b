//! Holds only the benchmarks of whole steps beside it; each crate's own are with the crate.
