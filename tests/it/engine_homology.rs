//! Conley indices of known maps: those that CMGDB finds, and those that theory tells.

use doodl3::engine::dynamics::{BoxMap, Components, ExplicitGraph, MorseDecomposition, PointMap, Widening};
use doodl3::engine::grid::{Rect, UniformGrid};
use doodl3::engine::homology::{
    ConleyIndex, CubicalSpace, Escape, Image, PrimeField, Reading, Undefined, conley_index, conley_indices,
};
use doodl3::engine::{Cancel, Control, EngineError, Mode};

use super::engine_ground_truth::double_well_flow;

/// A map on a box or torus, seen through cells: a closed cover of the hull of the corners' images, widened.
struct Seen<F> {
    space: CubicalSpace,
    lower: Vec<f64>,
    width: Vec<f64>,
    /// Cell widths by which images are widened.
    padding: f64,
    /// Whether what leaves the space is forgotten, as CMGDB does, and not told of.
    forgets: bool,
    map: F,
}

impl<F: Fn(&[f64]) -> Vec<f64> + Sync> Seen<F> {
    fn new(bits: &[u32], periodic: &[bool], ends: (&[f64], &[f64]), padding: f64, map: F) -> Self {
        let space = CubicalSpace::new(bits, periodic).unwrap();
        let width = bits
            .iter()
            .zip(ends.0.iter().zip(ends.1))
            .map(|(b, (l, u))| (u - l) / f64::from(1 << b))
            .collect();
        Self { space, lower: ends.0.to_vec(), width, padding, forgets: false, map }
    }

    fn image(&self, cell: u64) -> Image {
        let d = self.space.dimension();
        let (mut low, mut high) = (vec![f64::INFINITY; d], vec![f64::NEG_INFINITY; d]);
        for corner in 0..1 << d {
            let at = |axis: usize| self.space.coordinate(cell, axis) + (corner >> axis & 1);
            let point: Vec<f64> =
                (0..d).map(|axis| self.lower[axis] + self.width[axis] * f64::from(at(axis))).collect();
            for (axis, value) in (self.map)(&point).into_iter().enumerate() {
                low[axis] = low[axis].min(value);
                high[axis] = high[axis].max(value);
            }
        }
        let (mut first, mut last, mut exits) = (vec![0; d], vec![0; d], false);
        for axis in 0..d {
            let cells = i64::from(self.space.cells_along(axis));
            let in_cells = |x: f64| (x - self.lower[axis]) / self.width[axis];
            let from = ((in_cells(low[axis]) - self.padding - 1e-9).ceil() - 1.0) as i64;
            let to = (in_cells(high[axis]) + self.padding + 1e-9).floor() as i64;
            if self.space.is_periodic(axis) {
                let to = to.min(from + cells - 1);
                (first[axis], last[axis]) = (from.rem_euclid(cells) as u32, to.rem_euclid(cells) as u32);
            } else {
                if to < 0 || from >= cells {
                    return if self.forgets { Image::EMPTY } else { Image::EMPTY.exiting() };
                }
                exits |= from < 0 || to >= cells;
                (first[axis], last[axis]) = (from.max(0) as u32, to.min(cells - 1) as u32);
            }
        }
        let image = Image::cells(self.space.key(&first), self.space.key(&last));
        if exits && !self.forgets { image.exiting() } else { image }
    }

    fn cells(&self, image: Image) -> Vec<u64> {
        let Some((first, last)) = image.cells else { return Vec::new() };
        let mut cells = vec![vec![]];
        for axis in 0..self.space.dimension() {
            let count = self.space.cells_along(axis);
            let (from, to) = (self.space.coordinate(first, axis), self.space.coordinate(last, axis));
            let length = to.wrapping_sub(from) & (count - 1);
            let along = (0..=length).map(|step| (from + step) & (count - 1));
            cells = cells
                .iter()
                .flat_map(|start| along.clone().map(|at| [start.as_slice(), &[at]].concat()))
                .collect();
        }
        cells.iter().map(|cell: &Vec<u32>| self.space.key(cell)).collect()
    }

    /// The Morse sets by smallest cell, each with its index.
    fn indices(&self, prime: u32) -> Vec<(Vec<u64>, ConleyIndex)> {
        let count: u32 = (0..self.space.dimension()).map(|axis| self.space.cells_along(axis)).product();
        let edges: Vec<(u32, u32)> = (0..count)
            .flat_map(|cell| {
                self.cells(self.image(u64::from(cell))).into_iter().map(move |to| (cell, to as u32))
            })
            .collect();
        let components = Components::of(&ExplicitGraph::new(count, &edges), &Control::default()).unwrap();
        let mut sets: Vec<Vec<u64>> = components
            .iter()
            .filter(|members| components.is_recurrent(members[0]))
            .map(|members| members.iter().copied().map(u64::from).collect())
            .collect();
        for set in &mut sets {
            set.sort_unstable();
        }
        sets.sort();
        sets.into_iter().map(|set| (self.index(&set, prime), set)).map(|(index, set)| (set, index)).collect()
    }

    fn index(&self, set: &[u64], prime: u32) -> ConleyIndex {
        let field = PrimeField::new(prime).unwrap();
        conley_index(&self.space, set, |cell| self.image(cell), field, &Control::default()).unwrap()
    }

    /// Indices that are not trivial, printed, sorted.
    fn strings(&self, prime: u32) -> Vec<String> {
        let mut strings: Vec<String> = self
            .indices(prime)
            .iter()
            .filter(|(_, index)| !index.is_trivial())
            .map(|(_, index)| index.to_string())
            .collect();
        strings.sort();
        strings
    }
}

/// Numbers of cells and indices of the Morse sets of a map on a uniform grid, as CMGDB prints them.
fn found(
    (lower, upper): (&[f64], &[f64]),
    subdivisions: u32,
    widening: Widening,
    map: impl Fn(&[f64], &mut [f64]) + Sync,
) -> Vec<(usize, Vec<String>)> {
    let control = Control::default();
    let grid = UniformGrid::new(Rect::new(lower, upper), subdivisions).unwrap();
    let map = BoxMap::from_corners(&grid, &PointMap::new(map), widening, Mode::Compatible, &control).unwrap();
    let morse = MorseDecomposition::of(&map, &control).unwrap();
    let indices = conley_indices(&grid, &map, &morse, 5, &control).unwrap();
    let mut found: Vec<_> =
        morse.sets().iter().zip(&indices).map(|(set, index)| (set.size, index.unseparated())).collect();
    found.sort();
    found
}

fn expected(list: &[(usize, &[&str])]) -> Vec<(usize, Vec<String>)> {
    let mut list: Vec<_> = list
        .iter()
        .map(|(size, strings)| (*size, strings.iter().map(|&string| string.to_owned()).collect()))
        .collect();
    list.sort();
    list
}

fn leslie(x: &[f64], image: &mut [f64]) {
    image[0] = (19.6 * x[0] + 23.68 * x[1]) * (-0.1 * (x[0] + x[1])).exp();
    image[1] = 0.7 * x[0];
}

#[test]
fn leslie_is_as_cmgdb_finds_it() {
    let domain: (&[f64], &[f64]) = (&[-0.001, -0.001], &[90.0, 70.0]);
    assert_eq!(
        found(domain, 14, Widening::CellWidth, leslie),
        expected(&[(1, &["0", "0", "0"]), (3542, &["x-1", "0", "0"])])
    );
    // CMGDB's run to 30 subdivisions drops the sets of 3 and 45 cells, which hold nothing
    let at_20 = expected(&[
        (1, &["0", "0", "0"]),
        (3, &["0", "0", "0"]),
        (45, &["0", "0", "0"]),
        (427, &["0", "x^3-1", "0"]),
        (1261, &["x^3-1", "0", "0"]),
        (64417, &["x-1", "0", "0"]),
    ]);
    assert_eq!(found(domain, 20, Widening::CellWidth, leslie), at_20);
}

#[test]
fn leslie_in_three_dimensions_is_as_cmgdb_finds_it() {
    let map = |x: &[f64], image: &mut [f64]| {
        image[0] = (19.6 * x[0] + 23.68 * x[1] + 19.6 * x[2]) * (-0.1 * (x[0] + x[1] + x[2])).exp();
        image[1] = 0.7 * x[0];
        image[2] = 0.7 * x[1];
    };
    let attractor = found((&[-0.001; 3], &[90.0, 65.0, 45.0]), 15, Widening::CellWidth, map)
        .into_iter()
        .filter(|(size, _)| *size == 4705);
    assert_eq!(attractor.collect::<Vec<_>>(), expected(&[(4705, &["x-1", "0", "0", "0"])]));
}

#[test]
fn the_logistic_map_is_as_cmgdb_finds_it() {
    assert_eq!(
        found((&[0.0], &[1.0]), 14, Widening::None, |x, image| image[0] = 3.83 * x[0] * (1.0 - x[0])),
        expected(&[
            (1, &["0", "0"]),
            (20, &["x^3-1", "0"]),
            (8, &["0", "0"]),
            (4, &["0", "0"]),
            (9869, &["0", "x^2+x+1"]),
        ])
    );
}

#[test]
fn the_double_well_is_as_cmgdb_finds_it() {
    assert_eq!(
        found((&[-2.0; 2], &[2.0; 2]), 14, Widening::CellWidth, double_well_flow),
        expected(&[
            (1, &["0", "0", "0"]),
            (1, &["0", "0", "0"]),
            (20, &["x-1", "0", "0"]),
            (20, &["x-1", "0", "0"]),
            (22, &["0", "x-1", "0"]),
        ])
    );
}

#[test]
fn a_product_of_two_interval_maps_is_as_cmgdb_finds_it() {
    // CMGDB's adaptive run reports four sets of one cell; on the uniform grid there are sets between them that hold
    // nothing
    let half = |x: f64| x / (2.0 - x);
    let map = |x: &[f64], image: &mut [f64]| {
        image[0] = half(x[0]);
        image[1] = half(x[1]);
    };
    let mut strings: Vec<Vec<String>> = found((&[0.0; 2], &[1.2; 2]), 6, Widening::None, map)
        .into_iter()
        .map(|(_, strings)| strings)
        .filter(|strings| strings.iter().any(|string| string != "0"))
        .collect();
    strings.dedup();
    assert_eq!(strings, [["0", "0", "x-1"], ["0", "x-1", "0"], ["x-1", "0", "0"]]);
}

#[test]
fn a_map_with_a_periodic_axis_is_as_cmgdb_finds_it() {
    let map = |x: &[f64]| vec![(x[0] - 1.0).powi(3) + 1.0, (x[1] - 1.0).cbrt() + 1.0];
    let mut seen = Seen::new(&[5, 5], &[true, false], (&[0.0; 2], &[2.0; 2]), 1.0, map);
    seen.forgets = true;
    let mut sets: Vec<(usize, Vec<String>)> =
        seen.indices(5).iter().map(|(set, index)| (set.len(), index.unseparated())).collect();
    sets.sort();
    // those that CMGDB drops, since they prove empty at 15 subdivisions, have trivial indices
    sets.retain(|(_, strings)| strings.iter().any(|string| string != "0"));
    assert_eq!(
        sets,
        expected(&[
            (4, &["0", "0", "x-1"]),
            (4, &["0", "x-1", "0"]),
            (4, &["0", "x-1", "0"]),
            (8, &["0", "x-1", "0"]),
            (8, &["x-1", "0", "0"]),
            (8, &["x-1", "0", "0"]),
        ])
    );
}

#[test]
fn newtons_method_is_as_cmgdb_finds_it() {
    // z³ = 1: three roots, and the boundary of their basins, which CMGDB prints as `x-1x-1`
    let map = |z: &[f64], image: &mut [f64]| {
        let (re, im) = (z[0] * z[0] - z[1] * z[1], 2.0 * z[0] * z[1]);
        let square = re * re + im * im;
        image[0] = (2.0 * z[0] + re / square) / 3.0;
        image[1] = (2.0 * z[1] - im / square) / 3.0;
    };
    assert_eq!(
        found((&[-5.0; 2], &[5.1, 5.05]), 12, Widening::None, map),
        expected(&[
            (1, &["x-1", "0", "0"]),
            (1, &["x-1", "0", "0"]),
            (3, &["0", "0", "0"]),
            (4, &["0", "0", "0"]),
            (4, &["x-1", "0", "0"]),
            (2057, &["0", "x-1x-1", "0"]),
        ])
    );
}

#[test]
fn sets_at_the_end_of_the_domain_are_as_cmgdb_finds_them() {
    // the image of the cell below that of the fixed point 0 lies outside
    let repelling = |x: &[f64], image: &mut [f64]| image[0] = 3.5 * x[0] * (1.0 - x[0]);
    let sets = found((&[-0.05], &[1.06]), 6, Widening::None, repelling);
    assert!(sets.contains(&(1, vec!["0".to_owned(), "x-1".to_owned()])), "{sets:?}");
    // all orbits leave in the end
    let leaving = |x: &[f64], image: &mut [f64]| image[0] = 4.1 * x[0] * (1.0 - x[0]);
    let sets = found((&[-0.05], &[1.06]), 6, Widening::None, leaving);
    assert!(sets.contains(&(49, vec!["0".to_owned(), "0".to_owned()])), "{sets:?}");
}

/// A linear map of each axis on [−1, 1], seen through eight cells each; directions that expand leave the space.
fn diagonal(factors: &[f64]) -> Seen<impl Fn(&[f64]) -> Vec<f64> + Sync> {
    let (ones, factors) = (vec![1.0; factors.len()], factors.to_vec());
    let lower: Vec<f64> = ones.iter().map(|one: &f64| -one).collect();
    let bits = vec![3; factors.len()];
    let map = move |x: &[f64]| x.iter().zip(&factors).map(|(x, factor)| x * factor).collect();
    Seen::new(&bits, &vec![false; ones.len()], (&lower, &ones), 0.0, map)
}

#[test]
fn a_hyperbolic_fixed_point_has_one_factor_in_the_degree_of_its_unstable_directions() {
    for dimension in 1..=4usize {
        for kinds in 0..3usize.pow(dimension as u32) {
            let factors: Vec<f64> =
                (0..dimension as u32).map(|axis| [0.4, 3.0, -3.0][kinds / 3usize.pow(axis) % 3]).collect();
            let unstable = factors.iter().filter(|factor| factor.abs() > 1.0).count();
            for prime in [2, 3, 5, 7] {
                let reverses = factors.iter().filter(|&&factor| factor < 0.0).count() % 2 == 1;
                let factor = if reverses || prime == 2 { "x+1" } else { "x-1" };
                let mut expected = vec!["0".to_owned(); dimension + 1];
                expected[unstable] = factor.to_owned();
                let seen = diagonal(&factors);
                let sets = seen.indices(prime);
                let nontrivial: Vec<_> = sets.iter().filter(|(_, index)| !index.is_trivial()).collect();
                assert_eq!(nontrivial.len(), 1, "{factors:?}");
                assert_eq!(nontrivial[0].1.strings(), expected, "{factors:?} over Z_{prime}");
                assert_eq!(nontrivial[0].1.reading(), Reading::FixedPoint { unstable });
            }
        }
    }
}

#[test]
fn circles_have_factors_in_two_degrees() {
    let around = |turn: f64, factor: f64| {
        move |x: &[f64]| vec![x[0] * if turn < 0.0 { -1.0 } else { 1.0 } + turn, x[1] * factor]
    };
    let circle = |turn, factor| {
        Seen::new(&[4, 4], &[true, false], (&[0.0, -1.0], &[1.0, 1.0]), 0.0, around(turn, factor)).strings(5)
    };
    assert_eq!(circle(0.3, 0.4), ["(x-1, x-1, 0)"], "attracting");
    assert_eq!(circle(0.3, 2.0), ["(0, x-1, x-1)"], "repelling");
    assert_eq!(circle(0.3, -2.0), ["(0, x+1, x+1)"], "repelling, turned over");
    // run backwards; two of the points of the circle are fixed, but the rotation's cells know nothing of that
    assert_eq!(circle(-0.3, 0.4), ["(x-1, x+1, 0)"]);
    let torus =
        Seen::new(&[3, 3], &[true, true], (&[0.0; 2], &[1.0; 2]), 0.0, |x| vec![x[0] + 0.3, x[1] + 0.1]);
    assert_eq!(torus.strings(5), ["(x-1, x-1 ⊕ x-1, x-1)"]);
    let cat = Seen::new(&[4, 4], &[true, true], (&[0.0; 2], &[1.0; 2]), 0.0, |x| {
        vec![2.0 * x[0] + x[1], x[0] + x[1]]
    });
    assert_eq!(cat.strings(7), ["(x-1, x^2-3x+1, x-1)"], "the characteristic polynomial of the matrix");
}

#[test]
fn the_doubling_map_has_degree_two() {
    let seen = Seen::new(&[6], &[true], (&[0.0], &[1.0]), 0.0, |x| vec![2.0 * x[0]]);
    assert_eq!(seen.strings(5), ["(x-1, x-2)"]);
    assert_eq!(seen.strings(2), ["(x+1, 0)"], "2 is 0 modulo 2");
}

#[test]
fn regions_visited_in_turn_have_a_cyclic_index() {
    for period in 2..7u64 {
        // cells 0, 8, 16, … each sent into the next; contraction, so that nothing else recurs
        let space = CubicalSpace::new(&[6], &[false]).unwrap();
        let set: Vec<u64> = (0..period).map(|region| 8 * region).collect();
        let image = |cell: u64| {
            let next = (cell / 8 + 1) % period * 8;
            Image::cells(next, next)
        };
        let index =
            conley_index(&space, &set, image, PrimeField::new(5).unwrap(), &Control::default()).unwrap();
        assert_eq!(index.strings(), [format!("x^{period}-1"), "0".to_owned()]);
        assert_eq!(index.reading(), Reading::Cycle { regions: period as usize, unstable: 0 });
    }
}

#[test]
fn a_slow_passage_is_trivial() {
    // every cell meets its own image, and nothing stays
    let seen = Seen::new(&[5], &[false], (&[0.0], &[1.0]), 0.0, |x| vec![x[0] + 0.01]);
    let sets = seen.indices(5);
    assert!(sets.len() > 1);
    for (set, index) in sets {
        assert!(index.is_trivial() || set.contains(&31), "{set:?}: {index}");
    }
}

#[test]
fn maps_of_products_have_the_product_of_the_indices() {
    // the logistic map's cycle of three regions beside a saddle
    let logistic = |x: f64| 3.83 * x * (1.0 - x);
    let alone = Seen::new(&[10], &[false], (&[0.0], &[1.0]), 0.0, move |x| vec![logistic(x[0])]);
    let cycle = alone.indices(5).into_iter().find(|(_, index)| index.strings() == ["x^3-1", "0"]).unwrap();
    let both = Seen::new(&[10, 3], &[false, false], (&[0.0, -1.0], &[1.0, 1.0]), 0.0, move |x| {
        vec![logistic(x[0]), -3.0 * x[1]]
    });
    let saddle: Vec<u64> = diagonal(&[-3.0]).indices(5).into_iter().next().unwrap().0;
    let product: Vec<u64> = cycle.0.iter().flat_map(|x| saddle.iter().map(move |y| x << 3 | y)).collect();
    assert_eq!(both.index(&product, 5).strings(), ["0", "x^3+1", "0"]);
}

#[test]
fn what_escapes_has_no_index() {
    let undefined = |reason| ConleyIndex::Undefined { reason };
    let space = CubicalSpace::new(&[3], &[false]).unwrap();
    let field = PrimeField::new(5).unwrap();
    let index = |image: &(dyn Fn(u64) -> Image + Sync)| {
        conley_index(&space, &[3], image, field, &Control::default()).unwrap()
    };
    assert_eq!(index(&|_| Image::cells(3, 4).exiting()), undefined(Undefined::Escapes));
    assert_eq!(index(&|_| Image::UNKNOWN), undefined(Undefined::Escapes));
    // the cell beside the set is in its image, and unknown
    let beside = |cell| if cell == 3 { Image::cells(2, 4) } else { Image::UNKNOWN };
    assert_eq!(index(&beside), undefined(Undefined::Escapes));
    // the same if that cell's image is known to leave the space: it does not come back
    let leaving = |cell| match cell {
        3 => Image::cells(2, 4),
        2 => Image::cells(0, 2).exiting(),
        _ => Image::cells(4, 7).exiting(),
    };
    assert_eq!(index(&leaving).strings(), ["0", "x-1"]);
    assert_eq!(Image::EMPTY.exiting().escape, Some(Escape::Exit));
}

#[test]
fn images_that_do_not_meet_tell_nothing() {
    // two neighbouring cells sent far apart: no continuous map does that
    let space = CubicalSpace::new(&[4], &[true]).unwrap();
    let torn = |cell: u64| if cell < 8 { Image::cells(cell, cell) } else { Image::cells(cell ^ 4, cell ^ 4) };
    let all: Vec<u64> = (0..16).collect();
    let index = conley_index(&space, &all, torn, PrimeField::new(5).unwrap(), &Control::default()).unwrap();
    assert_eq!(index, ConleyIndex::Undefined { reason: Undefined::FibreNotAcyclic });
}

#[test]
fn the_computation_stops_when_told() {
    let cancel = Cancel::new();
    cancel.raise();
    let space = CubicalSpace::new(&[4], &[true]).unwrap();
    let field = PrimeField::new(5).unwrap();
    let stopped = conley_index(&space, &[1], |_| Image::cells(1, 1), field, &Control::new(cancel));
    assert_eq!(stopped, Err(EngineError::Cancelled));
}

#[test]
fn cells_far_apart_on_a_fine_grid_take_no_memory() {
    // two regions that change places, 2^30 cells apart along each axis
    let space = CubicalSpace::new(&[30, 30], &[false, false]).unwrap();
    let end = (1 << 30) - 1;
    let (here, there) = (space.key(&[0, 0]), space.key(&[end, end]));
    let swap = |cell| if cell == here { Image::cells(there, there) } else { Image::cells(here, here) };
    let field = PrimeField::new(5).unwrap();
    let index = conley_index(&space, &[here, there], swap, field, &Control::default()).unwrap();
    assert_eq!(index.strings(), ["x^2-1", "0", "0"]);
}

#[test]
fn indices_are_plain_data() {
    let (_, index) = diagonal(&[-3.0]).indices(5).swap_remove(0);
    let json = serde_json::to_string(&index).unwrap();
    assert_eq!(json, r#"{"defined":{"prime":5,"degrees":[[],[{"coefficients":[1,1]}]]}}"#);
    assert_eq!(serde_json::from_str::<ConleyIndex>(&json).unwrap(), index);
}
