//! A map of which nothing is known but some points and where they went: a file of lines `x y … f(x) f(y) …`. The dynamics
//! twice, without a model and by a Gaussian process whose enclosures hold for all cells at once with a stated
//! probability. By default a hundred points of the Leslie map that come with CMGDB.
//! `cargo run --release --example from_data [FILE [SUBDIVISIONS]]`

#![expect(clippy::print_stdout, reason = "its purpose")]

mod pairs;
mod show;

use std::error::Error;

use doodl3::engine::dynamics::{BoxMap, MorseDecomposition, OrderRetraction};
use doodl3::engine::grid::UniformGrid;
use doodl3::engine::surrogate::{DataMap, FittedMap};
use doodl3::engine::{Control, Mode, SurrogateParameters};

const LESLIE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/groundtruth/Leslie_100.dat");
const CONFIDENCE: f64 = 0.9;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (from, to) = pairs::read(arguments.first().map_or(LESLIE, String::as_str))?;
    let subdivisions = arguments.get(1).map_or(Ok(12), |text| text.parse())?;
    let control = Control::default();

    // the domain holds all points, and a tenth more on each side
    let mut domain = pairs::bounding_box(&from, &to);
    domain.widen(&(0..domain.dimension()).map(|axis| 0.1 * domain.width(axis)).collect::<Vec<_>>());
    let grid = UniformGrid::new(domain, subdivisions)?;

    println!("{} pairs alone: images of cells are boxes around those of nearby points\n", from.len());
    let data = DataMap::new(&from, &to)?;
    describe(&grid, &data.on(&grid, Mode::Full, &control)?)?;

    println!("\nfitted, with probability {CONFIDENCE} that all enclosures hold where the map is trusted\n");
    let fitted = FittedMap::fit(&from, &to, &SurrogateParameters::default(), &control)?;
    describe(&grid, &fitted.with_confidence(&grid, CONFIDENCE, 1.0, Mode::Full, &control)?)
}

fn describe(grid: &UniformGrid, map: &BoxMap) -> Result<(), Box<dyn Error>> {
    let control = Control::default();
    let morse = MorseDecomposition::of(map, &control)?;
    let retraction = OrderRetraction::of(map, &morse, &control)?;
    show::dynamics(grid, map, &morse, &retraction)?;
    if grid.dimension() == 2 {
        show::tiles(grid, &retraction);
    }
    Ok(())
}
