//! The mathematics: from trajectories to a Morse graph.
//!
//! Pure: no tokio, no files, no clock, no network, no logging. The same input gives the same bytes, with one thread
//! and with many. The method is that of Eslami, Eramian, Gameiro, Kalies and Mischaikow, *Extracting Global Dynamics
//! of Loss Landscape in Deep Learning Models* (2021, arXiv 2106.07683), carried further.

mod analysis;
mod cancel;
mod control;
pub mod dynamics;
mod error;
pub mod grid;

pub use analysis::*;
pub use cancel::Cancel;
pub use control::Control;
pub use error::EngineError;
