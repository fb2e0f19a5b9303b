//! Sampling pulled towards the conditions.

mod classifier_free;

pub use classifier_free::Guided;
