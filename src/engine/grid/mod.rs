//! Phase space cut into cells.
//!
//! A *subdivision* halves every cell along one axis, axes taken in turn, so `k` subdivisions give 2ᵏ cells. A *cell* is
//! an index, a [`Rect`] its region.

mod boxes;
mod rect;
mod uniform;

pub use rect::Rect;
pub use uniform::{Cover, UniformGrid};

/// Largest dimension of a grid.
pub const MAX_DIMENSION: usize = 6;

/// Largest number of subdivisions: 2²⁶ cells.
pub const MAX_SUBDIVISIONS: u32 = 26;
