//! Morse graphs of known maps, compared with those that CMGDB finds: same edges, same cells, same order.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use doodl3::engine::dynamics::{
    AdaptiveMap, BoxMap, Classes, CornerRule, Digraph, Existence, MorseDecomposition, OrderRetraction,
    PointMap, Refinement, Widening, reachable_sets,
};
use doodl3::engine::grid::{Level, Rect, UniformGrid};
use doodl3::engine::homology::adaptive_conley_indices;
use doodl3::engine::surrogate::DataMap;
use doodl3::engine::{Control, Fate, Mode, Points, Role};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

struct Case {
    expected: Value,
    domain: Rect,
}

/// A map on the cells of any grid.
trait CellMap: Digraph {
    fn edges(&self) -> u64;

    /// Depth and coordinates of a cell.
    fn identity(&self, cell: u32) -> Vec<u32>;
}

fn place(level: &Level, key: u64) -> Vec<u32> {
    let coordinates = (0..level.dimension()).map(|axis| level.coordinate(key, axis));
    std::iter::once(level.depth()).chain(coordinates).collect()
}

impl CellMap for BoxMap {
    fn edges(&self) -> u64 {
        self.edges()
    }

    fn identity(&self, cell: u32) -> Vec<u32> {
        place(self.grid().level(), cell.into())
    }
}

impl CellMap for AdaptiveMap {
    fn edges(&self) -> u64 {
        self.edges()
    }

    fn identity(&self, cell: u32) -> Vec<u32> {
        let (level, key) = self.grid().cell(cell);
        place(level, key)
    }
}

impl Case {
    fn load(name: &str) -> Self {
        let path = format!("{}/tests/fixtures/groundtruth/{name}.json", env!("CARGO_MANIFEST_DIR"));
        let expected: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
        let corner = |key: &str| -> Vec<f64> { serde_json::from_value(expected[key].clone()).unwrap() };
        let domain = Rect::new(&corner("lower"), &corner("upper"));
        Self { expected, domain }
    }

    fn subdivisions(&self, which: &str) -> u32 {
        self.expected["subdiv"][which].as_u64().unwrap() as u32
    }

    fn grid(&self) -> UniformGrid {
        UniformGrid::new(self.domain, self.subdivisions("max")).unwrap()
    }

    fn widening(&self) -> Widening {
        if self.expected["box_map"]["padding"] == true { Widening::CellWidth } else { Widening::None }
    }

    fn corners(&self, map: impl Fn(&[f64], &mut [f64]) + Sync) -> BoxMap {
        let map = PointMap::new(map);
        BoxMap::from_corners(&self.grid(), &map, self.widening(), Mode::Compatible, &Control::default())
            .unwrap()
    }

    /// On the grid refined as CMGDB does, with the Conley indices it finds.
    fn assert_refined_agrees(&self, map: impl Fn(&[f64], &mut [f64]) + Sync) {
        let [init, min, max] = ["init", "min", "max"].map(|which| self.subdivisions(which));
        let limit = self.expected["subdiv"]["limit"].as_u64().unwrap() as usize;
        let periodic: Vec<bool> = serde_json::from_value(self.expected["periodic"].clone()).unwrap();
        let map = PointMap::new(map);
        let rule = CornerRule { map: &map, widening: self.widening(), mode: Mode::Compatible };
        let refinement = Refinement { init, min, max, limit };
        let control = Control::default();
        let map = AdaptiveMap::refine(self.domain, &periodic, refinement, &rule, &control).unwrap();
        self.assert_agrees(&map);

        let morse = MorseDecomposition::of(&map, &control).unwrap();
        let indices = adaptive_conley_indices(&map, &rule, &morse, 5, &control).unwrap();
        let mut found: Vec<(usize, Vec<String>)> =
            morse.sets().iter().zip(&indices).map(|(set, index)| (set.size, index.unseparated())).collect();
        let theirs = self.expected["morse_sets"].as_array().unwrap();
        let mut expected: Vec<(usize, Vec<String>)> = theirs
            .iter()
            .map(|set| {
                let strings = serde_json::from_value(set["conley"].clone()).unwrap();
                (set["cells"].as_u64().unwrap() as usize, strings)
            })
            .collect();
        found.sort();
        expected.sort();
        assert_eq!(found, expected, "Conley indices");
    }

    fn assert_agrees(&self, map: &impl CellMap) {
        let control = Control::default();
        let morse = MorseDecomposition::of(map, &control).unwrap();
        let expected = &self.expected;
        assert_eq!(u64::from(map.vertices()), expected["grid_cells"].as_u64().unwrap(), "cells");
        assert_eq!(map.edges(), expected["grid_edges"].as_u64().unwrap(), "edges");
        assert_eq!(u64::from(morse.components().count()), expected["num_sccs_final_graph"].as_u64().unwrap());

        // CMGDB numbers cells otherwise, and so its Morse sets: match them by their cells.
        let theirs = expected["morse_sets"].as_array().unwrap();
        let hashes: Vec<String> = morse
            .sets()
            .iter()
            .map(|set| format!("{:x}", Sha256::digest(identity(map, set.iter()))))
            .collect();
        let mut sorted: Vec<&String> = hashes.iter().collect();
        sorted.sort();
        let mut expected_hashes: Vec<&str> =
            theirs.iter().map(|set| set["sha256"].as_str().unwrap()).collect();
        expected_hashes.sort_unstable();
        assert_eq!(sorted, expected_hashes, "cells of the Morse sets");
        let ours_of: Vec<usize> = theirs
            .iter()
            .map(|set| hashes.iter().position(|hash| set["sha256"] == **hash).unwrap())
            .collect();
        // CMGDB overlooks attractors from which it inherits an edge that is not there
        let true_edges: Vec<(usize, usize)> =
            serde_json::from_value(expected["true_edges_reduced"].clone()).unwrap();
        for (number, (set, &ours)) in theirs.iter().zip(&ours_of).enumerate() {
            let role = morse.sets()[ours].role;
            assert_eq!(true_edges.iter().all(|edge| edge.0 != number), role == Role::Attractor);
            assert_eq!(set["cells"].as_u64().unwrap(), morse.sets()[ours].size as u64);
        }

        let mut edges: Vec<(usize, usize)> =
            true_edges.into_iter().map(|(from, to)| (ours_of[from], ours_of[to])).collect();
        edges.sort_unstable();
        assert_eq!(morse.edges(), edges, "Hasse diagram");

        let targets: Vec<u32> = ours_of.iter().map(|&ours| morse.sets()[ours].component).collect();
        let masks = reachable_sets(map, morse.components(), &targets, &control).unwrap();
        let mut counts = BTreeMap::<String, u64>::new();
        for mask in masks {
            *counts.entry(format!("{mask:b}")).or_default() += 1;
        }
        let count_of =
            |key: &str| serde_json::from_value::<BTreeMap<String, u64>>(expected[key].clone()).unwrap();
        assert_eq!(counts, count_of("true_reach_masks"));
        let only = |set: usize| counts.get(&format!("{:b}", 1u64 << set)).copied().unwrap_or(0);
        if expected["spurious_edges_of_cmgdb"].as_array().unwrap().is_empty() {
            for (set, count) in count_of("singleton_basins") {
                set.parse()
                    .into_iter()
                    .for_each(|set: usize| assert_eq!(only(set), count, "singleton basin"));
            }
        }

        for (theirs, &ours) in
            ours_of.iter().enumerate().filter(|(_, ours)| morse.sets()[**ours].role == Role::Attractor)
        {
            let (certain, singleton) = morse.fates().basin_sizes(ours);
            assert_eq!(only(theirs), singleton as u64);
            let cells =
                (0..map.vertices()).filter(|&cell| morse.fates().of_vertex(cell) == Fate::Certain(ours));
            assert_eq!(cells.count(), certain);
            assert!(certain >= singleton);
        }

        let retraction = OrderRetraction::of(map, &morse, &control).unwrap();
        let expected = &expected["order_retraction"];
        assert_eq!(retraction.existence(), Existence::Found);
        assert_eq!(retraction.uncoloured() as u64, expected["unassigned"].as_u64().unwrap());
        let count = |class: &str| expected["classes"][class].as_u64().unwrap() as usize;
        let classes = Classes {
            recurrent: count("RC"),
            successor: count("succ"),
            predecessor: count("pred"),
            parallel: count("parallel"),
            empty: count("empty"),
        };
        assert_eq!(retraction.classes(), classes);
    }
}

/// One `depth,i_0,…` a line, sorted as numbers are.
fn identity(map: &impl CellMap, cells: impl Iterator<Item = u32>) -> String {
    let mut identity = String::new();
    for cell in cells {
        identity.push('\n');
        for (i, number) in map.identity(cell).iter().enumerate() {
            write!(identity, "{}{number}", if i > 0 { "," } else { "" }).unwrap();
        }
    }
    identity.split_off(1)
}

#[test]
fn leslie() {
    let case = Case::load("leslie2d_u14_pad");
    case.assert_agrees(&case.corners(leslie_map));
}

/// The counts that the program `CMGDB_RETRACT` prints for the example in CMGDB's notebooks: not padded, so that some
/// paths end nowhere and are glued to a Morse set above them or to any.
#[test]
fn order_retraction_of_leslie() {
    let grid = UniformGrid::new(Rect::new(&[-0.001, -0.001], &[90.0, 70.0]), 18).unwrap();
    let control = Control::default();
    let map =
        BoxMap::from_corners(&grid, &PointMap::new(leslie_map), Widening::None, Mode::Compatible, &control)
            .unwrap();
    let morse = MorseDecomposition::of(&map, &control).unwrap();
    let mut sizes: Vec<usize> = morse.sets().iter().map(|set| set.size).collect();
    sizes.sort_unstable();
    assert_eq!(sizes, [1, 3, 4, 13, 73, 225, 15407]);
    let retraction = OrderRetraction::of(&map, &morse, &control).unwrap();
    assert_eq!(retraction.existence(), Existence::Found);
    let counts = Classes { recurrent: 7, successor: 243_396, predecessor: 2, parallel: 3020, empty: 0 };
    assert_eq!(retraction.classes(), counts);
    let mut tiles = retraction.tile_sizes();
    tiles.sort_unstable();
    assert_eq!(tiles, [674, 3023, 24_386, 38_472, 38_582, 78_021, 78_986]);
}

fn leslie_map(x: &[f64], image: &mut [f64]) {
    image[0] = (19.6 * x[0] + 23.68 * x[1]) * (-0.1 * (x[0] + x[1])).exp();
    image[1] = 0.7 * x[0];
}

#[test]
fn logistic_map_in_its_window_of_period_three() {
    let case = Case::load("logistic_r3.83_u14_nopad");
    case.assert_agrees(&case.corners(|x, image| image[0] = 3.83 * x[0] * (1.0 - x[0])));
}

#[test]
fn double_well() {
    let case = Case::load("doublewell_flow_u14");
    case.assert_agrees(&case.corners(double_well_flow));
}

/// The time-one map of the gradient flow, by twenty steps of Runge and Kutta.
pub(super) fn double_well_flow(start: &[f64], image: &mut [f64]) {
    let velocity = |[x, y]: [f64; 2]| [-(x * x * x - x) + 0.3 * (y - 0.3 * x), -(y - 0.3 * x)];
    flow(velocity, 1.0, 20, start, image);
}

/// Where a flow in the plane has got to at a time, by steps of Runge and Kutta.
pub(super) fn flow(
    velocity: impl Fn([f64; 2]) -> [f64; 2],
    time: f64,
    steps: u32,
    start: &[f64],
    image: &mut [f64],
) {
    let step = time / f64::from(steps);
    let mut at = [start[0], start[1]];
    for _ in 0..steps {
        let along = |v: [f64; 2], t: f64| [at[0] + t * v[0], at[1] + t * v[1]];
        let a = velocity(at);
        let b = velocity(along(a, step / 2.0));
        let c = velocity(along(b, step / 2.0));
        let d = velocity(along(c, step));
        at = [0, 1].map(|j| at[j] + step / 6.0 * (a[j] + 2.0 * b[j] + 2.0 * c[j] + d[j]));
    }
    image.copy_from_slice(&at);
}

/// A map known at a hundred points, as CMGDB's `BoxMapData` has it by default.
#[test]
fn leslie_from_data() {
    let case = Case::load("leslie100_data_u10");
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/groundtruth/Leslie_100.dat");
    let (mut from, mut to) = (Points::new(2), Points::new(2));
    for line in std::fs::read_to_string(path).unwrap().lines() {
        let pair: Vec<f64> = line.split_whitespace().map(|number| number.parse().unwrap()).collect();
        from.push(&pair[..2]);
        to.push(&pair[2..]);
    }
    let map = DataMap::new(&from, &to).unwrap();
    case.assert_agrees(&map.on(&case.grid(), Mode::Compatible, &Control::default()).unwrap());
}

/// Here CMGDB connects the attractor of 64,417 cells with that of 1,261, as its coarse grids did; on the final grid the
/// system is bistable.
#[test]
fn leslie_refined() {
    let case = Case::load("leslie2d_a20_30_pad");
    case.assert_refined_agrees(leslie_map);
}

#[test]
fn leslie_in_three_dimensions_refined() {
    let case = Case::load("leslie3d_a15_18");
    case.assert_refined_agrees(leslie3_map);
}

/// Hulls of corners do not shrink with their cells here, and on the final grid coarse cells lie on cycles through recurrent
/// ones. They are no members of the Morse set, as for CMGDB; but the two sets that it tells apart, of one cell and of
/// 6,740, reach each other over them, so that they are one. Images of the cells that it is left by lead back into it, so
/// there is no index pair; CMGDB does not look, and prints (0, x+1, 0, 0).
#[test]
fn leslie_in_three_dimensions_without_padding() {
    let map = PointMap::new(leslie3_map);
    let rule = CornerRule { map: &map, widening: Widening::None, mode: Mode::Compatible };
    let domain = Rect::new(&[-0.001; 3], &[90.0, 65.0, 45.0]);
    let refinement = Refinement { init: 0, min: 18, max: 21, limit: 10_000 };
    let control = Control::default();
    let map = AdaptiveMap::refine(domain, &[false; 3], refinement, &rule, &control).unwrap();
    let morse = MorseDecomposition::of(&map, &control).unwrap();
    let indices = adaptive_conley_indices(&map, &rule, &morse, 5, &control).unwrap();
    let found: Vec<(usize, String)> =
        morse.sets().iter().zip(&indices).map(|(set, index)| (set.size, index.to_string())).collect();
    assert_eq!(found, [(6741, "undefined".to_owned())]);
}

fn leslie3_map(x: &[f64], image: &mut [f64]) {
    image[0] = (19.6 * x[0] + 23.68 * x[1] + 19.6 * x[2]) * (-0.1 * (x[0] + x[1] + x[2])).exp();
    image[1] = 0.7 * x[0];
    image[2] = 0.7 * x[1];
}

/// Fixed points lie on grid lines, and images end there.
#[test]
fn product_refined() {
    let case = Case::load("product_a6_10_init4");
    case.assert_refined_agrees(|x, image| {
        for (image, x) in image.iter_mut().zip(x) {
            *image = x / (2.0 - x);
        }
    });
}

/// A cylinder: attracting around it, and a circle map with two fixed points along it. Of CMGDB's thirteen connections
/// four are not there.
#[test]
fn cylinder_refined() {
    let case = Case::load("periodic_ex3_a10_15");
    case.assert_refined_agrees(|x, image| {
        image[0] = (x[0] - 1.0).powi(3) + 1.0;
        image[1] = (x[1] - 1.0).cbrt() + 1.0;
    });
}
