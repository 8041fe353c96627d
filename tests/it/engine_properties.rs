//! What must hold for every map: covers, order, basins.

use doodl3::engine::dynamics::{
    BoxMap, Digraph, Existence, ExplicitGraph, MorseDecomposition, OrderRetraction, PointMap, Tile, Widening,
    reachable_sets,
};
use doodl3::engine::grid::{Rect, UniformGrid};
use doodl3::engine::{Control, Fate, Mode, Role};
use proptest::prelude::*;

fn successors(graph: &impl Digraph, vertex: u32) -> Vec<u32> {
    let mut all = Vec::new();
    let mut run = graph.successors(vertex, 0);
    while !run.is_empty() {
        all.extend(run.clone());
        run = graph.successors(vertex, run.end);
    }
    all
}

/// Vertices that can be reached from one, itself among them only if it lies on a cycle.
fn reached(graph: &impl Digraph, from: u32) -> Vec<bool> {
    let mut reached = vec![false; graph.vertices() as usize];
    let mut stack = successors(graph, from);
    while let Some(vertex) = stack.pop() {
        if !std::mem::replace(&mut reached[vertex as usize], true) {
            stack.extend(successors(graph, vertex));
        }
    }
    reached
}

fn unit_grid(dimension: usize, subdivisions: u32) -> UniformGrid {
    UniformGrid::new(Rect::new(&vec![0.0; dimension], &vec![1.0; dimension]), subdivisions).unwrap()
}

/// A map that sends cells to random boxes, some of them partly or wholly outside, some unknown; with every third seed on
/// a torus.
fn random_box_map(dimension: usize, subdivisions: u32, seed: u64, mode: Mode) -> BoxMap {
    let grid =
        unit_grid(dimension, subdivisions).with_periodic_axes(&vec![seed.is_multiple_of(3); dimension]);
    let enclose = |rect: &Rect| {
        let mut state = rect
            .lower()
            .iter()
            .fold(seed, |state, x| (state ^ x.to_bits()).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let mut uniform = || {
            state = (state ^ (state >> 29))
                .wrapping_mul(0xbf58_476d_1ce4_e5b9)
                .wrapping_add(0x1234_5678_9abc_def1);
            (state >> 11) as f64 / (1u64 << 53) as f64
        };
        if uniform() < 0.05 {
            return None;
        }
        let lower: Vec<f64> = (0..dimension).map(|_| 1.2 * uniform() - 0.15).collect();
        let upper: Vec<f64> = lower.iter().map(|low| low + 0.15 * uniform()).collect();
        Some(Rect::new(&lower, &upper))
    };
    BoxMap::from_rects(&grid, enclose, mode, &Control::default()).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn the_image_of_a_cell_is_the_box_of_cells_that_meet_it(
        dimension in 1usize..5, subdivisions in 1u32..9, ends in prop::collection::vec((-0.3f64..1.3, 0.0f64..0.6), 4)
    ) {
        let grid = unit_grid(dimension, subdivisions);
        let lower: Vec<f64> = ends[..dimension].iter().map(|end| end.0).collect();
        let upper: Vec<f64> = ends[..dimension].iter().map(|end| end.0 + end.1).collect();
        let image = Rect::new(&lower, &upper);
        let map = BoxMap::from_rects(&grid, |_| Some(image), Mode::Full, &Control::default()).unwrap();
        let expected: Vec<u32> = (0..grid.cells())
            .filter(|&cell| {
                let rect = grid.rect(cell);
                (0..dimension).all(|axis| rect.lower()[axis] <= upper[axis] && lower[axis] <= rect.upper()[axis])
            })
            .collect();
        prop_assert_eq!(&successors(&map, 0), &expected);
        prop_assert_eq!(map.edges(), expected.len() as u64 * u64::from(grid.cells()));
        let is_inside = lower.iter().all(|&x| x >= 0.0) && upper.iter().all(|&x| x <= 1.0);
        prop_assert_eq!(map.escapes(0), !is_inside);
        for cell in 0..grid.cells() {
            prop_assert_eq!(map.has_edge(0, cell), expected.contains(&cell));
        }
    }

    #[test]
    fn images_cover_the_map_where_it_is_monotone(
        slopes in prop::collection::vec(-1.0f64..1.0, 4), bend in 0.3f64..3.0, at in prop::collection::vec(0.0f64..1.0, 20)
    ) {
        // monotone in each coordinate, so that corners enclose the image of a cell; padding only adds to it
        let map = |x: &[f64], image: &mut [f64]| {
            image[0] = 0.5 + slopes[0] * (x[0].powf(bend) - 0.5) + slopes[1] * (x[1] - 0.5);
            image[1] = 0.5 + slopes[2] * (x[0] - 0.5) + slopes[3] * (x[1].powf(bend) - 0.5);
        };
        let grid = unit_grid(2, 9);
        for widening in [Widening::None, Widening::CellWidth] {
            let boxes = BoxMap::from_corners(&grid, &PointMap::new(map), widening, Mode::Full, &Control::default()).unwrap();
            for point in at.chunks_exact(2) {
                let mut image = [0.0; 2];
                map(point, &mut image);
                let cell = grid.cell_at(point).unwrap();
                match grid.cell_at(&image) {
                    Some(target) => prop_assert!(boxes.has_edge(cell, target)),
                    None => prop_assert!(boxes.exits(cell)),
                }
            }
        }
    }

    #[test]
    fn the_hasse_diagram_generates_reachability(dimension in 1usize..4, subdivisions in 4u32..10, seed: u64) {
        let map = random_box_map(dimension, subdivisions, seed, Mode::Compatible);
        let morse = MorseDecomposition::of(&map, &Control::default()).unwrap();
        let sets = morse.sets();
        let hasse: Vec<(u32, u32)> = morse.edges().iter().map(|&(from, to)| (from as u32, to as u32)).collect();
        let closure = |edges: &[(u32, u32)]| {
            let graph = ExplicitGraph::new(sets.len() as u32, edges);
            (0..sets.len() as u32).map(|from| reached(&graph, from)).collect::<Vec<_>>()
        };
        let closed = closure(&hasse);
        for (from, set) in sets.iter().enumerate() {
            let truly = reached(&map, set.first());
            prop_assert!(truly[set.first() as usize], "a Morse set is recurrent");
            for (to, other) in sets.iter().enumerate() {
                prop_assert_eq!(morse.reaches(from, to), truly[other.first() as usize]);
                if from != to {
                    prop_assert_eq!(closed[from][to], truly[other.first() as usize]);
                }
            }
        }
        for left_out in 0..hasse.len() {
            let mut fewer = hasse.clone();
            fewer.remove(left_out);
            prop_assert_ne!(&closure(&fewer), &closed, "every edge is needed");
        }
    }

    #[test]
    fn a_composed_map_holds_all_paths(dimension in 1usize..4, subdivisions in 4u32..9, seed: u64, times in 1u32..6) {
        let map = random_box_map(dimension, subdivisions, seed, Mode::Full);
        let grid = map.grid();
        let composed = map.composed(times, &Control::default()).unwrap();
        for cell in 0..map.vertices() {
            let (mut ends, mut escapes) = (vec![cell], false);
            for _ in 0..times {
                escapes |= ends.iter().any(|&end| map.escapes(end));
                ends = ends.iter().flat_map(|&end| successors(&map, end)).collect();
                ends.sort_unstable();
                ends.dedup();
            }
            prop_assert!(ends.iter().all(|&end| composed.has_edge(cell, end)));
            prop_assert!(composed.escapes(cell) || !escapes);
            if times == 2 && !map.is_unknown(cell) && !grid.is_periodic(0) {
                let corner = |most: bool| -> Option<Vec<u32>> {
                    (0..dimension).map(|axis| {
                        let along = ends.iter().map(|&end| grid.coordinate(end, axis));
                        if most { along.max() } else { along.min() }
                    }).collect()
                };
                let hull = corner(false).zip(corner(true)).map(|(first, last)| (grid.cell(&first), grid.cell(&last)));
                prop_assert_eq!(composed.image(cell), hull);
                prop_assert_eq!(composed.exits(cell), escapes);
            }
        }
    }

    #[test]
    fn connecting_cells_lie_on_paths(dimension in 1usize..4, subdivisions in 4u32..9, seed: u64) {
        let map = random_box_map(dimension, subdivisions, seed, Mode::Full);
        let control = Control::default();
        let morse = MorseDecomposition::of(&map, &control).unwrap();
        let all: Vec<Vec<bool>> = (0..map.vertices()).map(|from| reached(&map, from)).collect();
        for from in 0..morse.sets().len() {
            for to in 0..morse.sets().len() {
                let (start, end) = (morse.sets()[from].first() as usize, morse.sets()[to].first() as usize);
                let expected: Vec<u32> = (0..map.vertices()).filter(|&cell| all[start][cell as usize] && all[cell as usize][end]).collect();
                prop_assert_eq!(morse.connecting_cells(&map, &[from], &[to], &control).unwrap(), expected);
            }
        }
    }

    #[test]
    fn a_reduced_morse_graph_keeps_reachability(
        dimension in 1usize..4, subdivisions in 4u32..10, seed: u64, trivial in prop::collection::vec(any::<bool>(), 64)
    ) {
        let map = random_box_map(dimension, subdivisions, seed, Mode::Compatible);
        let morse = MorseDecomposition::of(&map, &Control::default()).unwrap();
        let reduced = morse.reduced(|set| trivial[set % 64]);
        let expected: Vec<usize> = (0..morse.sets().len()).filter(|set| !trivial[set % 64]).collect();
        prop_assert_eq!(&reduced.sets, &expected);
        let edges: Vec<(u32, u32)> = reduced.edges.iter().map(|&(from, to)| (from as u32, to as u32)).collect();
        let closed = |edges: &[(u32, u32)]| {
            let graph = ExplicitGraph::new(morse.sets().len() as u32, edges);
            expected.iter().map(|&from| reached(&graph, from as u32)).collect::<Vec<_>>()
        };
        for (row, &from) in closed(&edges).iter().zip(&expected) {
            for &to in expected.iter().filter(|&&to| to != from) {
                prop_assert_eq!(row[to], morse.reaches(from, to));
            }
        }
        for left_out in 0..edges.len() {
            let mut fewer = edges.clone();
            fewer.remove(left_out);
            prop_assert_ne!(closed(&fewer), closed(&edges), "every edge is needed");
        }
        prop_assert_eq!(morse.reduced(|_| false).edges, morse.edges());
    }

    #[test]
    fn basins_and_roles_are_what_their_definitions_say(
        dimension in 1usize..4, subdivisions in 4u32..10, seed: u64, full: bool
    ) {
        let mode = if full { Mode::Full } else { Mode::Compatible };
        let map = random_box_map(dimension, subdivisions, seed, mode);
        let control = Control::default();
        let morse = MorseDecomposition::of(&map, &control).unwrap();
        let sets = morse.sets();
        let targets: Vec<u32> = sets.iter().map(|set| set.component).collect();
        let masks = (sets.len() <= 64).then(|| reachable_sets(&map, morse.components(), &targets, &control).unwrap());

        for (number, set) in sets.iter().enumerate() {
            let leaves = set.iter().any(|cell| map.escapes(cell) || successors(&map, cell).iter().any(|&to| !set.contains(to)));
            let is_minimal = (0..sets.len()).all(|other| other == number || !morse.reaches(number, other));
            let is_entered = (0..map.vertices()).any(|cell| !set.contains(cell) && successors(&map, cell).iter().any(|&to| set.contains(to)));
            match set.role {
                Role::Attractor => prop_assert!(is_minimal && (mode == Mode::Compatible || !leaves), "forward closed"),
                Role::Open => prop_assert!(is_minimal && leaves && mode == Mode::Full),
                Role::Repeller => prop_assert!(!is_minimal && !is_entered),
                Role::Intermediate => prop_assert!(!is_minimal && is_entered),
            }
        }

        let mut sizes = vec![(0, 0); sets.len()];
        for cell in 0..map.vertices() {
            let mut reachable = reached(&map, cell);
            if map.escapes(cell) {
                prop_assert_eq!(morse.fates().of_vertex(cell), Fate::Escapes);
            }
            reachable[cell as usize] = true;
            let met: Vec<usize> = (0..sets.len()).filter(|&set| reachable[sets[set].first() as usize]).collect();
            if let Some(masks) = &masks {
                let bits: Vec<usize> = (0..sets.len()).filter(|&set| masks[cell as usize] >> set & 1 == 1).collect();
                prop_assert_eq!(&bits, &met);
            }
            let escapes = (0..map.vertices()).any(|other| reachable[other as usize] && map.escapes(other));
            let bottoms: Vec<usize> = met.iter().copied().filter(|&set| met.iter().all(|&other| other == set || !morse.reaches(set, other))).collect();
            let expected = match bottoms[..] {
                _ if escapes => Fate::Escapes,
                [] => Fate::Escapes,
                [attractor] => Fate::Certain(attractor),
                _ => Fate::Undecided,
            };
            prop_assert_eq!(morse.fates().of_vertex(cell), expected);
            if let Fate::Certain(attractor) = expected {
                sizes[attractor].0 += 1;
                sizes[attractor].1 += usize::from(met.len() == 1);
            }
        }
        for (number, set) in sets.iter().enumerate().filter(|(_, set)| set.role == Role::Attractor) {
            let (certain, singleton) = morse.fates().basin_sizes(number);
            prop_assert_eq!((certain, singleton), sizes[number]);
            prop_assert!(certain >= singleton && singleton >= set.size);
        }
    }
}

/// An explicit graph from some vertices of which paths may leave.
#[derive(Debug)]
struct Leaky {
    graph: ExplicitGraph,
    leaks: Vec<bool>,
}

impl Digraph for Leaky {
    fn vertices(&self) -> u32 {
        self.graph.vertices()
    }

    fn successors(&self, vertex: u32, from: u32) -> std::ops::Range<u32> {
        self.graph.successors(vertex, from)
    }

    fn escapes(&self, vertex: u32) -> bool {
        self.leaks[vertex as usize]
    }
}

/// Few vertices, many of them fixed, edges mostly one way: small orders of all shapes.
fn small_orders() -> impl Strategy<Value = Leaky> {
    (3u32..13).prop_flat_map(|n| {
        let edges = prop::collection::vec((0..n, 0..n), 0..3 * n as usize);
        let fixed = prop::collection::vec(prop::bool::weighted(0.6), n as usize);
        let leaks = prop::collection::vec(prop::bool::weighted(0.1), n as usize);
        let back = prop::collection::vec((0..n, 0..n), 0..2);
        (edges, fixed, leaks, back, any::<bool>()).prop_map(move |(edges, fixed, leaks, back, is_tight)| {
            let mut all: Vec<(u32, u32)> =
                edges.into_iter().map(|(a, b)| (a.max(b), a.min(b))).filter(|(a, b)| a != b).collect();
            all.extend((0..n).filter(|&v| fixed[v as usize]).map(|v| (v, v)));
            if !is_tight {
                all.extend(back);
            }
            Leaky {
                graph: ExplicitGraph::new(n, &all),
                leaks: leaks.into_iter().map(|leaks| leaks && !is_tight).collect(),
            }
        })
    })
}

/// All vertices' reachability among them and, at last, *exit*.
fn order_with_exit(graph: &Leaky) -> Vec<Vec<bool>> {
    let n = graph.vertices() as usize;
    let mut order: Vec<Vec<bool>> = (0..n as u32)
        .map(|from| {
            let mut row = reached(graph, from);
            row[from as usize] = true;
            let escapes = (0..n).any(|to| row[to] && graph.leaks[to]);
            row.push(escapes);
            row
        })
        .collect();
    order.push((0..=n).map(|to| to == n).collect());
    order
}

/// Whether some choice for the vertices from `next` on keeps the order.
fn can_be_completed(
    order: &[Vec<bool>],
    elements: &[usize],
    fixed: &[bool],
    chosen: &mut Vec<usize>,
) -> bool {
    let next = chosen.len();
    if next == fixed.len() {
        return true;
    }
    let own = [next];
    let candidates = if fixed[next] { &own[..] } else { elements };
    candidates.iter().any(|&candidate| {
        let fits = (0..next).all(|other| {
            (!order[next][other] || order[candidate][chosen[other]])
                && (!order[other][next] || order[chosen[other]][candidate])
        });
        chosen.push(candidate);
        let found = fits && can_be_completed(order, elements, fixed, chosen);
        chosen.pop();
        found
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn an_order_retraction_keeps_the_order_and_is_found_where_there_is_one(graph in small_orders()) {
        let control = Control::default();
        let morse = MorseDecomposition::of(&graph, &control).unwrap();
        let retraction = OrderRetraction::of(&graph, &morse, &control).unwrap();
        let order = order_with_exit(&graph);
        let n = graph.vertices() as usize;
        let element = |tile| match tile {
            Tile::MorseSet(set) => Some(morse.sets()[set].first() as usize),
            Tile::Escape => Some(n),
            Tile::None => None,
        };
        for from in 0..n {
            if let Some(set) = morse.set_of(from as u32) {
                prop_assert_eq!(retraction.tile(from as u32), Tile::MorseSet(set));
            }
            for to in (0..n).filter(|&to| order[from][to]) {
                if let (Some(from), Some(to)) = (element(retraction.tile(from as u32)), element(retraction.tile(to as u32))) {
                    prop_assert!(order[from][to]);
                }
            }
        }
        let classes = retraction.classes();
        let all = classes.recurrent + classes.successor + classes.predecessor + classes.parallel + classes.empty;
        prop_assert_eq!(all, morse.components().count() as usize);

        // one vertex of each component stands for it; exit comes first, since it is given
        let mut elements: Vec<usize> = morse.sets().iter().map(|set| set.first() as usize).collect();
        if graph.leaks.contains(&true) {
            elements.push(n);
        }
        let all: Vec<usize> = (0..n).filter(|&v| morse.set_of(v as u32).is_none_or(|set| morse.sets()[set].first() == v as u32)).chain([n]).collect();
        let place = |vertex: usize| all.iter().position(|&other| other == vertex).unwrap();
        let small: Vec<Vec<bool>> = all.iter().map(|&from| all.iter().map(|&to| order[from][to]).collect()).collect();
        let fixed: Vec<bool> = all.iter().map(|&v| v == n || morse.set_of(v as u32).is_some()).collect();
        let elements: Vec<usize> = elements.into_iter().map(place).collect();
        let exists = can_be_completed(&small, &elements, &fixed, &mut Vec::new());
        prop_assert_eq!(retraction.existence() == Existence::Found, exists);
        prop_assert_eq!(retraction.existence() == Existence::Impossible, !exists);
        prop_assert_eq!(retraction.uncoloured() == 0, exists);
    }
}

#[test]
fn maps_with_hundreds_of_morse_sets_are_ordered_too() {
    // x ↦ 0.9 x on [0, 1], seen through 512 cells: every cell near 0 maps to itself and the one below
    let grid = unit_grid(1, 9);
    let control = Control::default();
    let slow = PointMap::new(|x: &[f64], image: &mut [f64]| image[0] = x[0] - 0.5 / 512.0);
    let map = BoxMap::from_corners(&grid, &slow, Widening::None, Mode::Full, &control).unwrap();
    let morse = MorseDecomposition::of(&map, &control).unwrap();
    assert_eq!(morse.sets().len(), 512);
    assert_eq!(morse.edges(), (1..512).map(|set| (set, set - 1)).collect::<Vec<_>>());
    assert_eq!(morse.sets()[0].role, Role::Open, "below it is the domain's end");
    assert_eq!(morse.sets()[511].role, Role::Repeller);
    let reachable = morse.reachable_from(&map, &[300], &control).unwrap();
    assert_eq!(reachable, [(0..=300).collect::<Vec<_>>()]);
}
