//! Videos longer than the clips that a network draws, put together from windows of its length.

mod draw;
mod plan;
mod store;
mod window;

pub use draw::{DrawWindow, GivenFrames, draw_long};
pub use plan::LongVideoPlan;
pub use window::Window;
