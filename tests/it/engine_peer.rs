//! Where CMGDB goes wrong: what is true instead. `benches/peer_suite` runs its own tests and examples on this engine and
//! tells which of these its figures run into.

use doodl3::engine::dynamics::{
    AdaptiveMap, BoxMap, CornerRule, Digraph, MorseDecomposition, PointMap, Refinement, Widening,
};
use doodl3::engine::grid::{Rect, UniformGrid};
use doodl3::engine::homology::{adaptive_conley_indices, conley_indices};
use doodl3::engine::{Control, Fate, Mode, Role};

use super::engine_ground_truth::flow;

/// x ↦ 4 x around a circle: its images lie up to three periods outside the domain, and those of coarse cells are as wide as
/// the circle or wider. CMGDB drops the one and cuts off the other, and finds a set of 22 cells where all 256 recur.
#[test]
fn images_wind_around_a_periodic_axis() {
    let quadruple = PointMap::new(|x: &[f64], image: &mut [f64]| image[0] = 4.0 * x[0]);
    let circle = Rect::new(&[0.0], &[1.0]);
    let control = Control::default();
    // over Z_5 the degree of the map, 4, is −1
    let expected = (1 << 8, "(x-1, x+1)".to_owned());

    let grid = UniformGrid::new(circle, 8).unwrap().with_periodic_axes(&[true]);
    let map = BoxMap::from_corners(&grid, &quadruple, Widening::None, Mode::Full, &control).unwrap();
    let morse = MorseDecomposition::of(&map, &control).unwrap();
    let indices = conley_indices(&grid, &map, &morse, 5, &control).unwrap();
    assert_eq!(morse.sets().len(), 1);
    assert_eq!((morse.sets()[0].size, indices[0].to_string()), expected);

    let rule = CornerRule { map: &quadruple, widening: Widening::None, mode: Mode::Compatible };
    let refinement = Refinement { init: 0, min: 8, max: 8, limit: 10_000 };
    let map = AdaptiveMap::refine(circle, &[true], refinement, &rule, &control).unwrap();
    let morse = MorseDecomposition::of(&map, &control).unwrap();
    let indices = adaptive_conley_indices(&map, &rule, &morse, 5, &control).unwrap();
    assert_eq!(morse.sets().len(), 1);
    assert_eq!((morse.sets()[0].size, indices[0].to_string()), expected);
}

/// Both ends of a periodic axis are one point, whichever is named. CMGDB has the lower end meet the last cell, but not the
/// upper end the first, and so refines one cell too few of a map of the torus.
#[test]
fn an_image_that_ends_at_the_upper_end_meets_the_first_cell() {
    let circle = UniformGrid::new(Rect::new(&[0.0], &[1.0]), 4).unwrap().with_periodic_axes(&[true]);
    let meets = |low: f64, high: f64| {
        let map = BoxMap::from_rects(
            &circle,
            |_| Some(Rect::new(&[low], &[high])),
            Mode::Full,
            &Control::default(),
        );
        let map = map.unwrap();
        (0..circle.cells()).filter(|&cell| map.has_edge(3, cell)).collect::<Vec<_>>()
    };
    assert_eq!(meets(1.0, 1.0), [0, 15]);
    assert_eq!(meets(0.0, 0.0), [0, 15]);
    assert_eq!(meets(0.9, 1.0), [0, 14, 15]);
}

/// The product of three interval maps with attracting and repelling fixed points: of the 267 connections that CMGDB draws,
/// 103 were inherited from coarser grids and are not on the final one.
#[test]
fn connections_are_those_of_the_final_grid() {
    let product = PointMap::new(|x: &[f64], image: &mut [f64]| {
        for (image, x) in image.iter_mut().zip(x) {
            *image = x / (2.0 - x);
        }
    });
    let rule = CornerRule { map: &product, widening: Widening::None, mode: Mode::Compatible };
    let refinement = Refinement { init: 12, min: 15, max: 18, limit: 10_000 };
    let control = Control::default();
    let domain = Rect::new(&[0.0; 3], &[1.2; 3]);
    let map = AdaptiveMap::refine(domain, &[false; 3], refinement, &rule, &control).unwrap();
    assert_eq!(map.vertices(), 4699);
    let morse = MorseDecomposition::of(&map, &control).unwrap();
    let sets = morse.sets();
    assert_eq!(sets.len(), 27);
    let mut connections = 0;
    for (from, set) in sets.iter().enumerate() {
        let mut reached = vec![false; map.vertices() as usize];
        let mut open = vec![set.first()];
        while let Some(cell) = open.pop() {
            let mut run = map.successors(cell, 0);
            while !run.is_empty() {
                open.extend(run.clone().filter(|&to| !std::mem::replace(&mut reached[to as usize], true)));
                run = map.successors(cell, run.end);
            }
        }
        for to in (0..sets.len()).filter(|&to| to != from) {
            assert_eq!(morse.reaches(from, to), reached[sets[to].first() as usize]);
            connections += usize::from(morse.reaches(from, to));
        }
    }
    assert_eq!(connections, 267 - 103);
}

/// A map that fails around its fixed point, once by a NaN and once by a box whose ends are the wrong way round. CMGDB
/// takes such cells as leading nowhere and says no more; so does compatible mode. In full mode paths leave through them, and
/// nothing is claimed of where they end.
#[test]
fn images_that_are_none_lead_out() {
    let grid = UniformGrid::new(Rect::new(&[-1.0], &[1.0]), 6).unwrap();
    let control = Control::default();
    for broken in [Rect::point(&[f64::NAN]), Rect::new(&[0.1], &[-0.1])] {
        let halve = |cell: &Rect| {
            let (low, high) = (cell.lower()[0], cell.upper()[0]);
            let fails = low < 0.1 && high > -0.1;
            Some(if fails { broken } else { Rect::new(&[low / 2.0], &[high / 2.0]) })
        };
        let of = |mode| {
            let map = BoxMap::from_rects(&grid, halve, mode, &control).unwrap();
            let morse = MorseDecomposition::of(&map, &control).unwrap();
            (map, morse)
        };
        let (map, morse) = of(Mode::Compatible);
        let middle = grid.cell_at(&[0.0]).unwrap();
        assert!(map.successors(middle, 0).is_empty() && morse.sets().is_empty());
        let (map, morse) = of(Mode::Full);
        assert!(map.exits(middle));
        assert!((0..grid.cells()).all(|cell| morse.fates().of_vertex(cell) == Fate::Escapes));
    }
}

/// The same system without the failure has its attractor, so that the test above tells something.
#[test]
fn without_them_the_fixed_point_attracts() {
    let grid = UniformGrid::new(Rect::new(&[-1.0], &[1.0]), 6).unwrap();
    let control = Control::default();
    let halve = PointMap::new(|x: &[f64], image: &mut [f64]| image[0] = x[0] / 2.0);
    let map = BoxMap::from_corners(&grid, &halve, Widening::None, Mode::Full, &control).unwrap();
    let morse = MorseDecomposition::of(&map, &control).unwrap();
    // the cells beside it end on their own faces, and so recur too
    let roles: Vec<Role> = morse.sets().iter().map(|set| set.role).collect();
    assert_eq!(roles, [Role::Intermediate, Role::Attractor, Role::Intermediate]);
    assert_eq!(morse.sets()[1].iter().collect::<Vec<_>>(), [31, 32]);
    assert!((0..grid.cells()).all(|cell| morse.fates().of_vertex(cell) == Fate::Certain(1)));
}

/// ẋ = x (2 − x − y), ẏ = y (4 x − x² − 3) has a saddle at the origin. The time-0.4 map of a flow can be deformed to the
/// identity, so that it keeps the unstable direction: the index is that of an orientation-preserving saddle. CMGDB calls it
/// undefined, and in an earlier version (0, x+1, 0).
#[test]
fn the_saddle_of_a_flow_keeps_its_orientation() {
    let velocity = |[x, y]: [f64; 2]| [x * (2.0 - x - y), y * (4.0 * x - x * x - 3.0)];
    let time_map = PointMap::new(|start: &[f64], image: &mut [f64]| flow(velocity, 0.4, 40, start, image));
    let rule = CornerRule { map: &time_map, widening: Widening::None, mode: Mode::Compatible };
    let refinement = Refinement { init: 10, min: 16, max: 25, limit: 10_000 };
    let control = Control::default();
    let domain = Rect::new(&[-1.0, -2.0], &[4.0, 2.0]);
    let map = AdaptiveMap::refine(domain, &[false; 2], refinement, &rule, &control).unwrap();
    let morse = MorseDecomposition::of(&map, &control).unwrap();
    let indices = adaptive_conley_indices(&map, &rule, &morse, 5, &control).unwrap();
    let at_origin = map.grid().cell_at(&[0.0, 0.0]).and_then(|cell| morse.set_of(cell)).unwrap();
    assert_eq!(indices[at_origin].to_string(), "(0, x-1, 0)");
}
