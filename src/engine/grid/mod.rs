//! Phase space cut into cells.
//!
//! A *subdivision* halves every cell along one axis, axes taken in turn, so `k` subdivisions give 2ᵏ cells. A *cell* is
//! an index, a [`Rect`] its region.

mod adaptive;
mod boxes;
mod level;
mod meeting;
mod ranks;
mod rect;
mod uniform;

pub use adaptive::{AdaptiveGrid, CellSet};
pub use boxes::Rows;
pub use level::{Cover, Level};
pub(in crate::engine) use meeting::{Meeting, larger, smaller};
pub use rect::Rect;
pub use uniform::UniformGrid;

/// Largest dimension of a grid.
pub const MAX_DIMENSION: usize = 6;

/// Largest depth of a level, so that a key has room for flags.
pub const MAX_DEPTH: u32 = 60;

/// Largest number of subdivisions of a grid of which something is held for every cell: 2²⁶ cells.
pub const MAX_SUBDIVISIONS: u32 = 26;
