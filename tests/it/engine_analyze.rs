//! What an analysis says of maps whose dynamics are known: two wells, seen through every kind of grid and map.

use doodl3::engine::dynamics::{Existence, Refinement, Tile};
use doodl3::engine::surrogate::EmptyBox;
use doodl3::engine::{
    Analysis, Comparison, Control, DataParameters, Enclosure, Fate, GridParameters, LagChoice, MapChoice,
    Parameters, Places, ProjectionChoice, Rebasing, Role, RunSeries, Snapshot, Subdivisions,
    SurrogateParameters, analyze, compare,
};

use super::iris::Random;

/// One step of gradient descent on (x² − 1)²/4 + y²/2 + …, with a little noise.
fn step(at: &[f64], random: &mut Random) -> Vec<f64> {
    let mut noise = || 0.01 * (random.uniform() - 0.5);
    let mut next = vec![at[0] - 0.4 * (at[0].powi(3) - at[0]) + noise()];
    next.extend(at[1..].iter().map(|y| 0.5 * y + noise()));
    next
}

/// Runs of eight steps with these weights to begin with.
fn runs(starts: impl IntoIterator<Item = Vec<f64>>, seed: u64) -> Vec<RunSeries> {
    let mut random = Random(seed);
    let run = |(number, start): (usize, Vec<f64>)| {
        let course = std::iter::successors(Some(start), |at| Some(step(at, &mut random))).take(8);
        let snapshot = |(step, at): (u64, Vec<f64>)| Snapshot {
            step,
            weights: at.iter().map(|&x| x as f32).collect(),
            predictions: None,
            loss: Some((at[0].powi(2) - 1.0).powi(2) / 4.0),
        };
        let snapshots = (0..).zip(course).map(snapshot).collect();
        RunSeries { run: format!("run-{number:03}"), snapshots, disturbed: Vec::new() }
    };
    starts.into_iter().enumerate().map(run).collect()
}

/// Starts spread over a box.
fn starts(count: usize, dimension: usize, x: (f64, f64), seed: u64) -> Vec<Vec<f64>> {
    let mut random = Random(seed);
    let mut start = || {
        let mut at = vec![x.0 + (x.1 - x.0) * random.uniform()];
        at.extend((1..dimension).map(|_| 2.0 * random.uniform() - 1.0));
        at
    };
    (0..count).map(|_| start()).collect()
}

pub(super) fn parameters(dimension: usize) -> Parameters {
    let (projection, lag) = (ProjectionChoice::Pca, LagChoice::Steps(1));
    Parameters { projection, dimension, lag, ..Parameters::default() }
}

pub(super) fn two_wells(parameters: &Parameters) -> Analysis {
    let dimension = parameters.dimension;
    let runs = runs(starts(60 + 20 * dimension, dimension, (-1.5, 1.5), 5), 6);
    analyze(&runs, parameters, &Control::default()).unwrap()
}

fn attractors(analysis: &Analysis) -> Vec<usize> {
    let sets = &analysis.morse_graph.sets;
    (0..sets.len()).filter(|&set| sets[set].role == Role::Attractor).collect()
}

/// Values with the cells that they are of.
fn placed<T: Copy>(runs: &[(T, usize)]) -> Vec<T> {
    runs.iter().flat_map(|&(value, length)| std::iter::repeat_n(value, length)).collect()
}

/// Whether edges of the Morse graph lead from one set to another.
fn reaches(analysis: &Analysis, from: usize, to: usize) -> bool {
    let (mut seen, mut stack) = (vec![false; analysis.morse_graph.sets.len()], vec![from]);
    while let Some(set) = stack.pop() {
        if !std::mem::replace(&mut seen[set], true) {
            let edges = analysis.morse_graph.edges.iter();
            stack.extend(edges.filter(|(from, _)| *from == set).map(|(_, to)| *to));
        }
    }
    seen[to]
}

fn check_retraction(analysis: &Analysis) {
    let retraction = analysis.retraction.as_ref().unwrap();
    let (tiles, fates) = (placed(&retraction.tiles), placed(&analysis.basins.fates));
    assert_eq!((tiles.len(), fates.len()), (analysis.grid.cells, analysis.grid.cells));
    for (number, set) in analysis.morse_graph.sets.iter().enumerate() {
        let lasts = !set.conley_index.is_trivial();
        for &(first, length) in &set.cells {
            let own = |&tile: &Tile| tile == Tile::MorseSet(number);
            assert_eq!(tiles[first..first + length].iter().all(own), lasts);
        }
        let cells = tiles.iter().filter(|&&tile| tile == Tile::MorseSet(number)).count();
        assert_eq!(retraction.sets[number].cells, cells);
    }
    for (tile, fate) in tiles.iter().zip(&fates) {
        match (*tile, *fate) {
            (Tile::MorseSet(set), Fate::Certain(attractor)) => assert!(reaches(analysis, set, attractor)),
            (Tile::Escape, fate) => assert!(matches!(fate, Fate::Escapes | Fate::Untrusted)),
            (Tile::None, _) => assert_ne!(retraction.existence, Existence::Found),
            (Tile::MorseSet(_), _) => {}
        }
    }
    let all: f64 = retraction.sets.iter().map(|tile| tile.volume_share).sum();
    let rest = retraction.escape.volume_share + retraction.uncoloured.volume_share;
    assert!((all + rest - 1.0).abs() < 1e-12);
    assert_eq!(retraction.uncoloured.cells == 0, retraction.existence == Existence::Found);
}

#[test]
fn cells_are_given_to_the_set_that_organises_them() {
    let analysis = two_wells(&parameters(2));
    assert_eq!(attractors(&analysis).len(), 2, "{:#?}", analysis.morse_graph);
    check_retraction(&analysis);
    // most of a basin is given to the attractor and to sets above it alone
    let tiles = &analysis.retraction.as_ref().unwrap().sets;
    for &(attractor, certain, _) in &analysis.basins.sizes {
        let leads_there_alone = |&set: &usize| {
            let ends = analysis.basins.sizes.iter().filter(|(end, ..)| reaches(&analysis, set, *end));
            ends.map(|(end, ..)| *end).eq([attractor])
        };
        let cells: usize = (0..tiles.len()).filter(leads_there_alone).map(|set| tiles[set].cells).sum();
        assert!(cells > certain / 2, "{cells} of {certain}");
    }
}

#[test]
fn the_reduced_graph_has_no_trivial_sets() {
    let graph = two_wells(&parameters(2)).morse_graph;
    let is_kept = |set: usize| !graph.sets[set].conley_index.is_trivial();
    assert_eq!(graph.reduced.sets, (0..graph.sets.len()).filter(|&set| is_kept(set)).collect::<Vec<_>>());
    assert!(graph.reduced.edges.iter().all(|&(from, to)| is_kept(from) && is_kept(to)));
}

#[test]
fn an_adaptive_grid_finds_the_same_attractors_with_fewer_cells() {
    for enclosure in [Enclosure::Padding, Enclosure::Confidence(0.95)] {
        let surrogate = SurrogateParameters { enclosure, ..SurrogateParameters::default() };
        let uniform = two_wells(&Parameters { surrogate: surrogate.clone(), ..parameters(2) });
        let refinement = Refinement { init: 10, min: 14, max: 14, limit: 10_000 };
        let grid =
            GridParameters { subdivisions: Subdivisions::Adaptive(refinement), ..GridParameters::default() };
        let adaptive = two_wells(&Parameters { surrogate, grid, ..parameters(2) });
        assert!(adaptive.grid.levels.len() > 1, "{:?}", adaptive.grid.levels.len());
        assert!(2 * adaptive.grid.cells < uniform.grid.cells, "{} cells", adaptive.grid.cells);
        let places = Places::of(&adaptive.grid);
        assert_eq!(places.volume_share([(0, adaptive.grid.cells)]), 1.0);
        check_retraction(&adaptive);
        let (before, after) = (attractors(&uniform), attractors(&adaptive));
        assert_eq!((before.len(), after.len()), (2, 2), "{enclosure:?}");
        for (old, new) in before.iter().zip(&after) {
            let (old, new) = (&uniform.morse_graph.sets[*old], &adaptive.morse_graph.sets[*new]);
            assert_eq!(old.conley_index, new.conley_index);
            for axis in 0..2 {
                assert!(old.lower[axis] < new.upper[axis] && new.lower[axis] < old.upper[axis]);
            }
        }
        let Comparison::Compared { continuation, deviation, .. } =
            compare(&uniform, &adaptive, &Control::default()).unwrap()
        else {
            panic!("the coordinates are the same")
        };
        assert!(deviation < 1e-6 && continuation.new_attractors.is_empty(), "{continuation:?}");
    }
}

#[test]
fn pairs_alone_make_a_map() {
    let data =
        |empty, padding| MapChoice::Data(DataParameters { empty, padding, ..DataParameters::default() });
    let with = |map: MapChoice, subdivisions: Subdivisions| {
        let surrogate = SurrogateParameters { map, ..SurrogateParameters::default() };
        let grid = GridParameters { subdivisions, ..GridParameters::default() };
        Parameters { surrogate, grid, ..parameters(1) }
    };
    let interpolated = two_wells(&with(data(EmptyBox::Interpolate, 0.5), Subdivisions::Uniform(7)));
    assert_eq!(attractors(&interpolated).len(), 2, "{:#?}", interpolated.morse_graph);
    assert_eq!((interpolated.quality.confidence, interpolated.quality.trusted_cells), (None, 1.0));
    check_retraction(&interpolated);

    let fine = Subdivisions::Uniform(12);
    let unknown = two_wells(&with(data(EmptyBox::Unknown, 0.0), fine));
    assert!((0.0..0.5).contains(&unknown.quality.trusted_cells), "few of 4,096 cells have a pair");
    let refused = analyze(
        &runs(starts(80, 1, (-1.5, 1.5), 5), 6),
        &with(data(EmptyBox::Refuse, 0.0), fine),
        &Control::default(),
    );
    assert!(refused.unwrap_err().to_string().contains("no pair starts in the cell"));

    let refinement = Refinement { init: 4, min: 7, max: 9, limit: 1000 };
    let adaptive = two_wells(&with(data(EmptyBox::Interpolate, 0.5), Subdivisions::Adaptive(refinement)));
    assert_eq!(attractors(&adaptive).len(), 2, "{:#?}", adaptive.morse_graph);
}

#[test]
fn up_to_five_coordinates_are_analysed() {
    for dimension in 3..=5 {
        let grid = GridParameters { subdivisions: Subdivisions::Uniform(15), ..GridParameters::default() };
        let analysis = two_wells(&Parameters { grid, ..parameters(dimension) });
        assert_eq!((analysis.grid.cells_per_axis.len(), analysis.grid.cells), (dimension, 1 << 15));
        check_retraction(&analysis);
        // both wells lie in Morse sets, which eight cells along an axis do not tell apart
        let ends = analysis.trajectories.iter().map(|path| path.morse_sets.last().copied().flatten());
        assert!(ends.clone().all(|end| end.is_some()), "{dimension}: {:?}", ends.collect::<Vec<_>>());
        if dimension == 3 {
            assert_eq!(attractors(&analysis).len(), 2, "{:#?}", analysis.morse_graph);
        }
    }
}

#[test]
fn a_second_attractor_is_told_as_new_and_the_first_as_the_same() {
    let control = Control::default();
    let right = starts(40, 2, (0.3, 1.5), 1);
    let left = starts(40, 2, (-1.5, -0.3), 2);
    let before = analyze(&runs(right.clone(), 3), &parameters(2), &control).unwrap();
    let after = analyze(&runs([right, left].concat(), 3), &parameters(2), &control).unwrap();
    let Comparison::Compared { checkpoints, deviation, continuation } =
        compare(&before, &after, &control).unwrap()
    else {
        panic!("two coordinates of two weights are one plane, however they are turned")
    };
    assert!(checkpoints > 200 && deviation < 1e-3, "{checkpoints} {deviation}");
    assert_eq!(continuation.attractors, (1, 2));
    assert_eq!(continuation.new_attractors.len(), 1, "{continuation:?}");
    let [old] = attractors(&before)[..] else { panic!("one attractor") };
    let same = continuation.same.iter().find(|(set, _)| *set == old).unwrap().1;
    assert_ne!(same, continuation.new_attractors[0]);
    assert!(after.morse_graph.sets[same].visits.iter().any(|visit| visit.run == "run-000"));
}

#[test]
fn nothing_is_compared_across_another_basis() {
    let control = Control::default();
    let runs = |dimension| runs(starts(60, dimension, (-1.5, 1.5), 1), 3);
    let two = analyze(&runs(2), &parameters(2), &control).unwrap();
    let one = analyze(&runs(2), &parameters(1), &control).unwrap();
    let rebased = |before: &Analysis, after: &Analysis| match compare(before, after, &control).unwrap() {
        Comparison::Rebased(reason) => reason,
        compared @ Comparison::Compared { .. } => panic!("{compared:?}"),
    };
    assert_eq!(rebased(&one, &two), Rebasing::Projection);
    let slow = Parameters { lag: LagChoice::Steps(3), ..parameters(2) };
    let slow = analyze(&runs(2), &slow, &control).unwrap();
    assert_eq!(rebased(&two, &slow), Rebasing::Lag { before: 1, after: 3 });
    let mut others = two.clone();
    others.trajectories.iter_mut().for_each(|path| path.run.push('x'));
    assert_eq!(rebased(&others, &two), Rebasing::FewCheckpoints { common: 0 });
    let mut moved = two.clone();
    let width = moved.grid.upper[0] - moved.grid.lower[0];
    for (number, path) in moved.trajectories.iter_mut().enumerate() {
        path.points.iter_mut().for_each(|point| point[0] += width * 0.1 * (number % 3) as f64);
    }
    assert!(matches!(rebased(&moved, &two), Rebasing::Moved { deviation } if deviation > 1.0));
}
