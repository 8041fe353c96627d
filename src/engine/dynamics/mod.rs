//! The dynamics of a multivalued map on cells: what recurs, what leads where.
//!
//! A box map sends each cell to the box of cells that meet its image, so edges are enumerated, never stored:
//! [`BoxMap`] keeps eight bytes a cell. [`Components`] are the strongly connected components of its graph, by an
//! algorithm without recursion; those with an edge inside are the Morse sets. [`MorseDecomposition`] orders them by
//! reachability, and [`Fates`] says what becomes of every other cell. Any map will do: a fitted surrogate or a
//! closure.
//!
//! The two stable points of a double well, and the saddle between them, from the time-one map of ẋ = x − x³:
//!
//! ```
//! use doodl3::engine::dynamics::{BoxMap, MorseDecomposition, PointMap, Widening};
//! use doodl3::engine::grid::{Rect, UniformGrid};
//! use doodl3::engine::{Control, Mode, Role};
//!
//! // the flow's exact solution, so that corners enclose the image of a cell: the map is increasing
//! let flow = PointMap::new(|x: &[f64], image: &mut [f64]| {
//!     image[0] = x[0] / (x[0] * x[0] + (1.0 - x[0] * x[0]) * f64::exp(-2.0)).sqrt();
//! });
//! let grid = UniformGrid::new(Rect::new(&[-2.0], &[2.0]), 8)?;
//! let control = Control::default();
//! let map = BoxMap::from_corners(&grid, &flow, Widening::None, Mode::Full, &control)?;
//! let morse = MorseDecomposition::of(&map, &control)?;
//!
//! let roles: Vec<Role> = morse.sets().iter().map(|set| set.role).collect();
//! assert_eq!(roles, [Role::Attractor, Role::Repeller, Role::Attractor]);
//! assert_eq!(morse.edges(), [(1, 0), (1, 2)]);
//! # Ok::<(), doodl3::engine::EngineError>(())
//! ```

mod adaptive_map;
mod basins;
mod cell_map;
mod composition;
mod connections;
mod continuation;
mod corner_hulls;
mod digraph;
mod large_component;
mod morse_graph;
mod multivalued_map;
mod order_retraction;
mod passes;
mod point_map;
mod poll;
mod reachability;
mod refined_corners;
mod refinement;
mod rule;
mod scc;
mod trim;
mod vertex_set;
mod walk;

pub use adaptive_map::AdaptiveMap;
pub(super) use adaptive_map::DeepImage;
pub use basins::Fates;
pub use cell_map::CellMap;
pub use composition::{iterated, iterated_enclosure};
pub use connections::ReducedMorseGraph;
pub use continuation::{Continuation, LEAST_OVERLAP, MorseRegion};
pub use corner_hulls::CornerRule;
pub use digraph::{Digraph, ExplicitGraph};
pub use morse_graph::{MAX_MORSE_SETS, MorseDecomposition, RecurrentSet};
pub use multivalued_map::{BoxMap, Widening};
pub use order_retraction::{Classes, Existence, OrderRetraction, Tile};
pub use point_map::{CornerImages, Corners, Lattice, PointMap};
pub use reachability::reachable_sets;
pub use refined_corners::Hulls;
pub use refinement::Refinement;
pub use rule::{RectRule, Rule};
pub use scc::Components;
