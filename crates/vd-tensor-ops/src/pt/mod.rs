//! Reader of Python checkpoints.
