//! The time-one map of a gradient flow, ẋ = −∇[(x² − 1)²/4 + (y − 0.3 x)²/2]: two wells, a saddle between them, and the
//! separatrix through it that tells which well a point falls into. Then the same valley, climbed down by small steps:
//! nearly every cell seems to recur, until several steps are taken as one.
//! `cargo run --release --example double_well [SUBDIVISIONS]`

#![expect(clippy::print_stdout, reason = "its purpose")]

mod show;

use std::error::Error;

use doodl3::engine::dynamics::{BoxMap, MorseDecomposition, OrderRetraction, PointMap, Widening, iterated};
use doodl3::engine::grid::{Rect, UniformGrid};
use doodl3::engine::homology::conley_indices;
use doodl3::engine::{Control, Mode};

fn downhill([x, y]: [f64; 2]) -> [f64; 2] {
    [x - x * x * x + 0.3 * (y - 0.3 * x), 0.3 * x - y]
}

/// Runge and Kutta's method of order four, twenty steps to time one.
fn flow(start: &[f64], end: &mut [f64]) {
    let step = 1.0 / 20.0;
    let mut at = [start[0], start[1]];
    for _ in 0..20 {
        let along = |v: [f64; 2], t: f64| [at[0] + t * v[0], at[1] + t * v[1]];
        let a = downhill(at);
        let b = downhill(along(a, step / 2.0));
        let c = downhill(along(b, step / 2.0));
        let d = downhill(along(c, step));
        at = [0, 1].map(|j| at[j] + step / 6.0 * (a[j] + 2.0 * b[j] + 2.0 * c[j] + d[j]));
    }
    end.copy_from_slice(&at);
}

fn main() -> Result<(), Box<dyn Error>> {
    let subdivisions = std::env::args().nth(1).map_or(Ok(14), |text| text.parse())?;
    let grid = UniformGrid::new(Rect::new(&[-2.0; 2], &[2.0; 2]), subdivisions)?;
    let control = Control::default();
    let map = BoxMap::from_corners(&grid, &PointMap::new(flow), Widening::CellWidth, Mode::Full, &control)?;
    let morse = MorseDecomposition::of(&map, &control)?;
    let retraction = OrderRetraction::of(&map, &morse, &control)?;
    show::dynamics(&grid, &map, &morse, &retraction)?;
    show::tiles(&grid, &retraction);

    // some Morse sets hold nothing: they are slow places that the grid cannot tell from fixed points
    let indices = conley_indices(&grid, &map, &morse, 5, &control)?;
    let reduced = morse.reduced(|set| indices[set].to_string() == "(0, 0, 0)");
    println!("\nwithout sets of trivial index: {:?}, order {:?}", reduced.sets, reduced.edges);

    println!("\ngradient descent at rate 0.1, seen after several steps:");
    let descend = |x: &[f64], image: &mut [f64]| {
        let slope = downhill([x[0], x[1]]);
        image.copy_from_slice(&[x[0] + 0.1 * slope[0], x[1] + 0.1 * slope[1]]);
    };
    for steps in [1, 3, 10, 30] {
        let several = PointMap::new(iterated(descend, steps));
        let map = BoxMap::from_corners(&grid, &several, Widening::CellWidth, Mode::Full, &control)?;
        println!("{steps:3} at once: {} Morse sets", MorseDecomposition::of(&map, &control)?.sets().len());
    }
    Ok(())
}
