//! Two generations of a population, of which the young breed less the more there are: the Leslie map
//!
//! ```text
//! (x, y) ↦ ((19.6 x + 23.68 y) exp(−(x + y)/10), 0.7 x)
//! ```
//!
//! of I. Ugarcovici and H. Weiss, *Chaotic dynamics of a nonlinear density dependent population model*, Nonlinearity 17,
//! 2004, and of Z. Arai et al., *A database schema for the analysis of global dynamics of multiparameter systems*, SIAM J.
//! Appl. Dyn. Syst. 8, 2009. A cycle of three generations attracts, and so does a large chaotic set; which of the two a
//! population comes to depends on where it begins. `cargo run --release --example leslie [SUBDIVISIONS]`

#![expect(clippy::print_stdout, reason = "its purpose")]

mod show;

use std::error::Error;

use doodl3::engine::dynamics::{BoxMap, MorseDecomposition, OrderRetraction, PointMap, Widening};
use doodl3::engine::grid::{Rect, UniformGrid};
use doodl3::engine::{Control, Mode, Role};

fn main() -> Result<(), Box<dyn Error>> {
    let subdivisions = std::env::args().nth(1).map_or(Ok(18), |text| text.parse())?;
    let control = Control::default();
    let leslie = PointMap::new(|x: &[f64], image: &mut [f64]| {
        image[0] = (19.6 * x[0] + 23.68 * x[1]) * (-0.1 * (x[0] + x[1])).exp();
        image[1] = 0.7 * x[0];
    });

    // every cell is sent to the cells around the images of its corners, and a cell's width further on each side
    let grid = UniformGrid::new(Rect::new(&[-0.001, -0.001], &[90.0, 70.0]), subdivisions)?;
    let map = BoxMap::from_corners(&grid, &leslie, Widening::CellWidth, Mode::Compatible, &control)?;
    let morse = MorseDecomposition::of(&map, &control)?;
    let retraction = OrderRetraction::of(&map, &morse, &control)?;
    show::dynamics(&grid, &map, &morse, &retraction)?;
    show::tiles(&grid, &retraction);

    // what a population passes through on its way from extinction, where the young breed most, to an attractor
    let origin = grid.cell_at(&[0.0, 0.0]).and_then(|cell| morse.set_of(cell));
    for (number, set) in morse.sets().iter().enumerate().filter(|(_, set)| set.role == Role::Attractor) {
        if let Some(origin) = origin {
            let path = morse.connecting_cells(&map, &[origin], &[number], &control)?;
            println!(
                "{} cells lie on paths from the origin to attractor {number} ({} cells)",
                path.len(),
                set.size
            );
        }
    }
    Ok(())
}
