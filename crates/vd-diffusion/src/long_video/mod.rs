//! Videos longer than the network's clips, assembled from windows of its length.

mod draw;
mod plan;
mod store;
mod window;

pub use draw::{DrawWindow, GivenFrames, draw_long};
pub use plan::LongVideoPlan;
pub use window::Window;
