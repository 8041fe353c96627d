//! The map that is fitted to pairs of checkpoints, and boxes that enclose it.

mod data_map;
mod enclosure;
mod fit;
mod fitted_map;
mod function_draw;
mod gaussian_process;
mod held_out;
mod kernel;
mod lattice_means;
mod likelihood;
mod specification;
mod standardise;

pub use data_map::{DataMap, EmptyBox};
pub use enclosure::Simultaneous;
pub(super) use enclosure::{ConfidentRule, Enclosing, box_map};
pub(super) use fitted_map::Search;
pub use fitted_map::{FittedMap, Images};
pub use gaussian_process::{EXACT_PAIRS, GaussianProcess, MAX_CENTRES, Prediction};
pub use specification::Specification;
