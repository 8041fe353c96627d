//! How long each step of the engine takes on Leslie's map, whose attractor is chaotic: `cargo bench --bench engine`.
//!
//! `compare_with_cmgdb.py` sets whole jobs beside another program; here a change of one step is seen alone.

use criterion::{Criterion, criterion_group, criterion_main};
use doodl3::engine::dynamics::{
    AdaptiveMap, BoxMap, Components, CornerRule, MorseDecomposition, OrderRetraction, PointMap, Refinement,
    Widening,
};
use doodl3::engine::grid::{Rect, UniformGrid};
use doodl3::engine::homology::conley_indices;
use doodl3::engine::surrogate::FittedMap;
use doodl3::engine::{Control, Mode, Points, SurrogateParameters};

/// Depth of the uniform grids: 2¹⁸ cells.
const SUBDIVISIONS: u32 = 18;

/// Cells of the retraction's grid: it costs more for each.
const COARSE: u32 = 14;

fn leslie(x: &[f64], image: &mut [f64]) {
    image[0] = (19.6 * x[0] + 23.68 * x[1]) * (-0.1 * (x[0] + x[1])).exp();
    image[1] = 0.7 * x[0];
}

fn domain() -> Rect {
    Rect::new(&[-0.001; 2], &[90.0, 70.0])
}

fn box_map(grid: &UniformGrid, control: &Control) -> BoxMap {
    let map = PointMap::new(leslie);
    BoxMap::from_corners(grid, &map, Widening::CellWidth, Mode::Compatible, control).expect("a map")
}

fn uniform(criterion: &mut Criterion) {
    let control = Control::default();
    let grid = UniformGrid::new(domain(), SUBDIVISIONS).expect("a grid");
    let map = box_map(&grid, &control);
    let morse = MorseDecomposition::of(&map, &control).expect("Morse sets");
    let mut group = criterion.benchmark_group("uniform, 2^18 cells");
    group.bench_function("images of cells", |bench| bench.iter(|| box_map(&grid, &control)));
    group.bench_function("components", |bench| bench.iter(|| Components::of(&map, &control)));
    group.bench_function("Morse graph", |bench| bench.iter(|| MorseDecomposition::of(&map, &control)));
    group.bench_function("Conley indices", |bench| {
        bench.iter(|| conley_indices(&grid, &map, &morse, 5, &control));
    });
    group.finish();
    let grid = UniformGrid::new(domain(), COARSE).expect("a grid");
    let map = box_map(&grid, &control);
    let morse = MorseDecomposition::of(&map, &control).expect("Morse sets");
    criterion.bench_function("order retraction, 2^14 cells", |bench| {
        bench.iter(|| OrderRetraction::of(&map, &morse, &control));
    });
}

fn adaptive(criterion: &mut Criterion) {
    let control = Control::default();
    let map = PointMap::new(leslie);
    let rule = CornerRule { map: &map, widening: Widening::CellWidth, mode: Mode::Compatible };
    let refinement = Refinement { init: 0, min: 20, max: 20, limit: 10_000 };
    criterion.bench_function("adaptive refinement to depth 20", |bench| {
        bench.iter(|| AdaptiveMap::refine(domain(), &[false; 2], refinement, &rule, &control));
    });
}

fn surrogate(criterion: &mut Criterion) {
    let control = Control::default();
    let side = |at: usize| f64::from(at as u32) / 14.0;
    let points =
        Points::from_rows(2, (0..15).flat_map(|i| (0..15).map(move |j| [60.0 * side(i), 40.0 * side(j)])));
    let images = points.rows().map(|x| {
        let mut image = [0.0; 2];
        leslie(x, &mut image);
        image
    });
    let images = Points::from_rows(2, images);
    let parameters = SurrogateParameters::default();
    let mut group = criterion.benchmark_group("Gaussian process, 225 pairs");
    group.sample_size(10);
    group.bench_function("fit", |bench| {
        bench.iter(|| FittedMap::fit(&points, &images, &parameters, &control));
    });
    let fitted = FittedMap::fit(&points, &images, &parameters, &control).expect("a fit");
    let grid = UniformGrid::new(domain(), COARSE).expect("a grid");
    group.bench_function("enclosures for confidence, 2^14 cells", |bench| {
        bench.iter(|| fitted.with_confidence(&grid, 0.9, 1.0, Mode::Full, &control));
    });
    group.finish();
}

criterion_group!(benches, uniform, adaptive, surrogate);
criterion_main!(benches);
